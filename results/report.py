"""Everything about a folder of records in one HTML file that needs no network.

python -m results.report runs=runs out=report.html

The page carries DataTables (`templates/datatables.min.js`, MIT license), so that its tables sort and filter
in the browser. Its Content-Security-Policy allows this one script, by its digest, and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from common.cli import command
from common.files import check_can_hold, write_atomically
from common.text import printable, say
from results.analysis import Analysis, analyse
from results.chains import Chain, chain_table
from results.columns import KNOWN_COLUMNS, training_seconds
from results.comparisons import BASELINE, Comparison
from results.figure_style import to_bytes
from results.figures import FIGURES, along_chain
from results.filters import read
from results.finished import Finished, finished_comparisons
from results.galleries import ShownGallery, data_url, galleries
from results.held_out import Metrics
from results.leaderboard import NFR_MINUS_PLAIN, table
from results.predictions import Predictions
from results.store import Record, Store
from results.tables import Cell, Table

CAPTIONS = {
    "pareto": "Error on all classes against the negative flip rate: lower left is better. Intervals of "
    "single rates overlap even where ranks tell methods apart: what methods share cancels in a difference.",
    "margins": "Logit margins on samples of old classes: who keeps the margins keeps the answers.",
    "flips-by-class": "Where the flips are: the NFR within each old class. Classes that are shown for having "
    "the most flips look worse than they are.",
    "flips-between": "What flipped samples turn into.",
    "curves": "Training, mean over seeds.",
}
CHAIN_CAPTION = (
    "Flips along the chain, on samples of the first model's classes: those that are wrong after a step and "
    "were right with the first model (solid), and the sum of all steps' flips (dotted). Means over seeds."
)
MEANINGS = {metric.title: metric.meaning for metric in KNOWN_COLUMNS.values()} | {
    "Method": "training method of the update, with the hyperparameters that differ from its defaults",
    "Rank": "1 + the number of methods that are told apart from this one and have fewer negative flips",
    NFR_MINUS_PLAIN: "NFR minus that of plainly trained models of the same seed; "
    "the lines below the table explain it",
}
"""What a column means, by its title."""
MOST_IMAGES, MOST_FLIPS = 1200, 12
"""Of the whole page, and of one kind in one gallery."""
MOST_PROCESSES = 8


@dataclass(frozen=True, kw_only=True)
class Column:
    """The head of a column."""

    title: str
    meaning: str
    """Empty where the title says all."""


@dataclass(frozen=True, kw_only=True)
class SortableTable:
    """A table, as the template shows it: columns of texts, then columns of numbers."""

    columns: tuple[Column, ...]
    texts: int = 1
    """How many columns hold texts."""
    rows: tuple[tuple[Cell, ...], ...]
    fixed: tuple[tuple[Cell, ...], ...] = ()
    """Rows to compare with, which stay below the others."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Overview:
    """One line of the summary: what came out of a comparison."""

    title: str
    best: str
    """The method with the fewest negative flips, among those with all their seeds; empty if there is none."""
    nfr: str
    difference: str
    """Its NFR minus that of plain models; empty where there is none."""
    difference_title: str
    separated: int | None
    """How many methods have fewer negative flips than No Treatment and are told apart; None without ranks."""
    ranked: int
    """How many methods were compared with No Treatment."""
    missing: int
    """How many runs of candidates are missing."""


@dataclass(frozen=True, kw_only=True)
class CaptionedFigure:
    """One figure of a section."""

    caption: str
    url: str


@dataclass(frozen=True, kw_only=True)
class ChainSection:
    """One chain of updates, as the template shows it."""

    title: str
    table: SortableTable
    figure: CaptionedFigure


@dataclass(frozen=True, kw_only=True)
class Section:
    """One comparison, as the template shows it."""

    title: str
    overview: Overview
    table: SortableTable
    other_columns: SortableTable
    figures: tuple[CaptionedFigure, ...]
    galleries: tuple[ShownGallery, ...]
    facts: Mapping[str, str]
    """Settings and provenance, by name."""
    hyperparameters: Mapping[str, str]
    """By row label."""


