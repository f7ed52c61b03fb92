"""The comparisons of a folder of records: its records, the runs of its unfinished jobs, and filters."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from common.paths import RecordsFolder
from common.text import printable
from results.chains import Chain, chains
from results.columns import record_columns, run_columns
from results.comparisons import BASELINE, Comparison, as_made, comparisons_of
from results.filters import Filters
from results.held_out import Metrics, open_store
from results.store import BrokenRecord, Record, RunContent, Store
from results.store.records import check_names, check_run


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """The comparisons of a store that have results."""

    store: Store
    comparisons: tuple[Comparison, ...]
    """With all their methods, which count in ranks."""
    filters: Filters

    def shown(self, comparison: Comparison) -> Comparison:
        """A comparison without the rows that the filters hide."""
        return _shown(comparison, self.filters)

    @property
    def chains(self) -> list[Chain]:
        """The chains of updates among the comparisons, without the rows that the filters hide."""
        found = (chain.only(self.shown(chain.last)) for chain in chains(self.store, self.comparisons))
        return [chain for chain in found if any(chain.courses.values())]


NO_FILTERS = Filters()


def finished_comparisons(runs: Path, filters: Filters = NO_FILTERS, metrics: Metrics = "test") -> Finished:
    """The comparisons in a folder of records with at least one done candidate that passes the filters.

    With `metrics` of the validation part, they are those of the runs that hold one out. Trials of `tune=` are
    shown on that part alone.

    Runs of unfinished jobs are missing runs. So are broken records, which are also named on stderr.

    Raises:
        ValueError: there is nothing to show.
    """
    if not runs.is_dir():
        raise ValueError(f"runs={runs}: no such folder")
    store = open_store(runs, metrics)
    records: dict[str, Record] = {}
    for record in store.scan():
        if isinstance(record, BrokenRecord):
            _warn(record)
        else:
            records[record.id] = record
    contents = {run_id: as_made(record.run, record) for run_id, record in records.items()}
    unfinished = {run["id"]: run for run in _runs_of_jobs(store, contents) if store.is_about(run)}
    contents = unfinished | contents
    if metrics == "test":
        contents = {run_id: run for run_id, run in contents.items() if not run.get("trial")}
    if not any(run["role"] == "candidate" and run_id in records for run_id, run in contents.items()):
        what = "" if metrics == "test" else " that holds out a part (validation=0.1)"
        raise ValueError(f"runs={runs}: no finished candidate{what} yet")
    kept, filters = _filtered(contents, records, filters)
    ordered = dict(sorted(kept.items(), key=lambda item: _by_name(item[1])))
    found = [
        comparison
        for comparison in sorted(comparisons_of(store, ordered, records), key=_by_setting)
        if any(row.records for row in _shown(comparison, filters).candidates)
    ]
    if not found:
        raise ValueError(f"runs={runs}: no finished candidate with {filters}")
    return Finished(store=store, comparisons=tuple(found), filters=filters)


def _shown(comparison: Comparison, filters: Filters) -> Comparison:
    rows = [row for row in comparison.candidates if row.run and filters.shows_row(run_columns(row.run))]
    return replace(comparison, candidates=tuple(rows))


def _filtered(
    contents: Mapping[str, RunContent], records: Mapping[str, Record], filters: Filters
) -> tuple[Mapping[str, RunContent], Filters]:
    """The runs without the candidates that the filters leave out; and the filters, by names of columns."""
    if not filters.wanted:
        return contents, filters
    columns = {
        run_id: run_columns(run, contents.get(run["parents"][0]) if run["parents"] else None)
        | (record_columns(records[run_id]) if run_id in records else {})
        for run_id, run in contents.items()
        if run["role"] == "candidate"
    }
    filters = filters.resolved(list(columns.values()))
    kept = {
        run_id: run
        for run_id, run in contents.items()
        if run_id not in columns or filters.keeps_run(columns[run_id])
    }
    return kept, filters


def _by_name(run: RunContent) -> tuple[Any, ...]:
    """No Treatment first, then labels with their numbers in order of size: k=2 before k=10."""
    return run["method"] != BASELINE, _natural(run["label"])


def _by_setting(comparison: Comparison) -> tuple[Any, ...]:
    """By dataset, the two networks, classes, and then what the recipes say, by the size of their numbers."""
    run, old = comparison.candidate_run, comparison.old_run or comparison.candidate_run
    split = run["split"]
    return (
        _natural(run["dataset"]),
        *(_natural(f"{model['arch']} {model['stem']}") for model in (old["model"], run["model"])),
        (split["classes"], split["old_classes"]),
        _natural(str(split["class_order"] or "")),
        old["split"]["old_data"],
        _natural(comparison.recipe),
        _natural(comparison.title),
    )


def _natural(text: str) -> list[tuple[bool, float, str]]:
    """A key that sorts the numbers of a text by their size: `epochs=9` before `epochs=10`."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(i % 2 == 1, float(part) if i % 2 else 0.0, part) for i, part in enumerate(parts)]


class _Job(msgspec.Struct):
    runs: list[dict[str, Any]]


class _JobFile(msgspec.Struct):
    job: _Job


def _runs_of_jobs(store: Store, known: Mapping[str, RunContent]) -> Iterator[RunContent]:
    """Runs of the jobs that were started in this store; damaged descriptions are named on stderr."""
    for folder in RecordsFolder(store.root).job_folders():
        if folder.root.name in known:  # a job of one run has its id
            continue
        try:
            runs = msgspec.json.decode(folder.description.read_bytes(), type=_JobFile).job.runs
        except (OSError, ValueError, RecursionError) as error:
            _warn(f"{folder.description}: {error}")
            continue
        for run in runs:
            try:
                check_run(run)
                check_names(run)
                store.folder(run["id"])
            except ValueError as error:
                _warn(f"{folder.description}: {error}")
            else:
                yield run


def _warn(problem: object) -> None:
    print(f"warning: left out: {printable(str(problem))}", file=sys.stderr)
