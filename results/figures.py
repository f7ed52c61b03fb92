"""Figures of one comparison: what a method costs and saves, and where its flips are.

python -m results.figures runs=runs out=figures
"""

from __future__ import annotations

import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from common.cli import command
from common.text import say
from results.chains import Chain, Course
from results.comparisons import BASELINE, Comparison, Row
from results.figure_style import (
    Style,
    add_axes,
    height_with_legend,
    legend_on_the_right,
    literal,
    new_figure,
    save,
    styles_of,
)
from results.filters import read
from results.finished import finished_comparisons
from results.held_out import Metrics
from results.metrics import Pair, pair
from results.pareto import Span, pareto
from results.statistics import Interval
from results.store import Record, Store

MAX_NAMED_CLASSES = 20


def margins(store: Store, comparison: Comparison) -> Figure:
    """Logit margins on samples of old classes: the old model's filled, each method's as a line."""
    pairs = {row: _pairs(store, comparison, row, margins=True) for row in _done(comparison)}
    pairs = {row: found for row, found in pairs.items() if found}
    figure, panels = _panels(len(pairs), comparison.title, shared=True)
    if not pairs:
        return figure
    every = np.concatenate([_margins(p) for row_pairs in pairs.values() for p in row_pairs])
    lowest, highest = np.quantile(every, [0.002, 0.998]).tolist()
    bins = np.linspace(lowest, highest, 41)
    styles = _styles(comparison)
    for axes, (row, row_pairs) in zip(panels, pairs.items(), strict=True):
        olds, news = (np.concatenate([side(p) for p in row_pairs]) for side in (_old_margin, _new_margin))
        style = styles[row.label]
        axes.stairs(_density(olds, bins), bins, fill=True, color="#cccccc", label="old model")
        axes.stairs(_density(news, bins), bins, color=style.colour, ls=style.line, lw=1.2, label="new")
        axes.axvline(0, color="black", lw=0.8)
        kept = row.summary("margin_kept")
        lines = [*_lines(row.label, 34), *([f"{kept.mean:.0%} kept"] if kept else [])]
        axes.set_title("\n".join(map(literal, lines)), fontsize=8)
    panels[0].set_ylim(0)
    figure.supxlabel("logit margin of the true class (left of 0: wrong)", fontsize=9)
    figure.supylabel("density", fontsize=9)
    panels[0].legend(loc="upper left", fontsize=7, handlelength=1.2, frameon=False)
    return figure


