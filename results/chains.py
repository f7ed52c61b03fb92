"""Chains of updates: what each method's flips come to over several steps.

In a chain every method updates the model that it made in the step before. All rates here are over the test
samples of the classes that the first model knew, so that steps can be added and compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from results.comparisons import Comparison, Row, Summary
from results.predictions import Booleans, unpack_bits
from results.row_ranking import rank_rows
from results.store import Record, Store
from results.tables import Cell, Table


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """What a method did to the first model's samples along a chain, for one seed."""

    right: tuple[Booleans, ...]
    """[N] for the first model and then for each step: which samples were classified correctly."""
    er_all: float
    """Error rate of the last model on all classes."""

    @property
    def flips(self) -> list[float]:
        """NFR of each step."""
        return [float((old & ~new).mean()) for old, new in itertools.pairwise(self.right)]

    @property
    def since_first(self) -> Booleans:
        """[N] right with the first model, wrong with the last."""
        lost: Booleans = self.right[0] & ~self.right[-1]
        return lost

    @property
    def numbers(self) -> list[float]:
        """NFR of each step, their sum, NFR since the first model, and ER all."""
        flips = self.flips
        return [*flips, sum(flips), float(self.since_first.mean()), self.er_all]


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """All methods along one chain."""

    last: Comparison
    """The last step."""
    classes: tuple[int, ...]
    """How many the first model and each step knew."""
    courses: Mapping[str, Mapping[int, Course]]
    """By row label and seed; without the seeds where a step is missing."""
    rank: Mapping[str, int]
    """By row label: 1 + the number of separated methods with fewer flips since the first model."""

    @property
    def title(self) -> str:
        """Dataset, network and classes: `digits: resnet8, chain of 4, 7, 10 classes`."""
        model = self.last.candidate_run["model"]["arch"]
        return f"{self.last.dataset}: {model}, chain of {', '.join(map(str, self.classes))} classes"

    @property
    def samples(self) -> int:
        """N, the number of test samples of the first model's classes."""
        return next(len(course.right[0]) for by_seed in self.courses.values() for course in by_seed.values())

    def only(self, last: Comparison) -> Chain:
        """The chain with the rows of `last` alone, which is its last step; ranks stay."""
        return replace(
            self, last=last, courses={row.label: self.courses[row.label] for row in last.candidates}
        )


def chains(store: Store, comparisons: Sequence[Comparison]) -> Iterator[Chain]:
    """The chains that these comparisons are the last steps of."""
    updated = {
        run_id for one in comparisons for row in one.candidates for run_id in _old_models(row).values()
    }
    for comparison in comparisons:
        records = [record for row in comparison.candidates for record in row.records.values()]
        if comparison.chained and not any(record.id in updated for record in records):
            paths = {
                row.label: {seed: _path(store, record) for seed, record in row.records.items()}
                for row in comparison.candidates
            }
            whole = [path for by_seed in paths.values() for path in by_seed.values() if path]
            if whole:
                courses = {
                    label: {seed: _course(path) for seed, path in by_seed.items() if path}
                    for label, by_seed in paths.items()
                }
                yield Chain(
                    last=comparison,
                    classes=tuple(_classes(record) for record in whole[0]),
                    courses=courses,
                    rank=_rank(courses, comparison.candidates[0].asked),
                )


def _old_models(row: Row) -> dict[int, str]:
    return {seed: record.run["parents"][0] for seed, record in row.records.items()}


def _path(store: Store, last: Record) -> list[Record]:
    """Records from the first model to `last`; empty where one is missing."""
    path = [last]
    while path[0].run["role"] == "candidate":
        before = store.read(path[0].run["parents"][0])
        if before is None or before.right is None:
            return []
        path.insert(0, before)
    return path


def _classes(record: Record) -> int:
    split = record.run["split"]
    return int(split["old_classes" if record.run["role"] == "old" else "classes"])


def _course(path: Sequence[Record]) -> Course:
    samples = int(path[0].metrics["samples_old"])  # the samples of the first classes come first
    return Course(
        right=tuple(unpack_bits(record.right or "", samples) for record in path),
        er_all=path[-1].metrics["er_all"],
    )


def chain_table(chain: Chain) -> Table:
    """A row per method: flips in each step, their sum, and flips since the first model."""
    seeds = chain.last.candidates[0].seeds
    steps = [f"NFR {old}→{new}" for old, new in itertools.pairwise(chain.classes)]
    return Table(
        title=chain.title,
        header=("Method", "Rank", *steps, "Sum", "Since first", "ER all"),
        rows=tuple(
            (
                Cell(label + (f" ({len(by_seed)} of {seeds} seeds)" if len(by_seed) < seeds else "")),
                Cell(str(chain.rank.get(label, "-"))),
                *(Cell(_percent(values)) for values in _columns(chain, label)),
            )
            for label, by_seed in chain.courses.items()
        ),
        rules=frozenset(),
        footer=(
            f"{chain.samples:,} {chain.last.samples_name} of the first model's classes; "
            f"{seeds} seed{'s' if seeds > 1 else ''}; rates in %, mean±std over seeds.",
            "NFR of a step: right before it and wrong after it. Sum: over the steps. Since first: right with "
            "the first model, wrong with the last. ER all: of the last model.",
            "Rank: by the flips since the first model, of stable methods with all seeds, three at least.",
            f"Last step: {chain.last.title}",
            f"Recipe: {chain.last.recipe}",
        ),
        essential=("Rank", "Since first"),
    )


def chain_numbers(chain: Chain) -> list[dict[str, Any]]:
    """The raw values of a chain's table, one flat row per method; rates are fractions of 1."""
    names = [f"nfr_step_{number}" for number in range(1, len(chain.classes))]
    names += ["nfr_sum", "nfr_since_first", "er_all"]
    rows = []
    for label, by_seed in chain.courses.items():
        row: dict[str, Any] = {"setting": chain.title, "dataset": chain.last.dataset, "method": label}
        row["seeds_done"] = len(by_seed)
        for name, values in zip(names, _columns(chain, label), strict=True):
            summary = Summary.of(values)
            row |= {name: summary and summary.mean, f"{name}_std": summary and summary.std}
        rows.append(row)
    return rows


def _columns(chain: Chain, label: str) -> list[list[float]]:
    """One value per seed of a row for each of a course's numbers."""
    rows = [course.numbers for course in chain.courses[label].values()]
    return [[row[column] for row in rows] for column in range(len(chain.classes) + 2)]


def _rank(courses: Mapping[str, Mapping[int, Course]], seeds: Sequence[int]) -> dict[str, int]:
    since = {
        label: {seed: course.since_first for seed, course in by_seed.items()}
        for label, by_seed in courses.items()
    }
    labels, ranking = rank_rows(since, seeds)
    return dict(zip(labels, ranking.ranks, strict=True)) if ranking else {}


def _percent(values: Sequence[float]) -> str:
    summary = Summary.of(values)
    if summary is None:
        return "-"
    spread = "" if summary.std is None else f"±{100 * summary.std:.2f}"
    return f"{100 * summary.mean:.2f}{spread}"
