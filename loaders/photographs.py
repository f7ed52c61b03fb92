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
    reduced: bool
    """Whether JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, where at least twice the target is left of
    the box: the difference to full decoding is then below 0.7 grey levels on average."""


class Window(NamedTuple):
    """The part of an image that its taps use, in pixels at 1 / `reduction`; they count from its corner."""

    top: Int
    bottom: Int
    left: Int
    right: Int
    reduction: Int


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
    height: Int, width: Int, sample: Int, crop: Crop, reducible: bool, rows: Taps, columns: Taps
) -> Window:
    """Fill the taps for an image; the part of it that they need."""
    size = len(rows.firsts)
    if crop.train:
        top, left, tall, wide = random_box(crop.key, crop.epoch, U64(sample), height, width)
        to_tall, to_wide, skip_rows, skip_columns = size, size, 0, 0
        mirrored = crop.flip and flipped(crop.key, crop.epoch, U64(sample))
    else:
        top, left, tall, wide, mirrored = 0, 0, height, width, False
        to_tall = crop.resize if height <= width else crop.resize * height // width
        to_wide = crop.resize if width <= height else crop.resize * width // height
        skip_rows, skip_columns = round((to_tall - size) / 2), round((to_wide - size) / 2)
    reduction = 1
    while reducible and reduction < 8 and tall >= 4 * reduction * to_tall and wide >= 4 * reduction * to_wide:
        reduction *= 2
    row, column = top // reduction, left // reduction
    fill_taps(tall / reduction, to_tall, skip_rows, False, rows, top / reduction - row)
    fill_taps(wide / reduction, to_wide, skip_columns, mirrored, columns, left / reduction - column)
    first_row, last_row = _span(rows)
    first_column, last_column = _span(columns)
    rows.firsts[:] -= first_row
    columns.firsts[:] -= first_column
    return Window(row + first_row, row + last_row, column + first_column, column + last_column, reduction)


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
        window = _place(file.heights[sample], width, sample, crop, False, scratch.rows, scratch.columns)
        resample(
            stored, width, window.top, window.left, scratch.rows, scratch.columns, scratch.sums, out[place]
        )


@kernel
def _cut_jpeg(file: File, sample: Int, crop: Crop, scratch: Scratch) -> tuple[Int, Int, Int, Int, Int, Int]:
    """Write the JPEG of the part that a crop needs to scratch.part, and fill the taps.

    Returns its size in bytes, its height and width, the reduction to decode it with, and the row and column
    of its decoded pixels where the taps start. The size is 0 if the JPEG has to be decoded in full.
    """
    height, width = file.heights[sample], file.widths[sample]
    stored = file.data[file.starts[sample] : file.starts[sample] + file.sizes[sample]]
    window = _place(height, width, sample, crop, crop.reduced, scratch.rows, scratch.columns)
    top, bottom, left, right, reduction = window
    bottom_pixel, right_pixel = min(height, bottom * reduction), min(width, right * reduction)
    size, y, x, part_height, part_width = _cut(
        stored, top * reduction, bottom_pixel, left * reduction, right_pixel, reduction, scratch.part
    )
    if size == 0 or bottom_pixel > y + part_height or right_pixel > x + part_width:
        return 0, height, width, reduction, top, left
    return size, part_height, part_width, reduction, top - y // reduction, left - x // reduction


def _crop_jpeg(file: File, sample: np.int64, crop: Crop, scratch: Scratch, out: NDArray[np.uint8]) -> None:
    size, height, width, reduction, row, column = _cut_jpeg(file, sample, crop, scratch)
    if size == 0:
        data = file.data[file.starts[sample] : file.starts[sample] + file.sizes[sample]]
    else:
        data = scratch.part[:size]
    try:
        pixels = jpeg.decode(data, height, width, scratch.pixels, reduction)
    except ValueError as error:
        raise ValueError(f"image {sample} cannot be decoded ({error})") from error
    resample(scratch.pixels, pixels.shape[1], row, column, scratch.rows, scratch.columns, scratch.sums, out)
