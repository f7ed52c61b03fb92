"""What a table says about its rows besides means: differences with intervals, ranks, and the noise floor.

Everything is computed from which samples each model classified correctly, paired by sample and seed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.comparisons import BASELINE, Comparison, Row, Summary
from results.predictions import Booleans, unpack_bits
from results.statistics import Interval, bootstrap_mean, holm, mcnemar
from results.store import Record

SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """Paired statistics of one comparison, by row label; a row that lacks the numbers for one is left out."""

    difference: Mapping[str, Interval] = field(default_factory=dict)
    """NFR minus that of No Treatment, on the seeds that both have; 95 % interval over test samples."""
    rank: Mapping[str, int] = field(default_factory=dict)
    """1 + the number of methods with significantly fewer negative flips."""
    floor: Summary | None = None
    """NFR between two plainly trained new models that differ only in their seed, over ordered pairs."""
    floor_pairs: int = 0


def analyse(comparison: Comparison) -> Analysis:
    """Paired statistics of a comparison, from its records; empty where no old model is done."""
    old = {seed: record for seed, record in comparison.old.records.items() if record.right}
    if not old:
        return Analysis()
    samples = int(next(iter(old.values())).metrics["samples_old"])
    old_rights = {seed: _right(record, samples) for seed, record in old.items()}
    flips = {row.label: _negative_flips(row, old_rights, samples) for row in comparison.candidates}
    plain = [row for row in comparison.candidates if row.label == BASELINE]
    models = [record for record in (*comparison.references, *_records(plain)) if record.right]
    floor = _noise_floor([_right(record, samples) for record in models])
    return Analysis(
        difference=_differences(flips),
        rank=_ranks({row.label: flips[row.label] for row in comparison.candidates if row.complete}),
        floor=Summary.of(floor),
        floor_pairs=len(floor),
    )


@dataclass(frozen=True, kw_only=True)
class MeanRates:
    """Mean rates of one row over its seeds, with 95 % intervals over test samples."""

    er_all: Interval
    nfr: Interval


def mean_rates(comparison: Comparison) -> dict[str, MeanRates]:
    """Mean rates of every row that has any, by label."""
    old = {seed: record for seed, record in comparison.old.records.items() if record.right}
    found = {}
    for row in comparison.candidates:
        records = [record for seed, record in row.records.items() if record.right and seed in old]
        if not records:
            continue
        samples = int(records[0].metrics["samples_old"])
        flips = _negative_flips(row, {seed: _right(r, samples) for seed, r in old.items()}, samples)
        wrongs = [~_right(record, int(record.metrics["samples_all"])) for record in records]
        found[row.label] = MeanRates(er_all=_over_samples(wrongs), nfr=_over_samples(list(flips.values())))
    return found


def _over_samples(seeds: Sequence[NDArray[Any]]) -> Interval:
    """The mean over seeds of the mean over samples [N], and its bootstrap interval over samples."""
    interval = bootstrap_mean(np.asarray(sum((np.asarray(one, np.int64) for one in seeds), np.int64(0))))
    n = len(seeds)
    return Interval(interval.estimate / n, interval.low / n, interval.high / n)


Flips = Mapping[int, Booleans]
"""Negative flips [N] by seed."""


def _right(record: Record, samples: int) -> Booleans:
    """[N] which of the first `samples` samples the model classified correctly; old classes come first."""
    assert record.right is not None
    return unpack_bits(record.right, samples)


def _negative_flips(row: Row, old_rights: Mapping[int, Booleans], samples: int) -> dict[int, Booleans]:
    seeds = [seed for seed, record in row.records.items() if record.right and seed in old_rights]
    return {seed: old_rights[seed] & ~_right(row.records[seed], samples) for seed in seeds}


def _records(rows: Sequence[Row]) -> list[Record]:
    return [record for row in rows for record in row.records.values()]


def _differences(flips: Mapping[str, Flips]) -> dict[str, Interval]:
    plain = flips.get(BASELINE, {})
    differences = {}
    for label, by_seed in flips.items():
        seeds = [seed for seed in by_seed if seed in plain]
        if label != BASELINE and seeds:
            differences[label] = _over_samples([by_seed[s].astype(np.int64) - plain[s] for s in seeds])
    return differences


def _ranks(flips: Mapping[str, Flips]) -> dict[str, int]:
    labels = [label for label, by_seed in flips.items() if by_seed]
    alone = _flips_under_one_only([flips[label] for label in labels])
    pairs = list(itertools.combinations(range(len(labels)), 2))
    p_values = holm([mcnemar(alone[i, j].item(), alone[j, i].item()) for i, j in pairs])
    beaten_by = dict.fromkeys(labels, 0)
    for (i, j), p in zip(pairs, p_values, strict=True):
        if p < SIGNIFICANT:
            beaten_by[labels[i if alone[i, j] > alone[j, i] else j]] += 1
    return {label: 1 + better for label, better in beaten_by.items()}


def _flips_under_one_only(rows: Sequence[Flips]) -> NDArray[np.int64]:
    """[R, R] how many (seed, sample) flip under row i and not under row j, on the seeds that both have."""
    alone = np.zeros((len(rows), len(rows)), np.int64)
    for seed in {seed for by_seed in rows for seed in by_seed}:
        have = [i for i, by_seed in enumerate(rows) if seed in by_seed]
        alone[np.ix_(have, have)] += _one_without_other(np.stack([rows[i][seed] for i in have]))
    return alone


def _noise_floor(rights: Sequence[Booleans]) -> list[float]:
    if len(rights) < 2:
        return []
    rates = _one_without_other(np.stack(rights)) / len(rights[0])
    pairs: list[float] = rates[~np.eye(len(rights), dtype=bool)].tolist()
    return pairs


def _one_without_other(bits: Booleans) -> NDArray[np.int64]:
    """[R, R] number of columns in which row i of `bits` [R, N] is set and row j is not."""
    packed = np.packbits(bits, axis=1)
    words = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
    return np.stack([np.bitwise_count(row & ~words).sum(axis=1, dtype=np.int64) for row in words])
