"""How often the new version loses what the old one had: over all samples, and within groups of them.

With several runs of a version, a sample flips with the probability p (1 - q), where p and q are the shares
of the old and the new version's runs that are right. Two runs of the old version alone flip with probability
p (1 - p): that is the noise of the system. What the update adds is the difference of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.gate.intervals import difference_of_rates, rate_interval
from results.gate.pairing import PairedSamples, Version

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlipRates:
    """Rates of G groups of samples, [G] each."""

    samples: Integers
    flips: Floats
    """Negative flips: a count, a sum of weights, or a mean over runs."""
    nfr: Floats
    effective: Floats
    """Number of samples that tell as much about the NFR, were they unweighted and seen once."""
    noise: Floats | None
    """NFR between two runs of the old version; None where it has one run."""
    noise_effective: Floats | None
    correlation: Floats | None
    """Of the errors of NFR and noise."""

    @property
    def held(self) -> Floats:
        """What a cap is held against: the NFR, less the noise where it is known."""
        return self.nfr if self.noise is None else self.nfr - self.noise

    def interval(self, level: float | Floats) -> tuple[Floats, Floats]:
        """Ends of the interval of `held`."""
        low, high = rate_interval(self.nfr, self.effective, level)
        if self.noise is None:
            return low, high
        assert self.noise_effective is not None
        assert self.correlation is not None
        noise_low, noise_high = rate_interval(self.noise, self.noise_effective, level)
        return difference_of_rates(
            (self.nfr, low, high), (self.noise, noise_low, noise_high), self.correlation
        )

    def nfr_interval(self, level: float) -> tuple[Floats, Floats]:
        """Ends of the interval of the NFR itself."""
        return rate_interval(self.nfr, self.effective, level)

    def at(self, where: Integers) -> FlipRates:
        """The groups at the positions `where`."""
        return FlipRates(
            samples=self.samples[where],
            flips=self.flips[where],
            nfr=self.nfr[where],
            effective=self.effective[where],
            noise=None if self.noise is None else self.noise[where],
            noise_effective=None if self.noise_effective is None else self.noise_effective[where],
            correlation=None if self.correlation is None else self.correlation[where],
        )


def flip_rates(samples: PairedSamples, groups: NDArray[np.int32] | None = None, count: int = 1) -> FlipRates:
    """Rates within each of `count` groups, given the group of each sample; over all samples without.

    A group without samples has NaN for its rates.
    """
    grouped = _Grouped(samples, groups, count)
    if not samples.repeated and samples.weight is None:
        negative = samples.old.right[0] & ~samples.new.right[0]
        flips = grouped.count(negative)
        with np.errstate(invalid="ignore"):
            nfr = flips / grouped.samples
        return FlipRates(
            samples=grouped.samples, flips=flips, nfr=nfr, effective=grouped.samples.astype(float),
            noise=None, noise_effective=None, correlation=None,
        )  # fmt: skip
    p, q = samples.old.share_right, samples.new.share_right
    lost = p * (1 - q)
    of_runs = [
        [grouped.mean(run * (1 - q)) for run in samples.old.right],
        [grouped.mean(p * ~run) for run in samples.new.right],
    ]
    nfr, effective = grouped.effective(lost, of_runs)
    flips = nfr * grouped.samples
    if samples.old.runs == 1:
        return FlipRates(
            samples=grouped.samples, flips=flips, nfr=nfr, effective=effective,
            noise=None, noise_effective=None, correlation=None,
        )  # fmt: skip
    noisy = _noise(samples.old)
    noise, noise_effective = grouped.effective(noisy, [_noise_of_runs(samples.old, grouped)])
    return FlipRates(
        samples=grouped.samples, flips=flips, nfr=nfr, effective=effective, noise=noise,
        noise_effective=noise_effective, correlation=grouped.correlation(lost, noisy),
    )  # fmt: skip


def noise_of(version: Version, samples: PairedSamples) -> float | None:
    """The NFR between two runs of one version; None where there is one run."""
    if version.runs == 1:
        return None
    return float(np.average(_noise(version), weights=samples.weight))


def _noise(version: Version) -> Floats:
    """[N] the share of the ordered pairs of runs of which the first is right and the second wrong."""
    runs = version.runs
    right = version.right.sum(axis=0)
    noise: Floats = right * (runs - right) / (runs * (runs - 1))
    return noise


def _noise_of_runs(version: Version, grouped: _Grouped) -> list[Floats]:
    """For each run, twice its mean noise against the others: the terms of a U-statistic's projection."""
    right = version.right.sum(axis=0)
    others = version.runs - 1
    terms = []
    for run in version.right:
        with_others = np.where(run, version.runs - right, right) / (2 * others)
        terms.append(2 * grouped.mean(with_others))
    return terms


