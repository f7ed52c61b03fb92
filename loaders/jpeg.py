"""Parts of a JPEG, decoded by libjpeg-turbo without reading the rest of it.

Our betons hold JPEGs with a restart marker after every block row and column (an MCU of 8 or 16 pixels):
about five per cent more bytes, and every MCU can be found without decoding those before it. A smaller JPEG
with just the MCUs under a box is put together from them, and libjpeg-turbo decodes that. Inside the box
its pixels are exactly those of the whole image.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any, Final

import numpy as np
from llvmlite import binding  # type: ignore[import-untyped]
from numba import types
from numpy.typing import NDArray

from loaders.kernels import U64, Int, kernel

LIBRARY = "libturbojpeg.so.0"
STRIDE: Final = U64(32)
HEADROOM = 1024  # bytes that a part's header may need beyond the original's: none, and the end marker

_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_SOF_BASELINE = 0xC0
_RST_FIRST, _RST_LAST = 0xD0, 0xD7
_RGB, _FLAGS = 0, 0  # TJPF_RGB; accurate DCT, smooth chroma


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise OSError(
            f"{LIBRARY} is missing: install libturbojpeg0 (Debian, Ubuntu) or libjpeg-turbo (conda-forge)"
        ) from error
    library.tjInitDecompress.restype = ctypes.c_void_p
    binding.load_library_permanently(library._name)  # for numba, which finds it by the function's name
    return library


_library = _load()
_tj_decompress: Any = types.ExternalFunction(
    "tjDecompress2",
    types.int32(
        types.uintp,  # handle
        types.uintp,  # JPEG
        types.uintp,  # its size
        types.uintp,  # pixels
        types.int32,  # width
        types.int32,  # bytes a row; 0: width * 3
        types.int32,  # height
        types.int32,  # pixel format
        types.int32,  # flags
    ),
)
_handles = threading.local()

Box = tuple[Int, Int, Int, Int]


class _Handle:
    """A decompressor that goes when its thread goes."""

    def __init__(self) -> None:
        self.address: int = _library.tjInitDecompress()
        self._destroy = _library.tjDestroy  # kept: at exit the module's own names go before its objects
        assert self.address

    def __del__(self) -> None:
        self._destroy(ctypes.c_void_p(self.address))


def decoder_handle() -> int:
    """Address of this thread's decompressor; libjpeg-turbo's are not shared between threads."""
    if not hasattr(_handles, "own"):
        _handles.own = _Handle()
    address: int = _handles.own.address
    return address


@kernel
def _u16(data: NDArray[np.uint8], at: Int) -> Int:
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@kernel
def _put_u16(data: NDArray[np.uint8], at: Int, value: Int) -> None:
    data[at] = value >> 8
    data[at + 1] = value & 255


@kernel
def _find_header(jpeg: NDArray[np.uint8]) -> tuple[Int, Int, Int]:
    """Where the frame header, the scan's data and the restart interval are; 0 for what is not there."""
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
    """Where the first marker from `start` on is, or the last byte's place: 32 bytes a look, then one."""
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
    """Copy the MCUs of rows box[0]..box[1] and columns box[2]..box[3]; where they end, or 0 if too early."""
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
    jpeg: NDArray[np.uint8], top: Int, bottom: Int, left: Int, right: Int, part: NDArray[np.uint8]
) -> tuple[Int, Int, Int, Int, Int]:
    """Put the JPEG of the MCUs under rows top..bottom and columns left..right together in `part`.

    Returns its bytes, the row and column of the image where it starts, its height and its width; bytes are
    0 where the JPEG cannot be cut (no restart marker at every MCU), and then it has to be decoded whole.
    """
    frame, scan, interval = _find_header(jpeg)
    if frame == 0 or interval != 1 or jpeg[frame + 5] != 3:
        return 0, 0, 0, 0, 0
    height, width = _u16(jpeg, frame + 1), _u16(jpeg, frame + 3)
    side_x, side_y = 8 * np.int64(jpeg[frame + 7] >> 4), 8 * np.int64(jpeg[frame + 7] & 15)
    across, down = -(-width // side_x), -(-height // side_y)
    # One pixel more on each side: chroma is interpolated between neighbouring MCUs.
    first_row, last_row = max(0, top - 1) // side_y, min(down, bottom // side_y + 1)
    # And never so narrow a part that libjpeg-turbo would not interpolate at all: two columns of chroma.
    first_column = max(0, min(left - 1, width - 5)) // side_x
    last_column = min(across, right // side_x + 1)
    part[:scan] = jpeg[:scan]
    box = (first_row, last_row, first_column, last_column)
    size = _copy_mcus(jpeg, scan, across, box, part, scan)
    y, x = first_row * side_y, first_column * side_x
    part_height, part_width = min(height, last_row * side_y) - y, min(width, last_column * side_x) - x
    _put_u16(part, frame + 1, part_height)
    _put_u16(part, frame + 3, part_width)
    return size, y, x, part_height, part_width


@kernel
def decode(
    jpeg: NDArray[np.uint8],
    size: Int,
    height: Int,
    width: Int,
    pixels: NDArray[np.uint8],
    handle: Int,
) -> bool:
    """Decode the first `size` bytes of `jpeg` to `pixels` [height * width * 3]; whether that went well."""
    code = _tj_decompress(handle, jpeg.ctypes.data, size, pixels.ctypes.data, width, 0, height, _RGB, _FLAGS)
    return bool(code == 0)
