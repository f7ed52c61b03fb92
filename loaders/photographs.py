"""Photographs of any size, JPEG or raw, from the bytes of a beton to a batch of one size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders import jpeg
from loaders.kernels import U64, Int, kernel
from loaders.layout import JPEG
from loaders.resize import Taps, fill_taps, flipped, most_taps, random_box, resample

_cut, _HEADROOM = jpeg.cut, jpeg.HEADROOM


class File(NamedTuple):
    """A beton's bytes, and where each sample lies and what it is."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    modes: NDArray[np.uint8]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]


class Crop(NamedTuple):
    """How images are cropped: a random box in training, otherwise the centre."""

    train: bool
    key: U64
    epoch: U64
    flip: bool
    """Whether half of the training images are mirrored."""
    resize: int
    """Pixels of the shorter side of evaluation images, before the centre is cut out."""


class Scratch(NamedTuple):
    """Memory that one call reuses for every image."""

    part: NDArray[np.uint8]
    pixels: NDArray[np.uint8]
    sums: NDArray[np.int32]
    rows: Taps
    columns: Taps


def crop_photographs(file: File, samples: NDArray[np.int64], crop: Crop, out: NDArray[np.uint8]) -> None:
    """Crop the images of `samples` [B] and scale them to `out` [B, S, S, 3].

    Raises:
        ValueError: an image that cannot be decoded.
    """
    as_jpeg = file.modes[samples] == JPEG
    raw, jpegs = np.flatnonzero(~as_jpeg), np.flatnonzero(as_jpeg)
    if len(raw):
        _crop_raw(file, samples, raw, crop, out)
    if len(jpegs):
        scratch = _scratch(file, samples, jpegs, crop, out.shape[1])
        for place in jpegs:
            _crop_jpeg(file, samples[place], crop, scratch, out[place])


@kernel
def _scratch(
    file: File, samples: NDArray[np.int64], places: NDArray[np.int64], crop: Crop, size: Int
) -> Scratch:
    """Memory for samples[places], whose crops become `size` pixels wide."""
    largest, pixels, longest = 0, 0, 1
    for place in places:
        sample = samples[place]
        height, width = file.heights[sample], file.widths[sample]
        longest = max(longest, height, width)
        if file.modes[sample] == JPEG:
            largest = max(largest, file.sizes[sample])
            pixels = max(pixels, height * width)
    taps = most_taps(longest, size if crop.train else crop.resize)
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
def _place(
    height: Int, width: Int, sample: Int, crop: Crop, rows: Taps, columns: Taps
) -> tuple[Int, Int, Int, Int]:
    """Fill the taps for an image; the top, bottom, left and right of the pixels that they need.

    The taps count from that top and left.
    """
    size = len(rows.firsts)
    top, left = 0, 0
    if crop.train:
        number = U64(sample)
        box = random_box(crop.key, crop.epoch, number, height, width)
        top, left = box[0], box[1]
        fill_taps(box[2], size, 0, False, rows)
        fill_taps(box[3], size, 0, crop.flip and flipped(crop.key, crop.epoch, number), columns)
    else:
        tall = crop.resize if height <= width else crop.resize * height // width
        wide = crop.resize if width <= height else crop.resize * width // height
        fill_taps(height, tall, round((tall - size) / 2), False, rows)
        fill_taps(width, wide, round((wide - size) / 2), False, columns)
    first_row, last_row = _span(rows)
    first_column, last_column = _span(columns)
    rows.firsts[:] -= first_row
    columns.firsts[:] -= first_column
    return top + first_row, top + last_row, left + first_column, left + last_column


@kernel
def _crop_raw(
    file: File,
    samples: NDArray[np.int64],
    places: NDArray[np.int64],
    crop: Crop,
    out: NDArray[np.uint8],
) -> None:
    """Crop the raw images samples[places] to out[places]."""
    scratch = _scratch(file, samples, places, crop, out.shape[1])
    for i in range(len(places)):
        place = places[i]
        sample = samples[place]
        width = file.widths[sample]
        stored = file.data[file.starts[sample] : file.starts[sample] + file.sizes[sample]]
        top, _, left, _ = _place(file.heights[sample], width, sample, crop, scratch.rows, scratch.columns)
        resample(stored, width, top, left, scratch.rows, scratch.columns, scratch.sums, out[place])


@kernel
def _cut_jpeg(file: File, sample: Int, crop: Crop, scratch: Scratch) -> tuple[Int, Int, Int, Int, Int]:
    """Write the JPEG of the part that a crop needs to scratch.part, and fill the taps.

    Returns its size in bytes, its height and width, and the row and column in it where the taps start. The
    size is 0 if the JPEG has to be decoded in full.
    """
    height, width = file.heights[sample], file.widths[sample]
    stored = file.data[file.starts[sample] : file.starts[sample] + file.sizes[sample]]
    top, bottom, left, right = _place(height, width, sample, crop, scratch.rows, scratch.columns)
    size, y, x, part_height, part_width = _cut(stored, top, bottom, left, right, scratch.part)
    if size == 0 or bottom > y + part_height or right > x + part_width:
        return 0, height, width, top, left
    return size, part_height, part_width, top - y, left - x


def _crop_jpeg(file: File, sample: np.int64, crop: Crop, scratch: Scratch, out: NDArray[np.uint8]) -> None:
    size, height, width, row, column = _cut_jpeg(file, sample, crop, scratch)
    if size == 0:
        data = file.data[file.starts[sample] : file.starts[sample] + file.sizes[sample]]
    else:
        data = scratch.part[:size]
    try:
        jpeg.decode(data, height, width, scratch.pixels)
    except ValueError as error:
        raise ValueError(f"image {sample} cannot be decoded ({error})") from error
    resample(scratch.pixels, width, row, column, scratch.rows, scratch.columns, scratch.sums, out)
