"""What a table shows, from records and the runs that were asked for: rows over seeds, with missing runs."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from common.paths import RunFolder
from results.columns import value_of
from results.store import Failure, Record, RunContent, Store
from results.store.records import tuned_of
from results.tuned import Tuned

BASELINE = "none"
"""Label of No Treatment, which all methods are compared with."""


NOT_YET = "not run yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingRun:
    """A run that was asked for and has no numbers."""

    seed: int
    state: Literal["missing", "failed", "diverged"]
    reason: str
    run: RunContent | None = None
    """None for a seed that other methods have and this one was not asked for."""
    record: Record | None = None
    """Of a diverged run."""

    @property
    def what(self) -> str:
        """What became of it, and why."""
        if self.state == "missing" and not self.reason:
            return NOT_YET
        return self.state + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Mean over seeds, and the sample standard deviation where there are two or more."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary | None:
        """Summary of one value per seed; None where there are none."""
        if not values:
            return None
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean=mean, std=math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One model or method over its seeds."""

    label: str
    method: str
    records: Mapping[int, Record]
    """Done runs, by seed; an old model that was not trained here is the same for all seeds."""
    missing: tuple[MissingRun, ...]
    run: RunContent | None
    """Content of one of its runs; None for an old model that is not known."""
    parents: Mapping[int, tuple[Record, ...]] = field(default_factory=dict)
    """The old model and the references of each seed; without those seeds where one has no record."""
    tuned: Tuned | None = None
    """How its hyperparameters were chosen, where `tune=` did so."""
    stale: tuple[int, ...] = ()
    """Seeds that were made with other code of the method than the one now planned with."""

    @property
    def mixed_code(self) -> bool:
        """Whether its seeds were made with different code of the method."""
        return len({record.method_code for record in self.records.values() if record.method_code}) > 1

    @property
    def asked(self) -> tuple[int, ...]:
        """The seeds that were asked for."""
        return tuple(sorted({*self.records, *(run.seed for run in self.missing)}))

    @property
    def seeds(self) -> int:
        """How many seeds were asked for."""
        return len(self.records) + len(self.missing)

    @property
    def complete(self) -> bool:
        """Whether every seed has its numbers; only then is the row ranked."""
        return bool(self.records) and not self.missing

    def summary(self, metric: str) -> Summary | None:
        """A metric over the seeds that have it; None where none has."""
        of_models = {
            record.id: value_of(record, metric, self.parents.get(seed))
            for seed, record in self.records.items()
        }
        return Summary.of([value for value in of_models.values() if value is not None])


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The content of one table: an old model and the methods that update it, all else being equal."""

    distinction: str = ""
    """What tells it from another comparison with the same title and recipe."""
    samples_name: str = "test samples"
    """What its numbers are about."""

    dataset: str
    old: Row
    candidates: tuple[Row, ...]
    references: tuple[Record, ...]
    candidate_run: RunContent
    old_run: RunContent | None
    chained: bool = False
    """Whether this is a further step of a chain: every method updates the model that it made before."""

    @cached_property
    def title(self) -> str:
        """Dataset, models and classes: `digits: resnet8 (cifar stem) -> ..., 5 of 10 classes old`."""
        split = self.candidate_run["split"]
        old = _old_model(self.old_run) if self.old_run else "old model"
        parts = [f"{self.dataset}: {old} -> {_model(self.candidate_run['model'])}"]
        parts.append(f"{split['old_classes']} of {split['classes']} classes old")
        if split["class_order"] is not None:
            order = split["class_order"]
            labels = ",".join(map(str, order)) if isinstance(order, list | tuple) else str(order)
            parts.append(f"class order {labels if len(labels) <= 40 else labels[:40] + '...'}")
        if self.old_run and self.old_run["split"]["old_data"] != 1:
            parts.append(f"old model saw {self.old_run['split']['old_data']:.0%} of its data")
        if (share := split.get("train_data", 1)) != 1:
            parts.append(f"{100 * share:.4g}% of the training data")
        if (share := split.get("new_data", 1)) != 1:
            parts.append(f"{share:.0%} of the new classes' data")
        if (share := split.get("validation", 0)) != 0:
            parts.append(f"{100 * share:.4g}% held out")
        if (precision := precision_of(self.candidate_run)) != "fp32":
            parts.append(precision)
        if self.chained:
            parts.append("each method updates its own model")
        if init_of(self.candidate_run) == "old":
            parts.append("candidates start from the old model")
        if self.distinction:
            parts.append(self.distinction)
        return ", ".join(parts)

    @cached_property
    def recipe(self) -> str:
        """How the models were trained, as `key=value` words."""
        new = _key_values(self.candidate_run["recipe"])
        if self.old_run is None or self.old_run["recipe"] == self.candidate_run["recipe"]:
            return new
        if given := self.old_run.get("given"):
            return f"{new}; old model: {given['kind']} of sha256 {given['sha256'][:12]}"
        return f"{new}; old model: {_key_values(self.old_run['recipe'])}"

    def old_records(self, row: Row) -> Mapping[int, Record]:
        """The records of the old model that a row's candidates update, by seed."""
        if not self.chained:
            return self.old.records
        return {seed: parents[0] for seed, parents in row.parents.items()}

    @property
    def rows(self) -> tuple[Row, ...]:
        """The old model, unless every candidate has its own, then the candidates."""
        return self.candidates if self.chained else (self.old, *self.candidates)


