"""JPEGs with a restart marker after every MCU, made without decoding to pixels: all coefficients stay.

Only the entropy-coded part of a baseline JPEG is written anew (ITU-T T.81). Its DC coefficients are stored as
differences, which start again from zero at each marker; AC coefficients are copied as they are coded. Huffman
tables are made for the image, which saves most of what the markers cost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loaders.kernels import Int, kernel

_SOI, _EOI, _SOS, _DQT, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
_SOF_BASELINE: Final = 0xC0
_OTHER_FRAMES: Final = (*range(0xC1, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xD0))
_COLOUR: Final = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}  # the application markers that decide about colour
_TABLES: Final = 8  # four for DC coefficients, then four for AC coefficients
_LONGEST: Final = 16  # bits of a code
_SYMBOLS: Final = 256

# Bits of a token: the coefficient's extra bits, its symbol, its table, and whether an MCU starts with it.
_SYMBOL_AT, _TABLE_AT, _START_AT = 16, 24, 31


class UnsupportedError(Exception):
    """A JPEG whose coefficients cannot be kept; the message says what it is."""


class OtherCodingError(UnsupportedError):
    """A JPEG that is not baseline in one scan, but could be turned into such a one."""


@dataclass(kw_only=True)
class _Header:
    """What precedes the entropy-coded data."""

    kept: list[bytes] = field(default_factory=list)
    """Segments that stay as they are."""
    frame: bytes = b""
    scan: bytes = b""
    interval: int = 0
    tables: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = field(default_factory=dict)
    """By number: how many codes there are of each length [16], and their symbols."""


def add_restart_markers(jpeg: bytes) -> bytes:
    """The same JPEG with a marker after every MCU, and without metadata.

    Raises:
        OtherCodingError: not baseline, or in several scans.
        UnsupportedError: damaged, or not of one or three components.
    """
    header, start = _read_header(jpeg)
    blocks, mcus = _layout(header)  # [N, 3], component and tables of each block of an MCU
    lookup = np.zeros((_TABLES, 1 << _LONGEST), np.uint16)
    for number, (lengths, symbols) in header.tables.items():
        if not _fill_lookup(lengths, symbols, lookup[number]):
            raise UnsupportedError("damaged JPEG")
    data = np.frombuffer(jpeg, np.uint8, offset=start)
    counts = np.zeros((_TABLES, _SYMBOLS), np.int64)
    tokens = np.empty(min(64 * len(blocks) * mcus, 8 * len(data)) + 64, np.uint32)
    number = _read_tokens(data, blocks, mcus, header.interval, lookup, counts, tokens)
    if number < 0:
        raise UnsupportedError("damaged JPEG")
    codes = np.zeros((_TABLES, _SYMBOLS, 2), np.int64)  # code and its length
    segments = [*header.kept, _segment(_SOF_BASELINE, header.frame)]
    for table in np.flatnonzero(counts.any(axis=1)).tolist():
        lengths, symbols = _best_code(counts[table])
        _assign_codes(lengths, symbols, codes[table])
        kind = (table // 4) << 4 | table % 4
        segments.append(_segment(_DHT, bytes([kind]) + lengths.tobytes() + symbols.tobytes()))
    segments += [_segment(_DRI, struct.pack(">H", 1)), _segment(_SOS, header.scan)]
    bits = int((counts * (codes[..., 1] + np.arange(_SYMBOLS) % 16)).sum())
    out = np.empty(bits // 4 + 4 * mcus + 16, np.uint8)  # each byte may need a second one
    size = _write_tokens(tokens[:number], codes, out)
    return b"".join([bytes([0xFF, _SOI]), *segments, out[:size].tobytes(), bytes([0xFF, _EOI])])


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _read_header(jpeg: bytes) -> tuple[_Header, int]:
    """The segments up to the first scan, and where its data starts."""
    header, at = _Header(), 2
    if jpeg[:2] != bytes([0xFF, _SOI]):
        raise UnsupportedError("damaged JPEG")
    while at + 4 <= len(jpeg):
        marker, length = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)[0]
        if jpeg[at] != 0xFF:
            break
        if marker == 0xFF:  # a byte of padding
            at += 1
            continue
        content = jpeg[at + 4 : at + 2 + length]
        if marker in _OTHER_FRAMES:
            raise OtherCodingError("progressive JPEG" if marker == 0xC2 else "JPEG that is not baseline")
        if marker == _SOF_BASELINE:
            header.frame = content
        elif marker == _DHT:
            _read_tables(content, header)
        elif marker == _DRI and len(content) == 2:
            header.interval = struct.unpack(">H", content)[0]
        elif marker == _DQT or content.startswith(_COLOUR.get(marker, b"\0none")):
            header.kept.append(_segment(marker, _without_thumbnail(marker, content)))
        elif marker == _SOS and content:
            header.scan = content
            return header, at + 2 + length
        at += 2 + length
    raise UnsupportedError("damaged JPEG")


def _without_thumbnail(marker: int, content: bytes) -> bytes:
    """A JFIF segment may hold a thumbnail after its 14 bytes, of the size in the last two of them."""
    return content[:12] + b"\0\0" if marker == 0xE0 and len(content) > 14 else content


def _read_tables(content: bytes, header: _Header) -> None:
    at = 0
    while at + 17 <= len(content):
        kind, lengths = content[at], np.frombuffer(content, np.uint8, 16, at + 1)
        symbols = content[at + 17 : at + 17 + int(lengths.sum())]
        if kind >> 4 > 1 or kind & 15 > 3 or len(symbols) != lengths.sum() or len(symbols) > _SYMBOLS:
            raise UnsupportedError("damaged JPEG")
        header.tables[(kind >> 4) * 4 + (kind & 15)] = lengths, np.frombuffer(symbols, np.uint8)
        at += 17 + len(symbols)


def _layout(header: _Header) -> tuple[NDArray[np.int64], int]:
    """Component, DC table and AC table of each block of an MCU [N, 3], and the number of MCUs."""
    frame, scan = header.frame, header.scan
    parts = frame[5] if len(frame) > 5 else 0
    if parts not in (1, 3):
        raise UnsupportedError(f"JPEG of {parts} components")
    if scan[0] != parts:
        raise OtherCodingError("JPEG in several scans")
    if len(frame) != 6 + 3 * parts or len(scan) != 4 + 2 * parts:
        raise UnsupportedError("damaged JPEG")
    depth, height, width = struct.unpack_from(">BHH", frame)
    if depth != 8 or not height or not width or scan[-3:] != bytes([0, 63, 0]):
        raise UnsupportedError("damaged JPEG")
    sampling = [(frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(parts)]
    if parts == 1:  # without a second component its blocks are not interleaved
        sampling = [(1, 1)]
    blocks = []
    for i, (across, down) in enumerate(sampling):
        dc, ac = scan[2 + 2 * i] >> 4, 4 + (scan[2 + 2 * i] & 15)
        if not {dc, ac} <= set(header.tables) or scan[1 + 2 * i] != frame[6 + 3 * i]:
            raise UnsupportedError("damaged JPEG")
        blocks += [(i, dc, ac)] * (across * down)
    if not 1 <= len(blocks) <= 10 or not all(across and down for across, down in sampling):
        raise UnsupportedError("damaged JPEG")
    side_x, side_y = (8 * max(factors) for factors in zip(*sampling, strict=True))
    return np.array(blocks, np.int64), -(-width // side_x) * -(-height // side_y)


@kernel
def _fill_lookup(lengths: NDArray[np.uint8], symbols: NDArray[np.uint8], lookup: NDArray[np.uint16]) -> bool:
    """For all sixteen next bits: length and symbol of the code that they start with, or 0 if none does."""
    at, number = 0, 0
    for length in range(1, _LONGEST + 1):
        step = 1 << (_LONGEST - length)
        for _ in range(lengths[length - 1]):
            if at + step > len(lookup):
                return False
            lookup[at : at + step] = length << 8 | np.int64(symbols[number])
            at += step
            number += 1
    return True


@kernel
def _signed(extra: Int, size: Int) -> Int:
    """The number that `size` extra bits stand for: the lower half of them are negative."""
    return extra if size == 0 or extra >> (size - 1) else extra - (1 << size) + 1


@kernel
def _coded(value: Int) -> tuple[Int, Int]:
    """How many extra bits stand for a number, and which."""
    size = 0
    while abs(value) >> size:
        size += 1
    return size, value if value >= 0 else value + (1 << size) - 1


@kernel
def _read_tokens(
    data: NDArray[np.uint8],
    blocks: NDArray[np.int64],
    mcus: Int,
    interval: Int,
    lookup: NDArray[np.uint16],
    counts: NDArray[np.int64],
    tokens: NDArray[np.uint32],
) -> Int:
    """Decode the scan to `tokens`, with DC differences that start from 0 in every MCU; count their symbols.

    Returns their number, or -1 if the data is damaged or ends in anything but the end of the image.
    """
    before, here = np.zeros(3, np.int64), np.zeros(3, np.int64)  # DC coefficients, as read and as written
    at: Int = 0
    bits: Int = 0  # that are left in the window, the last `missing` of them invented
    number, window, missing = 0, np.uint64(0), 0
    for mcu in range(mcus):
        if interval and mcu and mcu % interval == 0:
            if missing > bits or bits - missing >= 8 or at + 1 >= len(data):
                return -1
            if data[at] != 0xFF or data[at + 1] != 0xD0 + (mcu // interval - 1) % 8:
                return -1
            at, window, bits, missing = at + 2, np.uint64(0), 0, 0
            before[:] = 0
        here[:] = 0
        for block in range(len(blocks)):
            component = blocks[block, 0]
            k: Int = 0
            while k < 64:
                while bits <= 32:
                    byte: Int = 0
                    if at + 1 < len(data) and (data[at] != 0xFF or data[at + 1] == 0):
                        byte = np.int64(data[at])
                        at += 2 if byte == 0xFF else 1
                    else:
                        missing += 8
                    window = window << np.uint64(8) | np.uint64(byte)
                    bits += 8
                table = blocks[block, 1 if k == 0 else 2]
                entry = np.int64(lookup[table, (window >> np.uint64(bits - 16)) & np.uint64(0xFFFF)])
                length, symbol = entry >> 8, entry & 255
                size = symbol & 15
                bits -= length + size
                if length == 0 or missing > bits or (k == 0 and symbol > 11):
                    return -1
                if k and size == 0 and symbol not in (0, 0xF0):
                    return -1
                extra = np.int64((window >> np.uint64(bits)) & np.uint64((1 << size) - 1))
                token = 0
                if k == 0:
                    before[component] += _signed(extra, size)
                    symbol, extra = _coded(before[component] - here[component])
                    if symbol > 11:
                        return -1
                    here[component] = before[component]
                    token = 1 << _START_AT if block == 0 else 0
                    k = 1
                elif symbol == 0:  # nothing but zeros
                    k = 64
                else:  # zeros, then a coefficient, which may be another zero in 0xF0 alone
                    k += (symbol >> 4) + 1
                if k > 64:
                    return -1
                counts[table, symbol] += 1
                tokens[number] = token | table << _TABLE_AT | symbol << _SYMBOL_AT | extra
                number += 1
    if missing > bits or bits - missing >= 8 or at + 1 >= len(data) or data[at] != 0xFF:
        return -1
    return number if data[at + 1] == _EOI else -1


@kernel
def _best_code(counts: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Huffman's code for symbols that occur `counts` times [256], of at most sixteen bits.

    Returns how many codes there are of each length [16], and the symbols from the shortest to the longest.
    One more symbol takes the code of ones alone, which JPEG forbids. Codes that are too long are shortened as
    in figure K.3 of the standard.
    """
    weights, group = np.empty(_SYMBOLS + 1, np.int64), np.arange(_SYMBOLS + 1)
    weights[:_SYMBOLS], weights[_SYMBOLS] = counts, 1
    depth = np.zeros(_SYMBOLS + 1, np.int64)
    while True:
        one = other = -1  # the two lightest groups
        for i in range(_SYMBOLS, -1, -1):
            if weights[i] and (one < 0 or weights[i] < weights[one]):
                one, other = i, one
            elif weights[i] and (other < 0 or weights[i] < weights[other]):
                other = i
        if other < 0:
            break
        weights[one] += weights[other]
        weights[other] = 0
        for i in range(_SYMBOLS + 1):
            if group[i] == one or group[i] == other:
                group[i] = one
                depth[i] += 1
    order = np.argsort(depth * (2 * _SYMBOLS) + np.arange(_SYMBOLS + 1))
    number = np.bincount(depth[depth > 0], minlength=64)  # of codes by length
    for length in range(len(number) - 1, _LONGEST, -1):
        while number[length]:
            shorter = length - 2
            while number[shorter] == 0:
                shorter -= 1
            number[length] -= 2
            number[length - 1] += 1
            number[shorter + 1] += 2
            number[shorter] -= 1
    longest = _LONGEST
    while number[longest] == 0:
        longest -= 1
    number[longest] -= 1
    symbols = order[(depth[order] > 0) & (order < _SYMBOLS)]
    return number[1 : _LONGEST + 1].astype(np.uint8), symbols.astype(np.uint8)


