"""Variants of loading that take turns in one process, and the feeds that are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import psutil
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import OrderOption
from ffcv.transforms import RandomHorizontalFlip, ToTensor
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from benchmarks.report import Row, cores, median_row
from loaders import datasets, jpeg
from loaders.betons import Beton
from loaders.feeds import Kind, open_feed
from loaders.ffcv_patches import Loader, Operation
from loaders.stream import Reader

MIN_SECONDS = 0.5  # of a measurement, in full epochs

Variants = Mapping[str, Callable[[], int]]
"""By name, a function that runs one epoch and returns how many images it saw."""


def processes() -> dict[str, Any]:
    """Arguments of a DataLoader that keeps its processes: spawned, because numba's threads forbid a fork."""
    return {"num_workers": cores(), "persistent_workers": True, "multiprocessing_context": "spawn"}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Images per second and per second of processor time (of all processes), one entry per round."""

    images_per_s: list[float]
    images_per_cpu_s: list[float]


def race(variants: Variants, rounds: int) -> dict[str, Pace]:
    """Let the variants take turns; a first turn, which compiles and fills caches, does not count."""
    paces = {name: Pace(images_per_s=[], images_per_cpu_s=[]) for name in variants}
    for epoch in variants.values():
        epoch()
    for _ in range(rounds):
        for name, epoch in variants.items():
            images, seconds, cpu_seconds = timed(epoch)
            paces[name].images_per_s.append(images / seconds)
            paces[name].images_per_cpu_s.append(images / cpu_seconds)
    return paces


def timed(epoch: Callable[[], int]) -> tuple[int, float, float]:
    """Images, seconds and processor seconds of as many epochs as a measurement needs."""
    images, start, cpu_start = 0, time.perf_counter(), cpu_seconds()
    while (seconds := time.perf_counter() - start) < MIN_SECONDS:
        images += epoch()
    return images, seconds, cpu_seconds() - cpu_start


def cpu_seconds() -> float:
    """Processor time of this process and of its children."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


def our_feed(
    beton: Beton,
    dataset: datasets.Dataset,
    batch_size: int,
    kind: Kind,
    reader: type[Reader] | None = None,
) -> Callable[[], int]:
    feed = open_feed(beton, dataset, train=True, batch_size=batch_size, kind=kind, reader=reader)
    epochs = count()

    def epoch() -> int:
        with feed.epoch(1, next(epochs)) as batches:
            return sum(len(batch.indices) for batch in batches)

    return epoch


def stock_feed(beton: Beton, batch_size: int, image: list[Operation]) -> Callable[[], int]:
    loader = Loader(
        str(beton.path),
        batch_size=batch_size,
        num_workers=cores(),
        os_cache=True,
        order=OrderOption.RANDOM,
        drop_last=True,
        pipelines={"image": image, "label": [IntDecoder(), ToTensor()]},
    )
    return lambda: sum(len(labels) for _, labels in loader)


def data_loader(images: Dataset[Any], batch_size: int) -> DataLoader[Any]:
    return DataLoader(images, batch_size, shuffle=True, drop_last=True, **processes())


def stock_resized_crop() -> list[Operation]:
    """FFCV's own random boxes."""
    return [RandomResizedCropRGBImageDecoder((224, 224)), RandomHorizontalFlip(), ToTensor()]


def decoding_alone(blobs: list[bytes], pixels: Sequence[NDArray[np.uint8]]) -> Callable[[], int]:
    """Every JPEG in full, with one thread per core, into memory that is used again."""
    images = [
        (np.frombuffer(blob, np.uint8), *image.shape[:2]) for blob, image in zip(blobs, pixels, strict=True)
    ]
    pool, largest = ThreadPoolExecutor(cores()), max(image.size for image in pixels)

    def decode(part: Sequence[tuple[NDArray[np.uint8], int, int]]) -> int:
        memory = np.empty(largest, np.uint8)
        return sum(len(jpeg.decode(*image, memory)) > 0 for image in part)

    parts = [images[start : start + 8] for start in range(0, len(images), 8)]
    return lambda: sum(pool.map(decode, parts))


def pace_rows(work: str, paces: Mapping[str, Pace]) -> Iterator[Row]:
    for name, pace in paces.items():
        yield median_row(work, name, pace.images_per_s, "images/s")
        yield median_row(work, name, pace.images_per_cpu_s, "images/CPU-s")


def ratio_row(work: str, paces: Mapping[str, Pace], ours: str, other: str, target: float | None) -> Row:
    ratios = _ratios(paces[ours].images_per_s, paces[other].images_per_s)
    return median_row(work, f"{ours} / {other}", ratios, "ratio", target)


def cpu_ratio_row(work: str, paces: Mapping[str, Pace], ours: str, other: str) -> Row:
    """By processor time, which says more where others use the machine too."""
    ratios = _ratios(paces[ours].images_per_cpu_s, paces[other].images_per_cpu_s)
    return median_row(work, f"{ours} / {other}", ratios, "ratio of CPU time")


def _ratios(ours: Sequence[float], other: Sequence[float]) -> list[float]:
    """Round by round."""
    return [one / two for one, two in zip(ours, other, strict=True)]
