"""Each method's loss by hand, and the bugs of public code that must not come back."""

import math
from dataclasses import replace

import pytest
import torch

from harness import hyperparameters
from methods import METHODS, Loss
from tests.methods.by_hand import (
    FEATURES,
    OLD,
    REFERENCE,
    STUDENT,
    TARGETS,
    cross_entropy,
    half_mean_square,
    kl,
    loss,
    make,
    mean,
    old_classifier,
    plain_cross_entropy,
    step,
)

LOSSES = [name for name, entry in METHODS.items() if issubclass(entry.load(), Loss)]


def old_pull(distance):
    weights = [6.0, 1.0, 1.0]  # right; wrong; wrong, for an old model cannot be right on a new class
    return mean([w * distance(o, z[:2]) for w, o, z in zip(weights, OLD, STUDENT, strict=True)])


def new_pull(distance):
    weights = [6.0, 1.0, 6.0]
    return mean([w * distance(n, z) for w, n, z in zip(weights, REFERENCE, STUDENT, strict=True)])


def test_no_treatment_is_cross_entropy():
    assert loss("none") == pytest.approx(plain_cross_entropy(), rel=1e-5)


def test_pct_naive_counts_samples_that_the_old_model_got_right_twice():
    expected = plain_cross_entropy() + cross_entropy(STUDENT[0], 0) / 3

    assert loss("pct-naive") == pytest.approx(expected, rel=1e-5)


def test_pct_kl():
    expected = plain_cross_entropy() + old_pull(lambda o, z: kl(o, z, 5.0))

    assert loss("pct-kl") == pytest.approx(expected, rel=1e-5)


def test_pct_lm():
    expected = plain_cross_entropy() + 0.4 * old_pull(half_mean_square)

    assert loss("pct-lm") == pytest.approx(expected, rel=1e-5)


def test_pct_kl_as_its_authors_publish_it():
    kept = [6.0 * kl(OLD[0], STUDENT[0][:2], 100.0), 1.0 * kl(OLD[1], STUDENT[1][:2], 100.0)]
    expected = plain_cross_entropy() + mean(kept) * 100.0**2

    assert loss("pct-kl", tau=100.0, tau_squared=True, mask_new=True) == pytest.approx(expected, rel=1e-5)


def test_pct_lm_with_the_sum_of_the_papers_equation_6():
    expected = plain_cross_entropy() + 0.4 * 2 * old_pull(half_mean_square)

    assert loss("pct-lm", reduction="sum") == pytest.approx(expected, rel=1e-5)


def biased_cross_entropy(k):
    biased = [[z[0], z[1], z[2] + k, z[3] + k] for z in STUDENT]
    return mean([cross_entropy(z, y) for z, y in zip(biased, TARGETS, strict=True)])


def test_mpt_kl_biases_the_cross_entropy_alone():
    distance = lambda teacher, student: kl(teacher, student, 5.0)  # noqa: E731
    expected = biased_cross_entropy(4.0) + old_pull(distance) + new_pull(distance)

    assert loss("mpt-kl") == pytest.approx(expected, rel=1e-5)


def test_mpt_lm_biases_the_cross_entropy_alone():
    expected = biased_cross_entropy(1.5) + 0.4 * (old_pull(half_mean_square) + new_pull(half_mean_square))

    assert loss("mpt-lm", k=1.5) == pytest.approx(expected, rel=1e-5)


def test_the_ablations_take_away_the_bias_or_the_distillation():
    distance = lambda teacher, student: kl(teacher, student, 5.0)  # noqa: E731

    without_bias = plain_cross_entropy() + old_pull(distance) + new_pull(distance)
    assert loss("mpt-kl-nobias") == pytest.approx(without_bias, rel=1e-5)
    assert loss("mpt-lm-nobias") == pytest.approx(loss("mpt-lm", k=0.0))
    assert loss("mpt-nodistill") == pytest.approx(biased_cross_entropy(4.0), rel=1e-5)
    assert make("mpt-nodistill").references == 0


def elodi_terms(distance):
    ensemble = [[value + 0.5 for value in row] for row in REFERENCE]  # of the reference and itself plus one
    old = mean([distance(o, z[:2]) for o, z in zip(OLD, STUDENT, strict=True)])
    return 0.6 * old + 0.4 * mean([distance(n, z) for n, z in zip(ensemble, STUDENT, strict=True)])


def test_elodi_matches_the_old_model_and_the_mean_of_the_ensemble():
    expected = plain_cross_entropy() + elodi_terms(half_mean_square)

    assert loss("elodi", step(references=2), members=2) == pytest.approx(expected, rel=1e-5)


def test_elodi_is_plain_until_its_warm_up_is_over():
    assert loss("elodi", step(references=2, epoch=5), members=2) == pytest.approx(
        plain_cross_entropy(), rel=1e-5
    )
    assert loss("elodi", step(references=2, epoch=6), members=2) != pytest.approx(
        plain_cross_entropy(), rel=1e-5
    )


def test_elodi_topk_looks_at_each_teachers_own_highest_logits():
    def highest_only(teacher, student):
        best = teacher.index(max(teacher))
        return 0.5 * (teacher[best] - student[best]) ** 2 / len(teacher)

    expected = plain_cross_entropy() + elodi_terms(highest_only)

    assert loss("elodi-topk", step(references=2), members=2, top_k=1) == pytest.approx(expected, rel=1e-5)


# --- bugs in public code (docs/methods.md), each failing on the buggy form