def comparisons(store: Store, expected: Iterable[RunContent]) -> list[Comparison]:
    """One comparison per setting among the `expected` runs, in their order; reads only their records."""
    runs = {run["id"]: run for run in expected}
    records = {run_id: record for run_id in runs if (record := store.read(run_id)) is not None}
    runs |= {run_id: as_made(runs[run_id], record) for run_id, record in records.items()}
    return comparisons_of(store, runs, records)


def comparisons_of(
    store: Store, runs: Mapping[str, RunContent], records: Mapping[str, Record]
) -> list[Comparison]:
    """One comparison per setting among the runs, in their order; runs and their records by id."""
    return _RunsAndRecords(store=store, runs=runs, records=records).comparisons()


@dataclass(frozen=True, kw_only=True, eq=False)
class _RunsAndRecords:
    """What the tables are made of, by run id."""

    store: Store
    runs: Mapping[str, RunContent]
    records: Mapping[str, Record]

    def comparisons(self) -> list[Comparison]:
        settings: dict[tuple[str, str], list[RunContent]] = {}
        for run in self.runs.values():
            if run["role"] == "candidate":
                settings.setdefault(_setting(run, self.runs), []).append(run)
        for common, old in list(settings):  # a damaged record hides the old model: these join the others
            same = [key for key in settings if key[0] == common and key[1] != UNKNOWN_OLD_MODEL]
            if old == UNKNOWN_OLD_MODEL and len(same) == 1:
                settings[same[0]] += settings.pop((common, old))
        return _distinguished([self._comparison(candidates) for candidates in settings.values()])

    def _comparison(self, candidates: Sequence[RunContent]) -> Comparison:
        rows: dict[str, list[RunContent]] = {}
        for run in candidates:
            rows.setdefault(_row_key(run), []).append(run)
        seeds = {run["seed"] for run in candidates}
        old_runs = self._old_models(candidates)
        chained = any(run["role"] == "candidate" for _, run in old_runs)
        references = [run["id"] for run in self._references(candidates)]
        return Comparison(
            dataset=candidates[0]["dataset"],
            old=self._row("old model", [] if chained else old_runs, set() if chained else seeds),
            candidates=tuple(
                self._row(label, [(run["seed"], run) for run in rows[key]], seeds)
                for key, label in _labels(rows).items()
            ),
            references=tuple(self.records[run_id] for run_id in references if run_id in self.records),
            samples_name=self.store.samples_name,
            candidate_run=candidates[0],
            old_run=old_runs[0][1] if old_runs else None,
            chained=chained,
        )

    def _row(self, label: str, runs: Sequence[tuple[int, RunContent]], seeds: set[int]) -> Row:
        """A row of these runs, each for a seed; a seed among `seeds` without a run is missing."""
        done: dict[int, Record] = {}
        without_run = seeds - {seed for seed, _ in runs}
        missing = [MissingRun(seed=seed, state="missing", reason="") for seed in without_run]
        for seed, run in runs:
            record = self.records.get(run["id"])
            if record is None:
                missing.append(self._missing_run(seed, run))
            elif record.state == "diverged":
                missing.append(
                    MissingRun(
                        seed=seed,
                        state="diverged",
                        reason=record.reason or "",
                        run=run,
                        record=record,
                    )
                )
            else:
                done[seed] = record
        planned = {seed: run.get("method_code", "") for seed, run in runs}
        first = runs[0][1] if runs else None
        return Row(
            label=label,
            method=first["method"] if first else BASELINE,
            stale=tuple(
                seed
                for seed, record in sorted(done.items())
                if record.method_code and planned[seed] and record.method_code != planned[seed]
            ),
            records=dict(sorted(done.items())),
            parents={seed: found for seed, run in runs if (found := self._found(run)) is not None},
            missing=tuple(sorted(missing, key=lambda run: run.seed)),
            run=first,
            tuned=next((how for _, run in runs if (how := self._tuned(run)) is not None), None),
        )

    def _tuned(self, run: RunContent) -> Tuned | None:
        """How a run's hyperparameters were chosen, as far as the run or its record says."""
        record = self.records.get(run["id"])
        return tuned_of(run) or (record.tuned if record is not None else None)

    def _found(self, run: RunContent) -> tuple[Record, ...] | None:
        """The records of a run's parents; None where one is missing."""
        found = tuple(self.records[parent] for parent in run["parents"] if parent in self.records)
        return found if len(found) == len(run["parents"]) else None

    def _missing_run(self, seed: int, run: RunContent) -> MissingRun:
        """Why a run has no record: damage, its own failure, or else that of a parent."""
        if RunFolder(self.store.folder(run["id"])).record.exists():
            return MissingRun(seed=seed, state="missing", reason="its record is damaged", run=run)
        if failure := self.store.failure(run["id"]):
            return MissingRun(seed=seed, state="failed", reason=_cause_and_log(failure), run=run)
        return MissingRun(seed=seed, state="missing", reason=self._lost_parent(run), run=run)

    def _lost_parent(self, run: RunContent) -> str:
        """Which parent failed or diverged, and why; empty if none did."""
        for parent in run["parents"]:
            label = self.runs[parent]["label"] if parent in self.runs else parent
            record = self.records.get(parent)
            if record is None and (failure := self.store.failure(parent)):
                return f"{label} failed: {_cause_and_log(failure)}"
            if record is not None and record.state == "diverged":
                return f"{label} diverged"
        return ""

    def _old_models(self, candidates: Iterable[RunContent]) -> list[tuple[int, RunContent]]:
        """The old model for each seed of the candidates: one and the same where it was given."""
        ids = dict.fromkeys((run["seed"], run["parents"][0]) for run in candidates if run["parents"])
        return [(seed, self.runs[run_id]) for seed, run_id in ids if run_id in self.runs]

    def _references(self, candidates: Iterable[RunContent]) -> list[RunContent]:
        ids = dict.fromkeys(parent for run in candidates for parent in run["parents"])
        known = [self.runs[run_id] for run_id in ids if run_id in self.runs]
        return [run for run in known if run["role"] == "reference"]