def report(finished: Finished, *, processes: int = 1) -> str:
    """The page; the same records always give the same page, made by any number of processes."""
    environment = Environment(
        loader=PackageLoader("results"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=_without_control_characters,
    )
    environment.filters |= {"number": number, "breakable": breakable}
    newest = max((record.finished for c in finished.comparisons for record in _records(c)), default="")
    shown = _distinguished([finished.shown(whole) for whole in finished.comparisons])
    count = sum(
        any(record.file("gallery") for record in row.records.values()) for c in shown for row in c.rows
    )
    most = max(1, min(MOST_FLIPS, MOST_IMAGES // max(1, 2 * count)))
    make = partial(_section, finished.store, most)
    if processes > 1:
        with ProcessPoolExecutor(
            processes, mp_context=get_context("forkserver"), initializer=_leave_interrupts_to_the_parent
        ) as pool:
            sections = list(pool.map(make, shown, finished.comparisons))
    else:
        sections = list(map(make, shown, finished.comparisons))
    script = "\n".join(_template(name) for name in ("datatables.min.js", "report.js"))
    return environment.get_template("report.html").render(
        root=str(finished.store.root),
        newest=newest,
        sections=sections,
        chains=[_chain_section(chain) for chain in finished.chains],
        most=most,
        style=Markup(_template("report.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _distinguished(shown: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons with the same title get the parts of their recipes that differ into it."""
    recipes: dict[str, list[set[str]]] = {}
    for comparison in shown:
        recipes.setdefault(comparison.title, []).append(set(comparison.recipe.split()))
    found = []
    for comparison in shown:
        common = set.intersection(*recipes[comparison.title])
        own = [word for word in comparison.recipe.split() if word not in common]
        parts = [part for part in (comparison.distinction, " ".join(own)) if part]
        found.append(replace(comparison, distinction=", ".join(parts)))
    return found


@cache
def _template(name: str) -> str:
    return (resources.files("results") / "templates" / name).read_text(encoding="utf-8")


class _RememberingStore(Store):
    """A store that reads the predictions of a run once: several figures need them."""

    def __init__(self, source: Store) -> None:
        super().__init__(source.root)
        self._source = source
        self._known: dict[str, Predictions] = {}

    def predictions(self, record: Record) -> Predictions:
        if record.id not in self._known:
            self._known[record.id] = self._source.predictions(record)
        return self._known[record.id]


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _section(source: Store, most: int, comparison: Comparison, whole: Comparison) -> Section:
    """The section of a comparison, of which `whole` has the rows that filters hide: they count in ranks."""
    store = _RememberingStore(source)
    analysis = analyse(whole)
    main = table(source, comparison, analysis=analysis)
    above = 0 if comparison.chained else 1  # the old model's row, where there is one for all
    others = [
        name
        for name, column in KNOWN_COLUMNS.items()
        if column.title not in main.header and any(row.summary(name) for row in comparison.candidates)
    ]
    return Section(
        title=comparison.title,
        overview=_overview(comparison, analysis, main),
        table=_sortable(main, reference_rows=above),
        other_columns=_sortable(
            table(source, comparison, others, analysis), reference_rows=above, only=others
        ),
        figures=tuple(
            CaptionedFigure(caption=CAPTIONS[name], url=_picture(draw(store, comparison)))
            for name, draw in FIGURES.items()
        ),
        galleries=galleries(store, comparison, most=most),
        facts=_facts(comparison),
        hyperparameters={
            row.label: _in_words(next(iter(row.records.values())).run["hyperparameters"]) or "none"
            for row in comparison.candidates
            if row.records
        },
    )


def _chain_section(chain: Chain) -> ChainSection:
    made = chain_table(chain)
    return ChainSection(
        title=made.title,
        table=_sortable(made, reference_rows=0),
        figure=CaptionedFigure(caption=CHAIN_CAPTION, url=_picture(along_chain(chain))),
    )


def _sortable(made: Table, *, reference_rows: int, only: Sequence[str] | None = None) -> SortableTable:
    """The leaderboard's table: the methods, and below them the rows to compare with, which rules set apart.

    The first `reference_rows` are no methods. With `only`, it has these columns besides that of the methods.
    """
    titles = made.header if only is None else ("Method", *(KNOWN_COLUMNS[name].title for name in only))
    places = [made.header.index(title) for title in titles]
    rows = [tuple(row[place] for place in places) for row in made.rows]
    later = [rule for rule in sorted(made.rules) if rule >= reference_rows]
    last = later[0] if later else len(rows) - 1
    return SortableTable(
        columns=tuple(Column(title=title, meaning=MEANINGS.get(title, "")) for title in titles),
        rows=tuple(rows[reference_rows : last + 1]),
        fixed=(*rows[:reference_rows], *rows[last + 1 :]),
        notes=made.footer if only is None else (),
    )


def _overview(comparison: Comparison, analysis: Analysis, made: Table) -> Overview:
    scored = [
        (summary.mean, place, row.label)
        for place, row in enumerate(comparison.rows)
        if row is not comparison.old and row.complete and (summary := row.summary("nfr"))
    ]
    _, place, best = min(scored, default=(0.0, 0, ""))
    row = made.rows[place] if best else ()
    cells = dict(zip(made.header, (cell.text.strip() for cell in row), strict=False))
    difference = cells.get(NFR_MINUS_PLAIN, "")
    rank = analysis.rank.get(BASELINE)
    return Overview(
        title=comparison.title,
        best=best,
        nfr=cells.get(KNOWN_COLUMNS["nfr"].title, ""),
        difference="" if difference == "-" else difference,
        difference_title=NFR_MINUS_PLAIN if NFR_MINUS_PLAIN in made.header else "",
        separated=None if rank is None else rank - 1,
        ranked=len(analysis.rank) - 1,
        missing=sum(len(row.missing) for row in comparison.candidates),
    )


def number(text: str) -> str:
    """The number that a cell begins with, for sorting; empty if it begins with none."""
    found = re.match(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?", text.strip())
    return found.group().replace(",", "").removeprefix("+") if found else ""


def breakable(text: str) -> Markup:
    """A label that a narrow page may break after commas and before brackets: `mpt-kl[lambda=0.5,k=4]`."""
    return Markup("<wbr>").join(re.split(r"(?<=,)|(?=\[)", printable(text)))


def _picture(figure: Figure) -> str:
    """A figure as a data URL: with few colours, which is a third of the bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(to_bytes(figure, "png"))).convert("RGB").quantize(128).save(buffer, format="PNG")
    return data_url("image/png", buffer.getvalue())


def _facts(comparison: Comparison) -> dict[str, str]:
    records = list(_records(comparison))
    run = comparison.candidate_run
    facts = {"dataset": f"{run['dataset']}, data {run['data']}", "recipe": comparison.recipe}
    facts |= {"split": ", ".join(f"{name}={value}" for name, value in run["split"].items())}
    for name in sorted({name for record in records for name in record.environment} - {"class_names"}):
        values = {_in_words(record.environment[name]) for record in records if name in record.environment}
        facts[name.replace("_", " ")] = " | ".join(sorted(values))
    seconds = sum(training_seconds(record) or 0.0 for record in records)
    facts["training"] = f"{len(records)} models in {seconds / 3600:.2f} device hours"
    return facts


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items())
    return str(value)


def _records(comparison: Comparison) -> Iterable[Record]:
    """Each once: an old model that was not trained here serves several seeds."""
    of_rows = [record for row in comparison.rows for record in row.records.values()]
    return {record.id: record for record in (*of_rows, *comparison.references)}.values()


def _without_control_characters(value: Any) -> Any:
    """What the page shows of a value; text of the template itself, and markup, stay."""
    return printable(value) if type(value) is str else value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to report, and where."""

    runs: Path = Path("runs")
    """Folder of records."""
    metrics: Metrics = "test"
    """Numbers on the test set, or on the training images that validation= held out."""
    out: Path = Path("report.html")
    """The file to write."""


@command
def main(argv: Sequence[str]) -> int:
    """Write one self-contained HTML file about a folder of records."""
    settings, filters = read(Settings, argv, prog="python -m results.report", description=main.__doc__ or "")
    check_can_hold("out", settings.out)
    finished = finished_comparisons(settings.runs, filters, settings.metrics)
    # A process takes a second to start, and a section two to make.
    processes = min(len(os.sched_getaffinity(0)), len(finished.comparisons) // 2, MOST_PROCESSES)
    write_atomically(settings.out, report(finished, processes=processes).encode())
    say(settings.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
