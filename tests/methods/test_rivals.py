"""The losses of other papers, each by hand."""

import math
from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import (
    COUNTS,
    FEATURES,
    OLD,
    REFERENCE,
    STUDENT,
    TARGETS,
    cross_entropy,
    kl,
    loss,
    make,
    mean,
    plain_cross_entropy,
    step,
)

CE = [cross_entropy(z, y) for z, y in zip(STUDENT, TARGETS, strict=True)]


def softmax(logits):
    return [math.exp(value) / sum(math.exp(other) for other in logits) for value in logits]


def soft_cross_entropy(sample):
    """Of the student against the old model's probabilities, those of new classes being 0."""
    q = softmax(STUDENT[sample])
    return -sum(p * math.log(q[c]) for c, p in enumerate(softmax(OLD[sample])))


def test_pct_authors_leaves_out_new_classes_and_multiplies_by_tau_squared():
    kept = [6.0 * kl(OLD[0], STUDENT[0][:2], 100.0), 1.0 * kl(OLD[1], STUDENT[1][:2], 100.0)]
    distilled = mean(kept) * 100.0**2

    assert loss("pct-authors") == pytest.approx(plain_cross_entropy() + distilled, rel=1e-5)
    weighed = loss("pct-authors", ce_weight=0.1, lambda_=0.9)
    assert weighed == pytest.approx(0.1 * plain_cross_entropy() + 0.9 * distilled, rel=1e-5)


def inhibition(logits, teacher, k, ranked, *, without):
    highest = sorted(range(len(logits)), key=lambda c: -ranked[c])[:k]
    return sum((logits[c] - teacher[c]) ** 2 for c in highest if c != without) / k


@pytest.mark.parametrize("exclude_target", [False, True])
@pytest.mark.parametrize("highest_of", ["student", "teacher"])
def test_elodi_authors_matches_the_ensemble_on_the_highest_logits(highest_of, exclude_target):
    student = [[1.0, 0.0, 2.0, 0.5], [0.0, 1.0, 0.25, -1.0], [0.5, 0.75, 1.0, 3.0]]  # without ties
    members = [[[2.0, 0.0, 1.0, 3.0], [0.5, 0.0, 2.0, -1.0], [0.0, 2.0, 1.0, 4.0]]]
    members.append([[value + 1.0 for value in row] for row in members[0]])
    ensemble = [[value + 0.5 for value in row] for row in members[0]]
    each = [
        inhibition(z, n, 2, z if highest_of == "student" else n, without=y if exclude_target else None)
        for z, n, y in zip(student, ensemble, TARGETS, strict=True)
    ]
    ce = mean([cross_entropy(z, y) for z, y in zip(student, TARGETS, strict=True)])
    made = replace(
        step(),
        logits=torch.tensor(student, dtype=torch.float64),
        references=tuple(torch.tensor(member, dtype=torch.float64) for member in members),
    )

    method = make("elodi-authors", members=2, top_k=2, highest_of=highest_of, exclude_target=exclude_target)
    found = method.loss(made)["loss"].item()

    assert found == pytest.approx(0.2 * ce + 0.8 * mean(each))


def test_elodi_authors_matches_all_logits_where_k_is_no_smaller():
    each = [
        mean([(a - b) ** 2 for a, b in zip(z, n, strict=True)])
        for z, n in zip(STUDENT, REFERENCE, strict=True)
    ]

    assert loss("elodi-authors", members=1) == pytest.approx(0.2 * plain_cross_entropy() + 0.8 * mean(each))


def test_lwf_is_distillation_without_a_focus_at_temperature_2():
    expected = plain_cross_entropy() + mean([kl(o, z[:2], 2.0) for o, z in zip(OLD, STUDENT, strict=True)])

    assert loss("lwf") == pytest.approx(expected)
    assert loss("lwf", lambda_=0.0) == pytest.approx(plain_cross_entropy())


def test_self_distillation_reads_one_reference_and_no_old_model():
    teacher = mean([kl(n, z, 1.0) for n, z in zip(REFERENCE, STUDENT, strict=True)])
    blind = replace(step(), old_logits=None)

    assert loss("self-distill", blind) == pytest.approx(plain_cross_entropy() + teacher)
    assert loss("self-distill", blind, ce_weight=0.0) == pytest.approx(teacher)
    assert make("self-distill").references == 1


def test_churn_distillation_mixes_labels_of_old_classes_with_the_old_models_probabilities():
    mixed = [0.7 * CE[i] + 0.3 * soft_cross_entropy(i) for i in range(3)]

    assert loss("churn-distill", share=0.3) == pytest.approx(mean([*mixed[:2], CE[2]]))
    assert loss("churn-distill", share=0.3, mask_new=False) == pytest.approx(mean(mixed))


