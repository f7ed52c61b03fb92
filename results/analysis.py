"""What a table says about its rows besides means: ranks, differences to plain models, and intervals.

Everything is computed from which samples each model classified correctly, paired by sample and seed, with the
rules of `results.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from results.columns import value_of
from results.comparisons import BASELINE, Comparison, Row, Summary, init_of
from results.metrics import Metric
from results.predictions import Booleans, unpack_bits
from results.ranking import FEWEST_SEEDS, PlainDifference, Ranking, rank_means
from results.row_ranking import (
    EventsBySeed,
    between_plain_models,
    from_plain,
    intervals_of_rows,
    rank_rows,
    unstable_rows,
)
from results.statistics import Interval
from results.store import Record

SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """Statistics of one comparison, by row label; a row that lacks the numbers for one is left out."""

    candidates: tuple[Row, ...] = ()
    seeds: tuple[int, ...] = ()
    """Those that were asked for."""
    ranking: Ranking | None = None
    """Of the negative flips of the rows with all their seeds; None for fewer than three seeds."""
    unstable: frozenset[str] = frozenset()
    """Rows whose NFR varies between seeds far more than that of the others: they are not ranked."""
    rank: Mapping[str, int] = field(default_factory=dict)
    """1 + the number of separated methods with fewer negative flips."""
    from_plain: Mapping[str, PlainDifference] = field(default_factory=dict)
    """NFR minus that of the plain models of the same seed; empty without No Treatment."""
    references: int = 0
    """How many of the plain models of a seed are references; No Treatment is another.

    None where candidates start from the old model, as references never do.
    """
    between_plain: Summary | None = None
    """NFR between plain models that differ only in their training seed, from one mean per seed."""
    wrong: Mapping[str, Mapping[str, EventsBySeed]] = field(default_factory=dict)
    """Events of the rates that count samples (er_old, er_all, nfr), by metric and row label."""

    def best(self, name: str, metric: Metric) -> frozenset[str]:
        """Labels of the rows that are not separated from the best one in a column.

        Only rows with all their seeds take part. Rates of samples are compared over seeds and samples, other
        metrics over seeds alone. Empty for fewer than three seeds and where neither direction is better.
        """
        complete = [row for row in self.candidates if row.complete]
        if metric.better is None:
            return frozenset()
        if name in self.wrong:
            events = {row.label: found for row in complete if (found := self.wrong[name].get(row.label))}
            labels, ranking = rank_rows(events, self.seeds)
        else:
            sign = 1 if metric.better == "low" else -1
            values = {
                row.label: [sign * value for value in of_seeds]
                for row in complete
                if (of_seeds := _values(row, name)) is not None
            }
            labels = tuple(values)
            ranking = rank_means(np.array(list(values.values()))) if values else None
        if ranking is None:
            return frozenset()
        return frozenset(label for label, among in zip(labels, ranking.among_the_best, strict=True) if among)


def analyse(comparison: Comparison) -> Analysis:
    """Statistics of a comparison, from its records; empty where no old model is done."""
    rights = _Rights.of(comparison)
    if rights is None:
        return Analysis()
    flips = {
        row.label: rights.flips(rights.candidates[row.label], row.label) for row in comparison.candidates
    }
    seeds = comparison.candidates[0].asked
    labels, ranking = rank_rows(flips, seeds)
    plain = [rights.candidates.get(BASELINE, {}), *rights.references]
    unstable = unstable_rows(flips)
    methods = {label: by_seed for label, by_seed in flips.items() if label != BASELINE}
    return Analysis(
        candidates=comparison.candidates,
        seeds=seeds,
        ranking=ranking,
        rank=dict(zip(labels, ranking.ranks, strict=True)) if ranking else {},
        unstable=unstable,
        from_plain=from_plain(methods, [rights.flips(model, BASELINE) for model in plain], seeds, unstable)
        if plain[0]
        else {},
        references=len(rights.references),
        between_plain=Summary.of(between_plain_models([rights.of_old_classes(model) for model in plain])),
        wrong={
            "nfr": flips,
            "er_old": {label: _wrong(rights.of_old_classes(row)) for label, row in rights.candidates.items()},
            "er_all": {label: _wrong(row) for label, row in rights.candidates.items()},
        },
    )


@dataclass(frozen=True, kw_only=True)
class MeanRates:
    """Mean rates of one row over its seeds, with 95 % intervals over seeds and samples."""

    er_all: Interval
    nfr: Interval


def mean_rates(comparison: Comparison) -> dict[str, MeanRates]:
    """Mean rates of every row that has any, by label; with fewer than three seeds, over samples alone."""
    rights = _Rights.of(comparison)
    if rights is None:
        return {}
    rows = {
        label: {seed: right for seed, right in row.items() if seed in rights.old[label]}
        for label, row in rights.candidates.items()
    }
    er_all = intervals_of_rows({label: _wrong(row) for label, row in rows.items()})
    nfr = intervals_of_rows({label: rights.flips(row, label) for label, row in rows.items()})
    return {label: MeanRates(er_all=er_all[label], nfr=nfr[label]) for label in nfr}


def intervals_are_over(comparison: Comparison) -> str:
    """What the intervals of `mean_rates` are over, for a figure."""
    fewest = min((len(row.records) for row in comparison.candidates if row.records), default=0)
    return "95 % intervals over " + (
        "seeds and samples" if fewest >= FEWEST_SEEDS else f"{comparison.samples_name} alone"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rights:
    """Which samples the models of a comparison classified correctly, by seed; old classes come first."""

    samples: int
    """N, the number of samples of old classes."""
    old: Mapping[str, EventsBySeed]
    """[N] of the old model that a row updates, by row label: one for all, unless the rows are of a chain."""
    candidates: Mapping[str, EventsBySeed]
    """[all samples], by row label."""
    references: Sequence[EventsBySeed]
    """[all samples], for each reference that was trained as No Treatment was."""

    @classmethod
    def of(cls, comparison: Comparison) -> _Rights | None:
        """None where no old model is done."""
        updated = {
            row.label: {seed: record for seed, record in comparison.old_records(row).items() if record.right}
            for row in comparison.candidates
        }
        found = [record for by_seed in updated.values() for record in by_seed.values()]
        if not found:
            return None
        samples = int(found[0].metrics["samples_old" if found[0].run["role"] == "old" else "samples_all"])
        references: dict[int, dict[int, Booleans]] = {}
        init = init_of(comparison.candidate_run)
        for record in comparison.references:
            if record.right and init_of(record.run) == init:
                index = int(record.run["index"])
                references.setdefault(index, {})[int(record.run["seed"])] = _right(record)
        unpacked = {record.id: unpack_bits(record.right or "", samples) for record in found}
        return cls(
            samples=samples,
            old={
                label: {seed: unpacked[record.id] for seed, record in by_seed.items()}
                for label, by_seed in updated.items()
            },
            candidates={
                row.label: {seed: _right(record) for seed, record in row.records.items() if record.right}
                for row in comparison.candidates
            },
            # Of a chain, references have no old model of their own, so that their flips mean nothing.
            references=[] if comparison.chained else [references[index] for index in sorted(references)],
        )

    def of_old_classes(self, row: EventsBySeed) -> EventsBySeed:
        """[N] by seed."""
        return {seed: right[: self.samples] for seed, right in row.items()}

    def flips(self, row: EventsBySeed, label: str) -> EventsBySeed:
        """[N] negative flips against the old model of the row of that label, by seed."""
        old = self.old[label]
        return {seed: old[seed] & ~right[: self.samples] for seed, right in row.items() if seed in old}


def _right(record: Record) -> Booleans:
    return unpack_bits(record.right or "", int(record.metrics["samples_all"]))


def _wrong(row: EventsBySeed) -> EventsBySeed:
    return {seed: ~right for seed, right in row.items()}


def _values(row: Row, name: str) -> list[float] | None:
    """[S] a metric of each seed; None where one lacks it."""
    values = [value_of(record, name) for _, record in sorted(row.records.items())]
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None
