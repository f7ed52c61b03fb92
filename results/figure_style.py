"""Style of all figures: one colour, marker and line per method, distinguishable without colour too."""

from __future__ import annotations

import io
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from common.files import write_atomically
from common.text import printable

# The palette of Okabe and Ito, for all kinds of colour vision. A family of methods shares a colour; each
# member has a marker of its own.
_BLACK, _ORANGE, _SKY, _GREEN, _BLUE, _RED, _PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip


Line = str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Style:
    """How one method is drawn."""

    colour: str
    marker: str
    line: Line
    """A name, or an offset with the lengths of dashes and gaps."""
    hatch: str


STYLES = {
    "old": Style("#777777", "X", "-", ""),
    "none": Style(_BLACK, "o", "-", ""),
    "pct-naive": Style(_ORANGE, "v", ":", ".."),
    "pct-kl": Style(_ORANGE, "s", "-", "//"),
    "pct-lm": Style(_ORANGE, "D", "--", "\\\\"),
    "elodi": Style(_GREEN, "P", "-", "xx"),
    "elodi-topk": Style(_GREEN, "h", "--", "++"),
    "mpt-kl": Style(_BLUE, "^", "-", "//"),
    "mpt-lm": Style(_RED, "<", "--", "\\\\"),
    "mpt-kl-nobias": Style(_SKY, "^", "-.", "--"),
    "mpt-lm-nobias": Style(_PURPLE, "<", "-.", "||"),
    "mpt-nodistill": Style(_PURPLE, "*", ":", "oo"),
}
_OTHER_LINES: tuple[Line, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
_OTHERS = tuple(
    Style(colour, marker, line, "")
    for marker, line in zip("d8pH>", _OTHER_LINES, strict=True)
    for colour in (_SKY, _PURPLE, _RED, _BLUE, _GREEN, _ORANGE)
)
"""Markers that no style above has."""
_VARIANT_MARKERS = "odsvPXp*"
_VARIANT_LINES = ("--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))

_MATPLOTLIB: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "savefig.dpi": 150,
    "svg.hashsalt": "negative-flips",  # the same figure gives the same file
    "svg.fonttype": "none",
    "hatch.linewidth": 0.6,
}


def style_of(method: str) -> Style:
    """The style of a method; an unknown one gets a style that depends only on its name."""
    return STYLES.get(method) or _OTHERS[zlib.crc32(method.encode()) % len(_OTHERS)]


def styles_of(rows: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """Styles by label for rows (method, label); variants, as `mpt-kl[k=2]`, are paler than their method.

    No two methods share a style, as long as there are styles left.
    """
    styles: dict[str, Style] = {}
    of_methods: dict[str, Style] = {}
    for method in dict.fromkeys(method for method, _ in rows):
        style = style_of(method)
        free = [other for other in _OTHERS if other not in of_methods.values()]
        of_methods[method] = free[0] if style in of_methods.values() and free else style
    for method, label in rows:
        style = of_methods[method]
        if label != method:
            variants = [other for of, other in rows if of == method and other != of]
            position = variants.index(label)
            paler = 0.15 + 0.45 * position / max(1, len(variants) - 1)
            style = Style(
                colour=_mixed_with_white(style.colour, paler),
                marker=_VARIANT_MARKERS[position % len(_VARIANT_MARKERS)],
                line=_VARIANT_LINES[position % len(_VARIANT_LINES)],
                hatch=style.hatch,
            )
        styles[label] = style
    return styles


def _mixed_with_white(colour: str, share: float) -> str:
    red, green, blue = (value + (1 - value) * share for value in to_rgb(colour))
    return to_hex((red, green, blue))


def literal(text: str) -> str:
    """`text` as matplotlib shows it literally: without control characters, and with its dollars escaped.

    Between two dollars it would read mathematics.
    """
    return printable(text).replace("$", r"\$")


def new_figure(width: float = 6.4, height: float = 4.0, *, title: str = "") -> Figure:
    """An empty figure, in inches, which pyplot does not know."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        lines = textwrap.wrap(title, int(13 * width))
        figure.suptitle("\n".join(map(literal, lines)), fontsize=10)
    return figure


def add_axes(figure: Figure, *position: int | SubplotSpec, **shared: Axes | None) -> Axes:
    """A subplot in this style, at a position as matplotlib counts them; by default it fills the figure.

    `shared` may name another subplot as `sharex` or `sharey`.
    """
    with mpl.rc_context(_MATPLOTLIB):
        return figure.add_subplot(*(position or (1, 1, 1)), **shared)


def height_with_legend(height: float, entries: int) -> float:
    """`height`, or the inches that a legend with this many entries needs."""
    return max(height, 0.8 + 0.2 * entries)


def legend_on_the_right(axes: Axes, of: Axes | None = None) -> None:
    """Put the legend of a subplot, or of another one drawn alike, outside of it, on its right."""
    entries = (of or axes).get_legend_handles_labels()
    axes.legend(*entries, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def to_bytes(figure: Figure, form: str) -> bytes:
    """The figure as "png" or "svg"."""
    buffer = io.BytesIO()
    with mpl.rc_context(_MATPLOTLIB):
        figure.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure as PNG and SVG; the paths."""
    paths = [stem.with_name(f"{stem.name}.{form}") for form in ("png", "svg")]
    for path in paths:
        write_atomically(path, to_bytes(figure, path.suffix[1:]))
    return paths