def test_the_anchor_mixes_labels_only_where_the_old_model_is_right():
    right = 0.7 * CE[0] + 0.3 * soft_cross_entropy(0)

    assert loss("anchor", share=0.3) == pytest.approx(mean([right, CE[1], CE[2]]))
    assert loss("anchor", share=0.3, epsilon=0.5) == pytest.approx(mean([right, 0.5 * CE[1], 0.5 * CE[2]]))


def test_regret_gated_distils_where_the_old_models_loss_is_lower():
    # On the first sample the old model's loss is 0.13 and the student's 1.55; on the second, 2.13 and 0.63.
    distilled = 0.5 * CE[0] + 0.5 * 4.0 * kl(OLD[0], STUDENT[0][:2], 2.0)

    assert loss("regret-gated") == pytest.approx(mean([distilled, CE[1], CE[2]]))


def test_regret_gated_may_leave_out_tau_squared():
    distilled = 0.8 * CE[0] + 0.2 * kl(OLD[0], STUDENT[0][:2], 2.0)

    assert loss("regret-gated", share=0.2, tau_squared=False) == pytest.approx(
        mean([distilled, CE[1], CE[2]])
    )


def test_muscle_matches_the_old_model_where_the_student_errs_on_an_old_class_and_else_a_new_one():
    # The student errs on the first sample alone.
    _, *others = (kl(n, z, 1.0) for n, z in zip(REFERENCE, STUDENT, strict=True))
    expected = plain_cross_entropy() + mean([kl(OLD[0], STUDENT[0][:2], 1.0), *others])

    assert loss("muscle") == pytest.approx(expected)
    assert loss("muscle", ce_weight=0.0) == pytest.approx(expected - plain_cross_entropy())


def test_muscle_matches_the_old_model_on_new_classes_only_if_asked():
    made = step(targets=[0, 1, 2])  # so that the student errs on the third
    at_new, at_old = kl(REFERENCE[2], STUDENT[2], 1.0), kl(OLD[2], STUDENT[2][:2], 1.0)

    difference = loss("muscle", made) - loss("muscle", made, mask_new=False)

    assert difference == pytest.approx((at_new - at_old) / 3)


def test_bct_adds_the_old_classifiers_loss_on_the_students_features_of_old_classes():
    (a, b, _) = FEATURES
    theirs = [cross_entropy([a[0], a[0] + a[1]], 0), cross_entropy([b[0], b[0] + b[1]], 1)]

    assert loss("bct") == pytest.approx(plain_cross_entropy() + mean(theirs))
    assert loss("bct", lambda_=0.5) == pytest.approx(plain_cross_entropy() + 0.5 * mean(theirs))


def test_bct_gives_the_features_a_gradient_from_old_classes_alone():
    made = step()
    make("bct").loss(made)["loss"].backward()

    gradient = made.features.grad
    assert gradient[:2].abs().sum(dim=1).min() > 0
    assert not gradient[2].any()


@pytest.mark.parametrize("name", ["bct", "pct-authors", "churn-distill", "muscle", "regret-gated"])
def test_rivals_survive_a_batch_of_new_classes_alone(name):
    made = step(targets=[2, 3, 3])

    terms = make(name).loss(made)
    terms["loss"].backward()

    assert terms["old"].item() == 0
    assert terms["loss"].isfinite()
    assert made.logits.grad.isfinite().all()


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjustment_adds_the_log_of_class_frequencies(tau):
    total = sum(COUNTS)
    shifted = [[v + tau * math.log(n / total) for v, n in zip(z, COUNTS, strict=True)] for z in STUDENT]
    expected = mean([cross_entropy(z, y) for z, y in zip(shifted, TARGETS, strict=True)])

    assert loss("logit-adjust", tau=tau) == pytest.approx(expected)


def test_balanced_softmax_weighs_exponentials_by_class_counts():
    def one(logits, target):
        weighted = [n * math.exp(value) for n, value in zip(COUNTS, logits, strict=True)]
        return -math.log(weighted[target] / sum(weighted))

    expected = mean([one(z, y) for z, y in zip(STUDENT, TARGETS, strict=True)])

    assert loss("balanced") == pytest.approx(expected)
    assert loss("balanced") == pytest.approx(loss("logit-adjust"))  # two names for one loss


@pytest.mark.parametrize("name", ["logit-adjust", "balanced"])
def test_with_as_many_images_of_every_class_frequencies_change_nothing(name):
    balanced = replace(step(), class_counts=torch.tensor([30, 30, 30, 30]))

    assert loss(name, balanced) == pytest.approx(plain_cross_entropy())


@pytest.mark.parametrize("name", ["logit-adjust", "balanced"])
def test_a_class_without_images_gives_a_finite_loss(name):
    made = replace(step(), class_counts=torch.tensor([40, 40, 0, 5]))
    make(name).loss(made)["loss"].backward()

    assert made.logits.grad.isfinite().all()