def test_the_focal_weight_goes_with_its_own_sample():
    """[N] times [N, 1] broadcasts to N x N, whose mean is mean(w) * mean(KL)."""
    pull = make("pct-kl").loss(step())["old"].item()
    weights = [6.0, 1.0, 1.0]
    divergences = [kl(o, z[:2], 5.0) for o, z in zip(OLD, STUDENT, strict=True)]

    assert pull == pytest.approx(mean([w * d for w, d in zip(weights, divergences, strict=True)]), rel=1e-5)
    assert pull != pytest.approx(mean(weights) * mean(divergences), rel=1e-2)


@pytest.mark.parametrize("name", ["pct-kl", "pct-lm", "mpt-kl", "mpt-lm"])
def test_a_batch_of_new_classes_alone_gives_a_finite_loss(name):
    """The mean over the samples of old classes is 0 / 0 there."""
    only_new = step(targets=[2, 3, 3])

    result = make(name, mask_new=True).loss(only_new)

    assert result["old"].item() == 0
    assert math.isfinite(result["loss"].item())
    result["loss"].backward()
    assert only_new.logits.grad is not None
    assert only_new.logits.grad.isfinite().all()


def test_the_bias_is_no_part_of_the_students_logits():
    """Training accuracy is measured on the logits that the step holds: a method must not change them."""
    for name in LOSSES:
        made = step(references=8)
        before = made.logits.detach().clone()
        make(name).loss(made)
        torch.testing.assert_close(made.logits.detach(), before, rtol=0, atol=0)


# --- what holds for every method


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_gives_named_finite_scalars_and_a_gradient_to_the_student_alone(name):
    method = make(name)
    made = replace(
        step(),
        logits=torch.tensor(STUDENT, requires_grad=True),
        old_logits=torch.tensor(OLD) if method.uses_old else None,
        references=tuple(torch.tensor(REFERENCE) for _ in range(method.references)),
        features=torch.tensor(FEATURES, requires_grad=True) if method.reads_features else None,
        old_classifier=old_classifier if method.reads_features else None,
    )

    terms = method.loss(made)

    assert all(
        value.shape == () and value.isfinite() and value.dtype == torch.float32 for value in terms.values()
    )
    parts = [value for name, value in terms.items() if name != "loss"]
    assert not parts or terms["loss"].item() == pytest.approx(sum(part.item() for part in parts), rel=1e-5)
    terms["loss"].backward()
    assert made.logits.grad is not None
    assert made.logits.grad.abs().sum() > 0
    if method.reads_features:
        assert made.features.grad.abs().sum() > 0


@pytest.mark.parametrize("name", METHODS)
def test_every_hyperparameter_has_a_default_and_refuses_nan(name):
    for parameter, value in hyperparameters.defaults(name).items():
        if isinstance(value, float):
            field = parameter if parameter in METHODS[name].load().__dataclass_fields__ else f"{parameter}_"
            with pytest.raises(ValueError, match=parameter):
                make(name, **{field: math.nan})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mpt-kl", {"k": -1.0}),
        ("pct-kl", {"tau": 0.0}),
        ("pct-lm", {"lambda_": -0.1}),
        ("elodi", {"members": 0}),
        ("elodi-topk", {"top_k": 0}),
        ("elodi-authors", {"members": 0}),
        ("elodi-authors", {"share": 1.1}),
        ("elodi-authors", {"top_k": 0}),
        ("pct-authors", {"ce_weight": -0.1}),
        ("lwf", {"lambda_": -0.1}),
        ("lwf", {"tau": 0.0}),
        ("self-distill", {"ce_weight": -0.1}),
        ("self-distill", {"tau": 0.0}),
        ("churn-distill", {"share": 1.1}),
        ("anchor", {"share": 1.1}),
        ("anchor", {"epsilon": -0.1}),
        ("regret-gated", {"share": 1.1}),
        ("regret-gated", {"tau": 0.0}),
        ("muscle", {"ce_weight": -0.1}),
        ("muscle", {"tau": 0.0}),
        ("bct", {"lambda_": -0.1}),
        ("logit-adjust", {"tau": -0.1}),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_by_name(name, changes):
    (parameter,) = changes
    with pytest.raises(ValueError, match=parameter.rstrip("_")):
        make(name, **changes)


def test_a_loss_that_counts_old_samples_is_not_to_be_divided_among_processes():
    divisible = [name for name in LOSSES if make(name).divisible]

    assert [name for name in LOSSES if name not in divisible] == ["pct-authors", "bct"]
    assert not make("pct-kl", mask_new=True).divisible


@pytest.mark.parametrize("name", [name for name in LOSSES if make(name).divisible])
def test_a_divisible_loss_is_the_mean_of_the_losses_of_equal_parts(name):
    whole = step(references=8)
    parts = []
    for i in range(len(TARGETS)):
        part = {
            field: getattr(whole, field)[i : i + 1]
            for field in ("logits", "targets", "old_logits", "features", "images", "indices")
        }
        references = tuple(reference[i : i + 1] for reference in whole.references)
        parts.append(replace(whole, references=references, **part))

    together = make(name).loss(whole)["loss"].item()

    assert together == pytest.approx(mean([make(name).loss(part)["loss"].item() for part in parts]))


@pytest.mark.parametrize("name", METHODS)
def test_the_default_of_what_can_be_tuned_lies_in_its_range_and_so_do_legal_values(name):
    cls = METHODS[name].load()
    for field, where in cls.ranges().items():
        assert where.low <= getattr(cls(), field) <= where.high
        for value in (where.low, where.high):
            cls(**{field: value})
