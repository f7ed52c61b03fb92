"""Everything about a folder of records in one HTML file that needs no network and no script.

python -m results.report runs=runs out=report.html
"""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

from common.cli import command
from common.files import write_atomically
from common.text import printable, say
from results.analysis import analyse
from results.artifacts import Gallery, worst_flips
from results.columns import training_seconds
from results.comparisons import Comparison, Row
from results.figure_style import to_bytes
from results.figures import FIGURES, class_names
from results.filters import read
from results.finished import Finished, finished_comparisons
from results.leaderboard import table
from results.metrics import Pair, pair
from results.store import Record, Store
from results.tables import Table

CAPTIONS = {
    "pareto": "Error on all classes against the negative flip rate (95 % intervals): lower left is better.",
    "margins": "Logit margins on samples of old classes: who keeps the margins keeps the answers.",
    "flips-by-class": "Where the flips are: the NFR within each old class.",
    "flips-between": "What flipped samples turn into.",
    "curves": "Training, mean over seeds.",
}


@dataclass(frozen=True, kw_only=True)
class CaptionedFigure:
    """One figure of a section."""

    caption: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class ShownPrediction:
    """What one of the two models says about a flipped sample."""

    model: str
    name: str
    """Of the predicted class."""
    right: bool
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class ShownFlip:
    """A flipped sample with its image."""

    sample: int
    target: str
    png: bytes
    predictions: tuple[ShownPrediction, ...]
    """The old model's, then the new one's."""


@dataclass(frozen=True, kw_only=True)
class ShownGallery:
    """The worst flips of one method, in the first seed that has images."""

    label: str
    seed: int
    open: bool = False
    """Whether the page shows it without a click."""
    negative: tuple[ShownFlip, ...]
    positive: tuple[ShownFlip, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One comparison, as the template shows it."""

    title: str
    table: Table
    figures: tuple[CaptionedFigure, ...]
    galleries: tuple[ShownGallery, ...]
    facts: Mapping[str, str]
    """Settings and provenance, by name."""
    hyperparameters: Mapping[str, str]
    """By row label."""


def report(finished: Finished) -> str:
    """The page; the same records always give the same page."""
    environment = Environment(
        loader=PackageLoader("results"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=_without_control_characters,
    )
    environment.filters["data_url"] = _data_url
    newest = max((record.finished for c in finished.comparisons for record in _records(c)), default="")
    sections = [_section(finished, comparison) for comparison in finished.comparisons]
    template = environment.get_template("report.html")
    return template.render(root=str(finished.store.root), newest=newest, sections=sections)


def _section(finished: Finished, whole: Comparison) -> Section:
    store, comparison = finished.store, finished.shown(whole)
    return Section(
        title=comparison.title,
        table=table(store, comparison, analysis=analyse(whole)),
        figures=tuple(
            CaptionedFigure(caption=CAPTIONS[name], png=to_bytes(draw(store, comparison), "png"))
            for name, draw in FIGURES.items()
        ),
        galleries=_galleries(store, comparison),
        facts=_facts(comparison),
        hyperparameters={
            row.label: _in_words(next(iter(row.records.values())).run["hyperparameters"]) or "none"
            for row in comparison.candidates
            if row.records
        },
    )


def _galleries(store: Store, comparison: Comparison) -> tuple[ShownGallery, ...]:
    """The galleries of all rows; the first one and that of the lowest NFR are open."""
    names = class_names(comparison)
    found = [
        (row, gallery)
        for row in comparison.candidates
        if (gallery := _gallery(store, comparison, row, names))
    ]
    if not found:
        return ()
    best = min(found, key=lambda item: _nfr(item[0]))[0]
    return tuple(replace(gallery, open=row in (best, found[0][0])) for row, gallery in found)


def _nfr(row: Row) -> float:
    summary = row.summary("nfr")
    return summary.mean if summary else 1.0


def _gallery(store: Store, comparison: Comparison, row: Row, names: Sequence[str]) -> ShownGallery | None:
    for seed, record in row.records.items():
        old = comparison.old.records.get(seed)
        if old is None or record.file("gallery") is None:
            continue
        gallery = Gallery.from_bytes(store.content(record, "gallery"))
        images = dict(zip(gallery.index.tolist(), gallery.images, strict=True))
        both = pair(store.predictions(old), store.predictions(record))
        flips = worst_flips(both.old, both.new)
        return ShownGallery(
            label=row.label,
            seed=seed,
            negative=tuple(_flips(flips.negative.tolist(), both, images, names)),
            positive=tuple(_flips(flips.positive.tolist(), both, images, names)),
        )
    return None


def _flips(
    indices: Sequence[int], both: Pair, images: Mapping[int, NDArray[np.uint8]], names: Sequence[str]
) -> Iterator[ShownFlip]:
    position = {index: i for i, index in enumerate(both.old.index.tolist())}
    for index in indices:
        if index not in images:
            continue
        i = position[index]
        target = int(both.old.target[i])
        yield ShownFlip(
            sample=index,
            target=names[target],
            png=_png(images[index]),
            predictions=tuple(
                ShownPrediction(
                    model=model,
                    name=names[int(predictions.prediction[i])],
                    right=int(predictions.prediction[i]) == target,
                    confidence=None if predictions.confidence is None else float(predictions.confidence[i]),
                )
                for model, predictions in (("old", both.old), ("new", both.new))
            ),
        )


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
    for row in comparison.rows:
        yield from row.records.values()
    yield from comparison.references


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _without_control_characters(value: Any) -> Any:
    """What the page shows of a value; text of the template itself, and markup, stay."""
    return printable(value) if type(value) is str else value


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to report, and where."""

    runs: Path = Path("runs")
    """Folder of records."""
    out: Path = Path("report.html")
    """The file to write."""


@command
def main(argv: Sequence[str]) -> int:
    """Write one self-contained HTML file about a folder of records."""
    settings, filters = read(Settings, argv, prog="python -m results.report", description=main.__doc__ or "")
    if not settings.out.parent.is_dir():
        raise ValueError(f"out={settings.out}: no such folder")
    finished = finished_comparisons(settings.runs, filters)
    write_atomically(settings.out, report(finished).encode())
    say(settings.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
