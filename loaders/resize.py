"""Resizing: random boxes for feeds as in torchvision, whole images for betons as in OpenCV.

Boxes are cut out, scaled with torchvision's antialiasing and mirrored in one pass. The filter is Pillow's
and torchvision's bilinear one: a triangle over the source pixels, as wide as the scale where the image
shrinks, applied to one axis after the other. Weights are integer multiples of 2^-14, so that the pixels are
the same on every machine.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.kernels import DRAW_BOX, DRAW_FLIP, U64, Int, below, kernel, sample_hash

BITS: Final = 14
HALF: Final = np.int32(1 << (BITS - 1))
ROWS: Final = 16  # output rows that the second pass handles together
LANES: Final = U64(3 * ROWS)
BYTE: Final = 256
ATTEMPTS: Final = 10

NEGLIGIBLE: Final = 1e-3  # OpenCV's: a smaller part of a source pixel does not count
EPSILON: Final = 2.0**-52

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
def random_box(key: U64, epoch: U64, sample: U64, height: Int, width: Int) -> tuple[Int, Int, Int, Int]:
    """Top, left, height and width of a box: torchvision's RandomResizedCrop, with our draws.

    8 to 100 % of the area, an aspect ratio of 3:4 to 4:3; after ten boxes that do not fit, a central one.
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
def most_taps(longest: Int, size: Int) -> Int:
    """An upper bound of the source pixels per output pixel, where `longest` pixels become `size`."""
    return 2 * int(np.ceil(max(1.0, longest / size))) + 2


@kernel
def fill_taps(
    source: Int,
    target: Int,
    skip: Int,
    mirror: bool,
    taps: Taps,
    start: float = 0.0,
) -> None:
    """Fill `taps` for an axis of `source` pixels scaled to `target`, from output pixel `skip` on.

    `source` may be a fraction, and begin at `start` < 1 within the first pixel.
    """
    first, count, weights = taps
    end = int(np.ceil(start + source))
    size = len(first)
    scale = source / target
    reach = max(1.0, scale)
    for i in range(size):
        centre = start + (i + skip + 0.5) * scale
        low, high = max(0, int(centre - reach + 0.5)), min(end, int(centre + reach + 0.5))
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
def _blend(
    source: NDArray[np.uint8],
    at: U64,
    stride: U64,
    weights: NDArray[np.int32],
    count: Int,
    lanes: U64,
    sums: NDArray[np.int32],
    out: NDArray[np.uint8],
    to: U64,
) -> None:
    """Weighted sum of `count` lines of `source`, `stride` apart, to `out` from `to` on.

    Only flat arrays with unsigned indices become vector code.
    """
    zero = np.int32(0)
    if count <= 2:
        b = at + stride * U64(count - 1)
        wa, wb = weights[0], weights[1] if count > 1 else zero
        for x in range(lanes):
            ab = wa * np.int32(source[at + x]) + wb * np.int32(source[b + x])
            out[to + x] = np.uint8((ab + HALF) >> BITS)
        return
    if count <= 4:
        b, c, d = at + stride, at + stride * _TWO, at + stride * U64(count - 1)
        wa, wb, wc, wd = weights[0], weights[1], weights[2], weights[3] if count > 3 else zero
        for x in range(lanes):
            ab = wa * np.int32(source[at + x]) + wb * np.int32(source[b + x])
            cd = wc * np.int32(source[c + x]) + wd * np.int32(source[d + x])
            out[to + x] = np.uint8((ab + cd + HALF) >> BITS)
        return
    for x in range(lanes):
        sums[x] = HALF
    for k in range(0, count, 2):
        a, b = at + stride * U64(k), at + stride * U64(min(k + 1, count - 1))
        wa, wb = weights[k], weights[k + 1] if k + 1 < count else zero
        for x in range(lanes):
            sums[x] += wa * np.int32(source[a + x]) + wb * np.int32(source[b + x])
    for x in range(lanes):
        out[to + x] = np.uint8(sums[x] >> BITS)


