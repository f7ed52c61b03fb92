"""Classes and slices: each with its errors and flips, and the family of all of them held against a cap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from results.gate.pairing import PairedSamples
from results.gate.rates import FlipRates, flip_rates
from results.gate.values import Codes, merged

MOST_VALUES = 10_000
"""A column with more values cannot be sliced by."""


@dataclass(frozen=True, kw_only=True)
class GroupRow:
    """One class, or one slice, of the samples. Rates are fractions of 1."""

    column: str
    """What is sliced by; `class` for classes."""
    value: str
    samples: int
    er_old_model: float
    er_new_model: float
    negative_flips: float
    positive_flips: float
    nfr: float
    noise: float | None
    """NFR between two runs of the old version, where it has several."""
    low: float
    high: float
    """Ends of the interval of the NFR, less the noise where there is one; for this group alone."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Groups:
    """Classes, or slices, that samples belong to; each sample to one of each column."""

    kind: Literal["class", "slice"]
    columns: tuple[str, ...]
    """[G] what each group is a value of."""
    values: tuple[str, ...]
    """[G]"""
    rates: FlipRates
    """[G]"""
    errors: NDArray[np.float64]
    """[2, G] error rates of the old and the new version."""
    gained: NDArray[np.float64]
    """[G] positive flips."""

    def rows(self, level: float) -> list[GroupRow]:
        """Every group, the worst NFR first."""
        low, high = self.rates.interval(level)
        order = np.lexsort((np.arange(len(self.values)), -self.rates.flips, -self.rates.held))
        noise = self.rates.noise
        return [
            GroupRow(
                column=self.columns[g],
                value=self.values[g],
                samples=int(self.rates.samples[g]),
                er_old_model=float(self.errors[0, g]),
                er_new_model=float(self.errors[1, g]),
                negative_flips=_number(self.rates.flips[g]),
                positive_flips=_number(self.gained[g]),
                nfr=float(self.rates.nfr[g]),
                noise=None if noise is None else float(noise[g]),
                low=float(low[g]),
                high=float(high[g]),
            )
            for g in order.tolist()
        ]

    def name(self, group: int) -> str:
        """What a message calls a group: `class 'cat'`, `slice country=DE`."""
        if self.kind == "class":
            return f"class '{self.values[group]}'"
        return f"slice {self.columns[group]}={self.values[group]}"


def _number(value: float) -> float:
    """A count stays a whole number."""
    return int(value) if value == int(value) else round(float(value), 3)


def by_class(samples: PairedSamples) -> Groups | None:
    """The old classes that have samples; None where the files name no classes."""
    if samples.target is None:
        return None
    codes = samples.target[: len(samples)]
    return _groups(samples, [("class", codes, samples.classes[: samples.old_classes])], "class")


def by_slices(samples: PairedSamples, slices: Sequence[str]) -> Groups | None:
    """The values of columns, and the pairs of values of `a+b`; None where nothing is sliced.

    Raises:
        ValueError: no file has a column, or it has too many values to be sliced by.
    """
    if not slices:
        return None
    parts = []
    for name in slices:
        codes, values = _values(samples, name)
        if len(values) > MOST_VALUES:
            raise ValueError(
                f"slices={name}: {len(values):,} values are too many (at most {MOST_VALUES:,}); "
                "put ranges or groups of them into a column"
            )
        parts.append((name, codes, values))
    return _groups(samples, parts, "slice")


def _values(samples: PairedSamples, name: str) -> tuple[Codes, tuple[str, ...]]:
    columns = name.split("+")
    for column in columns:
        if column not in samples.groups:
            raise ValueError(f"slices={name}: no file has a column '{column}' (a third file: metadata=)")
    labels = [samples.groups[column] for column in columns]
    if len(labels) == 1:
        return labels[0].codes, labels[0].names
    one, other = labels
    both = one.codes.astype(np.int64) * len(other.names) + other.codes
    present, codes = np.unique(both, return_inverse=True)
    names = [f"{one.names[c // len(other.names)]}+{other.names[c % len(other.names)]}" for c in present]
    unique, merged_codes = merged(names, codes.astype(np.int32))
    return merged_codes, tuple(unique)


def _groups(
    samples: PairedSamples,
    parts: Sequence[tuple[str, Codes, tuple[str, ...]]],
    kind: Literal["class", "slice"],
) -> Groups:
    old_wrong, new_wrong = 1 - samples.old.share_right, 1 - samples.new.share_right
    gained = old_wrong * (1 - new_wrong)
    weight = samples.weight
    columns: list[str] = []
    values: list[str] = []
    rates, errors, gains = [], [], []
    for name, codes, names in parts:
        made = flip_rates(samples, codes, len(names))
        used = np.flatnonzero(made.samples)
        total = np.bincount(codes, weights=weight, minlength=len(names))[used]
        sums = [
            np.bincount(codes, weights=v if weight is None else v * weight, minlength=len(names))[used]
            for v in (old_wrong, new_wrong, gained)
        ]
        columns += [name] * len(used)
        values += [names[g] for g in used.tolist()]
        rates.append(made.at(used))
        errors.append(np.stack(sums[:2]) / total)
        gains.append(sums[2] / total * made.samples[used] if weight is not None else sums[2])
    return Groups(
        kind=kind,
        columns=tuple(columns),
        values=tuple(values),
        rates=_joined(rates),
        errors=np.concatenate(errors, axis=1),
        gained=np.concatenate(gains),
    )


def _joined(rates: Sequence[FlipRates]) -> FlipRates:
    def join(name: str) -> NDArray[np.float64] | None:
        arrays = [getattr(each, name) for each in rates]
        return None if arrays[0] is None else np.concatenate(arrays)

    names = ("samples", "flips", "nfr", "effective", "noise", "noise_effective", "correlation")
    return FlipRates(**{name: join(name) for name in names})  # type: ignore[arg-type]
