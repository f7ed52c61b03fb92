"""Photographs of any size, JPEG or raw, from the bytes of a beton to a batch of one size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders import jpeg
from loaders.kernels import U64, Int, kernel
from loaders.layout import JPEG
from loaders.resize import Taps, fill_taps, flipped, most_taps, random_box, resample

_cut, _decode, _HEADROOM = jpeg.cut, jpeg.decode, jpeg.HEADROOM


class File(NamedTuple):
    """A beton's bytes, and where each sample lies and what it is."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    modes: NDArray[np.uint8]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]


class Scratch(NamedTuple):
    """Memory that one call reuses for every image."""

    part: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    sums: NDArray[np.int32]
    rows: Taps
    columns: Taps


@kernel
def _scratch(file: File, samples: NDArray[np.int64], size: Int, target: Int) -> Scratch:
    largest, pixels, longest = 0, 0, 1
    for sample in samples:
        height, width = file.heights[sample], file.widths[sample]
        longest = max(longest, height, width)
        if file.modes[sample] == JPEG:
            largest = max(largest, file.sizes[sample])
            pixels = max(pixels, height * width)
    taps = most_taps(longest, target)
    return Scratch(
        np.empty(largest + _HEADROOM, np.uint8),
        np.empty(3 * pixels, np.uint8),
        np.empty(max(3 * longest, 64), np.int32),
        Taps(np.empty(size, np.int64), np.empty(size, np.int64), np.empty((size, taps), np.int32)),
        Taps(np.empty(size, np.int64), np.empty(size, np.int64), np.empty((size, taps), np.int32)),
    )


@kernel
def _span(taps: Taps) -> tuple[Int, Int]:
    """The range of source pixels that are used."""
    low, high = taps.firsts[0], 0
    for i in range(len(taps.firsts)):
        low = min(low, taps.firsts[i])
        high = max(high, taps.firsts[i] + taps.counts[i])
    return low, high


@kernel
def _render(
    file: File,
    sample: Int,
    top: Int,
    left: Int,
    scratch: Scratch,
    handle: Int,
    out: NDArray[np.uint8],
) -> bool:
    """Decode what the taps, counted from (top, left), need of an image, and scale it.

    Returns whether the image could be decoded.
    """
    row, bottom = _span(scratch.rows)
    column, right = _span(scratch.columns)
    scratch.rows.firsts[:] -= row
    scratch.columns.firsts[:] -= column
    row, bottom, column, right = row + top, bottom + top, column + left, right + left
    height, width = file.heights[sample], file.widths[sample]
    stored = file.data[file.starts[sample] : file.starts[sample] + file.sizes[sample]]
    if file.modes[sample] != JPEG:
        resample(stored, width, row, column, scratch.rows, scratch.columns, scratch.sums, out)
        return True
    size, y, x, part_height, part_width = _cut(stored, row, bottom, column, right, scratch.part)
    if size == 0:
        y, x, part_height, part_width = 0, 0, height, width
        size = len(stored)
        scratch.part[:size] = stored
    if not _decode(scratch.part, size, part_height, part_width, scratch.pixels, handle):
        return False
    rows, columns = scratch.rows, scratch.columns
    resample(scratch.pixels, part_width, row - y, column - x, rows, columns, scratch.sums, out)
    return True


@kernel
def random_resized_crops(
    file: File,
    samples: NDArray[np.int64],
    key: U64,
    epoch: U64,
    flip: bool,
    handle: Int,
    out: NDArray[np.uint8],
) -> Int:
    """Training images: a random box of each of `samples`, scaled to `out` [B, S, S, 3] and perhaps mirrored.

    Returns the first sample that cannot be decoded, or -1.
    """
    size = out.shape[1]
    scratch = _scratch(file, samples, size, size)
    for i in range(len(samples)):
        sample = U64(samples[i])
        box = random_box(key, epoch, sample, file.heights[samples[i]], file.widths[samples[i]])
        top, left, height, width = box
        fill_taps(height, size, 0, False, scratch.rows)
        fill_taps(width, size, 0, flip and flipped(key, epoch, sample), scratch.columns)
        if not _render(file, samples[i], top, left, scratch, handle, out[i]):
            return samples[i]
    return -1


@kernel
def centre_crops(
    file: File, samples: NDArray[np.int64], resize: Int, handle: Int, out: NDArray[np.uint8]
) -> Int:
    """Evaluation images: the shorter side becomes `resize` pixels, the centre goes to `out` [B, S, S, 3].

    Returns the first sample that cannot be decoded, or -1.
    """
    size = out.shape[1]
    scratch = _scratch(file, samples, size, resize)
    for i in range(len(samples)):
        height, width = file.heights[samples[i]], file.widths[samples[i]]
        tall = resize if height <= width else resize * height // width
        wide = resize if width <= height else resize * width // height
        fill_taps(height, tall, round((tall - size) / 2), False, scratch.rows)
        fill_taps(width, wide, round((wide - size) / 2), False, scratch.columns)
        if not _render(file, samples[i], 0, 0, scratch, handle, out[i]):
            return samples[i]
    return -1
