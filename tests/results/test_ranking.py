from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import scipy.stats

from results.ranking import minus_plain, rank, rank_means, rate_intervals
from results.statistics import critical_value


def draw(rates, *, seeds, samples, seed=7):
    """Events [M, S, N] that are independent, with one rate for each method."""
    random = np.random.default_rng(seed)
    return random.random((len(rates), seeds, samples)) < np.array(rates)[:, None, None]


EXAMPLE = draw([0.02, 0.03, 0.03, 0.05, 0.1], seeds=4, samples=300)


def components(difference):
    """Variance of seed means and the variance due to samples of D [S, N], straight from their definitions."""
    seeds, samples = difference.shape
    of_seeds, of_samples = difference.mean(axis=1), difference.mean(axis=0)
    residual = difference - of_seeds[:, None] - of_samples + difference.mean()
    mean_square = (residual**2).sum() / ((seeds - 1) * (samples - 1))
    due_to_samples = of_samples.var(ddof=1) / samples - mean_square / (seeds * samples)
    return of_seeds.var(ddof=1), max(0.0, due_to_samples)


class TestRank:
    def test_worked_example(self):
        ranking = rank(EXAMPLE)

        assert ranking.mean_square == pytest.approx(1.732407e-4, abs=5e-11)
        assert ranking.noise == pytest.approx(
            [2.066358e-4, 0, 4.367284e-5, 2.921296e-4, 3.550926e-4], abs=5e-11
        )
        assert ranking.df == pytest.approx(7.033153, abs=5e-7)
        assert ranking.critical == pytest.approx(3.573265, abs=5e-7)
        assert critical_value(5, math.inf) == pytest.approx(2.727774, abs=5e-7)
        assert ranking.half_width[0, 1] == pytest.approx(0.0336250, abs=5e-8)
        assert ranking.half_width[0, 4] == pytest.approx(0.0477365, abs=5e-8)
        assert ranking.half_width[3, 4] == pytest.approx(0.0454529, abs=5e-8)
        assert ranking.ranks == [1, 1, 1, 1, 5]

    def test_worked_example_of_two_methods(self):
        assert rank(EXAMPLE[[0, 3]]).half_width[0, 1] == pytest.approx(0.0389516, abs=5e-8)

    def test_half_widths_follow_from_the_definitions(self):
        events = draw([0.1, 0.12, 0.3], seeds=5, samples=40)
        events[1, :, :6] = True  # samples that one method always gets wrong: variance due to samples
        events[2, 3] |= events[2, 2]  # more noise between seeds
        ranking = rank(events)

        for i, j in itertools.permutations(range(3), 2):
            own, samples = components(events[i].astype(float) - events[j])
            variance = max(own, 2 * ranking.mean_square, ranking.noise[i] + ranking.noise[j])
            half = math.sqrt(ranking.critical**2 * variance / 5 + critical_value(3, math.inf) ** 2 * samples)
            assert ranking.half_width[i, j] == pytest.approx(half, rel=1e-10)
        assert components(events[0].astype(float) - events[1])[1] > 0

    def test_a_method_with_clearly_fewer_flips_is_first(self):
        ranking = rank(draw([0.05, 0.01, 0.05], seeds=5, samples=2000))

        assert ranking.ranks == [2, 1, 2]
        assert ranking.among_the_best.tolist() == [False, True, False]
        interval = ranking.interval(0, 1)
        assert 0 < interval.low < interval.estimate < interval.high

    def test_one_seed_that_fails_is_no_evidence_of_a_worse_method(self):
        events = draw([0.02] * 5, seeds=5, samples=2000)
        events[2, 4] = draw([0.6], seeds=1, samples=2000)[0]

        assert rank(events).ranks == [1] * 5
        assert rank(events).unstable.tolist() == [False, False, True, False, False]

    def test_a_method_is_unstable_from_three_times_the_spread_of_the_others_on(self):
        pattern = [[1, -1, 0, 0, 0], [0, 1, -1, 0, 0], [0, 0, 1, -1, 0], [0, 0, 0, 1, -1]]
        for factor, expected in ((2, False), (6, True)):
            values = 0.1 + 0.01 * np.array([[factor, 0, 0, 0, -factor], *pattern])
            ranking = rank_means(values)
            others = (ranking.noise.sum() - ranking.noise[0]) / 4
            assert (ranking.noise[0] > 9 * others) is np.bool_(expected)
            assert ranking.unstable.tolist() == [expected, False, False, False, False]

    def test_four_methods_are_too_few_to_call_one_unstable(self):
        values = 0.1 + 0.01 * np.array([[30, -10, -20, 5], [0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]])

        assert not rank_means(values).unstable.any()
        assert rank_means(np.vstack([values, [[0, 0, 0, 0.01]]])).unstable.tolist() == [True, *[False] * 4]

    def test_order_of_methods_seeds_and_samples_does_not_matter(self):
        ranking = rank(EXAMPLE)
        turned = rank(EXAMPLE[::-1, ::-1, ::-1])

        assert turned.half_width == pytest.approx(ranking.half_width[::-1, ::-1], rel=1e-12)
        assert turned.ranks == ranking.ranks[::-1]

    def test_fewer_than_three_seeds_give_no_ranks(self):
        assert rank(EXAMPLE[:, :2]) is None
        assert rank_means(EXAMPLE[:, :2].mean(axis=2)) is None

    def test_one_method_ranks_first(self):
        ranking = rank(EXAMPLE[:1])

        assert (ranking.ranks, ranking.half_width.tolist()) == ([1], [[0.0]])

    def test_methods_without_noise_between_seeds_are_compared_over_samples_alone(self):
        once = draw([0.1, 0.3, 0.1], seeds=1, samples=900)
        ranking = rank(np.repeat(once, 4, axis=1))

        assert ranking.only_samples
        assert ranking.df == 3
        samples = (once[0, 0].astype(float) - once[1, 0]).var(ddof=1) / 900
        assert ranking.half_width[0, 1] == pytest.approx(critical_value(3, math.inf) * math.sqrt(samples))
        assert ranking.ranks == [1, 3, 1]

    def test_one_flip_in_each_seed_is_no_difference(self):
        events = np.zeros((3, 4, 50), bool)
        events[2, range(4), range(4)] = True
        ranking = rank(events)

        assert ranking.only_samples
        assert ranking.ranks == [1, 1, 1]
        assert min(one.p for one in minus_plain(events[1:], events[:1])) > 0.01

    def test_methods_without_any_flip_share_the_first_rank(self):
        ranking = rank(np.zeros((3, 4, 50), bool))

        assert ranking.ranks == [1, 1, 1]
        assert ranking.only_samples

    def test_resolution_is_the_width_of_the_seed_part_and_shrinks_with_seeds(self):
        ranking = rank(EXAMPLE)
        now = ranking.critical * math.sqrt(2 * ranking.mean_square / 4)
        at_ten = critical_value(5, ranking.df * 9 / 3) * math.sqrt(2 * ranking.mean_square / 10)

        assert ranking.resolution(4) == pytest.approx(now)
        assert ranking.resolution(10) == pytest.approx(at_ten)
        assert at_ten < now

    def test_means_are_compared_over_seeds_alone(self):
        ranking = rank(EXAMPLE)
        of_means = rank_means(EXAMPLE.mean(axis=2))

        assert (of_means.mean_square, of_means.df) == pytest.approx((ranking.mean_square, ranking.df))
        assert (of_means.half_width <= ranking.half_width + 1e-12).all()

    def test_twenty_methods_with_twenty_seeds_and_ten_thousand_samples_take_a_moment(self):
        events = draw([0.02] * 20, seeds=20, samples=10_000)
        rank(events)
        began = time.process_time()
        rank(events)

        assert time.process_time() - began < 0.5  # 0.02 s on an idle core


