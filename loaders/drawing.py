"""Numba kernels that draw glyphs100, in integers only, so that the bytes are the same on every machine.

An image is a dark background, a few small characters as clutter, the light character in a random pose, two
bars over parts of it, and a little noise. Lengths are in 1/256 pixel, outlines in the fonts' units.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.kernels import U64, Int, below, kernel, sample_hash

SIDE: Final = 32
ONE: Final = 256  # a pixel
SCANLINES: Final = 4  # per pixel
STEPS: Final = 4  # lines per curve
MOST_CROSSINGS: Final = 512

# Ranges, both ends included. They set the difficulty: pose and size, hidden parts, clutter. They were chosen
# so that the plain ResNet-18 of the CIFAR protocol misclassifies 20 to 40 % of the test images (one seed; no
# other method was looked at) and starts to learn within a tenth of its epochs: 69.5 % after ten of a hundred
# epochs, 33.6 % after all (benchmarks/glyphs.py).
SIZE: Final = (10 * ONE, 26 * ONE)  # longer side of the character's box
STRETCH: Final = (180, 364)  # width against height, in 1/256
TURN: Final = (-69, 69)  # tangent of half the angle, in 1/256: 30 degrees either way
SHEAR: Final = (-77, 77)  # in 1/256
SHIFT: Final = (-5 * ONE, 5 * ONE)
CLUTTER: Final = (4, 7)  # small characters
CLUTTER_SIZE: Final = (7 * ONE, 17 * ONE)
BARS: Final = 2
BAR: Final = (3 * ONE, 9 * ONE)  # width of a bar
DARK: Final = (10, 90)
MIDDLE: Final = (70, 165)
LIGHT: Final = (150, 255)
NOISE: Final = 12  # plus or minus


class Outlines(NamedTuple):
    """Every character of every face as quadratic curves.

    Glyph g has the curves starts[g]..starts[g + 1] (x, y of start, control and end). A box is its centre's x
    and y and its longer side.
    """

    curves: NDArray[np.int64]
    starts: NDArray[np.int64]
    boxes: NDArray[np.int64]


class Dice(NamedTuple):
    """The random draws of one image, counted by `counter` [1]."""

    key: U64
    part: U64
    sample: U64
    counter: NDArray[np.uint64]


@kernel
def roll(dice: Dice, low: Int, high: Int) -> Int:
    """A random integer from `low` to `high`, both included."""
    bits = sample_hash(dice.key, dice.part, dice.sample, dice.counter[0])
    dice.counter[0] += U64(1)
    return low + below(U64(bits), high - low + 1)


@kernel
def _fill(lines: NDArray[np.int64], count: Int, cover: NDArray[np.int64]) -> None:
    """Add the area inside the outline `lines` [count, 4] to `cover` [SIDE, SIDE], 256 for a whole pixel."""
    crossings = np.empty(MOST_CROSSINGS, np.int64)
    turns = np.empty(MOST_CROSSINGS, np.int64)
    step = ONE // SCANLINES
    for scanline in range(SIDE * SCANLINES):
        y = scanline * step + step // 2
        n = 0
        for k in range(count):
            x0, y0, x1, y1 = lines[k]
            if (y0 <= y) == (y1 <= y):
                continue
            x = x0 + (y - y0) * (x1 - x0) // (y1 - y0)
            place = n
            while place > 0 and crossings[place - 1] > x:
                crossings[place], turns[place] = crossings[place - 1], turns[place - 1]
                place -= 1
            crossings[place], turns[place] = x, 1 if y1 > y0 else -1
            n += 1
        winding = 0
        for k in range(n - 1):
            winding += turns[k]
            if winding != 0:
                _span(cover[scanline // SCANLINES], crossings[k], crossings[k + 1])


@kernel
def _span(row: NDArray[np.int64], left: Int, right: Int) -> None:
    left, right = max(0, left), min(SIDE * ONE, right)
    for x in range(left // ONE, (right + ONE - 1) // ONE):
        row[x] += (min(right, (x + 1) * ONE) - max(left, x * ONE)) // SCANLINES


@kernel
def _paint(image: NDArray[np.int64], cover: NDArray[np.int64], colour: NDArray[np.int64]) -> None:
    for y in range(SIDE):
        for x in range(SIDE):
            share = min(cover[y, x], ONE)
            if share:
                for c in range(3):
                    image[y, x, c] += (colour[c] - image[y, x, c]) * share // ONE


@kernel
def _colour(dice: Dice, low: Int, high: Int) -> NDArray[np.int64]:
    colour = np.empty(3, np.int64)
    for c in range(3):
        colour[c] = roll(dice, low, high)
    return colour


@kernel
def _glyph(
    outlines: Outlines,
    glyph: Int,
    size: Int,
    centre_x: Int,
    centre_y: Int,
    dice: Dice,
    cover: NDArray[np.int64],
) -> None:
    """Add one character in a random pose to `cover`."""
    # Rotate by the angle whose half has the tangent t: a sine would differ between machines.
    t = roll(dice, TURN[0], TURN[1])
    norm = ONE * ONE + t * t
    cosine, sine = ONE * ONE - t * t, 2 * ONE * t
    shear, stretch = roll(dice, SHEAR[0], SHEAR[1]), roll(dice, STRETCH[0], STRETCH[1])
    middle_x, middle_y, longest = outlines.boxes[glyph]
    first, last = outlines.starts[glyph], outlines.starts[glyph + 1]
    lines = np.empty(((last - first) * STEPS, 4), np.int64)
    n = 0
    for k in range(first, last):
        before_x, before_y = 0, 0
        for s in range(STEPS + 1):
            # A point of the curve, times STEPS squared, from the middle of the box.
            a, b, c = (STEPS - s) * (STEPS - s), 2 * s * (STEPS - s), s * s
            px = a * outlines.curves[k, 0] + b * outlines.curves[k, 2] + c * outlines.curves[k, 4]
            py = a * outlines.curves[k, 1] + b * outlines.curves[k, 3] + c * outlines.curves[k, 5]
            px, py = px - STEPS * STEPS * middle_x, STEPS * STEPS * middle_y - py
            px = (px * size) // longest
            py = (py * size) // longest
            px = (px * stretch + py * shear) // ONE
            turned_x = (px * cosine - py * sine) // norm
            turned_y = (px * sine + py * cosine) // norm
            x, y = centre_x + turned_x // (STEPS * STEPS), centre_y + turned_y // (STEPS * STEPS)
            if s:
                lines[n] = before_x, before_y, x, y
                n += 1
            before_x, before_y = x, y
    _fill(lines, n, cover)


@kernel
def _bar(dice: Dice, cover: NDArray[np.int64]) -> None:
    """Add a bar across the image, near its middle, in any direction."""
    t = roll(dice, -ONE, ONE)
    norm = ONE * ONE + t * t
    cosine, sine = ONE * ONE - t * t, 2 * ONE * t
    half = roll(dice, BAR[0], BAR[1]) // 2
    away = roll(dice, -9 * ONE, 9 * ONE)
    reach = 2 * SIDE * ONE
    low, high = away - half, away + half
    corners = np.array([[-reach, low], [reach, low], [reach, high], [-reach, high]])
    lines = np.empty((4, 4), np.int64)
    for k in range(4):
        for end in range(2):
            x, y = corners[(k + end) % 4]
            lines[k, 2 * end] = SIDE * ONE // 2 + (x * cosine - y * sine) // norm
            lines[k, 2 * end + 1] = SIDE * ONE // 2 + (x * sine + y * cosine) // norm
    _fill(lines, 4, cover)


@kernel
def _background(dice: Dice, image: NDArray[np.int64]) -> None:
    """A gradient from one dark colour to another."""
    one, other = _colour(dice, DARK[0], DARK[1]), _colour(dice, DARK[0], DARK[1])
    across, down = roll(dice, -ONE, ONE), roll(dice, -ONE, ONE)
    for y in range(SIDE):
        for x in range(SIDE):
            share = (across * (2 * x - SIDE) + down * (2 * y - SIDE)) // (4 * SIDE) + ONE // 2
            for c in range(3):
                image[y, x, c] = one[c] + (other[c] - one[c]) * share // ONE


@kernel
def draw(
    outlines: Outlines,
    characters: Int,
    character: Int,
    key: Int,
    part: Int,
    sample: Int,
    out: NDArray[np.uint8],
) -> None:
    """Draw `sample`, an image of `character`, to `out` [SIDE, SIDE, 3].

    Glyph f * `characters` + c of the outlines is character c in face f.
    """
    dice = Dice(U64(key), U64(part), U64(sample), np.zeros(1, np.uint64))
    faces = (len(outlines.starts) - 1) // characters
    image = np.empty((SIDE, SIDE, 3), np.int64)
    cover = np.zeros((SIDE, SIDE), np.int64)
    _background(dice, image)
    for _ in range(roll(dice, CLUTTER[0], CLUTTER[1])):
        glyph = roll(dice, 0, faces * characters - 1)
        size = roll(dice, CLUTTER_SIZE[0], CLUTTER_SIZE[1])
        x, y = roll(dice, 0, SIDE * ONE), roll(dice, 0, SIDE * ONE)
        cover[:] = 0
        _glyph(outlines, glyph, size, x, y, dice, cover)
        _paint(image, cover, _colour(dice, MIDDLE[0], MIDDLE[1]))
    glyph = roll(dice, 0, faces - 1) * characters + character
    size = roll(dice, SIZE[0], SIZE[1])
    x, y = roll(dice, SHIFT[0], SHIFT[1]), roll(dice, SHIFT[0], SHIFT[1])
    cover[:] = 0
    _glyph(outlines, glyph, size, SIDE * ONE // 2 + x, SIDE * ONE // 2 + y, dice, cover)
    _paint(image, cover, _colour(dice, LIGHT[0], LIGHT[1]))
    for _ in range(BARS):
        cover[:] = 0
        _bar(dice, cover)
        _paint(image, cover, _colour(dice, DARK[0], MIDDLE[1]))
    for y in range(SIDE):
        for x in range(SIDE):
            for c in range(3):
                value = image[y, x, c] + roll(dice, -NOISE, NOISE)
                out[y, x, c] = np.uint8(min(255, max(0, value)))
