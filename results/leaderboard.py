"""The tables of finished runs: one per setting, the old model first, best bold, second underlined.

python -m results.leaderboard runs=runs columns=er_old,nfr,churn sort=nfr export=table.tex
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from common.cli import HELP_WORDS, command, parse, print_help
from common.files import write_atomically
from common.text import nearest
from results.analysis import SIGNIFICANT, Analysis, analyse
from results.comparisons import Comparison, MissingRun, Row, Summary, comparisons, finished_comparisons
from results.metrics import METRICS, Metric
from results.statistics import Interval
from results.store import RunContent, Store
from results.tables import Cell, Emphasis, Table, as_csv, latex, markdown, show

DEFAULT_COLUMNS = ("er_old", "er_all", "nfr", "rel_nfr")
COSTS: dict[str, Metric] = {
    "train_hours_alone": Metric(
        title="Train h alone",
        meaning="device hours to train it with its old model and references, as if nothing else were made",
        unit="",
        digits=4,
    ),
    "train_hours": Metric(
        title="Train h",
        meaning="device hours of its own training here, its share where runs trained together",
        unit="",
        digits=4,
    ),
    "networks": Metric(
        title="Networks", meaning="networks that classify a sample", better=None, unit="", digits=0
    ),
    "gmacs": Metric(
        title="GMACs", meaning="1e9 multiply-adds to classify a sample", better=None, unit="", digits=4
    ),
    "images_per_s": Metric(title="Images/s", meaning="training throughput", better="high", unit=""),
    "peak_memory_gb": Metric(title="Memory GB", meaning="peak memory", unit=""),
}
KNOWN_COLUMNS = METRICS | COSTS


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
    lines += [f"{', '.join(labels)}: {what}" for what, labels in alike.items()]
    return lines + [line for row in comparison.rows if (line := _about_code(row))]


def _about_code(row: Row) -> str:
    """What is to be said about the code that made a row; empty where it was one and the same."""
    if row.stale:
        seeds = f"seed{'s' if len(row.stale) > 1 else ''} {', '.join(map(str, row.stale))}"
        return f"{row.label}: {seeds} made with other code of {row.method}; stale=rerun trains it again"
    return f"{row.label}: its seeds were made with different code of {row.method}" if row.mixed_code else ""


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
    methods: tuple[str, ...] = ()
    """Only these methods, by name or label; all by default."""
    dataset: str = ""
    """Only this dataset; all by default."""
    sort: str = ""
    """A column to sort by, best first, or `rank`; by default No Treatment, then the others by name."""
    export: tuple[Path, ...] = ()
    """Files to write as well, in the format of their suffix: .md, .tex, .csv, .json."""

    def __post_init__(self) -> None:
        for name in (*self.columns, *([self.sort] if self.sort not in ("", "rank") else [])):
            if name not in KNOWN_COLUMNS:
                raise ValueError(f"unknown column '{name}'{nearest(name, KNOWN_COLUMNS)}")
        for path in self.export:
            if path.suffix not in _EXPORTS:
                raise ValueError(f"export={path}: the suffix must be one of {', '.join(_EXPORTS)}")


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
    prog, about = "python -m results.leaderboard", main.__doc__ or ""
    if HELP_WORDS & set(argv):
        columns = [(name, metric.meaning) for name, metric in KNOWN_COLUMNS.items()]
        print_help(Settings, prog=prog, description=about, sections=[("Columns", columns)])
        return 0
    settings = parse(Settings, argv, prog=prog, description=about)
    store, found = finished_comparisons(settings.runs, settings.dataset)
    known = {name for c in found for row in c.candidates for name in (row.method, row.label)}
    for name in settings.methods:
        if name not in known:
            raise ValueError(f"methods={name}: no such candidate in {settings.runs}{nearest(name, known)}")
    chosen = [c for c in found if any(row.records and _asked_for(row, settings) for row in c.candidates)]
    if not chosen:
        raise ValueError(f"runs={settings.runs}: no finished candidate of these methods")
    printed, rows = [], []
    for comparison in chosen:
        analysis = analyse(comparison)  # of all methods: a filter changes no rank
        shown = _chosen_rows(comparison, analysis, settings)
        printed.append(table(store, shown, settings.columns, analysis))
        rows += numbers(shown, analysis, settings.columns)
    show(printed, Console(highlight=False))
    for path in settings.export:
        write_atomically(path, _EXPORTS[path.suffix](printed, rows).encode())
    return 0


_EXPORTS = {
    ".md": lambda tables, rows: markdown(tables),
    ".tex": lambda tables, rows: latex(tables),
    ".csv": lambda tables, rows: as_csv(rows),
    ".json": lambda tables, rows: json.dumps(rows, indent=1) + "\n",
}


def _asked_for(row: Row, settings: Settings) -> bool:
    return not settings.methods or bool({row.method, row.label} & {*settings.methods})


def _chosen_rows(comparison: Comparison, analysis: Analysis, settings: Settings) -> Comparison:
    rows = [row for row in comparison.candidates if _asked_for(row, settings)]

    def key(row: Row) -> tuple[bool, float]:
        if settings.sort == "rank":
            rank = analysis.rank.get(row.label)
            return rank is None, rank or 0
        summary = row.summary(settings.sort)
        sign = -1 if KNOWN_COLUMNS[settings.sort].better == "high" else 1
        return summary is None, sign * summary.mean if summary else 0.0

    return dataclasses.replace(comparison, candidates=tuple(sorted(rows, key=key) if settings.sort else rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
