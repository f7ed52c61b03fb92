"""Everything about a folder of records in one HTML file that needs no network and no script.

python -m results.report runs=runs out=report.html
"""

import base64
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.cli import command, parse
from common.files import write_atomically
from results.analysis import analyse
from results.board import Comparison, Row, finished_comparisons, training_seconds
from results.figures import PICTURES, class_names
from results.gallery import Gallery, worst_flips
from results.grid import Grid
from results.leaderboard import table
from results.metrics import Pair, pair
from results.store import Record, Store
from results.style import to_bytes

CAPTIONS = {
    "pareto": "Error on all classes against the negative flip rate (95 % intervals): lower left is better.",
    "margins": "Logit margins on samples of old classes: who keeps the margins keeps the answers.",
    "flips-by-class": "Where the flips are: the NFR within each old class.",
    "flips-between": "What flipped samples turn into.",
    "curves": "Training, mean over seeds.",
}
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; }
h2 { font-size: 1.25rem; margin-top: 3rem; border-top: 2px solid #1a1a1a; padding-top: 1rem; }
h3 { font-size: 1.05rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1.5px solid #1a1a1a; } tr.rule td { border-bottom: 1px solid #999; }
td.second { text-decoration: underline; } td.best { font-weight: 700; }
.notes { color: #555; font-size: .85rem; } .notes p { margin: .1rem 0; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; } figure > img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .85rem; }
.gallery { display: flex; flex-wrap: wrap; gap: .75rem; }
.flip { width: 132px; font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; }
.flip img { width: 132px; height: 132px; object-fit: contain; image-rendering: pixelated; background: #eee; }
.right { color: #00683f; } .wrong { color: #a32d00; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .85rem; }
dt { color: #555; } dd { margin: 0; overflow-wrap: anywhere; }
details > summary { cursor: pointer; font-weight: 600; margin: .75rem 0; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report(store: Store, comparisons: Sequence[Comparison]) -> str:
    """The whole page; the same records always give the same page."""
    contents = "".join(
        f'<li><a href="#comparison-{i}">{escape(c.title)}</a></li>' for i, c in enumerate(comparisons, 1)
    )
    sections = "".join(_section(store, comparison, i) for i, comparison in enumerate(comparisons, 1))
    newest = max((record.finished for c in comparisons for record in _records(c)), default="")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Negative flips</title><style>{STYLE}</style></head><body>\n"
        "<h1>Negative flips</h1>"
        "<p>Samples that an old classifier got right and its update gets wrong, by training method. "
        f"Records in {escape(str(store.root))}, the newest of {escape(newest)}.</p>"
        f"<nav><ol>{contents}</ol></nav>\n{sections}</body></html>\n"
    )


def _section(store: Store, comparison: Comparison, number: int) -> str:
    analysis = analyse(comparison)
    pictures = "".join(
        _picture(to_bytes(draw(store, comparison), "png"), CAPTIONS[name]) for name, draw in PICTURES.items()
    )
    return (
        f'<section id="comparison-{number}"><h2>{escape(comparison.title)}</h2>\n'
        f"{_table(table(store, comparison, analysis=analysis))}\n"
        f"<h3>Pictures</h3>{pictures}\n"
        f"<h3>Flips</h3>{_galleries(store, comparison)}\n"
        f"<h3>Settings and provenance</h3>{_provenance(comparison)}</section>\n"
    )


def _table(grid: Grid) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in grid.header)
    lines = []
    for number, row in enumerate(grid.rows):
        cells = "".join(f'<td class="{cell.emphasis}">{escape(cell.text)}</td>' for cell in row)
        lines.append(f'<tr class="rule">{cells}</tr>' if number in grid.rules else f"<tr>{cells}</tr>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in grid.footer)
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
        f'<div class="notes">{notes}</div>'
    )


def _picture(png: bytes, caption: str) -> str:
    text = escape(caption)
    return f'<figure><img alt="{text}" src="{_data(png)}"><figcaption>{text}</figcaption></figure>'


def _galleries(store: Store, comparison: Comparison) -> str:
    found = [(row, text) for row in comparison.candidates if (text := _gallery(store, comparison, row))]
    if not found:
        return "<p>No record keeps images of its flips.</p>"
    best = min(found, key=lambda item: _nfr(item[0]))[0]
    return "".join(
        f"<details{' open' if row in (best, found[0][0]) else ''}>"
        f"<summary>{escape(row.label)}</summary>{text}</details>"
        for row, text in found
    )


def _nfr(row: Row) -> float:
    summary = row.summary("nfr")
    return summary.mean if summary else 1.0


def _gallery(store: Store, comparison: Comparison, row: Row) -> str:
    """Flips of the first seed that has images, negative ones first."""
    for seed, record in row.records.items():
        old = comparison.old.records.get(seed)
        if old is None or record.file("gallery") is None:
            continue
        gallery = Gallery.from_bytes(store.content(record, "gallery"))
        images = dict(zip(gallery.index.tolist(), gallery.images, strict=True))
        both = pair(store.predictions(old), store.predictions(record))
        flips = worst_flips(both.old, both.new)
        names = class_names(comparison)
        parts = [
            f"<p>Seed {seed}.</p>",
            _cards("Negative flips", flips.negative.tolist(), both, images, names),
            _cards("Positive flips", flips.positive.tolist(), both, images, names),
        ]
        return "".join(parts)
    return ""


def _cards(
    title: str,
    indices: Sequence[int],
    both: Pair,
    images: Mapping[int, NDArray[np.uint8]],
    names: Sequence[str],
) -> str:
    position = {index: i for i, index in enumerate(both.old.index.tolist())}
    cards = [_card(images[index], both, position[index], names) for index in indices if index in images]
    return f'<p>{title}, the surest mistake first</p><div class="gallery">{"".join(cards) or "none"}</div>'


def _card(image: NDArray[np.uint8], both: Pair, i: int, names: Sequence[str]) -> str:
    target = int(both.old.target[i])

    def said(who: str, answer: int, confidence: float | None) -> str:
        sure = "" if confidence is None else f" ({confidence:.0%})"
        kind = "right" if answer == target else "wrong"
        return f'{who}: <span class="{kind}">{escape(names[answer])}{sure}</span>'

    lines = [f"<b>{escape(names[target])}</b>"]
    for who, model in (("old", both.old), ("new", both.new)):
        confidence = None if model.confidence is None else float(model.confidence[i])
        lines.append(said(who, int(model.prediction[i]), confidence))
    picture = f'<img alt="sample {int(both.old.index[i])}" src="{_data(_png(image))}">'
    return f'<div class="flip">{picture}<br>{"<br>".join(lines)}</div>'


def _provenance(comparison: Comparison) -> str:
    records = list(_records(comparison))
    run = comparison.candidate_run
    facts: dict[str, Any] = {"dataset": f"{run['dataset']}, data {run['data']}", "recipe": comparison.recipe}
    facts |= {"split": ", ".join(f"{name}={value}" for name, value in run["split"].items())}
    for name in sorted({name for record in records for name in record.environment} - {"class_names"}):
        values = {_words(record.environment[name]) for record in records if name in record.environment}
        facts[name.replace("_", " ")] = " | ".join(sorted(values))
    seconds = sum(training_seconds(record) or 0.0 for record in records)
    facts["training"] = f"{len(records)} models in {seconds / 3600:.2f} device hours"
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    hyperparameters = "".join(
        f"<dt>{escape(row.label)}</dt><dd>{escape(_words(_first(row).run['hyperparameters']) or 'none')}</dd>"
        for row in comparison.candidates
        if row.records
    )
    return f"<dl>{rows}</dl><details><summary>Hyperparameters</summary><dl>{hyperparameters}</dl></details>"


def _first(row: Row) -> Record:
    return next(iter(row.records.values()))


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    return str(value)


def _records(comparison: Comparison) -> Iterable[Record]:
    for row in (comparison.old, *comparison.candidates):
        yield from row.records.values()
    yield from comparison.references


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to report, and where."""

    runs: Path = Path("runs")
    """Folder of records."""
    out: Path = Path("report.html")
    """The file to write."""
    dataset: str = ""
    """Only this dataset; all by default."""


@command
def main(argv: Sequence[str]) -> int:
    """Write one self-contained HTML file about a folder of records."""
    settings = parse(Settings, argv, prog="python -m results.report", description=main.__doc__ or "")
    if not settings.out.parent.is_dir():
        raise ValueError(f"out={settings.out}: no such folder")
    store, chosen = finished_comparisons(settings.runs, settings.dataset)
    write_atomically(settings.out, report(store, chosen).encode())
    print(settings.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
