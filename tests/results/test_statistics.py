import math

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from results.statistics import binomial_interval, critical_value, dirichlet_interval, holm, mcnemar

counts = st.integers(0, 3000)


@given(counts, counts)
def test_mcnemar_is_the_binomial_test_of_scipy(b, c):
    expected = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_is_that_of_statsmodels():
    expected = statsmodels_mcnemar([[50, 12], [3, 40]], exact=True).pvalue
    assert mcnemar(12, 3) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_of_a_million_flips_is_quick_and_sound():
    assert mcnemar(500_000, 500_000) == 1.0
    assert mcnemar(498_000, 502_000) == pytest.approx(
        scipy.stats.binomtest(498_000, 1_000_000).pvalue, rel=1e-6
    )


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_that_of_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected))


def test_holm_of_nothing_is_nothing():
    assert holm([]) == []


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_binomial_interval_is_clopper_and_pearsons(count_of_n):
    count, n = count_of_n
    interval = binomial_interval(count, n)
    expected = proportion_confint(count, n, method="beta")
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(1, 40))
def test_the_dirichlet_interval_of_one_cell_is_jeffreys_interval(count, rest):
    low, high = dirichlet_interval([count, rest], lambda p: p[..., 0])
    posterior = scipy.stats.beta(count + 0.5, rest + 0.5)
    assert (low, high) == pytest.approx((posterior.ppf(0.025), posterior.ppf(0.975)), abs=0.01)


def test_no_flip_in_few_samples_is_no_certainty():
    assert binomial_interval(0, 50).high > 0.07
    assert dirichlet_interval([0, 50], lambda p: p[..., 0])[1] > 0.03


@pytest.mark.parametrize("methods", [2, 3, 8, 20, 60])
@pytest.mark.parametrize("df", [2.0, 4.5, 18.0, 300.0, math.inf])
def test_critical_values_are_those_of_the_studentized_range(methods, df):
    expected = scipy.stats.studentized_range.ppf(0.95, methods, df) / math.sqrt(2)

    assert critical_value(methods, df) == pytest.approx(expected, rel=1e-8)
