from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from results.metrics import METRICS, alone, compare, pair
from results.predictions import Predictions

OLD, ALL = 3, 5


def predictions(index, target, prediction, **more) -> Predictions:
    return Predictions(
        index=np.array(index, int), target=np.array(target, int), prediction=np.array(prediction, int), **more
    )


@st.composite
def updates(draw):
    """An old model's and a new model's predictions as plain lists, in any order."""
    n_old, n_new = draw(st.integers(1, 12)), draw(st.integers(0, 6))
    target = draw(st.lists(st.integers(0, OLD - 1), min_size=n_old, max_size=n_old))
    target += draw(st.lists(st.integers(OLD, ALL - 1), min_size=n_new, max_size=n_new))
    index = draw(st.lists(st.integers(0, 10**6), min_size=n_old + n_new, max_size=n_old + n_new, unique=True))
    logits = draw(arrays(np.float64, (n_old + n_new, ALL), elements=st.integers(-9, 9)))
    old_logits = draw(arrays(np.float64, (n_old, OLD), elements=st.integers(-9, 9)))
    return index, target, old_logits, logits, draw(st.permutations(range(n_old + n_new)))


def by_definition(target, old_logits, logits) -> dict[str, float]:
    """The definitions of METHODS.md as loops over samples, in exact fractions where they are counts."""
    old = [max(range(OLD), key=lambda c, z=z: z[c]) for z in old_logits]
    new = [max(range(ALL), key=lambda c, z=z: z[c]) for z in logits]
    n = len(old)
    samples = list(zip(target, old, new, strict=False))

    def count(condition) -> int:
        return sum(1 for y, o, w in samples if condition(y, o, w))

    negative = count(lambda y, o, w: o == y and w != y)
    new_wrong = count(lambda y, o, w: w != y)
    old_right = count(lambda y, o, w: o == y)
    nfr, er_old, er_model = Fraction(negative, n), Fraction(new_wrong, n), Fraction(n - old_right, n)
    denominator = (1 - er_model) * er_old

    def margin(z, y) -> float:
        return z[y] - max(v for c, v in enumerate(z) if c != y)

    def softmax(z) -> np.ndarray:
        return np.exp(z - max(z)) / sum(np.exp(z - max(z)))

    rights = [i for i in range(n) if old[i] == target[i]]
    had = sum(margin(old_logits[i], target[i]) for i in rights)
    kept = sum(min(max(margin(logits[i], target[i]), 0), margin(old_logits[i], target[i])) for i in rights)
    weighted = sum(
        max(softmax(logits[i])) - softmax(logits[i])[target[i]]
        for i in range(n)
        if old[i] == target[i] and new[i] != target[i]
    )
    return {
        "er_old": er_old,
        "er_all": Fraction(sum(w != y for y, w in zip(target, new, strict=True)), len(target)),
        "er_old_model": er_model,
        "nfr": nfr,
        "rel_nfr": nfr / denominator if denominator else 0,
        "pfr": Fraction(count(lambda y, o, w: o != y and w == y), n),
        "nfi": Fraction(negative, new_wrong) if new_wrong else 0,
        "btc": Fraction(count(lambda y, o, w: o == y == w), old_right) if old_right else 1,
        "bec": Fraction(count(lambda y, o, w: o != y and w != y), new_wrong) if new_wrong else 1,
        "churn": Fraction(count(lambda y, o, w: o != w), n),
        "nfr_to_new": Fraction(count(lambda y, o, w: o == y and w >= OLD), n),
        "nfr_to_old": Fraction(count(lambda y, o, w: o == y and w != y and w < OLD), n),
        "confidence_weighted_nfr": weighted / n,
        "margin_old": sum(margin(z, y) for z, y in zip(old_logits, target, strict=False)) / n,
        "margin_new": sum(margin(logits[i], target[i]) for i in range(n)) / n,
        "margin_kept": kept / had if had else 1,
        "samples_old": n,
        "samples_all": len(target),
    }


@given(updates())
def test_every_metric_is_its_plain_definition(update):
    index, target, old_logits, logits, order = update
    n = len(old_logits)
    old = Predictions.from_logits(index=index[:n], target=target[:n], logits=old_logits)
    new = Predictions.from_logits(index=index, target=target, logits=logits).take(np.array(order))
    expected = {name: float(value) for name, value in by_definition(target, old_logits, logits).items()}
    assert compare(old, new, old_classes=OLD) == pytest.approx(expected, abs=1e-6)
    assert expected.keys() >= METRICS.keys()


def test_rates_worked_out_by_hand():
    # old:    right right right wrong ; new on the same: right, wrong (new class), wrong (old class), right
    old = predictions([10, 11, 12, 13], [0, 1, 2, 0], [0, 1, 2, 1])
    new = predictions([13, 12, 11, 10, 14], [0, 2, 1, 0, 4], [0, 0, 3, 0, 4])
    metrics = compare(old, new, old_classes=3)
    assert metrics["nfr"] == 2 / 4
    assert metrics["pfr"] == 1 / 4
    assert metrics["er_old"] == 2 / 4
    assert metrics["er_all"] == 2 / 5
    assert metrics["rel_nfr"] == pytest.approx((2 / 4) / ((3 / 4) * (2 / 4)))
    assert metrics["nfr_to_new"] == metrics["nfr_to_old"] == 1 / 4
    assert "margin_kept" not in metrics  # these files do not tell margins


def test_an_update_without_errors_has_no_flips_rather_than_a_division_by_zero():
    perfect = predictions([0, 1], [0, 1], [0, 1])
    metrics = compare(perfect, perfect, old_classes=2)
    assert (metrics["rel_nfr"], metrics["nfi"], metrics["bec"], metrics["btc"]) == (0, 0, 1, 1)


def test_an_old_model_that_is_never_right_cannot_lose_anything():
    old, new = predictions([0, 1], [0, 1], [1, 0]), predictions([0, 1], [0, 1], [1, 1])
    metrics = compare(old, new, old_classes=2)
    assert (metrics["rel_nfr"], metrics["btc"]) == (0, 1)


def test_samples_are_paired_by_index_and_not_by_position():
    old, new = predictions([5, 3], [0, 1], [0, 0]), predictions([3, 5], [1, 0], [1, 2])
    both = pair(old, new)
    assert both.negative.tolist() == [True, False]
    assert both.positive.tolist() == [False, True]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (predictions([], [], []), predictions([0], [0], [0]), "hold no sample"),
        (predictions([0, 7], [0, 0], [0, 0]), predictions([0], [0], [0]), "lack sample 7"),
        (predictions([0], [0], [0]), predictions([], [], []), "lack sample 0"),
        (predictions([0], [0], [0]), predictions([0], [1], [0]), "disagree about the target of sample 0"),
        (predictions([0], [4], [0]), predictions([0], [4], [0]), "targets hold class 4"),
        (predictions([0], [0], [4]), predictions([0], [0], [0]), "predictions hold class 4"),
        (predictions([0], [0], [0]), predictions([0, 1], [0, 1], [0, 1]), "hold 2 samples of old classes"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(old, new, message):
    with pytest.raises(ValueError, match=message):
        compare(old, new, old_classes=3)


def test_a_model_alone_has_an_error_rate_and_a_count():
    assert alone(predictions([0, 1], [0, 1], [0, 0]), on="old") == {"er_old": 0.5, "samples_old": 2}
    with pytest.raises(ValueError, match="no sample"):
        alone(predictions([], [], []), on="all")
