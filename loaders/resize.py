"""Boxes out of images, scaled with the antialiasing of torchvision and mirrored in the same pass.

The resampling is Pillow's and torchvision's bilinear filter: a triangle over the source pixels, as wide as
the scale where the image shrinks, applied to one axis after the other. Weights are whole numbers of
2^-14, so that the pixels are the same on every machine.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.compiled import Whole, kernel
from loaders.kernels import DRAW_BOX, DRAW_FLIP, U64, below, sample_hash

BITS: Final = 14
HALF: Final = np.int32(1 << (BITS - 1))
ROWS: Final = 16  # output rows that go through the second pass together
LANES: Final = 3 * ROWS
ATTEMPTS: Final = 10

MIN_AREA: Final = 0.08
MIN_RATIO: Final = 3 / 4
MAX_RATIO: Final = 4 / 3
_UNIT: Final = 2.0**-53
_S11: Final = U64(11)
_S63: Final = U64(63)
_TWO: Final = U64(2)
_THREE: Final = U64(3)
_FOUR: Final = U64(4)


@kernel
def _uniform(bits: U64, low: float, high: float) -> float:
    return low + (high - low) * (np.float64(bits >> _S11) * _UNIT)


@kernel
def random_box(
    key: U64, epoch: U64, sample: U64, height: Whole, width: Whole
) -> tuple[Whole, Whole, Whole, Whole]:
    """Top, left, height and width of a box: torchvision's RandomResizedCrop, with our draws.

    8 to 100 % of the area, an aspect ratio of 3:4 to 4:3; after ten boxes that do not fit, the middle.
    """
    for attempt in range(ATTEMPTS):
        draw = DRAW_BOX + _FOUR * U64(attempt)
        area = height * width * _uniform(sample_hash(key, epoch, sample, draw), MIN_AREA, 1.0)
        low, high = np.log(MIN_RATIO), np.log(MAX_RATIO)
        ratio = np.exp(_uniform(sample_hash(key, epoch, sample, draw + U64(1)), low, high))
        w = round(np.sqrt(area * ratio))
        h = round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = below(sample_hash(key, epoch, sample, draw + _TWO), height - h + 1)
            left = below(sample_hash(key, epoch, sample, draw + _THREE), width - w + 1)
            return top, left, h, w
    h, w = height, width
    if width < MIN_RATIO * height:
        h = min(height, max(1, round(width / MIN_RATIO)))
    elif width > MAX_RATIO * height:
        w = min(width, max(1, round(height * MAX_RATIO)))
    return (height - h) // 2, (width - w) // 2, h, w


@kernel
def flipped(key: U64, epoch: U64, sample: U64) -> bool:
    """Whether the image is mirrored."""
    return bool(sample_hash(key, epoch, sample, DRAW_FLIP) >> _S63)


class Taps(NamedTuple):
    """What each output pixel of one axis is made of.

    Output i is the sum of `weights[i, k]` * source[firsts[i] + k] over k < counts[i]; weights sum to 2^14.
    """

    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    weights: NDArray[np.int32]


@kernel
def most_taps(longest: Whole, size: Whole) -> Whole:
    """A bound of the source pixels that one output pixel of a side of `size` is made of."""
    return 2 * int(np.ceil(max(1.0, longest / size))) + 2


@kernel
def fill_taps(
    source: Whole,
    target: Whole,
    skip: Whole,
    mirror: bool,
    taps: Taps,
) -> None:
    """For one axis of `source` pixels scaled to `target`: what the pixels from `skip` on are made of."""
    first, count, weights = taps
    size = len(first)
    scale = source / target
    reach = max(1.0, scale)
    for i in range(size):
        centre = (i + skip + 0.5) * scale
        low, high = max(0, int(centre - reach + 0.5)), min(source, int(centre + reach + 0.5))
        total = 0.0
        for j in range(low, high):
            total += max(0.0, 1.0 - abs(j - centre + 0.5) / reach)
        to = size - 1 - i if mirror else i
        rest, largest = 1 << BITS, 0
        for j in range(low, high):
            weight = round(max(0.0, 1.0 - abs(j - centre + 0.5) / reach) / total * (1 << BITS))
            weights[to, j - low] = weight
            rest -= weight
            if weight > weights[to, largest]:
                largest = j - low
        weights[to, largest] += rest
        first[to], count[to] = low, high - low


@kernel
def _blend_row(
    source: NDArray[np.uint8],
    skip: Whole,
    first: Whole,
    weights: NDArray[np.int32],
    lanes: Whole,
    sums: NDArray[np.int32],
    line: NDArray[np.uint8],
) -> None:
    """Weighted sum of the rows of `source` from `first` on, of each `lanes` bytes from `skip` on."""
    for x in range(lanes):
        sums[x] = HALF
    last = len(weights) - 1
    for k in range(0, last + 1, 2):
        a, b = source[first + k][skip:], source[first + min(k + 1, last)][skip:]
        wa, wb = weights[k], weights[k + 1] if k < last else np.int32(0)
        for x in range(lanes):
            sums[x] += wa * np.int32(a[x]) + wb * np.int32(b[x])
    for x in range(lanes):
        line[x] = np.uint8(sums[x] >> BITS)


@kernel
def _blend_columns(
    turned: NDArray[np.uint8], taps: Taps, sums: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """The second pass for sixteen rows: `out` [S, 48] from `turned` [W, 48], each line a source column.

    The same sum as `_blend_row`'s, written for lines of a known length: three times as fast.
    """
    first, count, weights = taps
    zero = np.int32(0)
    for i in range(len(out)):
        start, last = first[i], count[i] - 1
        w, result = weights[i], out[i]
        if last < 4:
            a, b = turned[start], turned[start + min(1, last)]
            c, d = turned[start + min(2, last)], turned[start + min(3, last)]
            wa, wb = w[0], w[1] if last >= 1 else zero
            wc, wd = w[2] if last >= 2 else zero, w[3] if last >= 3 else zero
            for x in range(LANES):
                ab = wa * np.int32(a[x]) + wb * np.int32(b[x])
                cd = wc * np.int32(c[x]) + wd * np.int32(d[x])
                result[x] = np.uint8((ab + cd + HALF) >> BITS)
            continue
        for x in range(LANES):
            sums[x] = HALF
        for k in range(0, last + 1, 2):
            a, b = turned[start + k], turned[start + min(k + 1, last)]
            wa, wb = w[k], w[k + 1] if k < last else zero
            for x in range(LANES):
                sums[x] += wa * np.int32(a[x]) + wb * np.int32(b[x])
        for x in range(LANES):
            result[x] = np.uint8(sums[x] >> BITS)


@kernel
def resample(
    source: NDArray[np.uint8],
    skip: Whole,
    rows: Taps,
    columns: Taps,
    line: NDArray[np.uint8],
    sums: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Scale an image, `source` [H, 3 * W], from its byte `skip` of each row on, to `out` [S, S, 3].

    Both passes are the same sum of rows, which the compiler turns into vector code: between them, and
    after, sixteen rows at a time are turned into columns.
    """
    size = len(out)
    width = 0
    for i in range(size):
        width = max(width, columns.firsts[i] + columns.counts[i])
    turned, result = np.zeros((width, LANES), np.uint8), np.empty((size, LANES), np.uint8)
    pixels, colours = turned.reshape(-1, ROWS), result.reshape(-1, ROWS)
    for block in range(0, size, ROWS):
        height = min(ROWS, size - block)
        for r in range(height):
            i = block + r
            weights = rows.weights[i, : rows.counts[i]]
            _blend_row(source, skip, rows.firsts[i], weights, 3 * width, sums, line)
            for x in range(3 * width):
                pixels[x, r] = line[x]
        _blend_columns(turned, columns, sums, result)
        for r in range(height):
            row = out[block + r].reshape(-1)
            for x in range(3 * size):
                row[x] = colours[x, r]
