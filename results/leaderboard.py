"""The tables of finished runs: one per setting, the old model first; bold: not separated from the best.

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
from common.files import check_can_hold, write_atomically
from common.text import nearest, printable
from results import tuned
from results.analysis import SIGNIFICANT, Analysis, analyse
from results.chains import chain_numbers, chain_table, chains
from results.columns import KNOWN_COLUMNS
from results.comparisons import NOT_YET, Comparison, MissingRun, Row, Summary, comparisons
from results.filters import read
from results.finished import Finished, finished_comparisons
from results.held_out import Metrics
from results.metrics import METRICS, Metric
from results.per_run import Rows, as_parquet, per_run_rows
from results.ranking import FEWEST_SEEDS, PlainDifference, Ranking
from results.store import RunContent, Store
from results.tables import Cell, Table, as_csv, latex, markdown, show

DEFAULT_COLUMNS = ("er_old", "er_all", "nfr", "rel_nfr")
PLAIN_RETRAINED = "plain, retrained"
"""The row of plain models against each other: what retraining alone flips."""
NFR_MINUS_PLAIN = "NFR - plain"
UNSTABLE_MARK = "†"


def tables(
    store: Store, expected: Iterable[RunContent], *, columns: Sequence[str] = DEFAULT_COLUMNS
) -> list[Table]:
    """Tables of the expected runs (`Run.document()`), for `show`: one per setting and one per chain."""
    found = comparisons(store, expected)
    made = [table(store, comparison, columns) for comparison in found]
    return made + [chain_table(chain) for chain in chains(store, found)]


def table(
    store: Store,
    comparison: Comparison,
    columns: Sequence[str] = DEFAULT_COLUMNS,
    analysis: Analysis | None = None,
) -> Table:
    """One comparison: old model, methods, plain models; the footer explains how the numbers were made."""
    analysis = analysis or analyse(comparison)
    best = {name: analysis.best(name, KNOWN_COLUMNS[name]) for name in columns}
    rows = [] if comparison.chained else [_row(comparison.old, columns, {}, Analysis())]
    rules = set(range(len(rows)))
    rows += [_row(row, columns, best, analysis) for row in comparison.candidates]
    if analysis.between_plain and "nfr" in columns:
        rules.add(len(rows) - 1)
        shown = _shown(analysis.between_plain, METRICS["nfr"])
        numbers = [shown if name == "nfr" else "-" for name in columns]
        rows.append(tuple(Cell(text) for text in (PLAIN_RETRAINED, "-", *numbers, "-")))
    header = ["Method", "Rank", *(KNOWN_COLUMNS[name].title for name in columns), NFR_MINUS_PLAIN]
    if not analysis.from_plain:
        header.pop()
    return Table(
        title=comparison.title,
        header=tuple(header),
        rows=tuple(row[: len(header)] for row in rows),
        rules=frozenset(rules),
        footer=tuple(_footer(store, comparison, columns, analysis)),
        essential=(METRICS["nfr"].title, "Rank", NFR_MINUS_PLAIN),
    )


def _row(
    row: Row, columns: Sequence[str], best: Mapping[str, frozenset[str]], analysis: Analysis
) -> tuple[Cell, ...]:
    networks = row.summary("networks")
    several = f" ({networks.mean:g} networks)" if networks and networks.mean > 1 else ""
    seeds = f" ({len(row.records)} of {row.seeds} seeds)" if row.missing else ""
    rank = analysis.rank.get(row.label)
    numbers = [
        Cell(
            _shown(row.summary(name), KNOWN_COLUMNS[name]) or _without_number(row),
            "best" if row.label in best.get(name, ()) else "",
        )
        for name in columns
    ]
    difference = analysis.from_plain.get(row.label)
    return (
        Cell(row.label + several + seeds + (f" {UNSTABLE_MARK}" if row.label in analysis.unstable else "")),
        Cell("-" if rank is None else str(rank)),
        *numbers,
        Cell("-" if difference is None else _difference(difference)),
    )


def _without_number(row: Row) -> str:
    """What a cell without a number shows: the state of the runs, or a dash."""
    states = dict.fromkeys(run.state for run in row.missing)
    return "/".join(states) if states and not row.records else "-"


def _shown(summary: Summary | None, metric: Metric) -> str:
    if summary is None:
        return ""
    scale = 100 if metric.unit == "%" else 1
    spread = "" if summary.std is None else f"±{summary.std * scale:.{metric.digits}f}"
    return f"{summary.mean * scale:.{metric.digits}f}{spread}"


def _difference(difference: PlainDifference) -> str:
    text = f"{100 * difference.estimate:+.2f}"
    if difference.standard_error is not None and difference.p is not None:
        star = "*" if difference.p < SIGNIFICANT else " "
        text += f"±{100 * difference.standard_error:.2f}{star}"
    return text


def _footer(store: Store, comparison: Comparison, columns: Sequence[str], analysis: Analysis) -> list[str]:
    seeds = max((row.seeds for row in comparison.candidates), default=0)
    lines = [f"{_samples(comparison)}{seeds} seed{'s' if seeds != 1 else ''}; records in {store.root}"]
    lines += ["Rates in %, mean±std over seeds." + (_BOLD if seeds >= FEWEST_SEEDS else "")]
    if analysis.ranking:
        lines += _about_ranks(analysis.ranking)
    if any(row.label in analysis.unstable for row in comparison.candidates):
        lines.append(
            f"{UNSTABLE_MARK} NFR varies between seeds more than three times as much as the other methods': "
            "not ranked with them, and more seeds may well change this row."
        )
    if analysis.from_plain:
        lines.append(_about_plain(analysis))
    if analysis.seeds and seeds < FEWEST_SEEDS:
        lines.append(
            "Fewer than three seeds: no ranks; differences are between these models, not between methods."
        )
    if len(comparison.old.records) > 1 and "given" in (comparison.old_run or {}):
        lines.append("One old model was given for all seeds: nothing is said about updates of another one.")
    if analysis.between_plain and "nfr" in columns:
        lines.append(
            f"{PLAIN_RETRAINED.capitalize()}: NFR between plain models that differ only in their training "
            "seed, one mean per seed."
        )
    lines.append(f"Recipe: {comparison.recipe}")
    alike: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.missing:
            alike.setdefault(_missing_runs(row.missing), []).append(row.label)
    lines += [f"{', '.join(labels)}: {what}" for what, labels in alike.items()]
    lines += tuned.lines(
        [(row.method if row.tuned else row.label, row.tuned) for row in comparison.candidates]
    )
    lines += [line for row in comparison.rows if (line := _about_chosen(row))]
    return lines + [line for row in comparison.rows if (line := _about_code(row))]


def _about_chosen(row: Row) -> str:
    """What was chosen for a row on held-out training data; empty where nothing was."""
    chosen: dict[str, list[float]] = {}
    for record in row.records.values():
        for name, value in record.chosen.items():
            chosen.setdefault(name, []).append(value)
    ranges = [
        f"{name}={min(values):g}" + (f"..{max(values):g}" if min(values) < max(values) else "")
        for name, values in chosen.items()
    ]
    return f"{row.label}: {', '.join(ranges)}, chosen on held-out training data" if ranges else ""


def _about_code(row: Row) -> str:
    """What is to be said about the code that made a row; empty where it was one and the same."""
    if row.stale:
        seeds = f"seed{'s' if len(row.stale) > 1 else ''} {', '.join(map(str, row.stale))}"
        return f"{row.label}: {seeds} made with other code of {row.method}; stale=rerun trains it again"
    return f"{row.label}: its seeds were made with different code of {row.method}" if row.mixed_code else ""


_BOLD = " Bold: not separated from the best of its column, among stable methods with all their seeds."


def _about_ranks(ranking: Ranking) -> list[str]:
    methods, seeds = len(ranking.mean), ranking.seeds
    lines = [
        "Rank: 1 + the methods that are separated from it and have fewer negative flips, by intervals of all "
        "pairs over seeds and samples that hold at once in 95 % of tables."
    ]
    if ranking.only_samples:
        lines.append("The seeds show no noise: these ranks are over samples alone.")
    elif methods > 1:
        more = 10 if seeds < 10 else 2 * seeds
        now, then = (100 * ranking.resolution(count) for count in (seeds, more))
        lines.append(
            f"{seeds} seeds tell {methods} methods apart from about {now:.2f} points of NFR on, "
            f"{more} from {then:.2f}."
        )
    return lines


def _about_plain(analysis: Analysis) -> str:
    plain = "No Treatment"
    if analysis.references:
        references = f"{analysis.references} references" if analysis.references > 1 else "one reference"
        plain = f"the mean of No Treatment and {references} of the same seed"
    if len(analysis.seeds) < FEWEST_SEEDS:
        return f"{NFR_MINUS_PLAIN}: plain is {plain}."
    return (
        f"{NFR_MINUS_PLAIN}: plain is {plain}; ± standard error over seeds and samples, "
        f"* p < {SIGNIFICANT} (t, Holm over the methods)."
    )


def _samples(comparison: Comparison) -> str:
    for row in comparison.candidates:
        for record in row.records.values():
            if "samples_old" in record.metrics:
                old, every = record.metrics["samples_old"], record.metrics["samples_all"]
                return f"{old:,.0f} {comparison.samples_name} of old classes, {every:,.0f} in all; "
    return ""


def _missing_runs(runs: Sequence[MissingRun]) -> str:
    alike: dict[str, list[int]] = {}
    for run in runs:
        alike.setdefault(run.what, []).append(run.seed)
    return "; ".join(
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} {what}"
        for what, seeds in sorted(alike.items(), key=lambda item: item[0] == NOT_YET)
    )


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
        flat["unstable"] = row.label in analysis.unstable
        for name in columns:
            summary = row.summary(name)
            flat |= {name: summary and summary.mean, f"{name}_std": summary and summary.std}
        if difference := analysis.from_plain.get(row.label):
            flat |= {
                "nfr_minus_plain": difference.estimate,
                "nfr_minus_plain_se": difference.standard_error,
                "nfr_minus_plain_df": difference.df,
                "nfr_minus_plain_p": difference.p,
            }
        rows.append(flat | {"missing_runs": _missing_runs(row.missing) or None})
    if analysis.between_plain:
        flat = {"setting": comparison.title, "dataset": comparison.dataset, "method": PLAIN_RETRAINED}
        rows.append(flat | {"nfr": analysis.between_plain.mean, "nfr_std": analysis.between_plain.std})
    return rows


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to print."""

    runs: Path = Path("runs")
    """Folder of records."""
    metrics: Metrics = "test"
    """Numbers on the test set, or on the training images that validation= held out."""
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
            check_can_hold("export", path)
        for path in self.per_run:
            if path.suffix not in _PER_RUN:
                raise ValueError(f"per_run={path}: the suffix must be one of {', '.join(_PER_RUN)}")
            check_can_hold("per_run", path)


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
    finished = finished_comparisons(settings.runs, filters, settings.metrics)
    printed, rows = [], []
    for comparison in finished.comparisons:
        analysis = analyse(comparison)  # of all methods: hiding one changes no rank
        shown = _sorted(finished.shown(comparison), analysis, settings.sort)
        printed.append(table(finished.store, shown, settings.columns, analysis))
        rows += numbers(shown, analysis, settings.columns)
    for chain in finished.chains:
        printed.append(chain_table(chain))
        rows += chain_numbers(chain)
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
