"""glyphs100: a dataset in the shape of CIFAR-100 that needs no download.

It runs the paper's protocol at full scale where CIFAR-100 is not available: 100 classes, 50,000 training and
10,000 test images of 32x32 RGB pixels. Each shows a character in one of the twelve DejaVu faces that
matplotlib ships, in a random pose and colour, partly behind two bars and among smaller characters. The
protocol's plain ResNet-18 misclassifies a third of the test images (benchmarks/glyphs.py). Its numbers say
nothing about natural images and cannot be compared with those of other datasets.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np

from loaders.datasets import Part
from loaders.drawing import SIDE, Outlines, draw
from loaders.images import RgbImage

# The hundred least similar of the 451 letters that all twelve faces have: one letter of the most similar pair
# (blurred, of equal size, shifted or mirrored) was dropped until a hundred were left.
CHARACTERS = (
    "24579BGKLMNPTVWbejkmrxyæƜƣƷȜɁʁʇʉʍʤʦʧʪʫʬʭΔΞΣΨΩαβζλνχωϘϞϟϠϻЉЋЙЫжлчъюёђѓћќӌԴԷԸԹԻԽԾԿՀՁՃՆՊՎՖխպջֆბორტუფქღჰ"
)
FACES = tuple(
    f"DejaVu{face}"
    for face in (
        *("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique"),
        *("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic"),
        *("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique"),
    )
)
OUTLINES_SHA256 = "b887cc70799097dc6a723c8968f828fa0e9c1d5cdff4e1986e795ff0b9abb3f4"


class GlyphSource:
    """One part of glyphs100. An image is a function of the version, the part and the sample number."""

    parallel = True

    def __init__(self, version: int, part: Part, samples: int) -> None:
        self.classes = tuple(CHARACTERS)
        self.labels = np.arange(samples, dtype=np.int64) % len(CHARACTERS)
        self._version, self._part = version, ("train", "test").index(part)

    def read(self, index: int) -> RgbImage:
        """One sample's image."""
        out = np.empty((SIDE, SIDE, 3), np.uint8)
        label = int(self.labels[index])
        draw(load_outlines(), len(CHARACTERS), label, self._version, self._part, index, out)
        return RgbImage(pixels=out)


@cache
def load_outlines() -> Outlines:
    """The characters' outlines in all faces.

    Raises:
        ValueError: matplotlib brings other fonts than those of glyphs100.
    """
    import matplotlib
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    curves: list[tuple[int, ...]] = []
    starts, boxes = [0], []
    for face in FACES:
        font = TTFont(f"{matplotlib.get_data_path()}/fonts/ttf/{face}.ttf")
        names, table = font.getBestCmap(), font["glyf"]
        for character in CHARACTERS:
            glyph = _curves(*table[names[ord(character)]].getCoordinates(table))
            x = [point for curve in glyph for point in curve[0::2]]
            y = [point for curve in glyph for point in curve[1::2]]
            boxes.append(
                ((min(x) + max(x)) // 2, (min(y) + max(y)) // 2, max(max(x) - min(x), max(y) - min(y)))
            )
            curves += glyph
            starts.append(len(curves))
    outlines = Outlines(
        np.array(curves, dtype=np.int64), np.array(starts, dtype=np.int64), np.array(boxes, dtype=np.int64)
    )
    digest = hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in outlines)).hexdigest()
    if digest != OUTLINES_SHA256:
        raise ValueError(
            "glyphs100 is drawn with DejaVu 2.37, which this matplotlib does not ship: "
            "install matplotlib 3.0 or newer"
        )
    return outlines


def _curves(points: Any, ends: Any, flags: Any) -> list[tuple[int, ...]]:
    """TrueType contours as quadratic curves, with the points that two consecutive control points imply."""
    curves: list[tuple[int, ...]] = []
    start = 0
    for end in ends:
        contour = [(*map(int, points[i]), bool(flags[i] & 1)) for i in range(start, end + 1)]
        start = end + 1
        full = []
        for (x, y, on), (next_x, next_y, next_on) in zip(contour, contour[1:] + contour[:1], strict=True):
            full.append((x, y, on))
            if on == next_on:  # a midpoint: on the outline, or the control point of a straight line
                full.append(((x + next_x) // 2, (y + next_y) // 2, not on))
        first = next(i for i, (_, _, on) in enumerate(full) if on)
        full = full[first:] + full[:first] + full[first : first + 1]
        curves += [
            (*a[:2], *b[:2], *c[:2]) for a, b, c in zip(full[:-2:2], full[1:-1:2], full[2::2], strict=True)
        ]
    return curves