def _density(values: NDArray[np.float32], bins: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.histogram(values, bins, density=True)[0]
    return shares


def _lines(label: str, width: int) -> list[str]:
    """A label in lines of up to `width` characters, broken after commas."""
    return textwrap.wrap(label.replace(",", ", "), width, break_long_words=True, break_on_hyphens=False)


def flips_by_class(store: Store, comparison: Comparison) -> Figure:
    """NFR of each method in each old class, pooled over seeds; of many classes, those with the most flips."""
    rows = [(row, pairs) for row in _done(comparison) if (pairs := _pairs(store, comparison, row))]
    classes = comparison.candidate_run["split"]["old_classes"]
    rates = 100 * np.array([_class_rates(pairs, classes) for _, pairs in rows]).reshape(len(rows), classes)
    shown = np.arange(classes)
    if classes > MAX_NAMED_CLASSES:
        # All methods weigh alike: one that flips much everywhere would else choose the classes alone.
        relative = rates / np.maximum(rates.mean(axis=1, keepdims=True), 1e-9)
        shown = np.argsort(-relative.sum(axis=0), kind="stable")[:MAX_NAMED_CLASSES]
    rates = rates[:, shown]
    labels = [row.label for row, _ in rows]
    width = 2.2 + 0.075 * max(map(len, labels), default=0) + 0.42 * len(shown)
    figure = new_figure(max(6.0, width), max(3.4, 1.9 + 0.27 * len(rows)), title=comparison.title)
    if not rows:
        return figure
    axes = add_axes(figure)
    highest = {label: Interval(most, 0, most) for label, most in zip(labels, rates.max(axis=1), strict=True)}
    span = Span.of(highest, share=0.4)
    image = axes.imshow(
        rates, cmap="Greys", aspect="auto", vmin=0, vmax=max(span.high, 1e-9), interpolation="nearest"
    )
    axes.set_yticks(range(len(rows)), list(map(literal, labels)))
    names = class_names(comparison)
    _name_classes(axes, [names[i] for i in shown], "x")
    _write_values(axes, rates, span.high, ".1f")
    figure.colorbar(
        image, label="NFR in the class in %", extend="max" if span.beyond else "neither", extendfrac=0.03
    )
    axes.grid(visible=False)
    of = "" if len(shown) == classes else f": the {len(shown)} of {classes:,} old classes with the most flips"
    axes.set_xlabel(f"true class{of}")
    return figure


def flips_between(store: Store, comparison: Comparison) -> Figure:
    """Negative flips by true class and new prediction: No Treatment, and the method with the lowest NFR.

    Of many classes, the most frequent pairs of them.
    """
    rows = _baseline_and_best(comparison)
    split = comparison.candidate_run["split"]
    many = split["classes"] > MAX_NAMED_CLASSES
    figure, panels = _panels(len(rows), comparison.title, columns=2, height=4.2 if many else 3.6)
    names = class_names(comparison)
    every = [_flip_counts(store, comparison, row) for row in rows]
    most = max(1, *(int(counts.max()) for counts in every))
    for axes, row, counts in zip(panels, rows, every, strict=True):
        seeds = f"{len(row.records)} seed{'s' if len(row.records) > 1 else ''}"
        title = f"{row.label}: {counts.sum():,} flips over {seeds}"
        if many:
            _draw_frequent_pairs(axes, counts, names, title)
            continue
        axes.set_title(literal(title), fontsize=9)
        image = axes.imshow(counts, cmap="Greys", interpolation="nearest", aspect="auto", vmin=0, vmax=most)
        _write_values(axes, counts, most, "d")
        _name_classes(axes, names, "x")
        _name_classes(axes, names[: split["old_classes"]], "y")
        axes.axvline(split["old_classes"] - 0.5, color="black", lw=0.8, ls=":")
        axes.set(xlabel="new model's answer (new classes right of the line)", ylabel="true class")
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, label="flips", ticks=MaxNLocator(integer=True))
    return figure


