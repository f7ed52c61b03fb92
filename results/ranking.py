"""Which methods differ for other seeds and other test samples: differences with intervals, and ranks.

All functions are pure and work on events [M, S, N]: whether method m, trained with seed s, flips (or errs on)
test sample x. Methods of one seed share the old model, the batches and the initial weights, so they are
compared within seeds and within samples. Seeds and samples are both random, as in a two-way analysis of
variance. `docs/methods.md` explains the rules; `benchmarks/statistics.py` measures their error rates.

scipy is imported where it is needed: a table must start in a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.predictions import Booleans
from results.statistics import LEVEL, Interval, critical_value

FEWEST_SEEDS = 3
"""With fewer seeds the spread over seeds is unknown, and nothing is said about other seeds."""
UNSTABLE = 9
"""How many times the variance of the others marks a method: three times their standard deviation."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ranking:
    """All pairs of M methods, with intervals that hold at the same time in at least 95 % of tables."""

    seeds: int
    """S, the number of seeds."""
    mean: Floats
    """[M] rate of each method over seeds and samples."""
    noise: Floats
    """[M] each method's own variance between seeds, g."""
    mean_square: float
    """Mean square of methods x seeds, MS: the mean of `noise` before it is cut off at 0."""
    df: float
    """Degrees of freedom f of the seed part."""
    critical: float
    """c(f), the factor of the seed part."""
    difference: Floats
    """[M, M] rate of the row's method minus that of the column's."""
    half_width: Floats
    """[M, M] half width of the interval of `difference`; 0 on the diagonal."""

    @property
    def separated(self) -> Booleans:
        """[M, M] where the interval of a difference excludes 0."""
        separated: Booleans = np.abs(self.difference) > self.half_width
        return separated

    @property
    def ranks(self) -> list[int]:
        """For each method, 1 + the number of separated methods with a lower rate."""
        better = self.separated & (self.difference > 0)
        ranks: list[int] = (1 + better.sum(axis=1)).tolist()
        return ranks

    @property
    def among_the_best(self) -> Booleans:
        """[M] methods that are not separated from the one with the lowest rate."""
        among: Booleans = ~self.separated[:, self.mean.argmin()]
        return among

    @property
    def unstable(self) -> Booleans:
        """[M] methods whose own variance is more than nine times the mean of the others'.

        None is among fewer than five methods, or where the others' has fewer than eight degrees of freedom:
        chance alone often makes it this small.
        """
        methods = len(self.noise)
        if methods < 5 or (methods - 1) * (self.seeds - 1) < 8:
            return np.zeros(methods, np.bool_)
        others = (self.noise.sum() - self.noise) / (methods - 1)
        unstable: Booleans = self.noise > UNSTABLE * others
        return unstable

    @property
    def only_samples(self) -> bool:
        """Whether seeds show no noise at all (MS = 0), so that half widths come from samples alone."""
        return self.mean_square == 0

    def interval(self, one: int, other: int) -> Interval:
        """The difference between two methods with its simultaneous 95 % interval."""
        difference, half = float(self.difference[one, other]), float(self.half_width[one, other])
        return Interval(difference, difference - half, difference + half)

    def resolution(self, seeds: int) -> float:
        """The difference from which on a number of seeds tells two of these methods apart.

        X(S) = c(f) sqrt(2 MS / S), with f in proportion to S - 1; the part of the samples is left out.
        """
        df = self.df * (seeds - 1) / (self.seeds - 1)
        return critical_value(len(self.mean), df) * math.sqrt(2 * self.mean_square / seeds)


def rank(events: Booleans) -> Ranking | None:
    """Compare all pairs of methods by their events [M, S, N]; None for fewer than three seeds.

    With y[m, s] the rates and D[s, x] the difference of a pair's events:

    - e = y without method and seed means, r_m = sum over s of e^2 / (S - 1), MS = sum r_m / (M - 1),
      g_m = max(0, (r_m - MS / M) / (1 - 2 / M)), for M = 2 g_m = MS: each method's own noise, unbiased
      before the cut-off (Grubbs 1948);
    - f = (S - 1)(M - 1) M MS^2 / sum g_m^2, kept within [S - 1, min(M - 1, 5)(S - 1)]
      (Satterthwaite 1946);
    - V = max(variance over seeds of D's seed means, 2 MS, g_i + g_j);
    - samples = max(0, var(D's sample means) / N - MSres / (S N)), MSres the mean square of seeds x samples
      of D: the variance of the difference due to the choice of samples;
    - half^2 = c(f)^2 V / S + c(inf)^2 samples, c from Tukey's studentized range (see `critical_value`).

    The maximum in V is what keeps false positives at 5 % where methods differ in their spread. Where MS = 0,
    f = S - 1, and half^2 = c(inf)^2 var(D's sample means) / N is all there is.
    """
    if events.shape[1] < FEWEST_SEEDS:
        return None
    sums = _Sums.of(events)
    return _ranking(sums.by_seed / sums.samples, sums.variances(_of_differences))


