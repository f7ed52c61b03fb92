import numpy as np
import pyarrow as pa
import pytest

from results.gate.checks import cells_of, check_all, overall, rel_nfr_interval
from results.gate.groups import by_class
from results.gate.pairing import PairedSamples, Version
from results.gate.policy import Policy
from results.statistics import binomial_interval


def samples_of(target, old, new, *, classes, ids=None) -> PairedSamples:
    """Paired samples from arrays of targets and predictions."""
    target, old, new = (np.asarray(values, np.int32) for values in (target, old, new))
    names = [f"s{i:05d}" for i in range(len(target))] if ids is None else ids
    versions = [
        Version(right=(predicted == target)[None], prediction=predicted, scores={}, unanswered=0)
        for predicted in (old, new)
    ]
    return PairedSamples(
        ids=pa.array(names),
        old=versions[0],
        new=versions[1],
        target=target,
        classes=tuple(f"c{i}" for i in range(classes)),
        old_classes=classes,
        surplus_right=0,
        surplus=0,
        left_out=0,
        weight=None,
        groups={},
        identity=None,
    )


def update(kept, lost, gained=0, wrong=0, *, classes=2) -> PairedSamples:
    """Counts of samples that stay right, flip negatively, flip positively, stay wrong; classes take turns."""
    n = kept + lost + gained + wrong
    target = np.arange(n) % classes
    other = (target + 1) % classes
    old_right = np.arange(n) < kept + lost
    gains = (np.arange(n) >= kept + lost) & (np.arange(n) < kept + lost + gained)
    new_right = (np.arange(n) < kept) | gains
    return samples_of(
        target, np.where(old_right, target, other), np.where(new_right, target, other), classes=classes
    )


def check(samples, **caps):
    policy = Policy(**caps)
    return check_all(samples, policy, classes=by_class(samples), slices=None)


def test_the_four_cells_are_counted():
    assert cells_of(update(7, 3, 2, 1)) == (7, 3, 2, 1)


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0, "PASS"), (10, "PASS"), (30, "UNDECIDED"), (60, "FAIL"), (500, "FAIL")]
)
def test_the_nfr_is_decided_by_the_ends_of_its_interval(lost, verdict):
    (made,) = check(update(1000 - lost, lost), max_nfr=0.03)
    interval = binomial_interval(lost, 1000)
    assert made.verdict == verdict
    assert (made.interval.low, made.interval.high) == (interval.low, interval.high)


def test_no_flip_in_too_few_samples_does_not_pass():
    (made,) = check(update(100, 0), max_nfr=0.01)
    assert made.verdict == "UNDECIDED"
    assert binomial_interval(0, made.samples_to_decide).high <= 0.01
    assert binomial_interval(0, round(made.samples_to_decide * 0.98)).high > 0.01


def test_a_rate_at_the_cap_is_never_decided():
    (made,) = check(update(990, 10), max_nfr=0.01)
    assert (made.verdict, made.samples_to_decide) == ("UNDECIDED", None)
    assert "no number of samples would decide" in made.message


@pytest.mark.parametrize(
    ("cells", "cap", "verdict"),
    [
        ((900, 5, 5, 90), 0.5, "PASS"),
        ((900, 50, 5, 45), 0.2, "FAIL"),
        ((900, 30, 5, 65), 0.3, "UNDECIDED"),
    ],
)
def test_the_relative_nfr_is_decided_by_its_interval(cells, cap, verdict):
    (made,) = check(update(*cells), max_rel_nfr=cap)
    assert made.verdict == verdict
    kept, lost, _, wrong = cells
    assert made.interval.estimate == pytest.approx(lost * 1000 / ((kept + lost) * (lost + wrong)))
    assert made.interval.low < made.interval.estimate < made.interval.high
    assert (made.samples_to_decide is not None) == (verdict == "UNDECIDED")


def test_the_interval_of_the_relative_nfr_covers_about_95_of_100_truths():
    random = np.random.default_rng(0)
    truth = np.array([0.88, 0.04, 0.02, 0.06])
    rel_nfr = truth[1] / ((truth[0] + truth[1]) * (truth[1] + truth[3]))
    intervals = [rel_nfr_interval(tuple(random.multinomial(500, truth)), 0.95) for _ in range(200)]
    covered = np.mean([i.low <= rel_nfr <= i.high for i in intervals])
    assert 0.90 < covered < 0.99


def test_an_update_without_flips_never_fails_on_its_relative_nfr():
    for cells in ((600, 0, 0, 50), (1, 0, 0, 0)):
        (made,) = check(update(*cells), max_rel_nfr=0.0)
        assert made.verdict == "UNDECIDED"
        assert made.interval.low == made.interval.estimate == 0
    assert "makes no error here" in made.message


def test_a_single_bad_class_is_found():
    target = np.arange(4000) % 4
    new = target.copy()
    new[np.flatnonzero(target == 2)[:200]] = 3
    (result,) = check(samples_of(target, target, new, classes=4), max_class_nfr=0.05)
    assert result.verdict == "FAIL"
    assert "class 'c2': NFR 20.00%" in result.message


def test_of_several_undecided_classes_the_one_is_named_that_would_decide_first():
    target = np.where(np.arange(1100) < 100, 0, 1)
    new = target.copy()
    new[:8] = 1  # 8 of 100 lost, a rate above the cap
    new[100:139] = 0  # 39 of 1,000 lost, a rate just within it
    (result,) = check(samples_of(target, target, new, classes=2), max_class_nfr=0.04)
    assert result.verdict == "UNDECIDED"
    assert result.message.startswith("class 'c0': NFR 8.00%")
    assert 100 < result.samples_to_decide < 1000


def test_every_class_within_the_cap_passes():
    assert check(update(4000, 4, classes=4), max_class_nfr=0.05)[0].verdict == "PASS"


def test_one_unlucky_class_among_many_small_ones_is_no_proof():
    target = np.arange(4000) % 200  # 20 samples per class
    new = target.copy()
    new[np.flatnonzero(target == 7)[:6]] = 8
    (result,) = check(samples_of(target, target, new, classes=200), max_class_nfr=0.1)
    assert binomial_interval(6, 20).low > 0.1  # alone it would be one
    assert result.verdict == "UNDECIDED"
    needed, among_so_many = result.samples_to_decide, 1 - 0.05 / 200
    flips = np.random.default_rng(0).binomial(needed, 0.3, size=500)
    decided = [binomial_interval(int(k), needed, level=among_so_many).low > 0.1 for k in flips]
    assert np.mean(decided) == pytest.approx(0.8, abs=0.06), "in 80 % of test sets"
    assert result.interval.low < 0.1 < result.interval.high, "what is printed explains the verdict"


def test_a_critical_sample_may_not_flip():
    made = update(8, 2)
    assert check(made, critical=["s00000", "s00001"])[0].verdict == "PASS"
    (result,) = check(made, critical=["s00000", "s00009"])
    assert result.verdict == "FAIL"
    assert "1 of 2 critical samples flip: 's00009'" in result.message
    with pytest.raises(ValueError, match="sample 'nowhere' is not among the compared"):
        check(made, critical=["nowhere"])


def test_the_worst_verdict_counts():
    checks = check(update(970, 30), max_nfr=0.03, critical=["s00000"])
    assert [c.verdict for c in checks] == ["UNDECIDED", "PASS"]
    assert overall(checks) == "UNDECIDED"
    assert overall(check(update(970, 30), max_nfr=0.03, critical=["s00999"])) == "FAIL"
    assert overall([]) == "PASS"
