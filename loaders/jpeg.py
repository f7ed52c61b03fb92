"""Parts of a JPEG, decoded by libjpeg-turbo without reading the rest of it.

Our betons hold JPEGs with a restart marker after every MCU (a block of 8 or 16 pixels a side). They are about
six per cent larger, but every MCU can be found without decoding those before it. The MCUs under a box make a
smaller JPEG, and libjpeg-turbo decodes that, in full or at a half, a quarter or an eighth of the size. Inside
the box its pixels are exactly those of the whole image.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from loaders.kernels import U64, Int, kernel

HEADROOM = 1024  # bytes that a part may need beyond the original

_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_SOF_BASELINE = 0xC0
_RST_FIRST, _RST_LAST = 0xD0, 0xD7

_SEVEN, _EIGHT, _FIFTY_SIX = U64(7), U64(8), U64(56)
_ONES: Final = U64(0x0101010101010101)
_HIGHS: Final = U64(0x8080808080808080)
_PLACES: Final = U64(0x0001020304050607)  # times 256^n it has n in its highest byte

Box = tuple[Int, Int, Int, Int]


def decode(
    jpeg: NDArray[np.uint8], height: int, width: int, memory: NDArray[np.uint8], reduction: int = 1
) -> NDArray[np.uint8]:
    """Decode a JPEG of `height` x `width` pixels into the first bytes of `memory`.

    Returns its pixels, a view [H, W, 3]: 1 / `reduction` (1, 2, 4 or 8) of the height and width, rounded up.

    Raises:
        ValueError: damaged, or of another size.
    """
    shape = -(-height // reduction), -(-width // reduction), 3
    at_least = shape[:2] if reduction > 1 else (0, 0)
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        jpeg, "RGB", min_height=at_least[0], min_width=at_least[1], buffer=memory
    )
    if pixels.shape != shape:
        raise ValueError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels instead of {shape[1]}x{shape[0]}")
    return pixels


def decode_whole(jpeg: bytes) -> NDArray[np.uint8]:
    """All pixels [H, W, 3] of a JPEG of any size.

    Raises:
        ValueError: it cannot be decoded without a complaint.
    """
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, "RGB")
    return pixels


@kernel
def _u16(data: NDArray[np.uint8], at: Int) -> Int:
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@kernel
def _put_u16(data: NDArray[np.uint8], at: Int, value: Int) -> None:
    data[at] = value >> 8
    data[at + 1] = value & 255


@kernel
def _find_header(jpeg: NDArray[np.uint8]) -> tuple[Int, Int, Int]:
    """Positions of frame header and scan data, and the restart interval; 0 for what is missing."""
    frame, interval, at = 0, 0, 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        length = _u16(jpeg, at + 2)
        if marker == _SOS:
            return frame, at + 2 + length, interval
        if marker == _SOF_BASELINE:
            frame = at + 4
        elif marker == _DRI:
            interval = _u16(jpeg, at + 4)
        at += 2 + length
    return 0, 0, 0


@kernel
def _next_marker(jpeg: NDArray[np.uint8], start: Int) -> Int:
    """Position of the first marker from `start` on, or of the last byte; looks at eight bytes at a time."""
    i, end, one = U64(start), U64(len(jpeg) - 1), U64(1)
    while i + _EIGHT <= end:
        word = U64(0)
        for k in range(_EIGHT):  # becomes one load
            word |= U64(jpeg[i + k]) << (_EIGHT * k)
        found = (~word - _ONES) & word & _HIGHS  # its lowest bit is that of the first byte of 0xFF
        if found == 0:
            i += _EIGHT
            continue
        i += ((found & (~found + one)) >> _SEVEN) * _PLACES >> _FIFTY_SIX
        if jpeg[i + one] != 0:
            return np.int64(i)
        i += one
    while i < end and not (jpeg[i] == 0xFF and jpeg[i + one] != 0):
        i += one
    return np.int64(i)


@kernel
def _copy_mcus(
    jpeg: NDArray[np.uint8],
    start: Int,
    across: Int,
    box: Box,
    part: NDArray[np.uint8],
    at: Int,
) -> Int:
    """Copy the MCUs of rows box[0]..box[1] and columns box[2]..box[3] to `part` from `at` on.

    Returns where the copy ends, or 0 if the scan ends before the box.
    """
    first_row, last_row, first_column, last_column = box
    markers = np.empty(across + 1, np.int64)  # of a row: where each MCU's data ends; the first one's starts
    restarts, end = 0, len(jpeg) - 1
    markers[across] = start - 2
    for row in range(last_row):
        markers[0] = markers[across]
        for column in range(1, across + 1):
            if not (row == 0 and column == 1) and not (
                jpeg[markers[column - 1]] == 0xFF and _RST_FIRST <= jpeg[markers[column - 1] + 1] <= _RST_LAST
            ):
                return 0
            markers[column] = _next_marker(jpeg, markers[column - 1] + 2)
            if markers[column] >= end:
                return 0
        if row >= first_row:
            begin, until = markers[first_column], markers[last_column]
            if row == first_row:
                begin += 2  # without the marker before it
            part[at : at + until - begin] = jpeg[begin:until]
            for column in range(first_column, last_column):
                if row > first_row or column > first_column:
                    part[at + markers[column] - begin + 1] = _RST_FIRST + restarts % 8
                    restarts += 1
            at += until - begin
    part[at] = 0xFF
    part[at + 1] = _EOI
    return at + 2


@kernel
def cut(
    jpeg: NDArray[np.uint8],
    top: Int,
    bottom: Int,
    left: Int,
    right: Int,
    reduction: Int,
    part: NDArray[np.uint8],
) -> tuple[Int, Int, Int, Int, Int]:
    """Write a JPEG of the MCUs under rows top..bottom and columns left..right to `part`.

    Decoded with the same `reduction`, it has the pixels of the whole image there, if at least six are left of
    the box on each axis where it is reduced. Returns its size in bytes,
    the image's row and column where it starts, its height and its width, all before the reduction. The size
    is 0 if the JPEG cannot be cut, because it has no restart marker after every MCU: decode it in full.
    """
    frame, scan, interval = _find_header(jpeg)
    parts = np.int64(jpeg[frame + 5])
    if frame == 0 or interval != 1 or (parts != 1 and parts != 3):
        return 0, 0, 0, 0, 0
    height, width = _u16(jpeg, frame + 1), _u16(jpeg, frame + 3)
    side_x: Int = 8
    side_y: Int = 8
    # The blocks of a single component are not interleaved, whatever its sampling.
    if parts == 3:
        for i in range(frame + 7, frame + 16, 3):
            side_x = max(side_x, 8 * np.int64(jpeg[i] >> 4))
            side_y = max(side_y, 8 * np.int64(jpeg[i] & 15))
    across, down = -(-width // side_x), -(-height // side_y)
    # One more decoded pixel on each side: chroma is interpolated between neighbouring MCUs.
    first_row = max(0, top - reduction) // side_y
    last_row = min(down, (bottom + reduction - 1) // side_y + 1)
    # libjpeg-turbo does not interpolate chroma of one or two columns: never make so narrow a part.
    first_column = max(0, min(left - reduction, width - 5 * reduction)) // side_x
    last_column = min(across, (right + reduction - 1) // side_x + 1)
    part[:scan] = jpeg[:scan]
    box = (first_row, last_row, first_column, last_column)
    size = _copy_mcus(jpeg, scan, across, box, part, scan)
    y, x = first_row * side_y, first_column * side_x
    part_height, part_width = min(height, last_row * side_y) - y, min(width, last_column * side_x) - x
    _put_u16(part, frame + 1, part_height)
    _put_u16(part, frame + 3, part_width)
    return size, y, x, part_height, part_width