def rank_means(values: Floats) -> Ranking | None:
    """As `rank`, of a metric [M, S] that is not a rate of events: its intervals are over seeds alone."""
    if values.shape[1] < FEWEST_SEEDS:
        return None
    none = np.zeros((len(values), len(values)))
    own = _of_differences(np.atleast_2d(np.cov(values)))
    return _ranking(values, _Variances(over_seeds=own, due_to_samples=none, over_samples=none))


def _ranking(values: Floats, pairs: _Variances) -> Ranking:
    """From the values [M, S], and the variances [M, M] of each pair's difference."""
    methods, seeds = values.shape
    assert methods, "a ranking needs a method"
    mean_square, noise, df = _noise(values)
    variance = np.maximum(np.maximum(pairs.over_seeds, 2 * mean_square), noise[:, None] + noise)
    critical, of_samples = critical_value(methods, df), critical_value(methods, math.inf)
    if mean_square == 0:
        half_width = of_samples * np.sqrt(pairs.over_samples)
    else:
        half_width = np.sqrt(critical**2 * variance / seeds + of_samples**2 * pairs.due_to_samples)
    np.fill_diagonal(half_width, 0)
    mean = values.mean(axis=1)
    return Ranking(
        seeds=seeds,
        mean=mean,
        noise=noise,
        mean_square=mean_square,
        df=df,
        critical=critical,
        difference=mean[:, None] - mean,
        half_width=half_width,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainDifference:
    """A method's rate minus that of plain models."""

    estimate: float
    seeds: int
    """How many seeds it rests on."""
    standard_error: float | None = None
    """Over seeds and samples; None for fewer than three seeds."""
    df: float | None = None
    """Degrees of freedom of t."""
    p: float | None = None
    """Two-sided p, adjusted by Holm's rule for the number of methods where it comes from
    `results.row_ranking.from_plain`."""


def minus_plain(events: Booleans, plain: Booleans) -> list[PlainDifference]:
    """Compare each method [M, S, N] with the mean of the plain models [P, S, N] of the same seed.

    `plain` holds No Treatment and the n = P - 1 references, which are plain models too: their mean has less
    noise than No Treatment alone. With D[s, x] the method's events minus the plain models' mean, own_m the
    variance over seeds of D's seed means and s^2 the variance of plain models' rates within seeds:

    - V_m = max(own_m, mean of own over methods, s^2 (1 + 1 / n)), the last where there are references;
    - SE^2 = V_m / S + samples, with `samples` as in `rank`;
    - t = D's mean / SE with f = (S - 1)(sum own)^2 / sum own^2, kept within [S - 1, 4 (S - 1)]
      (Satterthwaite 1946), degrees of freedom. p is not adjusted.
    """
    from scipy.special import stdtr

    methods, seeds, samples = events.shape
    models = len(plain)
    weights = np.concatenate([np.eye(methods), np.full((methods, models), -1 / models)], axis=1)
    sums = _Sums.of(np.concatenate([events, plain])).of_contrasts(weights)
    estimates = (sums.by_seed.mean(axis=1) / samples).tolist()
    if seeds < FEWEST_SEEDS:
        return [PlainDifference(estimate=estimate, seeds=seeds) for estimate in estimates]
    variances = sums.variances(np.diagonal)
    own = variances.over_seeds
    own[own < 1e-18] = 0  # rounding
    variance = np.maximum(own, own.mean() if methods else 0)
    if models > 1:
        within_seeds = float(plain.mean(axis=2).var(axis=0, ddof=1).mean())
        variance = np.maximum(variance, within_seeds * (1 + 1 / (models - 1)))
    df = _satterthwaite(own, seeds, most=4)
    of_samples = np.where(variance == 0, variances.over_samples, variances.due_to_samples)
    errors = np.sqrt(variance / seeds + of_samples).tolist()
    found = []
    for estimate, error in zip(estimates, errors, strict=True):
        p = 2 * float(stdtr(df, -abs(estimate) / error)) if error else float(estimate == 0)
        found.append(PlainDifference(estimate=estimate, seeds=seeds, standard_error=error, df=df, p=p))
    return found


def rate_intervals(events: Booleans) -> list[Interval]:
    """The rate of each method [M, S, N] with its own 95 % interval over seeds and samples.

    half^2 = t(f)^2 V / S + z^2 samples with V = max(own, mean of own over methods), own the variance of the
    method's rates over seeds, f = S - 1 and `samples` as in `rank`, of the events instead of a difference.
    With fewer than three seeds, the interval is over samples alone: z^2 var(sample means) / N.
    """
    from scipy.special import ndtri, stdtrit

    _, seeds, samples = events.shape
    sums = _Sums.of(events)
    rates = sums.by_seed.mean(axis=1) / samples
    z = float(ndtri((1 + LEVEL) / 2))
    variances = sums.variances(np.diagonal)
    own = np.maximum(variances.over_seeds, variances.over_seeds.mean())
    if seeds < FEWEST_SEEDS or not own.any():
        squares = z**2 * variances.over_samples
    else:
        t = float(stdtrit(seeds - 1, (1 + LEVEL) / 2))
        squares = t**2 * own / seeds + z**2 * variances.due_to_samples
    halves = np.sqrt(squares).tolist()
    return [
        Interval(r, max(0.0, r - h), min(1.0, r + h)) for r, h in zip(rates.tolist(), halves, strict=True)
    ]


def co_occurrences(events: Booleans) -> NDArray[np.int64]:
    """[R, R] how many events two rows of `events` [R, ...] have in common."""
    packed = np.packbits(events.reshape(len(events), -1), axis=1)
    words = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
    return np.stack([np.bitwise_count(row & words).sum(axis=1, dtype=np.int64) for row in words])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Variances:
    """Variances of contrasts D[s, x], all of one shape."""

    over_seeds: Floats
    """Of D's seed means, ddof 1."""
    due_to_samples: Floats
    """Of D's mean, due to the choice of samples: what the seeds' variance does not hold already."""
    over_samples: Floats
    """Of D's mean for these very seeds: var(D's sample means) / N."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """What all contrasts of R rows of events [R, S, N] are made of: exact sums of whole numbers."""

    samples: int
    by_seed: Floats
    """[R, S] sums over samples."""
    products: Floats
    """[R, R] sums over seeds and samples of products."""
    products_of_samples: Floats
    """[R, R] sums over samples of products of the sums over seeds."""

    @classmethod
    def of(cls, events: Booleans) -> _Sums:
        by_sample = events.sum(axis=1, dtype=np.int64)
        by_sample = by_sample[:, by_sample.any(axis=0)]  # most samples have no event at all
        return cls(
            samples=events.shape[2],
            by_seed=events.sum(axis=2, dtype=np.int64).astype(np.float64),
            products=co_occurrences(events).astype(np.float64),
            # Matrix products would start threads, which cost more than they gain where cores are busy.
            products_of_samples=np.einsum("ix,jx->ij", by_sample, by_sample).astype(np.float64),
        )

    def of_contrasts(self, weights: Floats) -> _Sums:
        """The sums of contrasts of the rows, given the weights [C, R]."""
        return _Sums(
            samples=self.samples,
            by_seed=weights @ self.by_seed,
            products=weights @ self.products @ weights.T,
            products_of_samples=weights @ self.products_of_samples @ weights.T,
        )

    def variances(self, of: Callable[[Floats], Floats]) -> _Variances:
        """Variances of contrasts; `of` turns [R, R] products into squares of contrasts of any shape."""
        seeds, samples = self.by_seed.shape[1], self.samples
        more_seeds, more_samples = max(seeds - 1, 1), max(samples - 1, 1)
        totals = self.by_seed.sum(axis=1)
        grand = of(np.outer(totals, totals))
        seed_sums = of(self.by_seed @ self.by_seed.T)
        sample_sums = of(self.products_of_samples)
        residual = of(self.products) - seed_sums / samples - sample_sums / seeds + grand / (seeds * samples)
        mean_square = residual / (more_seeds * more_samples)
        over_samples = (sample_sums - grand / samples) / seeds**2 / more_samples / samples
        return _Variances(
            over_seeds=np.maximum((seed_sums - grand / seeds) / samples**2 / more_seeds, 0),
            due_to_samples=np.maximum(over_samples - mean_square / (seeds * samples), 0),
            over_samples=np.maximum(over_samples, 0),
        )


def _of_differences(products: Floats) -> Floats:
    """[R, R] squares of differences of two rows, from the products of rows."""
    squares = np.diagonal(products)
    differences: Floats = squares[:, None] + squares - 2 * products
    return differences


def _noise(values: Floats) -> tuple[float, Floats, float]:
    """MS, g [M] and f of `rank`, from the values [M, S]."""
    methods, seeds = values.shape
    e = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    e[np.abs(e) < 1e-12 * np.abs(values).max(initial=0)] = 0  # rounding
    r = (e**2).sum(axis=1) / (seeds - 1)
    mean_square = float(r.sum() / max(methods - 1, 1))
    if methods > 2:
        noise = np.maximum((r - mean_square / methods) / (1 - 2 / methods), 0)
    else:
        noise = np.full(methods, mean_square)
    if mean_square == 0:
        return 0.0, noise, float(seeds - 1)
    df = (seeds - 1) * (methods - 1) * methods * mean_square**2 / float((noise**2).sum())
    return mean_square, noise, float(np.clip(df, seeds - 1, min(methods - 1, 5) * (seeds - 1)))


def _satterthwaite(variances: Floats, seeds: int, *, most: int) -> float:
    """Degrees of freedom of a mean of variances of S - 1 each, kept within [S - 1, most (S - 1)]."""
    squares = float((variances**2).sum())
    if squares == 0:
        return float(seeds - 1)
    return float(np.clip(variances.sum() ** 2 / squares, 1, most) * (seeds - 1))