def _draw_frequent_pairs(axes: Axes, counts: NDArray[np.int64], names: Sequence[str], title: str) -> None:
    """Bars of the pairs (true class, new answer) that most flips have."""
    pairs = np.flatnonzero(counts)
    pairs = pairs[np.argsort(-counts.ravel()[pairs], kind="stable")]
    shown = pairs[:MAX_NAMED_CLASSES]
    true, answer = np.unravel_index(shown, counts.shape)
    axes.barh(range(len(shown)), counts.ravel()[shown], color="#777777", height=0.7)
    texts = [f"{_short(names[i], 22)} → {_short(names[j], 22)}" for i, j in zip(true, answer, strict=True)]
    axes.set_yticks(range(len(shown)), list(map(literal, texts)), fontsize=7)
    axes.set_ylim(MAX_NAMED_CLASSES - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    share = counts.ravel()[shown].sum() / max(1, counts.sum())
    of = f"flips: the {len(shown)} most frequent of {len(pairs):,} pairs, {share:.0%} of all"
    axes.set_xlabel(of, fontsize=8, loc="right")  # left of the axes is room, over and under the names
    axes.set_title(literal(title), fontsize=9, loc="right")


def curves(store: Store, comparison: Comparison) -> Figure:
    """Training loss and accuracy by epoch, means over seeds; the losses of methods differ in their terms."""
    figure = new_figure(9, height_with_legend(3.6, len(_done(comparison))), title=comparison.title)
    styles = _styles(comparison)
    panels = {name: add_axes(figure, 1, 2, n) for n, name in enumerate(("loss", "train_accuracy"), 1)}
    for name, axes in panels.items():
        for row in _done(comparison):
            histories = [
                [epoch.get(name) for epoch in store.history(record)] for record in row.records.values()
            ]
            length = min(map(len, histories))
            values = np.array([history[:length] for history in histories], np.float64)
            if length and not np.isnan(values).all():
                style = styles[row.label]
                axes.plot(
                    np.arange(1, length + 1), values.mean(axis=0), label=literal(row.label),
                    color=style.colour, ls=style.line, lw=1,
                    marker=style.marker, ms=4, markevery=max(1, length // 8),
                )  # fmt: skip
        axes.set(xlabel="epoch", ylabel={"loss": "training loss"}.get(name, "training accuracy"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn = [line.get_ydata() for line in panels["loss"].get_lines()]
    if drawn and min(np.min(values) for values in drawn) > 0:  # a method's further terms may be far larger
        panels["loss"].set_yscale("log")
    legend_on_the_right(panels["train_accuracy"], of=panels["loss"])  # not every record has an accuracy
    return figure


def along_chain(chain: Chain) -> Figure:
    """Flips since the first model after each step of a chain, and the sum of the steps' flips, by method."""
    figure = new_figure(title=chain.title)
    axes = add_axes(figure)
    styles = _styles(chain.last)
    steps = range(1, len(chain.classes))
    for label, by_seed in chain.courses.items():
        if by_seed:
            since, summed = (
                100 * np.array(list(map(of, by_seed.values()))).mean(axis=0) for of in (_since_first, _summed)
            )
            style = styles[label]
            axes.plot(steps, since, marker=style.marker, color=style.colour, label=literal(label))
            axes.plot(steps, summed, ":", color=style.colour)
    axes.set_xticks(list(steps), [f"{count} classes" for count in chain.classes[1:]])
    axes.set(ylabel="NFR in %", ylim=(0, None))
    legend_on_the_right(axes)
    return figure


def _since_first(course: Course) -> list[float]:
    return [float((course.right[0] & ~right).mean()) for right in course.right[1:]]


def _summed(course: Course) -> list[float]:
    return list(itertools.accumulate(course.flips))


FIGURES: Mapping[str, Callable[[Store, Comparison], Figure]] = {
    "pareto": pareto,
    "margins": margins,
    "flips-by-class": flips_by_class,
    "flips-between": flips_between,
    "curves": curves,
}


def _styles(comparison: Comparison) -> dict[str, Style]:
    return styles_of([(row.method, row.label) for row in comparison.candidates])


def _done(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.candidates if row.records]


def _baseline_and_best(comparison: Comparison) -> list[Row]:
    scored = [(summary.mean, row) for row in _done(comparison) if (summary := row.summary("nfr"))]
    best = min(scored, key=lambda item: item[0])[1]
    baseline = [row for row in _done(comparison) if row.label == BASELINE]
    return list(dict.fromkeys([*baseline, best]))


def _pairs(store: Store, comparison: Comparison, row: Row, *, margins: bool = False) -> list[Pair]:
    """The row's predictions paired with the old model's, by seed; with `margins`, only pairs with margins."""
    pairs = []
    for seed, record in row.records.items():
        old = comparison.old_records(row).get(seed)
        if old is not None:
            both = pair(store.predictions(old), store.predictions(record))
            if not margins or (both.old.margin is not None and both.new.margin is not None):
                pairs.append(both)
    return pairs


def _old_margin(both: Pair) -> NDArray[np.float32]:
    assert both.old.margin is not None
    return both.old.margin


def _new_margin(both: Pair) -> NDArray[np.float32]:
    assert both.new.margin is not None
    return both.new.margin


def _margins(both: Pair) -> NDArray[np.float32]:
    return np.concatenate([_old_margin(both), _new_margin(both)])


def _flip_counts(store: Store, comparison: Comparison, row: Row) -> NDArray[np.int64]:
    """[old classes, classes] negative flips by true class and new prediction, over all seeds."""
    split = comparison.candidate_run["split"]
    counts = np.zeros((split["old_classes"], split["classes"]), np.int64)
    for both in _pairs(store, comparison, row):
        np.add.at(counts, (both.old.target[both.negative], both.new.prediction[both.negative]), 1)
    return counts


def _class_rates(pairs: Sequence[Pair], classes: int) -> NDArray[np.float64]:
    samples = sum(np.bincount(both.old.target, minlength=classes) for both in pairs)
    flips = sum(np.bincount(both.old.target[both.negative], minlength=classes) for both in pairs)
    return np.asarray(flips / np.maximum(samples, 1), np.float64)


def class_names(comparison: Comparison) -> list[str]:
    """Names by position in the class order; numbers where no record has names."""
    count = comparison.candidate_run["split"]["classes"]
    records: list[Record] = [record for row in comparison.rows for record in row.records.values()]
    names = next((record.class_names for record in records if record.class_names is not None), ())
    return list(names) if len(names) == count else [str(i) for i in range(count)]


def _name_classes(axes: Axes, names: Sequence[str], axis: str) -> None:
    set_ticks = axes.set_xticks if axis == "x" else axes.set_yticks
    if len(names) > MAX_NAMED_CLASSES:
        return
    texts = [literal(_short(name, 22)) for name in names]
    set_ticks(range(len(names)), texts, fontsize=8)
    if axis == "x" and max(map(len, texts)) > 2:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")


def _short(text: str, width: int) -> str:
    """A name that fits: of several, as ImageNet's classes have, the first; cut where that is too long."""
    first = text if len(text) <= width else text.partition(",")[0]
    return first if len(first) <= width else first[: width - 1] + "…"


def _write_values(axes: Axes, values: NDArray[Any], most: float, form: str) -> None:
    """Write the number into each cell that is not 0, of an image in which `most` is black."""
    for (i, j), value in np.ndenumerate(values):
        if value:
            colour = "white" if value > 0.6 * most else "black"
            axes.text(j, i, f"{value:{form}}", ha="center", va="center", fontsize=7, color=colour)


def _panels(
    count: int, title: str, *, columns: int = 4, height: float = 1.9, shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with so many subplots, line by line; with `shared`, all have the axes of the first."""
    columns = max(1, min(columns, count))
    lines = max(1, -(-count // columns))
    figure = new_figure(
        max(5.0, 9.0 * columns / 4 if columns != 2 else 9.0), 0.8 + height * lines, title=title
    )
    panels: list[Axes] = []
    for i in range(count):
        first = panels[0] if panels and shared else None
        panels.append(add_axes(figure, lines, columns, i + 1, sharex=first, sharey=first))
        if shared:
            panels[-1].tick_params(labelleft=i % columns == 0, labelbottom=i + columns >= count)
    return figure, panels


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to draw."""

    runs: Path = Path("runs")
    """Folder of records."""
    metrics: Metrics = "test"
    """Numbers on the test set, or on the training images that validation= held out."""
    out: Path = Path("figures")
    """Folder for the figures, PNG and SVG; created where it is missing."""


@command
def main(argv: Sequence[str]) -> int:
    """Draw all figures of every comparison in a folder of records."""
    settings, filters = read(Settings, argv, prog="python -m results.figures", description=main.__doc__ or "")
    if settings.out.exists() and not settings.out.is_dir():
        raise ValueError(f"out={settings.out}: a file; name a folder for the figures")
    finished = finished_comparisons(settings.runs, filters, settings.metrics)
    settings.out.mkdir(parents=True, exist_ok=True)
    for number, comparison in enumerate(map(finished.shown, finished.comparisons), 1):
        for name, draw in FIGURES.items():
            stem = f"{_file_name(comparison.dataset)}-{number}-{name}"
            say(save(draw(finished.store, comparison), settings.out / stem)[0])
    for number, chain in enumerate(finished.chains, 1):
        stem = f"{_file_name(chain.last.dataset)}-chain-{number}"
        say(save(along_chain(chain), settings.out / stem)[0])
    return 0


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
