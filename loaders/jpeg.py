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

STRIDE: Final = U64(32)
HEADROOM = 1024  # bytes that a part may need beyond the original

_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_SOF_BASELINE = 0xC0
_RST_FIRST, _RST_LAST = 0xD0, 0xD7

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
    """Position of the first marker from `start` on, or of the last byte; looks at 32 bytes at a time."""
    i, end, one = U64(start), U64(len(jpeg) - 1), U64(1)
    while i < end:
        if i + STRIDE <= end:
            found = False
            for k in range(STRIDE):
                found |= jpeg[i + k] == 0xFF
            if not found:
                i += STRIDE
                continue
        stop = min(end, i + STRIDE)
        while i < stop and not (jpeg[i] == 0xFF and jpeg[i + one] != 0):
            i += one
        if i < stop:
            break
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
    row, column, restarts = 0, 0, 0
    i, end = start, len(jpeg) - 1
    while row < last_row:
        begin = i
        i = _next_marker(jpeg, i)
        if i >= end:
            return 0
        if row >= first_row and first_column <= column < last_column:
            if restarts:
                part[at] = 0xFF
                part[at + 1] = _RST_FIRST + (restarts - 1) % 8
                at += 2
            restarts += 1
            part[at : at + i - begin] = jpeg[begin:i]
            at += i - begin
        column += 1
        if column == across:
            row, column = row + 1, 0
        if not _RST_FIRST <= jpeg[i + 1] <= _RST_LAST:
            break
        i += 2
    if row < last_row:
        return 0
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
