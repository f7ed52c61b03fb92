"""Figures of one comparison: what a method costs and saves, and where its flips are.

python -m results.figures runs=runs out=figures
"""

from __future__ import annotations

import re
import sys
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
from results.analysis import intervals_are_over, mean_rates
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
from results.statistics import Interval
from results.store import Record, Store

MAX_NAMED_CLASSES = 20


def pareto(store: Store, comparison: Comparison) -> Figure:
    """Error on all classes against NFR with 95 % intervals; the line is the front."""
    rates, styles = mean_rates(comparison), _styles(comparison)
    figure = new_figure(height=height_with_legend(4.0, len(rates)), title=comparison.title)
    axes = add_axes(figure)
    points = []
    for label, rate in rates.items():
        style = styles[label]
        x, y = 100 * rate.er_all.estimate, 100 * rate.nfr.estimate
        points.append((x, y))
        axes.errorbar(
            x, y, xerr=_arms(rate.er_all), yerr=_arms(rate.nfr), label=literal(label), ls="none",
            color=style.colour, marker=style.marker, ms=8, mec="white", mew=0.7, capsize=2, elinewidth=0.8,
        )  # fmt: skip
    if not points:
        return figure
    front = [p for p in sorted(points) if all(q == p or q[0] > p[0] or q[1] > p[1] for q in points)]
    axes.plot(*zip(*front, strict=True), color="#999999", lw=1, zorder=0, drawstyle="steps-post")
    axes.set(xlabel="error rate on all classes in %", ylabel="negative flip rate in %")
    axes.set_title(f"bars: {intervals_are_over(comparison)}", fontsize=8, loc="left")
    legend_on_the_right(axes)
    return figure


def _arms(interval: Interval) -> NDArray[np.float64]:
    """[2, 1] distances of the interval's ends from the estimate, in %."""
    return 100 * np.array(
        [[interval.estimate - interval.low], [interval.high - interval.estimate]], np.float64
    )


def margins(store: Store, comparison: Comparison) -> Figure:
    """Logit margins on samples of old classes: the old model's filled, each method's as a line."""
    pairs = {row: _pairs(store, comparison, row, margins=True) for row in _done(comparison)}
    pairs = {row: found for row, found in pairs.items() if found}
    figure, panels = _panels(len(pairs), comparison.title)
    if not pairs:
        return figure
    every = np.concatenate([_margins(p) for row_pairs in pairs.values() for p in row_pairs])
    lowest, highest = np.quantile(every, [0.002, 0.998]).tolist()
    bins = np.linspace(lowest, highest, 41).tolist()
    styles = _styles(comparison)
    for axes, (row, row_pairs) in zip(panels, pairs.items(), strict=True):
        olds, news = (np.concatenate([side(p) for p in row_pairs]) for side in (_old_margin, _new_margin))
        axes.hist(olds, bins, density=True, color="#cccccc", label="old model")
        style = styles[row.label]
        axes.hist(news, bins, density=True, histtype="step", color=style.colour, ls=style.line, label="new")
        axes.axvline(0, color="black", lw=0.8)
        kept = row.summary("margin_kept")
        note = f", {kept.mean:.0%} kept" if kept else ""
        axes.set_title(literal(row.label + note), fontsize=8)
    highest = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:  # the old model's histogram is the same in all
        axes.set_ylim(0, highest)
    figure.supxlabel("logit margin of the true class (left of 0: wrong)", fontsize=9)
    figure.supylabel("density", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, frameon=False)
    return figure