@kernel
def _assign_codes(lengths: NDArray[np.uint8], symbols: NDArray[np.uint8], codes: NDArray[np.int64]) -> None:
    """Codes in increasing order, and their lengths, by symbol."""
    code, number = 0, 0
    for length in range(1, _LONGEST + 1):
        for _ in range(lengths[length - 1]):
            codes[symbols[number], 0], codes[symbols[number], 1] = code, length
            code += 1
            number += 1
        code <<= 1


@kernel
def _write_tokens(tokens: NDArray[np.uint32], codes: NDArray[np.int64], out: NDArray[np.uint8]) -> Int:
    """Encode `tokens` to `out`, with a marker before every MCU but the first; the number of bytes."""
    bits: Int = 0
    at, window, mcus = 0, np.uint64(0), 0
    for i in range(len(tokens) + 1):
        token = np.int64(tokens[i]) if i < len(tokens) else 1 << _START_AT
        if token >> _START_AT and i:  # the MCU before it is complete: ones up to the next byte
            ones = -bits % 8
            window = window << np.uint64(ones) | np.uint64((1 << ones) - 1)
            bits += ones
        while bits >= 8:
            bits -= 8
            byte = np.uint8((window >> np.uint64(bits)) & np.uint64(255))
            out[at] = byte
            at += 1
            if byte == 0xFF:
                out[at] = 0
                at += 1
        if i == len(tokens):
            break
        if token >> _START_AT and i:
            out[at], out[at + 1] = 0xFF, 0xD0 + mcus % 8
            at += 2
            mcus += 1
        table, symbol = (token >> _TABLE_AT) & 7, (token >> _SYMBOL_AT) & 255
        size = symbol & 15
        code, length = codes[table, symbol]
        extra = token & 0xFFFF
        window = window << np.uint64(length + size) | np.uint64(code << size | extra)
        bits += length + size
    return at
