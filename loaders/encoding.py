"""From pixels to the bytes that a beton stores, in one process or several."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.signals import when_parent_ends
from loaders import jpeg
from loaders.datasets import Encoding
from loaders.images import UnreadableError
from loaders.kernels import U64, sample_hash
from loaders.layout import JPEG, LARGEST_IMAGE, MAX_SIDE, RAW, StoredImage
from loaders.resize import shrink_by_area
from loaders.sources import FolderSource, Source
from loaders.transcode import OtherCodingError, UnsupportedError, add_restart_markers

JPEG_START = b"\xff\xd8\xff"
CHUNK = 64  # images that a process encodes in one go
SERIAL_BELOW = 2048  # so few images are not worth starting processes for


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One sample: its image, or why there is none, and what had to be converted."""

    image: StoredImage | None
    problem: str = ""
    converted: str = ""


def encode_all(
    source: Source, encoding: Encoding, workers: int | None = None, *, chunk: int = CHUNK
) -> Generator[Encoded]:
    """All samples of a source in order.

    `workers` processes encode `chunk` images at a time. By default there are as many as there are cores, and
    one where the images are few. Images that are quick to read are always encoded in this process.

    Raises:
        OSError: a process died.
    """
    total = len(source.labels)
    if workers is None:
        workers = 1 if total < SERIAL_BELOW else len(os.sched_getaffinity(0))
    if workers == 1 or not source.parallel:
        yield from (encode(source, encoding, index) for index in range(total))
        return
    # Spawned, never forked: this process may have threads (torch, numba), and a fork copies their locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(source, encoding))
    try:
        pending: deque[Future[list[Encoded]]] = deque()
        for start in range(0, total, chunk):
            pending.append(pool.submit(_encode_chunk, range(start, min(start + chunk, total))))
            if len(pending) > 4 * workers:  # not all at once: the results would fill the memory
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise OSError("a process that encodes images died, perhaps out of memory: try workers=1") from error
    finally:
        pool.shutdown(cancel_futures=True)


_work: tuple[Source, Encoding]  # of a worker process: sent to it once, not with every chunk


def _start_worker(source: Source, encoding: Encoding) -> None:
    global _work
    _work = source, encoding
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    when_parent_ends(lambda: os._exit(1))  # a parent that is killed cannot shut its workers down


def _encode_chunk(indices: range) -> list[Encoded]:
    return [encode(*_work, index) for index in indices]


def encode(source: Source, encoding: Encoding, index: int) -> Encoded:
    """One image of a source, stored as `encoding` says."""
    not_kept = ""
    if encoding.write_mode == "original" and isinstance(source, FolderSource):
        content = source.content(index)
        if content.startswith(JPEG_START):
            try:
                return Encoded(image=keep_jpeg(content))
            except UnsupportedError as error:
                not_kept = str(error)
    try:
        image = source.read(index)
    except UnreadableError as error:
        return Encoded(image=None, problem=str(error))
    pixels = shrink(image.pixels, encoding.max_resolution)
    height, width, channels = pixels.shape
    assert channels == 3
    as_jpeg = encoding.write_mode == "jpg" or (
        encoding.write_mode == "proportion"
        and sample_hash(U64(0), U64(0), U64(index), U64(0)) < encoding.jpeg_share * 2.0**64
    )
    data = encode_jpeg(pixels, encoding.jpeg_quality) if as_jpeg else pixels.tobytes()
    if max(height, width) > MAX_SIDE or len(data) > LARGEST_IMAGE:
        too_large = f"sample {index}: {width}x{height} pixels; write_mode=jpg max_resolution=2000 stores it"
        return Encoded(image=None, problem=too_large)
    stored = StoredImage(mode=JPEG if as_jpeg else RAW, height=height, width=width, data=data)
    return Encoded(image=stored, converted=", ".join(filter(None, (not_kept, image.converted))))


def keep_jpeg(content: bytes) -> StoredImage:
    """A JPEG with its own coefficients and the markers that `loaders.jpeg` needs; it has the same pixels.

    Raises:
        UnsupportedError: one whose coefficients cannot be kept, or a damaged one.
    """
    try:
        data = add_restart_markers(content)
    except OtherCodingError as error:
        data = add_restart_markers(_as_baseline(content, error))
    try:
        before, after = jpeg.decode_whole(content), jpeg.decode_whole(data)
    except ValueError as error:
        raise UnsupportedError("damaged JPEG") from error
    if not np.array_equal(before, after):
        raise UnsupportedError("damaged JPEG")
    if len(data) > LARGEST_IMAGE:
        raise UnsupportedError("very large JPEG")
    height, width, _ = after.shape
    return StoredImage(mode=JPEG, height=height, width=width, data=data)


def _as_baseline(content: bytes, reason: OtherCodingError) -> bytes:
    """A JPEG of another coding as a baseline one with the same coefficients, by libjpeg-turbo's own tool."""
    tool = shutil.which("jpegtran")
    if tool is None:
        raise UnsupportedError(f"{reason} (jpegtran would keep it)") from reason
    done = subprocess.run([tool, "-copy", "all"], input=content, capture_output=True, check=False)
    if done.returncode:
        raise UnsupportedError("damaged JPEG")
    return done.stdout


def shrink(pixels: NDArray[np.uint8], max_resolution: int) -> NDArray[np.uint8]:
    """The image with its longer side at most `max_resolution` pixels, resized as by FFCV's writer."""
    height, width, _ = pixels.shape
    ratio = max_resolution / max(height, width)
    if max_resolution == 0 or ratio >= 1:
        return pixels
    shrunk = np.empty((max(1, int(ratio * height)), max(1, int(ratio * width)), 3), np.uint8)
    shrink_by_area(np.ascontiguousarray(pixels), shrunk)
    return shrunk


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG with a restart marker after every MCU, of which `loaders.jpeg` can decode parts."""
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(data, "JPEG", quality=quality, subsampling="4:2:0", restart_marker_blocks=1)
    return data.getvalue()