class _Grouped:
    """Sums and means of samples within groups."""

    def __init__(self, samples: PairedSamples, groups: NDArray[np.int32] | None, count: int) -> None:
        self._weight = samples.weight
        self._groups = groups
        self._size = count
        self.samples = self.count(np.ones(len(samples), np.bool_)).astype(np.int64)
        self._total = self.samples.astype(float) if self._weight is None else self._sum(self._weight)

    def _sum(self, values: NDArray[Any]) -> Floats:
        if self._groups is None:
            return np.array([float(values.sum())])
        return np.asarray(np.bincount(self._groups, weights=values, minlength=self._size), float)

    def count(self, mask: NDArray[np.bool_]) -> Floats:
        """[G] how many samples of the mask are in each group."""
        if self._groups is None:
            return np.array([float(np.count_nonzero(mask))])
        return np.bincount(self._groups[mask], minlength=self._size).astype(float)

    def mean(self, values: NDArray[Any]) -> Floats:
        """[G] weighted means."""
        with np.errstate(invalid="ignore"):
            return self._sum(values if self._weight is None else values * self._weight) / self._total

    def spread(self, one: Floats, other: Floats) -> Floats:
        """[G] covariance of the weighted means of two values, over samples."""
        means = self.mean(one), self.mean(other)
        if self._groups is None:
            away = (one - means[0][0]) * (other - means[1][0])
        else:
            away = (one - means[0][self._groups]) * (other - means[1][self._groups])
        with np.errstate(invalid="ignore"):
            return self._sum(away if self._weight is None else away * self._weight**2) / self._total**2

    def correlation(self, one: Floats, other: Floats) -> Floats:
        """[G] correlation of the means of two values; 0 where it is not defined."""
        with np.errstate(invalid="ignore", divide="ignore"):
            r = self.spread(one, other) / np.sqrt(self.spread(one, one) * self.spread(other, other))
        return np.clip(np.nan_to_num(r), 0, 1)

    def effective(self, values: Floats, runs: Sequence[Sequence[Floats]]) -> tuple[Floats, Floats]:
        """[G] the mean, and the number of samples whose binomial variance is the variance of that mean.

        The variance is that over samples plus that over each set of runs; where few runs make up most of
        it, Student's t widens it (Welch and Satterthwaite). Never more than the samples that there are, nor
        than Kish's number for the weights.
        """
        from scipy.stats import norm, t

        mean = self.mean(values)
        over_samples = self.spread(values, values)
        variance = over_samples.copy()
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = over_samples**2 / np.maximum(self.samples - 1, 1)
            for terms in runs:
                if len(terms) > 1:
                    over_runs = np.var(terms, axis=0, ddof=1) / len(terms)
                    variance += over_runs
                    squares += over_runs**2 / (len(terms) - 1)
            freedom = np.maximum(variance**2 / squares, 1)
            wider = np.nan_to_num((norm.ppf(0.975) / t.ppf(0.975, freedom)) ** 2, nan=1.0)
            by_variance = mean * (1 - mean) / variance * wider
            kish = self.samples.astype(float)
            if self._weight is not None:
                kish = self._total**2 / self._sum(self._weight**2)
        by_variance = np.where(np.isfinite(by_variance) & (by_variance > 0), by_variance, np.inf)
        return mean, np.minimum(by_variance, kish)
