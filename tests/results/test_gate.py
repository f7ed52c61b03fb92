import numpy as np
import pytest

from results.gate import Caps, cells_of, check, overall, rel_nfr_interval
from results.predictions import Predictions
from results.reading import Update
from results.statistics import binomial_interval


def update(kept, lost, gained=0, wrong=0, *, classes=2) -> Update:
    """Counts of samples that stay right, flip negatively, flip positively, stay wrong; classes take turns."""
    n = kept + lost + gained + wrong
    target = np.arange(n) % classes
    other = (target + 1) % classes
    old_right = np.arange(n) < kept + lost
    gains = (np.arange(n) >= kept + lost) & (np.arange(n) < kept + lost + gained)
    new_right = (np.arange(n) < kept) | gains
    return Update(
        old=Predictions(index=np.arange(n), target=target, prediction=np.where(old_right, target, other)),
        new=Predictions(index=np.arange(n), target=target, prediction=np.where(new_right, target, other)),
        ids=np.array([f"s{i:05d}" for i in range(n)]),
        classes=tuple(f"c{i}" for i in range(classes)),
        old_classes=classes,
        left_out=0,
    )


def test_the_four_cells_are_counted():
    assert cells_of(update(7, 3, 2, 1)) == (7, 3, 2, 1)


@pytest.mark.parametrize(
    ("lost", "verdict"), [(0, "PASS"), (10, "PASS"), (30, "UNDECIDED"), (60, "FAIL"), (500, "FAIL")]
)
def test_the_nfr_is_decided_by_the_ends_of_its_interval(lost, verdict):
    (made,) = check(update(1000 - lost, lost), Caps(nfr=0.03))
    interval = binomial_interval(lost, 1000)
    assert made.verdict == verdict
    assert (made.interval.low, made.interval.high) == (interval.low, interval.high)


def test_no_flip_in_too_few_samples_does_not_pass():
    (made,) = check(update(100, 0), Caps(nfr=0.01))
    assert made.verdict == "UNDECIDED"
    assert binomial_interval(0, made.samples_to_decide).high <= 0.01
    assert binomial_interval(0, round(made.samples_to_decide * 0.98)).high > 0.01


def test_a_rate_at_the_cap_is_never_decided():
    (made,) = check(update(990, 10), Caps(nfr=0.01))
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
    (made,) = check(update(*cells), Caps(rel_nfr=cap))
    assert made.verdict == verdict
    kept, lost, _, wrong = cells
    assert made.interval.estimate == pytest.approx(lost * 1000 / ((kept + lost) * (lost + wrong)))
    assert made.interval.low < made.interval.estimate < made.interval.high
    assert (made.samples_to_decide is not None) == (verdict == "UNDECIDED")


def test_the_interval_of_the_relative_nfr_covers_about_95_of_100_truths():
    random = np.random.default_rng(0)
    truth = np.array([0.88, 0.04, 0.02, 0.06])
    rel_nfr = truth[1] / ((truth[0] + truth[1]) * (truth[1] + truth[3]))
    intervals = [rel_nfr_interval(tuple(random.multinomial(500, truth))) for _ in range(200)]
    covered = np.mean([i.low <= rel_nfr <= i.high for i in intervals])
    assert 0.90 < covered < 0.99


def test_an_update_without_flips_never_fails_on_its_relative_nfr():
    for cells in ((600, 0, 0, 50), (1, 0, 0, 0)):
        (made,) = check(update(*cells), Caps(rel_nfr=0.0))
        assert made.verdict == "UNDECIDED"
        assert made.interval.low == made.interval.estimate == 0
    assert "makes no error here" in made.message


def test_a_single_bad_class_is_found():
    made = update(4000, 0, classes=4)
    bad = np.flatnonzero(made.old.target == 2)[:200]
    made.new.prediction[bad] = 3
    (result,) = check(made, Caps(class_nfr=0.05))
    assert result.verdict == "FAIL"
    assert "class 'c2': NFR 20.00%" in result.message


def test_of_several_undecided_classes_the_one_is_named_that_would_decide_first():
    made = update(1100, 0, classes=2)
    made.old.target[:], made.old.prediction[:] = 1, 1
    made.old.target[:100] = made.old.prediction[:100] = 0
    made.new.target[:], made.new.prediction[:] = made.old.target, made.old.prediction
    made.new.prediction[:8] = 1  # 8 of 100 lost, a rate above the cap
    made.new.prediction[100:139] = 0  # 39 of 1,000 lost, a rate just within it
    (result,) = check(made, Caps(class_nfr=0.04))
    assert result.verdict == "UNDECIDED"
    assert result.message.startswith("class 'c0': NFR 8.00%")
    assert 100 < result.samples_to_decide < 1000


def test_every_class_within_the_cap_passes():
    assert check(update(4000, 4, classes=4), Caps(class_nfr=0.05))[0].verdict == "PASS"


def test_one_unlucky_class_among_many_small_ones_is_no_proof():
    made = update(4000, 0, classes=200)  # 20 samples a class
    made.new.prediction[np.flatnonzero(made.old.target == 7)[:6]] = 8
    (result,) = check(made, Caps(class_nfr=0.1))
    assert binomial_interval(6, 20).low > 0.1  # alone it would be one
    assert result.verdict == "UNDECIDED"
    needed, among_so_many = result.samples_to_decide, 1 - 0.05 / 200
    assert binomial_interval(round(0.3 * needed), needed, level=among_so_many).low > 0.1
    assert binomial_interval(round(0.27 * needed), round(0.9 * needed), level=among_so_many).low < 0.1
    assert result.interval.low < 0.1 < result.interval.high, "what is printed explains the verdict"


def test_a_critical_sample_may_not_flip():
    made = update(8, 2)
    assert check(made, Caps(critical=["s00000", "s00001"]))[0].verdict == "PASS"
    (result,) = check(made, Caps(critical=["s00000", "s00009"]))
    assert result.verdict == "FAIL"
    assert "1 of 2 critical samples flip: 's00009'" in result.message
    with pytest.raises(ValueError, match="sample 'nowhere' is not among the compared"):
        check(made, Caps(critical=["nowhere"]))


def test_the_worst_verdict_counts():
    checks = check(update(970, 30), Caps(nfr=0.03, critical=["s00000"]))
    assert [c.verdict for c in checks] == ["UNDECIDED", "PASS"]
    assert overall(checks) == "UNDECIDED"
    assert overall(check(update(970, 30), Caps(nfr=0.03, critical=["s00999"]))) == "FAIL"
    assert overall([]) == "PASS"
