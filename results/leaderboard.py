"""The tables of finished runs: one per setting, the old model first, best bold, second underlined.

python -m results.leaderboard runs=runs columns=er_old,nfr,churn sort=nfr export=table.tex
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from common.cli import command
from common.files import write_atomically
from common.text import nearest, printable
from results.analysis import SIGNIFICANT, Analysis, analyse
from results.columns import KNOWN_COLUMNS
from results.comparisons import Comparison, MissingRun, Row, Summary, comparisons
from results.filters import read
from results.finished import Finished, finished_comparisons
from results.metrics import METRICS, Metric
from results.per_run import Rows, as_parquet, per_run_rows
from results.statistics import Interval
from results.store import RunContent, Store
from results.tables import Cell, Emphasis, Table, as_csv, latex, markdown, show

DEFAULT_COLUMNS = ("er_old", "er_all", "nfr", "rel_nfr")


def tables(
    store: Store, expected: Iterable[RunContent], *, columns: Sequence[str] = DEFAULT_COLUMNS
) -> list[Table]:
    """One table per setting among the expected runs (`Run.document()`), for `results.tables.show`."""
    return [table(store, comparison, columns) for comparison in comparisons(store, expected)]


def table(
    store: Store,
    comparison: Comparison,
    columns: Sequence[str] = DEFAULT_COLUMNS,
    analysis: Analysis | None = None,
) -> Table:
    """One comparison: old model, methods, noise floor; the footer explains how the numbers were made."""
    analysis = analysis or analyse(comparison)
    places = {name: _places(comparison.candidates, name) for name in columns}
    rows = [_row(comparison.old, columns, {}, Analysis())]
    rows += [_row(row, columns, places, analysis) for row in comparison.candidates]
    rules = {0}
    if analysis.floor and "nfr" in columns:
        rules.add(len(rows) - 1)
        floor = [_shown(analysis.floor, METRICS["nfr"]) if name == "nfr" else "-" for name in columns]
        rows.append(tuple(Cell(text) for text in ("noise floor", "-", *floor, "-")))
    header = ["Method", "Rank", *(KNOWN_COLUMNS[name].title for name in columns), "NFR - none [95 %]"]
    if not analysis.difference:
        header.pop()
    return Table(
        title=comparison.title,
        header=tuple(header),
        rows=tuple(row[: len(header)] for row in rows),
        rules=frozenset(rules),
        footer=tuple(_footer(store, comparison, columns, analysis)),
    )


def _row(
    row: Row, columns: Sequence[str], places: dict[str, dict[str, Emphasis]], analysis: Analysis
) -> tuple[Cell, ...]:
    seeds = f" ({len(row.records)} of {row.seeds} seeds)" if row.missing else ""
    rank = analysis.rank.get(row.label)
    numbers = [
        Cell(
            _shown(row.summary(name), KNOWN_COLUMNS[name]) or _without_number(row),
            places.get(name, {}).get(row.label, ""),
        )
        for name in columns
    ]
    difference = analysis.difference.get(row.label)
    return (
        Cell(row.label + seeds),
        Cell("-" if rank is None else str(rank)),
        *numbers,
        Cell("-" if difference is None else _interval(difference)),
    )


def _without_number(row: Row) -> str:
    """What a cell without a number says: the state of the runs, or a dash where there is no such number."""
    states = dict.fromkeys(run.state for run in row.missing)
    return "/".join(states) if states and not row.records else "-"


def _shown(summary: Summary | None, metric: Metric) -> str:
    if summary is None:
        return ""
    scale = 100 if metric.unit == "%" else 1
    spread = "" if summary.std is None else f"±{summary.std * scale:.{metric.digits}f}"
    return f"{summary.mean * scale:.{metric.digits}f}{spread}"


def _interval(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.2f} [{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"


def _places(rows: Sequence[Row], name: str) -> dict[str, Emphasis]:
    """Row label -> best or second best mean as shown; equals share a place, incomplete rows have none."""
    metric = KNOWN_COLUMNS[name]
    if metric.better is None:
        return {}
    scale, sign = (100 if metric.unit == "%" else 1), (1 if metric.better == "low" else -1)
    means = {
        row.label: sign * round(summary.mean * scale, metric.digits)
        for row in rows
        if row.complete and (summary := row.summary(name)) is not None
    }
    first, second, *_ = [*sorted(set(means.values())), None, None]
    return {
        label: "best" if mean == first else "second"
        for label, mean in means.items()
        if mean in (first, second)
    }


def _footer(store: Store, comparison: Comparison, columns: Sequence[str], analysis: Analysis) -> list[str]:
    seeds = max((row.seeds for row in comparison.candidates), default=0)
    lines = [
        f"{_samples(comparison)}{seeds} seed{'s' if seeds != 1 else ''}; records in {store.root}",
        "Rates in %, mean±std over seeds; best bold, second underlined, among methods with all their seeds.",
    ]
    if analysis.rank:
        lines.append(
            "Rank: 1 + the methods with significantly fewer negative flips "
            f"(exact McNemar on all seeds pooled, Holm, p < {SIGNIFICANT})."
        )
    if analysis.difference:
        lines.append("NFR - none: paired by sample and seed, bootstrap over test samples.")
    if analysis.rank:
        lines.append("Ranks and differences are of the models trained here: other seeds may give others.")
    if analysis.floor and "nfr" in columns:
        lines.append(
            "Noise floor: NFR between two plainly trained new models that differ in their seed "
            f"({analysis.floor_pairs} ordered pairs)."
        )
    lines.append(f"Recipe: {comparison.recipe}")
    alike: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.missing:
            alike.setdefault(_missing_runs(row.missing), []).append(row.label)
    return lines + [f"{', '.join(labels)}: {what}" for what, labels in alike.items()]


def _samples(comparison: Comparison) -> str:
    for row in comparison.candidates:
        for record in row.records.values():
            if "samples_old" in record.metrics:
                old, every = record.metrics["samples_old"], record.metrics["samples_all"]
                return f"{old:,.0f} test samples of old classes, {every:,.0f} in all; "
    return ""


def _missing_runs(runs: Sequence[MissingRun]) -> str:
    waiting = [str(run.seed) for run in runs if run.state == "missing" and not run.reason]
    parts = [str(run) for run in runs if run.state != "missing" or run.reason]
    if waiting:
        parts.append(f"seed{'s' if len(waiting) > 1 else ''} {', '.join(waiting)} not run yet")
    return "; ".join(parts)


def numbers(comparison: Comparison, analysis: Analysis, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The raw values of a table, one flat row per method; rates are fractions of 1."""
    rows = []
    for row in comparison.rows:
        flat: dict[str, Any] = {
            "setting": comparison.title,
            "dataset": comparison.dataset,
            "method": row.label,
        }
        flat |= {"seeds_done": len(row.records), "seeds": row.seeds, "rank": analysis.rank.get(row.label)}
        for name in columns:
            summary = row.summary(name)
            flat |= {name: summary and summary.mean, f"{name}_std": summary and summary.std}
        if difference := analysis.difference.get(row.label):
            flat |= {f"nfr_minus_none_{end}": value for end, value in dataclasses.asdict(difference).items()}
        rows.append(flat | {"missing_runs": _missing_runs(row.missing) or None})
    if analysis.floor:
        floor = {"nfr": analysis.floor.mean, "nfr_std": analysis.floor.std}
        rows.append(
            {"setting": comparison.title, "dataset": comparison.dataset, "method": "noise floor"} | floor
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to print."""

    runs: Path = Path("runs")
    """Folder of records."""
    columns: tuple[str, ...] = DEFAULT_COLUMNS
    """Metrics and costs to show."""
    sort: str = ""
    """A column to sort by, best first, or `rank`; by default No Treatment, then the others by name."""
    export: tuple[Path, ...] = ()
    """Files to write as well, in the format of their suffix: .md, .tex, .csv, .json."""
    per_run: tuple[Path, ...] = ()
    """Files to write as well, with one row per run and everything about it: .csv, .parquet."""

    def __post_init__(self) -> None:
        for name in (*self.columns, *([self.sort] if self.sort not in ("", "rank") else [])):
            if name not in KNOWN_COLUMNS:
                raise ValueError(f"unknown column '{name}'{nearest(name, KNOWN_COLUMNS)}")
        for path in self.export:
            if path.suffix not in _EXPORTS:
                raise ValueError(f"export={path}: the suffix must be one of {', '.join(_EXPORTS)}")
        for path in self.per_run:
            if path.suffix not in _PER_RUN:
                raise ValueError(f"per_run={path}: the suffix must be one of {', '.join(_PER_RUN)}")


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Garbage collection would take half of the time: it walks thousands of records that hold no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@command
@_collector_paused()
def main(argv: Sequence[str]) -> int:
    """Print the tables of a folder of records."""
    columns = [(name, metric.meaning) for name, metric in KNOWN_COLUMNS.items()]
    settings, filters = read(
        Settings,
        argv,
        prog="python -m results.leaderboard",
        description=main.__doc__ or "",
        sections=[("Columns", columns)],
    )
    finished = finished_comparisons(settings.runs, filters)
    printed, rows = [], []
    for comparison in finished.comparisons:
        analysis = analyse(comparison)  # of all methods: hiding one changes no rank
        shown = _sorted(finished.shown(comparison), analysis, settings.sort)
        printed.append(table(finished.store, shown, settings.columns, analysis))
        rows += numbers(shown, analysis, settings.columns)
    show(printed, Console(highlight=False))
    for path in settings.export:
        write_atomically(path, _EXPORTS[path.suffix](printed, rows).encode())
    _write_per_run(settings.per_run, finished)
    return 0


def _write_per_run(paths: Sequence[Path], finished: Finished) -> None:
    if not paths:
        return
    rows = per_run_rows(map(finished.shown, finished.comparisons))
    for path in paths:
        write_atomically(path, _PER_RUN[path.suffix](rows))


_EXPORTS = {
    ".md": lambda tables, rows: markdown(tables),
    ".tex": lambda tables, rows: latex(tables),
    ".csv": lambda tables, rows: as_csv(rows),
    ".json": lambda tables, rows: json.dumps(list(map(_printable, rows)), indent=1) + "\n",
}


_PER_RUN: Mapping[str, Callable[[Rows], bytes]] = {
    ".csv": lambda rows: as_csv(rows).encode(),
    ".parquet": as_parquet,
}


def _printable(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}


def _sorted(comparison: Comparison, analysis: Analysis, column: str) -> Comparison:
    """The comparison with its candidates sorted by a column, best first; as it is for no column."""
    if not column:
        return comparison

    def key(row: Row) -> tuple[bool, float]:
        if column == "rank":
            rank = analysis.rank.get(row.label)
            return rank is None, rank or 0
        summary = row.summary(column)
        sign = -1 if KNOWN_COLUMNS[column].better == "high" else 1
        return summary is None, sign * summary.mean if summary else 0.0

    return dataclasses.replace(comparison, candidates=tuple(sorted(comparison.candidates, key=key)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