@kernel
def _blend_columns(
    turned: NDArray[np.uint8], taps: Taps, sums: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """The second pass for sixteen rows: `out` [S * 48] from `turned` [W * 48], each line a source column.

    The same sums as in `_blend`, repeated for lines of a fixed length: no remainder loops.
    """
    first, count, weights = taps
    zero = np.int32(0)
    for i in range(len(first)):
        at, to, last = U64(first[i]) * LANES, U64(i) * LANES, U64(count[i] - 1) * LANES
        wa, wb = weights[i, 0], weights[i, 1] if count[i] > 1 else zero
        if count[i] <= 2:
            b = at + last
            for x in range(LANES):
                ab = wa * np.int32(turned[at + x]) + wb * np.int32(turned[b + x])
                out[to + x] = np.uint8((ab + HALF) >> BITS)
            continue
        b, c, d = at + LANES, at + LANES * _TWO, at + min(last, LANES * _THREE)
        wc, wd = weights[i, 2], weights[i, 3] if count[i] > 3 else zero
        if count[i] <= 4:
            for x in range(LANES):
                ab = wa * np.int32(turned[at + x]) + wb * np.int32(turned[b + x])
                cd = wc * np.int32(turned[c + x]) + wd * np.int32(turned[d + x])
                out[to + x] = np.uint8((ab + cd + HALF) >> BITS)
            continue
        for x in range(LANES):
            sums[x] = HALF
        for k in range(0, count[i], 2):
            a, b = at + LANES * U64(k), at + LANES * U64(min(k + 1, count[i] - 1))
            wa, wb = weights[i, k], weights[i, k + 1] if k + 1 < count[i] else zero
            for x in range(LANES):
                sums[x] += wa * np.int32(turned[a + x]) + wb * np.int32(turned[b + x])
        for x in range(LANES):
            out[to + x] = np.uint8(sums[x] >> BITS)


@kernel
def _turn(
    lines: NDArray[np.uint8], words: NDArray[np.uint32], columns: NDArray[np.uint32], group: Int
) -> None:
    """Transpose four `lines` [4, L] into word `group` of `columns` [L, 4]; byte by byte would take longer."""
    a, b, c, d = lines[0], lines[1], lines[2], lines[3]
    for x in range(len(a)):
        ab = np.int32(a[x]) + np.int32(b[x]) * BYTE
        words[x] = ab + np.int32(c[x]) * BYTE**2 + np.int32(d[x]) * BYTE**3
    for x in range(len(a)):
        columns[x, group] = words[x]


@kernel
def _turn_back(columns: NDArray[np.uint8], rows: NDArray[np.uint8]) -> None:
    """Transpose `columns` [S, 3, 16] into `rows` [16, S, 3]."""
    colours = columns.reshape(-1, ROWS)
    for r in range(len(rows)):
        row = rows[r].reshape(-1)
        for x in range(len(row)):
            row[x] = colours[x, r]


@kernel
def resample(
    source: NDArray[np.uint8],
    width: Int,
    top: Int,
    left: Int,
    rows: Taps,
    columns: Taps,
    sums: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Scale `source` [H * width * 3], from row `top` and column `left` on, to `out` [S, S, 3].

    Both passes are the same weighted sum of lines, which becomes vector code: between them and after them,
    sixteen rows at a time are transposed.
    """
    size, used = len(out), 0
    for i in range(size):
        used = max(used, columns.firsts[i] + columns.counts[i])
    stride, lanes = U64(3 * width), U64(3 * used)
    skip = U64(top) * stride + U64(3 * left)
    lines, words = np.zeros((4, 3 * used), np.uint8), np.empty(3 * used, np.uint32)
    turned, result = np.zeros((3 * used, ROWS // 4), np.uint32), np.empty((size, LANES), np.uint8)
    flat_lines, flat_turned = lines.reshape(-1), turned.view(np.uint8).reshape(-1)
    for block in range(0, size, ROWS):
        height = min(ROWS, size - block)
        for r in range(height):
            i = block + r
            at = skip + U64(rows.firsts[i]) * stride
            to = U64(r % 4) * lanes
            _blend(source, at, stride, rows.weights[i], rows.counts[i], lanes, sums, flat_lines, to)
            if r % 4 == 3 or r == height - 1:
                _turn(lines, words, turned, r // 4)
        _blend_columns(flat_turned, columns, sums, result.reshape(-1))
        _turn_back(result, out[block : block + height])


@kernel
def _area_taps(source: Int, target: Int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of `target` pixels the first source pixel, the number of them, and the share of each."""
    scale = 1.0 / (target / source)
    firsts, counts = np.empty(target, np.int64), np.empty(target, np.int64)
    weights = np.zeros((target, int(scale) + 3), np.float32)
    for i in range(target):
        low = i * scale
        high = low + scale
        width = min(scale, source - low)
        end = min(int(np.floor(high)), source - 1)
        start = min(int(np.ceil(low)), end)
        firsts[i], count = start, 0
        if start - low > NEGLIGIBLE:
            firsts[i] = start - 1
            weights[i, count] = (start - low) / width
            count += 1
        for _ in range(start, end):
            weights[i, count] = 1.0 / width
            count += 1
        if high - end > NEGLIGIBLE:
            weights[i, count] = min(high - end, 1.0, width) / width
            count += 1
        counts[i] = count
    return firsts, counts, weights


@kernel
def _average_blocks(pixels: NDArray[np.uint8], down: Int, across: Int, out: NDArray[np.uint8]) -> None:
    """Every pixel of `out` is the mean of a block of `down` x `across` pixels."""
    share = np.float32(1) / np.float32(down * across)
    height, width, _ = out.shape
    for y in range(height):
        for x in range(width):
            for c in range(3):
                total = 0
                for row in range(y * down, (y + 1) * down):
                    for column in range(x * across, (x + 1) * across):
                        total += pixels[row, column, c]
                if down == 2 and across == 2:  # OpenCV rounds halves up here, and to even elsewhere
                    out[y, x, c] = (total + 2) >> 2
                else:
                    out[y, x, c] = np.uint8(np.rint(np.float32(total) * share))


@kernel
def shrink_by_area(pixels: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Shrink `pixels` [H, W, 3] to `out` [h, w, 3], to the bytes of OpenCV's INTER_AREA, which FFCV uses."""
    height, width, _ = out.shape
    scale_y, scale_x = 1.0 / (height / pixels.shape[0]), 1.0 / (width / pixels.shape[1])
    if abs(scale_y - round(scale_y)) < EPSILON and abs(scale_x - round(scale_x)) < EPSILON:
        _average_blocks(pixels, round(scale_y), round(scale_x), out)
        return
    row_firsts, row_counts, row_weights = _area_taps(pixels.shape[0], height)
    firsts, counts, weights = _area_taps(pixels.shape[1], width)
    sums = np.empty((width, 3), np.float32)
    for y in range(height):
        sums[:] = 0
        for j in range(row_counts[y]):
            row, share = pixels[row_firsts[y] + j], row_weights[y, j]
            for x in range(width):
                for c in range(3):
                    total = np.float32(0)
                    for k in range(counts[x]):
                        total += np.float32(row[firsts[x] + k, c]) * weights[x, k]
                    sums[x, c] += share * total
        for x in range(width):
            for c in range(3):
                out[y, x, c] = np.uint8(min(np.rint(sums[x, c]), np.float32(255)))