def _distinguished(found: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons that would look the same get what they were trained on into the title."""

    def looks(comparison: Comparison) -> tuple[str, str]:
        return comparison.title, comparison.recipe

    def images_and_weights(run: RunContent) -> str:
        weights = run["model"].get("weights")
        return f"images {run['data']}" + (f", weights {weights[:19]}" if weights else "")

    many = Counter(map(looks, found))
    return [
        replace(comparison, distinction=images_and_weights(comparison.candidate_run))
        if many[looks(comparison)] > 1
        else comparison
        for comparison in found
    ]


def _cause_and_log(failure: Failure) -> str:
    first_line = failure.message.strip().partition("\n")[0]
    return f"{failure.cause}: {first_line}" + (f"; log: {failure.log}" if failure.log else "")


UNKNOWN_OLD_MODEL = "null"


def _setting(run: RunContent, runs: Mapping[str, RunContent]) -> tuple[str, str]:
    """What candidates of one table have in common: their setting, and that of the old model but its seed."""
    old = runs.get(run["parents"][0]) if run["parents"] else None
    common = [*(run[name] for name in ("dataset", "data", "split", "model", "recipe")), precision_of(run)]
    common.append(init_of(run))
    of_old = old and [*(old[name] for name in ("split", "model", "recipe")), precision_of(old)]
    if old and "given" in old:
        of_old = [of_old, old["given"]]
    return json.dumps(common, sort_keys=True), json.dumps(of_old, sort_keys=True)


def precision_of(run: RunContent) -> str:
    """The precision that a run was trained in: fp32 where its content does not say."""
    return str(run.get("precision", "fp32"))


def init_of(run: RunContent) -> str:
    """Where a run's weights start: freshly drawn where its content does not say."""
    return str(run.get("init", "scratch"))


def as_made(run: RunContent, record: Record) -> RunContent:
    """A run with the precision that it was trained in, which once was not part of a run's content."""
    return {**run, "precision": record.precision}


def _row_key(run: RunContent) -> str:
    return json.dumps([run["method"], run["hyperparameters"], run["method_version"]], sort_keys=True)


def _labels(rows: Mapping[str, Sequence[RunContent]]) -> dict[str, str]:
    """Row key -> label; a number tells two versions of one method, or two sets of defaults, apart."""
    labels: dict[str, str] = {}
    for key, runs in rows.items():
        # A run made in a sweep over k names its k; another seed of it may have been made without one.
        label = max((run["label"] for run in runs), key=len)
        same = sum(taken.partition(" #")[0] == label for taken in labels.values())
        labels[key] = f"{label} #{same + 1}" if same else label
    return labels


def _model(model: Mapping[str, Any]) -> str:
    embedding = f", embedding {model['embedding']}" if model.get("embedding") else ""
    return f"{model['arch']} ({model['stem']} stem{embedding})"


def _old_model(run: RunContent) -> str:
    given = run.get("given", {"kind": ""})["kind"]
    if given == "predictions":
        return "given predictions"
    return ("given " if given else "") + _model(run["model"])


def _key_values(values: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
