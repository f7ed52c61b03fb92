"""The paper's figures 3 and 4: what the methods do to a two-dimensional embedding, and what k does."""

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from results.board import Comparison, Row
from results.predictions import read_arrays
from results.store import Record, Store
from results.style import axes, figure, look

FIGURE3 = ("none", "pct-kl", "mpt-kl-nobias", "mpt-nodistill", "mpt-kl")
# Markers and numbers tell the classes apart without the colours.
_CLASS_COLOURS = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f",
    "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac",
)  # fmt: skip
_CLASS_MARKERS = "osD^v<>PX*"


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """A model's two-dimensional embedding of test samples, and the linear classifier on it."""

    embedding: NDArray[np.float32]
    """[N, 2]"""
    target: NDArray[np.int64]
    """[N]"""
    prediction: NDArray[np.int64]
    """[N]"""
    weight: NDArray[np.float32]
    """[C, 2]"""
    bias: NDArray[np.float32]
    """[C]"""

    def __post_init__(self) -> None:
        n, c = len(self.target), len(self.bias)
        shapes = {"embedding": (n, 2), "prediction": (n,), "weight": (c, 2)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"embeddings: {name} has shape {getattr(self, name).shape}, wanted {shape}")

    def to_bytes(self) -> bytes:
        """The content of an NPZ file (`embeddings-<attempt>.npz` in a run's folder)."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`."""
        arrays = read_arrays(data)
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})


def figure3(store: Store, comparison: Comparison) -> Figure:
    """Test samples in the embedding, with decision regions; old model first, then the five settings.

    Of the first seed that has embeddings; a setting without them is an empty panel that says so.
    """
    old_classes = comparison.candidate_run["split"]["old_classes"]
    rows = [("old model", comparison.old), *((name, _row(comparison, name)) for name in FIGURE3)]
    made = figure(9.6, 6.6, title=comparison.title)
    for number, (name, row) in enumerate(rows, 1):
        place = axes(made, 2, 3, number)
        place.grid(visible=False)
        place.set(xticks=[], yticks=[])
        found = _embeddings(store, row)
        if found is None:
            place.text(0.5, 0.5, "no embeddings", ha="center", va="center", transform=place.transAxes)
            place.set_title(name, fontsize=9)
            continue
        record, embeddings = found
        _draw(place, embeddings, old_classes)
        rates = [f"{title} {record.metrics[key]:.1%}" for title, key in _RATES if key in record.metrics]
        place.set_title(f"{name}: {', '.join(rates)}" if rates else name, fontsize=9)
    made.supxlabel(
        "filled: samples of old classes; hollow: of new ones; shaded: decision regions", fontsize=8
    )
    return made


_RATES = (("ER old", "er_old"), ("NFR", "nfr"))


def _row(comparison: Comparison, label: str) -> Row | None:
    return next((row for row in comparison.candidates if row.label == label), None)


def _embeddings(store: Store, row: Row | None) -> tuple[Record, Embeddings] | None:
    for record in row.records.values() if row else ():
        if record.file("embeddings"):
            return record, Embeddings.from_bytes(store.content(record, "embeddings"))
    return None


def _draw(place: Axes, embeddings: Embeddings, old_classes: int) -> None:
    # One in a hundred samples may lie far out, and would press all others into a corner.
    low, high = np.quantile(embeddings.embedding, [0.005, 0.995], axis=0)
    (x0, y0), (x1, y1) = (low - 0.08 * (high - low)).tolist(), (high + 0.08 * (high - low)).tolist()
    xs, ys = np.meshgrid(np.linspace(x0, x1, 300), np.linspace(y0, y1, 300))
    regions = (np.stack([xs, ys], axis=-1) @ embeddings.weight.T + embeddings.bias).argmax(axis=-1)
    colours = [_CLASS_COLOURS[c % len(_CLASS_COLOURS)] for c in range(len(embeddings.bias))]
    place.imshow(
        regions, origin="lower", extent=(x0, x1, y0, y1), aspect="auto", cmap=ListedColormap(colours),
        vmin=0, vmax=len(colours) - 1, alpha=0.3, interpolation="nearest",
    )  # fmt: skip
    for c in np.unique(embeddings.target).tolist():
        points = embeddings.embedding[embeddings.target == c]
        colour = _CLASS_COLOURS[c % len(_CLASS_COLOURS)]
        place.plot(
            *points[:200].T, ls="none", marker=_CLASS_MARKERS[c % len(_CLASS_MARKERS)], ms=3, mec=colour,
            mfc=colour if c < old_classes else "none", mew=0.6,
        )  # fmt: skip
        x, y = np.median(points, axis=0).tolist()
        place.text(x, y, str(c), fontsize=8, weight="bold", ha="center", va="center")
    place.set(xlim=(x0, x1), ylim=(y0, y1))


def figure4(store: Store, comparison: Comparison) -> Figure:
    """Error rate on all classes as bars and NFR as lines over the bias k, for both distances."""
    made = figure(7.2, 3.8, title=comparison.title)
    bars = axes(made)
    lines = bars.twinx()
    methods = [method for method in ("mpt-kl", "mpt-lm") if _by_k(comparison, method)]
    ks = sorted({k for method in methods for k in _by_k(comparison, method)})
    width = 0.8 / max(1, len(methods))
    for number, method in enumerate(methods):
        style, rows = look(method), _by_k(comparison, method)
        at = np.array([ks.index(k) + (number - (len(methods) - 1) / 2) * width for k in rows])
        for metric, name, place in (("er_all", "ER all", bars), ("nfr", "NFR", lines)):
            summaries = [summary for row in rows.values() if (summary := row.summary(metric)) is not None]
            means = [100 * summary.mean for summary in summaries]
            spread = [100 * (summary.std or 0) for summary in summaries]
            if place is bars:
                bars.bar(
                    at, means, width, yerr=spread, label=f"{name}, {method}", color="white",
                    edgecolor=style.colour, hatch=style.hatch, error_kw={"elinewidth": 0.8},
                )  # fmt: skip
            else:
                lines.errorbar(
                    at, means, yerr=spread, label=f"{name}, {method}", color=style.colour, ls=style.line,
                    marker=style.marker, capsize=2, elinewidth=0.8,
                )  # fmt: skip
    bars.set_xticks(range(len(ks)), [f"{k:g}" for k in ks])
    bars.set(xlabel="bias k", ylabel="error rate on all classes in % (bars)")
    lines.set(ylabel="negative flip rate in % (lines)", ylim=(0, None))
    lines.spines["right"].set_visible(True)
    lines.grid(visible=False)
    handles = [place.get_legend_handles_labels() for place in (bars, lines)]
    bars.legend(
        [h for some, _ in handles for h in some], [label for _, some in handles for label in some],
        loc="center left", bbox_to_anchor=(1.12, 0.5), frameon=False,
    )  # fmt: skip
    return made


def _by_k(comparison: Comparison, method: str) -> dict[float, Row]:
    """The rows of a method that take a k, by k; of two with one k, the first; no bias is a k of 0."""
    rows: dict[float, Row] = {}
    for row in comparison.candidates:
        if row.method in (method, f"{method}-nobias") and row.records:
            k = next(iter(row.records.values())).run["hyperparameters"].get("k", 0.0)
            rows.setdefault(float(k), row)
    return dict(sorted(rows.items()))
