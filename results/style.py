"""How pictures look: one colour, marker and line a method in all of them, told apart without colour too."""

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

from common.files import write_atomically

# Okabe and Ito's palette, for all kinds of colour vision; a family has a colour, its members a marker each.
_BLACK, _ORANGE, _SKY, _GREEN, _BLUE, _RED, _PURPLE = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """How one method is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]
    """A name, or an offset with the lengths of dashes and gaps."""
    hatch: str


LOOKS = {
    "old": Look("#777777", "X", "-", ""),
    "none": Look(_BLACK, "o", "-", ""),
    "pct-naive": Look(_ORANGE, "v", ":", ".."),
    "pct-kl": Look(_ORANGE, "s", "-", "//"),
    "pct-lm": Look(_ORANGE, "D", "--", "\\\\"),
    "elodi": Look(_GREEN, "P", "-", "xx"),
    "elodi-topk": Look(_GREEN, "h", "--", "++"),
    "mpt-kl": Look(_BLUE, "^", "-", "//"),
    "mpt-lm": Look(_RED, "<", "--", "\\\\"),
    "mpt-kl-nobias": Look(_SKY, "^", "-.", "--"),
    "mpt-lm-nobias": Look(_PURPLE, "<", "-.", "||"),
    "mpt-nodistill": Look(_PURPLE, "*", ":", "oo"),
}
_OTHERS = (
    Look(_SKY, "d", "-", ""),
    Look(_PURPLE, "8", "--", ""),
    Look(_RED, "p", "-.", ""),
    Look(_BLUE, "H", ":", ""),
)

SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "savefig.dpi": 150,
    "svg.hashsalt": "negative-flips",  # the same picture gives the same file
    "svg.fonttype": "none",
    "hatch.linewidth": 0.6,
}


_VARIANT_MARKERS = "odsvPXp*"
_VARIANT_LINES = ("--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))


def look(method: str) -> Look:
    """The look of a method; one that is not known gets one that depends on its name alone."""
    return LOOKS.get(method) or _OTHERS[zlib.crc32(method.encode()) % len(_OTHERS)]


def looks(rows: Sequence[tuple[str, str]]) -> dict[str, Look]:
    """Looks by label of rows (method, label): a variant, as `mpt-kl[k=2]`, is a paler kin of its method."""
    made: dict[str, Look] = {}
    for method, label in rows:
        own = look(method)
        if label != method:
            variants = [other for of, other in rows if of == method and other != of]
            place = variants.index(label)
            paler = 0.25 + 0.5 * place / max(1, len(variants) - 1)
            own = Look(
                colour=_mixed_with_white(own.colour, paler),
                marker=_VARIANT_MARKERS[place % len(_VARIANT_MARKERS)],
                line=_VARIANT_LINES[place % len(_VARIANT_LINES)],
                hatch=own.hatch,
            )
        made[label] = own
    return made


def _mixed_with_white(colour: str, share: float) -> str:
    red, green, blue = (value + (1 - value) * share for value in to_rgb(colour))
    return to_hex((red, green, blue))


def plain(text: str) -> str:
    """`text` as it is: matplotlib reads what stands between two dollars as mathematics."""
    return text.replace("$", r"\$")


def figure(width: float = 6.4, height: float = 4.0, *, title: str = "") -> Figure:
    """An empty figure, in inches, that no global state knows of."""
    made = Figure(figsize=(width, height), layout="constrained")
    if title:
        made.suptitle(plain(textwrap.fill(title, int(13 * width))), fontsize=10)
    return made


def axes(made: Figure, *where: int) -> Axes:
    """A subplot in the house style."""
    with mpl.rc_context(SETTINGS):
        return made.add_subplot(*(where or (1, 1, 1)))


def beside_legend(height: float, entries: int) -> float:
    """`height`, or in inches what a legend of so many entries needs."""
    return max(height, 0.8 + 0.2 * entries)


def legend_beside(place: Axes) -> None:
    """The legend of a subplot, outside on its right."""
    place.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def to_bytes(made: Figure, form: str) -> bytes:
    """The figure as "png" or "svg"."""
    buffer = io.BytesIO()
    with mpl.rc_context(SETTINGS):
        made.savefig(buffer, format=form, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def save(made: Figure, stem: Path) -> list[Path]:
    """Write PNG and SVG; the paths."""
    paths = [stem.with_name(f"{stem.name}.{form}") for form in ("png", "svg")]
    for path in paths:
        write_atomically(path, to_bytes(made, path.suffix[1:]))
    return paths
