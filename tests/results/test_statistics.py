import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from results.statistics import binomial_interval, bootstrap_mean, dirichlet_interval, holm, mcnemar

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


def exact_bootstrap(values, level=0.95):
    """Distribution of the mean of n draws by repeated convolution, its quantiles by counting up."""
    lowest, n = min(values), len(values)
    one = np.bincount(np.array(values) - lowest) / n
    of_sum = np.ones(1)
    for _ in values:
        of_sum = np.convolve(of_sum, one)
    cumulative = np.cumsum(of_sum)
    tail = (1 - level) / 2
    return [float((np.argmax(cumulative >= q - 1e-12)) / n + lowest) for q in (tail, 1 - tail)]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60))
def test_the_bootstrap_interval_is_that_of_all_resamples(values):
    interval = bootstrap_mean(np.array(values))
    assert interval.estimate == pytest.approx(np.mean(values))
    assert [interval.low, interval.high] == pytest.approx(exact_bootstrap(values))


@pytest.mark.parametrize("rate", [0.003, 0.05, 0.5])
def test_the_bootstrap_interval_is_that_of_scipy_up_to_its_drawing(rate):
    random = np.random.default_rng(1)
    values = random.choice([-1, 0, 1], p=[rate, 1 - 1.5 * rate, rate / 2], size=5000)
    drawn = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", vectorized=True, n_resamples=5000, batch=500, rng=2
    ).confidence_interval
    interval = bootstrap_mean(values)
    assert (interval.low, interval.high) == pytest.approx(tuple(drawn), abs=6e-4)


def test_the_bootstrap_handles_a_million_samples():
    values = np.zeros(1_000_000, int)
    values[:20_000] = 1
    interval = bootstrap_mean(values)
    spread = 1.96 * np.sqrt(0.02 * 0.98 / 1e6)
    assert (interval.low, interval.high) == pytest.approx((0.02 - spread, 0.02 + spread), abs=2e-6)


@settings(max_examples=20)
@given(st.integers(0, 40), st.integers(1, 40))
def test_the_dirichlet_interval_of_one_cell_is_jeffreys_interval(count, rest):
    low, high = dirichlet_interval([count, rest], lambda p: p[..., 0])
    posterior = scipy.stats.beta(count + 0.5, rest + 0.5)
    assert (low, high) == pytest.approx((posterior.ppf(0.025), posterior.ppf(0.975)), abs=0.01)


def test_no_flip_in_few_samples_is_no_certainty():
    assert binomial_interval(0, 50).high > 0.07
    assert dirichlet_interval([0, 50], lambda p: p[..., 0])[1] > 0.03