class TestMinusPlain:
    plain = draw([0.05, 0.05, 0.05], seeds=5, samples=200, seed=1)
    events = draw([0.05, 0.02, 0.2], seeds=5, samples=200, seed=2)

    def test_follows_from_the_definitions(self):
        found = minus_plain(self.events, self.plain)

        differences = [events - self.plain.mean(axis=0) for events in self.events]
        own, samples = map(np.array, zip(*map(components, differences), strict=True))
        within = np.mean([self.plain[:, s].mean(axis=1).var(ddof=1) for s in range(5)])
        variance = np.maximum(np.maximum(own, own.mean()), within * (1 + 1 / 2))
        errors = np.sqrt(variance / 5 + samples)
        df = np.clip(4 * own.sum() ** 2 / (own**2).sum(), 4, 16)
        for one, difference, error in zip(found, differences, errors, strict=True):
            assert one.estimate == pytest.approx(difference.mean())
            assert one.standard_error == pytest.approx(error, rel=1e-10)
            assert one.df == pytest.approx(df)
            assert one.p == pytest.approx(2 * scipy.stats.t.sf(abs(difference.mean()) / error, df))

    def test_without_references_the_baseline_is_no_treatment(self):
        (one,) = minus_plain(self.events[:1], self.plain[:1])

        own, samples = components(self.events[0].astype(float) - self.plain[0])
        assert one.standard_error == pytest.approx(math.sqrt(own / 5 + samples))
        assert one.df == 4

    def test_fewer_than_three_seeds_give_an_estimate_alone(self):
        found = minus_plain(self.events[:, :2], self.plain[:, :2])

        assert [(one.seeds, one.standard_error, one.p) for one in found] == [(2, None, None)] * 3

    def test_a_method_that_equals_plain_models_without_noise_is_no_finding(self):
        nothing = np.zeros((2, 4, 30), bool)

        assert [one.p for one in minus_plain(nothing, nothing)] == [1.0, 1.0]


class TestRateIntervals:
    def test_follow_from_the_definitions(self):
        events = draw([0.1, 0.2], seeds=4, samples=100)
        intervals = rate_intervals(events)

        own, samples = map(np.array, zip(*map(components, events.astype(float)), strict=True))
        halves = np.sqrt(
            scipy.stats.t.ppf(0.975, 3) ** 2 * np.maximum(own, own.mean()) / 4 + 1.959964**2 * samples
        )
        for interval, rates, half in zip(intervals, events.mean(axis=(1, 2)), halves, strict=True):
            assert (interval.estimate, interval.high) == pytest.approx((rates, rates + half), rel=1e-6)
            assert interval.low == pytest.approx(max(0, rates - half), rel=1e-6)

    def test_of_one_seed_are_over_samples(self):
        events = draw([0.2], seeds=1, samples=1000)
        (interval,) = rate_intervals(events)

        p = events.mean()
        assert interval.high - p == pytest.approx(1.96 * math.sqrt(p * (1 - p) / 999), rel=1e-4)
