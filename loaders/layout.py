"""The beton file format (version 2 of FFCV's), with one RGB image and one label per sample.

FFCV's own writer is not used. It writes pages in the order in which its processes finish, so that no two
builds are alike; it waits for ever for a worker that died; and it does not notice a full disk. Files are
little-endian: header, field descriptors, metadata, pages with the images, allocation table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("alloc_table_ptr", "<u8"),
    ],
    align=True,
)
FIELD = np.dtype([("type_id", "<u1"), ("name", ("<u1", 16)), ("arguments", ("<u1", (1024,)))], align=True)
IMAGE = np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("data_ptr", "<u8")])
SAMPLE = np.dtype([("f0", IMAGE), ("f1", "<i8")], align=True)
ALLOCATION = np.dtype([("sample_id", "<u8"), ("ptr", "<u8"), ("size", "<u8")])

VERSION = 2
FIELDS = (("image", 2), ("label", 1))  # names, and FFCV's numbers for RGB images and for integers
JPEG, RAW = 0, 1
MAX_SIDE = 65535
MIN_PAGE = 1 << 21
LARGEST_IMAGE = 1 << 28
INDEX_START = HEADER.itemsize + len(FIELDS) * FIELD.itemsize


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """One image as it lies in the file: `data` is a JPEG, or height * width * 3 bytes if `mode` is RAW."""

    mode: int
    height: int
    width: int
    data: bytes


class BetonWriter:
    """Writes images in sample order; `finish` writes the index, without which the file is not readable."""

    def __init__(self, file: BinaryIO, *, most: int) -> None:
        """`file` is empty and seekable. At most `most` images follow."""
        self._file = file
        self._page = MIN_PAGE
        self._samples = np.zeros(most, dtype=SAMPLE)
        self._allocations = np.zeros(most, dtype=ALLOCATION)
        self._written = 0
        self._at = self._aligned(INDEX_START + self._samples.nbytes)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Labels of the samples written so far."""
        return self._samples["f1"][: self._written].astype(np.int64)

    def add(self, image: StoredImage, label: int) -> None:
        """Append the next sample."""
        size = len(image.data)
        assert 0 < size <= LARGEST_IMAGE
        while self._page < size:  # what lies within a smaller page lies within a larger one too
            self._page *= 2
        room = -self._at % self._page
        if room and size > room:  # no image spans two pages
            self._at = self._aligned(self._at)
        self._samples[self._written] = ((image.mode, image.width, image.height, self._at), label)
        self._allocations[self._written] = (self._written, self._at, size)
        self._file.seek(self._at)
        self._file.write(image.data)
        self._at += size
        self._written += 1

    def finish(self) -> None:
        """Write the allocation table, the metadata and the header."""
        end = self._aligned(self._at)
        self._file.seek(end)
        self._file.write(self._allocations[: self._written].tobytes())
        self._file.seek(0)
        header = np.array([(VERSION, len(FIELDS), self._page, self._written, end)], dtype=HEADER)
        fields = np.zeros(len(FIELDS), dtype=FIELD)
        for field, (name, type_id) in zip(fields, FIELDS, strict=True):
            field["type_id"] = type_id
            field["name"][: len(name)] = np.frombuffer(name.encode(), dtype=np.uint8)
        self._file.write(header.tobytes() + fields.tobytes() + self._samples[: self._written].tobytes())

    def _aligned(self, position: int) -> int:
        return position + -position % self._page


@dataclass(frozen=True, kw_only=True)
class Index:
    """Where a beton's images lie and what they are: one entry per sample, in sample order."""

    labels: NDArray[np.int64]
    modes: NDArray[np.uint8]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digest: str
    """SHA-256 of everything in the file but the images."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def uniform(self) -> bool:
        """Whether all images are raw and have the same size."""
        same = np.ptp(self.heights) == 0 and np.ptp(self.widths) == 0
        return bool(same and (self.modes == RAW).all())


def read_index(path: Path) -> Index:
    """Read a beton's index, without its images.

    Raises:
        ValueError: not a beton of images and labels, or a truncated one.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(INDEX_START)
        if len(start) < INDEX_START:
            raise ValueError(f"{path} is not a beton: only {size} bytes")
        header = np.frombuffer(start, dtype=HEADER, count=1)[0]
        fields = np.frombuffer(start, dtype=FIELD, offset=HEADER.itemsize)
        if header["version"] != VERSION or [int(f["type_id"]) for f in fields] != [t for _, t in FIELDS]:
            raise ValueError(f"{path} is not a beton of images and labels (format version {VERSION})")
        samples, table = int(header["num_samples"]), int(header["alloc_table_ptr"])
        if table + samples * ALLOCATION.itemsize != size:
            raise ValueError(f"{path} is truncated or damaged: {size} bytes")
        rows = file.read(samples * SAMPLE.itemsize)
        file.seek(table)
        allocations = file.read()
    metadata = np.frombuffer(rows, dtype=SAMPLE)
    allocation = np.frombuffer(allocations, dtype=ALLOCATION)
    order = np.argsort(allocation["sample_id"], kind="stable")
    return Index(
        labels=metadata["f1"].astype(np.int64),
        modes=metadata["f0"]["mode"].copy(),
        heights=metadata["f0"]["height"].astype(np.int64),
        widths=metadata["f0"]["width"].astype(np.int64),
        starts=allocation["ptr"][order].astype(np.int64),
        sizes=allocation["size"][order].astype(np.int64),
        digest=hashlib.sha256(start + rows + allocations).hexdigest(),
    )
