"""The paper's figures 3 and 4: the methods in a two-dimensional embedding, and the effect of the bias k."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from results.analysis import intervals_are_over, mean_rates
from results.artifacts import Embeddings
from results.comparisons import Comparison, Row
from results.figure_style import add_axes, new_figure, style_of
from results.statistics import Interval
from results.store import Record, Store

FIGURE3 = ("none", "pct-kl", "mpt-kl-nobias", "mpt-nodistill", "mpt-kl")
# Markers and numbers tell the classes apart without the colours.
_CLASS_COLOURS = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f",
    "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac",
)  # fmt: skip
_CLASS_MARKERS = "osD^v<>PX*"


def figure3(store: Store, comparison: Comparison) -> Figure:
    """Test samples in the embedding, with decision regions: the old model, then the five settings.

    Each panel shows the first seed that has embeddings. A setting without embeddings gets an empty panel that
    says so.
    """
    old_classes = comparison.candidate_run["split"]["old_classes"]
    rows = [("old model", comparison.old), *((name, _row(comparison, name)) for name in FIGURE3)]
    figure = new_figure(9.6, 6.6, title=comparison.title)
    for number, (name, row) in enumerate(rows, 1):
        axes = add_axes(figure, 2, 3, number)
        axes.grid(visible=False)
        axes.set(xticks=[], yticks=[])
        found = _embeddings(store, row)
        if found is None:
            axes.text(0.5, 0.5, "no embeddings", ha="center", va="center", transform=axes.transAxes)
            axes.set_title(name, fontsize=9)
            continue
        record, embeddings = found
        _draw(axes, embeddings, old_classes)
        rates = [f"{title} {record.metrics[key]:.1%}" for title, key in _RATES if key in record.metrics]
        axes.set_title(f"{name}: {', '.join(rates)}" if rates else name, fontsize=9)
    figure.supxlabel(
        "filled: samples of old classes; hollow: of new ones; shaded: decision regions", fontsize=8
    )
    return figure


_RATES = (("ER old", "er_old"), ("NFR", "nfr"))


def _row(comparison: Comparison, label: str) -> Row | None:
    return next((row for row in comparison.candidates if row.label == label), None)


def _embeddings(store: Store, row: Row | None) -> tuple[Record, Embeddings] | None:
    for record in row.records.values() if row else ():
        if record.file("embeddings"):
            return record, Embeddings.from_bytes(store.content(record, "embeddings"))
    return None


def _draw(axes: Axes, embeddings: Embeddings, old_classes: int) -> None:
    # One sample in a hundred may lie far out, and would squeeze all others into a corner.
    low, high = np.quantile(embeddings.embedding, [0.005, 0.995], axis=0)
    (x0, y0), (x1, y1) = (low - 0.08 * (high - low)).tolist(), (high + 0.08 * (high - low)).tolist()
    xs, ys = np.meshgrid(np.linspace(x0, x1, 300), np.linspace(y0, y1, 300))
    regions = (np.stack([xs, ys], axis=-1) @ embeddings.weight.T + embeddings.bias).argmax(axis=-1)
    colours = [_CLASS_COLOURS[c % len(_CLASS_COLOURS)] for c in range(len(embeddings.bias))]
    axes.imshow(
        regions, origin="lower", extent=(x0, x1, y0, y1), aspect="auto", cmap=ListedColormap(colours),
        vmin=0, vmax=len(colours) - 1, alpha=0.3, interpolation="nearest",
    )  # fmt: skip
    for c in np.unique(embeddings.target).tolist():
        points = embeddings.embedding[embeddings.target == c]
        colour = _CLASS_COLOURS[c % len(_CLASS_COLOURS)]
        axes.plot(
            *points[:200].T, ls="none", marker=_CLASS_MARKERS[c % len(_CLASS_MARKERS)], ms=3, mec=colour,
            mfc=colour if c < old_classes else "none", mew=0.6,
        )  # fmt: skip
        x, y = np.median(points, axis=0).tolist()
        axes.text(x, y, str(c), fontsize=8, weight="bold", ha="center", va="center")
    axes.set(xlim=(x0, x1), ylim=(y0, y1))


def figure4(store: Store, comparison: Comparison) -> Figure:
    """Error rate on all classes as bars and NFR as lines over the bias k, for both distances.

    The error bars are 95 % intervals.
    """
    rates = mean_rates(comparison)
    figure = new_figure(7.2, 3.8, title=comparison.title)
    bars = add_axes(figure)
    lines = bars.twinx()
    rows_of = {method: _by_k(comparison, method) for method in ("mpt-kl", "mpt-lm")}
    rows_of = {
        method: {k: row for k, row in rows.items() if row.label in rates} for method, rows in rows_of.items()
    }
    methods = [method for method, rows in rows_of.items() if rows]
    ks = sorted({k for rows in rows_of.values() for k in rows})
    width = 0.8 / max(1, len(methods))
    for number, method in enumerate(methods):
        style, rows = style_of(method), rows_of[method]
        at = np.array([ks.index(k) + (number - (len(methods) - 1) / 2) * width for k in rows])
        for metric, name, axes in (("er_all", "ER all", bars), ("nfr", "NFR", lines)):
            intervals: list[Interval] = [getattr(rates[row.label], metric) for row in rows.values()]
            means = [100 * interval.estimate for interval in intervals]
            arms = 100 * np.array([[i.estimate - i.low, i.high - i.estimate] for i in intervals]).T
            if axes is bars:
                bars.bar(
                    at, means, width, yerr=arms, label=f"{name}, {method}", color="white",
                    edgecolor=style.colour, hatch=style.hatch, error_kw={"elinewidth": 0.8},
                )  # fmt: skip
            else:
                lines.errorbar(
                    at, means, yerr=arms, label=f"{name}, {method}", color=style.colour, ls=style.line,
                    marker=style.marker, capsize=2, elinewidth=0.8,
                )  # fmt: skip
    bars.set_title(f"error bars: {intervals_are_over(comparison)}", fontsize=8, loc="left")
    bars.set_xticks(range(len(ks)), [f"{k:g}" for k in ks])
    bars.set(xlabel="bias k", ylabel="error rate on all classes in % (bars)")
    lines.set(ylabel="negative flip rate in % (lines)", ylim=(0, None))
    lines.spines["right"].set_visible(True)
    lines.grid(visible=False)
    handles = [axes.get_legend_handles_labels() for axes in (bars, lines)]
    bars.legend(
        [h for some, _ in handles for h in some], [label for _, some in handles for label in some],
        loc="center left", bbox_to_anchor=(1.12, 0.5), frameon=False,
    )  # fmt: skip
    return figure


def _by_k(comparison: Comparison, method: str) -> dict[float, Row]:
    """The rows of a method by k. No bias means k = 0; of two rows with the same k, the first counts."""
    rows: dict[float, Row] = {}
    for row in comparison.candidates:
        if row.method in (method, f"{method}-nobias") and row.records:
            k = next(iter(row.records.values())).run["hyperparameters"].get("k", 0.0)
            rows.setdefault(float(k), row)
    return dict(sorted(rows.items()))
