"""Ranks, intervals and differences to plain models of a table's rows, by label; some rows may lack seeds.

Here it is decided which rows and seeds are compared together; the arithmetic is in `results.ranking`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from results.predictions import Booleans
from results.ranking import (
    FEWEST_SEEDS,
    PlainDifference,
    Ranking,
    co_occurrences,
    minus_plain,
    rank,
    rate_intervals,
)
from results.statistics import Interval, holm

EventsBySeed = Mapping[int, Booleans]
"""Events [N] of one method (or model) by seed."""


def rank_rows(
    rows: Mapping[str, EventsBySeed], seeds: Sequence[int]
) -> tuple[tuple[str, ...], Ranking | None]:
    """Rank the rows that have all `seeds` and are stable; all others have no rank.

    An unstable row would widen the intervals of all pairs. Rows are left out by their variance alone, which
    tells nothing about their mean. Where seeds are too few, no row has a rank.

    Returns:
        The labels of the ranked rows, in the order of the ranking's arrays, and the ranking.
    """
    ranked = tuple(label for label, row in rows.items() if set(seeds) <= row.keys())
    if not ranked or len(seeds) < FEWEST_SEEDS:
        return (), None
    ranking = rank(_stack([rows[label] for label in ranked], seeds))
    while ranking is not None and ranking.unstable.any():  # without the worst, the next may stand out
        ranked = tuple(itertools.compress(ranked, ~ranking.unstable))
        ranking = rank(_stack([rows[label] for label in ranked], seeds))
    return ranked, ranking


def unstable_rows(rows: Mapping[str, EventsBySeed]) -> frozenset[str]:
    """Labels of the rows that `rank_rows` leaves out as unstable, judged by the seeds that all rows have.

    Rows without any seed have no part in it.
    """
    begun = {label: row for label, row in rows.items() if row}
    shared = sorted(set.intersection(*(set(row) for row in begun.values()))) if begun else []
    stable, ranking = rank_rows(begun, shared)
    return frozenset(begun.keys() - set(stable)) if ranking else frozenset()


def from_plain(
    rows: Mapping[str, EventsBySeed],
    plain: Sequence[EventsBySeed],
    seeds: Sequence[int],
    unstable: Collection[str] = (),
) -> dict[str, PlainDifference]:
    """Each row minus the plain models, by label, with p adjusted by Holm's rule (1979).

    The variances of `unstable` rows are theirs alone, and widen no other row's interval.
    `plain` holds No Treatment first and then the references. A row that lacks some of `seeds` is compared on
    those that it and No Treatment have, together with the rows that have these too. Of the references
    those count that have all seeds of the comparison. A row without a common seed is left out.
    """
    if not plain:
        return {}
    found: dict[str, PlainDifference] = {}
    common = {
        label: tuple(seed for seed in seeds if seed in row and seed in plain[0])
        for label, row in rows.items()
    }
    stable = {label: theirs for label, theirs in common.items() if label not in unstable}
    alone = [{label: common[label]} for label in common if label in unstable]
    for block in itertools.chain(_blocks(stable), *map(_blocks, alone)):
        references = [model for model in plain[1:] if model.keys() >= set(block.seeds)]
        differences = minus_plain(
            _stack([rows[label] for label in block.labels], block.seeds),
            _stack([plain[0], *references], block.seeds),
        )
        found |= dict(zip(block.labels[: block.own], differences, strict=False))
    tested = [label for label in rows if label in found and found[label].p is not None]
    adjusted = holm([p for label in tested if (p := found[label].p) is not None])
    for label, p in zip(tested, adjusted, strict=True):
        found[label] = replace(found[label], p=p)
    return {label: found[label] for label in rows if label in found}


def intervals_of_rows(rows: Mapping[str, EventsBySeed]) -> dict[str, Interval]:
    """`rate_intervals` of each row over the seeds that it has, by label; rows without seeds are left out."""
    found: dict[str, Interval] = {}
    for block in _blocks({label: tuple(sorted(row)) for label, row in rows.items()}):
        intervals = rate_intervals(_stack([rows[label] for label in block.labels], block.seeds))
        found |= dict(zip(block.labels[: block.own], intervals, strict=False))
    return {label: found[label] for label in rows if label in found}


def between_plain_models(rights: Sequence[EventsBySeed]) -> list[float]:
    """NFR between plain models that differ in their training seed alone: one mean for each seed.

    `rights` says which samples [N] each model got right. A seed's mean is over all ordered pairs of a model
    of that seed, as the old one, and any other plain model. Empty where there are fewer than two models.
    """
    models = [(seed, right) for model in rights for seed, right in model.items()]
    if len(models) < 2:
        return []
    stacked = np.stack([right for _, right in models])
    both = co_occurrences(stacked)
    alone = np.diagonal(both)[:, None] - both  # [R, R] right in the row's model and wrong in the column's
    rates = alone.sum(axis=1) / (len(models) - 1) / stacked.shape[-1]
    by_seed: dict[int, list[float]] = {}
    for (seed, _), rate in zip(models, rates.tolist(), strict=True):
        by_seed.setdefault(seed, []).append(rate)
    return [math.fsum(by_seed[seed]) / len(by_seed[seed]) for seed in sorted(by_seed)]


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Rows that are analysed together on the same seeds."""

    seeds: tuple[int, ...]
    labels: tuple[str, ...]
    own: int
    """How many of the labels, the first ones, have just these seeds. The others have more: their variances
    help to judge the first. The reverse would let an incomplete row change complete ones."""


def _blocks(seeds_of: Mapping[str, tuple[int, ...]]) -> Iterator[_Block]:
    """One block for each set of seeds that a row has; rows without seeds are in none."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for label, seeds in seeds_of.items():
        if seeds:
            by_seeds.setdefault(seeds, []).append(label)
    for seeds, own in by_seeds.items():
        more = [label for others, labels in by_seeds.items() if set(seeds) < set(others) for label in labels]
        yield _Block(seeds=seeds, labels=(*own, *more), own=len(own))


def _stack(rows: Sequence[EventsBySeed], seeds: Sequence[int]) -> Booleans:
    """[R, S, N] the events of the rows on the given seeds, which all of them have."""
    return np.stack([np.stack([row[seed] for seed in seeds]) for row in rows])