def flips_by_class(store: Store, comparison: Comparison) -> Figure:
    """NFR of each method in each old class, pooled over seeds."""
    rows = [(row, pairs) for row in _done(comparison) if (pairs := _pairs(store, comparison, row))]
    classes = comparison.candidate_run["split"]["old_classes"]
    rates = np.array([_class_rates(pairs, classes) for _, pairs in rows]).reshape(len(rows), classes)
    width = max(5.0, 2.2 + 0.42 * min(classes, 24))
    figure = new_figure(width, 1.6 + 0.3 * len(rows), title=comparison.title)
    if not rows:
        return figure
    axes = add_axes(figure)
    image = axes.imshow(100 * rates, cmap="Greys", aspect="auto", vmin=0, interpolation="nearest")
    axes.set_yticks(range(len(rows)), [literal(row.label) for row, _ in rows])
    _name_classes(axes, class_names(comparison)[:classes], "x")
    if classes <= MAX_NAMED_CLASSES:
        _write_values(axes, 100 * rates, 100 * rates.max(), ".1f")
    figure.colorbar(image, label="NFR in the class in %")
    axes.grid(visible=False)
    axes.set_xlabel("true class")
    return figure


def flips_between(store: Store, comparison: Comparison) -> Figure:
    """Negative flips by true class and new prediction: No Treatment, and the method with the lowest NFR."""
    rows = _baseline_and_best(comparison)
    split = comparison.candidate_run["split"]

    figure, panels = _panels(len(rows), comparison.title, columns=2, height=3.6)
    names = class_names(comparison)
    every = [_flip_counts(store, comparison, row) for row in rows]
    most = max(1, *(int(counts.max()) for counts in every))
    for axes, row, counts in zip(panels, rows, every, strict=True):
        image = axes.imshow(counts, cmap="Greys", interpolation="nearest", aspect="auto", vmin=0, vmax=most)
        if split["classes"] <= MAX_NAMED_CLASSES:
            _write_values(axes, counts, most, "d")
        _name_classes(axes, names, "x")
        _name_classes(axes, names[: split["old_classes"]], "y")
        axes.axvline(split["old_classes"] - 0.5, color="black", lw=0.8, ls=":")
        axes.set(xlabel="new model's answer (new classes right of the line)", ylabel="true class")
        seeds = f"{len(row.records)} seed{'s' if len(row.records) > 1 else ''}"
        axes.set_title(literal(f"{row.label}: {counts.sum()} flips over {seeds}"), fontsize=9)
        axes.grid(visible=False)

        figure.colorbar(image, ax=axes, label="flips", ticks=MaxNLocator(integer=True))
    return figure


def curves(store: Store, comparison: Comparison) -> Figure:
    """Training loss and accuracy by epoch, means over seeds; the losses of methods differ in their terms."""
    figure = new_figure(8, height_with_legend(3.6, len(_done(comparison))), title=comparison.title)
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
    legend_on_the_right(panels["train_accuracy"], of=panels["loss"])  # not every record has an accuracy
    return figure


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
        old = comparison.old.records.get(seed)
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
    texts = [literal(name if len(name) < 15 else name[:14] + "…") for name in names]
    set_ticks(range(len(names)), texts, fontsize=8)
    if axis == "x" and max(map(len, texts)) > 2:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")


def _write_values(axes: Axes, values: NDArray[Any], most: float, form: str) -> None:
    """Write the number into each cell that is not 0, of an image in which `most` is black."""
    for (i, j), value in np.ndenumerate(values):
        if value:
            colour = "white" if value > 0.6 * most else "black"
            axes.text(j, i, f"{value:{form}}", ha="center", va="center", fontsize=7, color=colour)


def _panels(count: int, title: str, *, columns: int = 4, height: float = 1.9) -> tuple[Figure, list[Axes]]:
    columns = max(1, min(columns, count))
    lines = max(1, -(-count // columns))
    figure = new_figure(
        max(5.0, 9.0 * columns / 4 if columns != 2 else 9.0), 0.8 + height * lines, title=title
    )
    return figure, [add_axes(figure, lines, columns, i + 1) for i in range(count)]


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
    finished = finished_comparisons(settings.runs, filters, settings.metrics)
    settings.out.mkdir(parents=True, exist_ok=True)
    for number, comparison in enumerate(map(finished.shown, finished.comparisons), 1):
        for name, draw in FIGURES.items():
            stem = f"{_file_name(comparison.dataset)}-{number}-{name}"
            say(save(draw(finished.store, comparison), settings.out / stem)[0])
    return 0


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
