"""Runs, weights, slices and the further caps: what is held against an interval, and how sure it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from results.gate import Layout, Policy, compare
from results.gate.intervals import (
    chance_to_decide,
    paired_difference_interval,
    rate_interval,
    samples_to_decide,
)
from results.gate.report import metrics_of
from results.statistics import binomial_interval


def table(right, **columns):
    return {"id": np.arange(len(right)), "correct": np.asarray(right, int), **columns}


def runs(right):
    """One table with a column `run` from answers [R, N]."""
    count, n = np.shape(right)
    return {
        "id": np.tile(np.arange(n), count),
        "run": np.repeat(np.arange(count), n),
        "correct": np.asarray(right, int).reshape(-1),
    }


def flips(lost, n, gained=0):
    """Two tables: of n samples, `lost` flip negatively and `gained` positively; the others stay right."""
    old = np.ones(n, int)
    old[lost : lost + gained] = 0
    new = np.ones(n, int)
    new[:lost] = 0
    return table(old), table(new)


# Runs


def test_runs_come_as_files_or_as_a_column():
    old, new = np.array([[1, 1, 0, 1], [1, 0, 0, 1]]), np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    by_column = compare(runs(old), runs(new))
    by_file = compare([table(run) for run in old], [table(run) for run in new])
    assert by_column.metrics == by_file.metrics
    p, q = old.mean(axis=0), new.mean(axis=0)
    assert by_column.metrics["nfr"] == pytest.approx(np.mean(p * (1 - q)))
    assert (by_column.samples.old.runs, by_column.samples.new.runs) == (2, 2)


def test_the_noise_is_the_nfr_between_two_runs_of_one_version():
    old, new = np.array([[1, 1, 0, 1], [1, 0, 0, 1]]), np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    report = compare(runs(old), runs(new))
    between = [compare(table(a), table(b)).metrics["nfr"] for a, b in (old, old[::-1])]
    assert report.noise[0] == pytest.approx(np.mean(between))
    assert report.added_nfr.estimate == pytest.approx(report.metrics["nfr"] - np.mean(between))


def test_the_same_system_run_again_adds_nothing():
    random = np.random.default_rng(0)
    p = random.uniform(0.3, 1, 3000)
    old, new = (random.random((4, 3000)) < p for _ in range(2))
    report = compare(runs(old), runs(new), policy=Policy(max_nfr=0.05))
    assert report.metrics["nfr"] > 0.15, "many answers flip"
    assert report.verdict == "PASS", "but no more of them than between two runs of the old version"
    single = compare(table(old[0]), table(new[0]), policy=Policy(max_nfr=0.05))
    assert single.verdict == "FAIL"


def test_an_update_that_takes_something_away_is_found_under_the_noise():
    random = np.random.default_rng(0)
    p = np.where(np.arange(2000) % 5 == 0, 0.6, 1.0)
    q = np.where(np.arange(2000) % 10 == 1, 0.0, p)
    report = compare(
        runs(random.random((3, 2000)) < p), runs(random.random((3, 2000)) < q), policy=Policy(max_nfr=0.05)
    )
    assert report.verdict == "FAIL"
    assert report.added_nfr.estimate == pytest.approx(0.1, abs=0.01)


def test_runs_pass_by_luck_in_at_most_one_of_forty_test_sets():
    random = np.random.default_rng(1)
    passed, trials = 0, 300
    for _ in range(trials):
        flaky, gone = random.random(300) < 0.2, random.random(300) < 0.03
        p = np.where(flaky, 0.7, 1.0)
        q = np.where(gone, 0.0, p)
        answers = [[table(run) for run in random.random((2, 300)) < rate] for rate in (p, q)]
        truth = 0.03 * np.mean([0.8 * 1.0 + 0.2 * 0.7**2])
        passed += compare(*answers, policy=Policy(max_nfr=truth)).verdict == "PASS"
    assert passed / trials <= 0.025 + 2 * np.sqrt(0.025 / trials)


def test_without_flips_few_runs_of_few_samples_prove_nothing():
    report = compare(runs(np.ones((3, 50))), runs(np.ones((3, 50))), policy=Policy(max_nfr=0.01))
    assert report.verdict == "UNDECIDED"


def test_one_old_run_has_no_noise_to_take_off():
    report = compare(table([1, 1, 1, 0]), runs([[1, 0, 1, 1], [1, 1, 1, 0]]))
    assert report.added_nfr is None
    assert report.metrics["nfr"] == pytest.approx(1 / 8)


def test_runs_must_be_of_the_same_samples():
    with pytest.raises(
        ValueError, match=r"old \(run 2\): lacks 1 of the samples in old \(run 1\), first '3'"
    ):
        compare([table([1, 1, 1, 1]), table([1, 1, 1])], table([1, 1, 1, 1]))


def test_an_id_that_comes_twice_is_no_run_unless_that_is_said():
    made = {"id": [1, 1], "correct": [1, 0], "seed": [1, 2]}
    with pytest.raises(ValueError, match=r"id '1' comes 2 times .*columns.run="):
        compare(made, made)
    assert compare(made, made, layout=Layout(columns={"run": "seed"})).samples.old.runs == 2


def test_a_critical_sample_flips_if_any_new_run_loses_it():
    old, new = runs([[1, 1, 0]] * 3), runs([[1, 1, 0], [1, 0, 0], [1, 1, 0]])
    report = compare(old, new, policy=Policy(critical=["0", "1", "2"]))
    assert "1 of 3 critical samples flip: '1'" in report.checks[0].message


@pytest.mark.parametrize("cap", ["max_rel_nfr", "max_churn", "max_nfi"])
def test_a_cap_that_is_not_defined_for_runs_is_refused(cap):
    with pytest.raises(ValueError, match=f"{cap}= is defined for one run"):
        compare(runs([[1, 0], [1, 1]]), runs([[1, 0], [1, 1]]), policy=Policy(**{cap: 0.1}))


# Weights


def test_equal_weights_change_nothing():
    old, new = flips(30, 1000, 20)
    weighted = [made | {"w": np.full(1000, 2.5)} for made in (old, new)]
    one = compare(old, new, policy=Policy(max_nfr=0.04, max_nfi=0.9, max_error_increase=0.03))
    other = compare(*weighted, layout=Layout(weight="w"), policy=one.policy)
    for a, b in zip(one.checks, other.checks, strict=True):
        assert (a.verdict, a.interval.estimate) == (b.verdict, pytest.approx(b.interval.estimate))
        assert (b.interval.low, b.interval.high) == pytest.approx((a.interval.low, a.interval.high), abs=2e-3)
    assert other.metrics == pytest.approx({name: one.metrics[name] for name in other.metrics})


def test_a_sample_of_weight_two_counts_twice_and_tells_no_more():
    old, new = flips(30, 1000)
    weight = np.where(np.arange(1000) < 30, 2.0, 1.0)
    report = compare(old | {"w": weight}, new, layout=Layout(weight="w"))
    assert report.metrics["nfr"] == pytest.approx(60 / 1030)
    unweighted = binomial_interval(60, 1030)
    assert report.nfr.high - report.nfr.low > unweighted.high - unweighted.low
    assert report.rates.effective[0] < 1000


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan])
def test_a_weight_that_is_none_is_refused(weight):
    old, new = flips(1, 4)
    with pytest.raises(ValueError, match=r"row 2: w is"):
        compare(old | {"w": [1, weight, 1, 1]}, new, layout=Layout(weight="w"))


def test_a_column_of_weights_must_exist_and_agree():
    old, new = flips(1, 4)
    with pytest.raises(ValueError, match=r"weight=w: no file has such a column"):
        compare(old, new, layout=Layout(weight="w"))
    with pytest.raises(ValueError, match=r"sample '3': its weight differs between old and new"):
        compare(old | {"w": [1, 1, 1, 1]}, new | {"w": [1, 1, 1, 2]}, layout=Layout(weight="w"))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_metrics_from_counts_are_those_from_predictions(answers):
    old, new = (np.array(column, int) for column in zip(*answers, strict=True))
    named = [{"id": np.arange(len(a)), "target": np.ones(len(a), int), "prediction": a} for a in (old, new)]
    counted = metrics_of(compare(table(old), table(new)).samples)
    predicted = metrics_of(compare(*named, layout=Layout(old_classes=())).samples)
    assert counted == pytest.approx({name: predicted[name] for name in counted})


# Slices


def sliced(n=4000, bad="JP"):
    country = np.array(["DE", "FR", "JP", "US"])[np.arange(n) % 4]
    new = np.ones(n, int)
    new[np.flatnonzero(country == bad)[:200]] = 0
    device = np.array(["phone", "tablet"])[(np.arange(n) // 4) % 2]
    return table(np.ones(n, int), country=country), table(new, device=device)


def test_slices_come_from_either_file_the_worst_on_top():
    report = compare(*sliced(), policy=Policy(slices=("country", "device")))
    assert [(row.column, row.value) for row in report.slices[:1]] == [("country", "JP")]
    assert report.slices[0].nfr == pytest.approx(0.2)
    assert sum(row.samples for row in report.slices if row.column == "device") == 4000


def test_a_single_bad_slice_is_found_and_pairs_of_columns_are_slices_on_request():
    policy = Policy(slices=("country", "country+device"), max_slice_nfr=0.05)
    (check,) = compare(*sliced(), policy=policy).checks
    assert check.verdict == "FAIL"
    assert "slice country=JP: NFR 20.00%" in check.message
    assert "of 12 slices FAIL" in check.message


def test_many_slices_raise_no_false_alarm_and_do_not_pass_by_luck():
    random = np.random.default_rng(0)
    failed = 0
    for _ in range(60):
        new = (random.random(4000) >= 0.05).astype(int)
        group = random.integers(0, 100, 4000)
        made = table(np.ones(4000, int), group=group), table(new)
        (check,) = compare(*made, policy=Policy(slices=("group",), max_slice_nfr=0.05)).checks
        assert check.verdict != "PASS", "no slice keeps a cap at its own rate"
        failed += check.verdict == "FAIL"
    assert failed <= 5


def test_small_slices_are_held_against_nothing_where_that_is_asked_for():
    old, new = sliced()
    old["country"][:3] = "XX"
    policy = Policy(slices=("country",), max_slice_nfr=0.3)
    assert compare(old, new, policy=policy).checks[0].verdict == "UNDECIDED"
    policy = Policy(slices=("country",), max_slice_nfr=0.3, min_slice_samples=50)
    (check,) = compare(old, new, policy=policy).checks
    assert check.verdict == "PASS"
    assert "1 slice has fewer than 50 samples and no cap" in check.message


def test_a_value_that_is_absent_is_a_slice_of_its_own():
    report = compare(
        table([1, 1, 1], country=["DE", None, ""]), table([1, 0, 0]), policy=Policy(slices=("country",))
    )
    assert [(row.value, row.samples) for row in report.slices] == [("(none)", 2), ("DE", 1)]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"slices": ("planet",)}, "slices=planet: no file has a column 'planet'"),
        ({"slices": ("a+b+c",)}, "expected a column, or two of them"),
        ({"max_slice_nfr": 0.1}, "max_slice_nfr= needs slices="),
        (
            {"slices": ("country",), "max_slice_nfr": 0.1, "min_slice_samples": 9999},
            "no slice has 9999 samples",
        ),
    ],
)
def test_slices_that_cannot_be_are_refused(more, complaint):
    with pytest.raises(ValueError, match=complaint):
        compare(*sliced(), policy=Policy(**more))


def test_slices_that_the_two_files_disagree_about_are_refused():
    with pytest.raises(ValueError, match=r"sample '1': its country is 'FR' in old and 'US' in new"):
        compare(
            table([1, 1], country=["DE", "FR"]), table([1, 1], country=["DE", "US"]),
            policy=Policy(slices=("country",)),
        )  # fmt: skip


# Caps


@pytest.mark.parametrize(
    ("lost", "gained", "verdict"), [(10, 30, "PASS"), (60, 10, "FAIL"), (30, 20, "UNDECIDED")]
)
def test_the_error_rate_may_grow_by_so_much(lost, gained, verdict):
    (check,) = compare(*flips(lost, 1000, gained), policy=Policy(max_error_increase=0.01)).checks
    assert check.verdict == verdict
    assert check.interval.estimate == pytest.approx((lost - gained) / 1000)
    assert check.interval.low < check.interval.estimate < check.interval.high


def test_the_interval_of_a_paired_difference_is_tango_s():
    """The example of Tango (1998): 12 and 2 of 44 pairs differ each way."""
    low, high = paired_difference_interval(12, 2, 44, 0.95)
    assert (low, high) == pytest.approx((0.0618, 0.3924), abs=0.02)
    assert paired_difference_interval(0, 0, 50, 0.95)[1] == pytest.approx(3.84 / (50 + 3.84), abs=0.002)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_the_interval_of_a_paired_difference_holds_the_estimate_and_is_symmetric(lost, gained, more):
    n = lost + gained + more + 1
    low, high = paired_difference_interval(lost, gained, n, 0.95)
    assert -1 <= low <= (lost - gained) / n <= high <= 1
    assert paired_difference_interval(gained, lost, n, 0.95) == pytest.approx((-high, -low), abs=1e-6)


def test_the_new_errors_that_are_flips_have_a_cap():
    old = np.r_[np.ones(900, int), np.zeros(100, int)]
    new = np.r_[np.zeros(50, int), np.ones(850, int), np.zeros(50, int), np.ones(50, int)]
    (check,) = compare(table(old), table(new), policy=Policy(max_nfi=0.7)).checks
    interval = binomial_interval(50, 100)
    assert check.verdict == "PASS"
    assert (check.interval.low, check.interval.high) == pytest.approx((interval.low, interval.high))
    (check,) = compare(table(old), table(np.ones(1000, int)), policy=Policy(max_nfi=0.7)).checks
    assert check.verdict == "UNDECIDED"


def test_changed_predictions_have_a_cap():
    target = np.zeros(1000, int)
    old, new = target.copy(), target.copy()
    old[:50], new[:50] = 1, 2
    made = [{"id": np.arange(1000), "target": target, "prediction": p} for p in (old, new)]
    (check,) = compare(*made, policy=Policy(max_churn=0.1), layout=Layout(old_classes=("0", "1"))).checks
    assert (check.verdict, check.interval.estimate) == ("PASS", 0.05)
    with pytest.raises(ValueError, match=r"max_churn= needs the predictions"):
        compare(*flips(1, 10), policy=Policy(max_churn=0.1))


def test_a_higher_level_asks_for_more():
    old, new = flips(10, 1000)
    assert compare(old, new, policy=Policy(max_nfr=0.02)).verdict == "PASS"
    assert compare(old, new, policy=Policy(max_nfr=0.02, level=0.99)).verdict == "UNDECIDED"


@pytest.mark.parametrize(("undecided", "code"), [("", 3), ("pass", 0), ("fail", 1)])
def test_undecided_may_pass_or_fail(undecided, code):
    report = compare(*flips(3, 100), policy=Policy(max_nfr=0.03, undecided=undecided))
    assert (report.verdict, report.exit_code) == ("UNDECIDED", code)


@pytest.mark.parametrize(
    "more", [{"max_nfr": -0.1}, {"level": 1.0}, {"level": 0.1}, {"min_slice_samples": 0}, {"slices": ("a+",)}]
)
def test_a_policy_that_cannot_be_is_refused(more):
    with pytest.raises(ValueError, match=next(iter(more))):
        Policy(**more)


# Intervals, and how many samples decide


@given(st.integers(0, 200), st.integers(1, 200))
def test_intervals_of_many_rates_are_clopper_and_pearson_s(count, n):
    count = min(count, n)
    low, high = rate_interval(np.array([count / n]), np.array([n]), 0.95)
    expected = binomial_interval(count, n)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 400), st.just(0.0) | st.floats(1e-4, 0.3), st.floats(0.005, 0.3))
def test_the_chance_to_decide_is_counted_over_all_outcomes(n, rate, cap):
    counts = np.arange(n + 1)
    low, high = rate_interval(counts / n, n, 0.95)
    decided = (high <= cap) | (low > cap)
    expected = binom.pmf(counts, n, rate)[decided].sum()
    assert chance_to_decide(n, rate, cap, 0.95, 0.95) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("rate", "cap"), [(0.0, 0.01), (0.005, 0.01), (0.03, 0.01), (0.2, 0.25)])
def test_so_many_samples_decide_in_80_of_100_test_sets(rate, cap):
    needed = samples_to_decide(rate, cap, 10, 0.95)[0]
    assert chance_to_decide(needed, rate, cap, 0.95, 0.95) >= 0.8
    assert chance_to_decide(0.8 * needed, rate, cap, 0.95, 0.95) < 0.8


def test_at_the_cap_no_number_of_samples_decides():
    assert np.isnan(samples_to_decide(0.01, 0.01, 10, 0.95)[0])
