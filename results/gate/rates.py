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
    """Of the errors of NFR and noise, from the variance of their difference."""

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
    noise_of_runs = _noise_of_runs(samples.old, grouped)
    noise, noise_effective = grouped.effective(noisy, [noise_of_runs])
    added_of_runs = [[a - b for a, b in zip(of_runs[0], noise_of_runs, strict=True)], of_runs[1]]
    # Two samples that flip and two that do not, as Agresti and Caffo (2000) add them, lest chance look sure.
    variance = grouped.variance(lost - noisy, added_of_runs) + 4 / np.maximum(grouped.samples, 1) ** 2
    of_nfr, of_noise = nfr * (1 - nfr) / effective, noise * (1 - noise) / noise_effective
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = (of_nfr + of_noise - variance) / (2 * np.sqrt(of_nfr * of_noise))
    return FlipRates(
        samples=grouped.samples, flips=flips, nfr=nfr, effective=effective, noise=noise,
        noise_effective=noise_effective,
        correlation=np.clip(np.nan_to_num(correlation, nan=0.0, neginf=0.0), 0, 1),
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

    def _spread(self, values: Floats) -> Floats:
        """[G] variance of the weighted mean over samples."""
        mean = self.mean(values)
        away = (values - (mean[0] if self._groups is None else mean[self._groups])) ** 2
        with np.errstate(invalid="ignore"):
            return self._sum(away if self._weight is None else away * self._weight**2) / self._total**2

    def _unseen(self) -> Floats | float:
        """[G] what a flip of the heaviest sample would add to the variance, had it been seen.

        Without it, a variance is underestimated where heavy samples flip more often and none was seen; Fay
        and Feuer (1997) widen their interval for the same reason. 0 for equal weights.
        """
        if self._weight is None:
            return 0.0
        if self._groups is None:
            heaviest = np.array([self._weight.max()])
        else:
            heaviest = np.zeros(self._size)
            np.maximum.at(heaviest, self._groups, self._weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((heaviest**2 - (self._total / self.samples) ** 2) / self._total**2, float)

    def variance(self, values: Floats, runs: Sequence[Sequence[Floats]]) -> Floats:
        """[G] variance of the weighted mean: that over samples, and that over each set of runs.

        Where few runs make up most of it, Student's t widens it (Welch and Satterthwaite).
        """
        from scipy.stats import norm, t

        over_samples = self._spread(values) + self._unseen() * (1 - self.mean(values)) ** 2
        variance = over_samples.copy()
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = over_samples**2 / np.maximum(self.samples - 1, 1)
            for terms in runs:
                if len(terms) > 1:
                    over_runs = np.var(terms, axis=0, ddof=1) / len(terms)
                    variance += over_runs
                    squares += over_runs**2 / (len(terms) - 1)
            freedom = np.maximum(variance**2 / squares, 1)
            wider = np.nan_to_num((t.ppf(0.975, freedom) / norm.ppf(0.975)) ** 2, nan=1.0)
        return np.asarray(variance * wider, float)

    def effective(self, values: Floats, runs: Sequence[Sequence[Floats]]) -> tuple[Floats, Floats]:
        """[G] the mean, and the number of samples whose binomial variance is the variance of that mean.

        Never more than the samples that there are, nor than Kish's number for the weights.
        """
        mean = self.mean(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            by_variance = mean * (1 - mean) / self.variance(values, runs)
        kish = self.samples.astype(float)
        if self._weight is not None:
            kish = self._total**2 / self._sum(self._weight**2)
        by_variance = np.where(np.isfinite(by_variance) & (by_variance > 0), by_variance, np.inf)
        return mean, np.minimum(by_variance, kish)
