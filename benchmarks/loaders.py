"""Speed of the loaders against stock FFCV and torchvision: `python -m benchmarks.loaders`.

All variants run in one process on the same images. In every round each variant runs once, one after the
other; a ratio is the median of the rounds' ratios. It takes some minutes on two cores, and one with
`quick=true`. The photographs are seeded crops of scikit-learn's two sample images, with varied brightness and
added noise.

FFCV's own pipeline runs with `loaders.ffcv_patches`, none of which is on the path of its images. Its JPEGs
have no restart markers. Ours have one after every MCU and are a few per cent larger. `JPEG decoding alone`
decodes FFCV's, which are faster.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.operation import Operation
from ffcv.transforms import RandomHorizontalFlip, RandomTranslate, ToTensor
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.images import QUALITY, encode_plain, make_photographs, write_beton
from benchmarks.report import Row, cores, median_row, print_rows, write_rows
from common.cli import command, parse
from loaders import datasets, ffcv_patches, jpeg  # noqa: F401  # patches FFCV for all variants
from loaders.betons import Beton
from loaders.encoding import encode_jpeg, shrink
from loaders.feeds import Kind, open_feed
from loaders.kernels import U64
from loaders.layout import JPEG, RAW
from loaders.resize import random_box
from loaders.stream import PrefetchReader, Reader

RESULTS = Path(__file__).parent / "results" / "loaders.json"
SMALL, PHOTOGRAPHS = datasets.DATASETS["cifar100"], datasets.DATASETS["folder"]
SMALL_BATCH, BATCH = 128, 64
MIN_SECONDS = 0.5  # of a measurement, in full epochs

Variants = Mapping[str, Callable[[], int]]
"""By name, a function that runs one epoch and returns how many images it saw."""


@dataclass(frozen=True, kw_only=True)
class LoaderBenchmark:
    """Settings of the benchmark."""

    quick: bool = False
    """Fewer images and rounds: a quick check, not a result."""
    rounds: int = 0
    """How often each variant runs (default: 9, or 3 when quick)."""
    results: Path = RESULTS
    """File that the figures are written to."""

    @property
    def repeats(self) -> int:
        """How often each variant runs."""
        return self.rounds or (3 if self.quick else 9)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Images per second and per second of processor time (of all processes), one entry per round."""

    images_per_s: list[float]
    images_per_cpu_s: list[float]


@command
def main(argv: Sequence[str]) -> int:
    """Run all comparisons, print the tables and write the figures."""
    config = parse(LoaderBenchmark, argv, prog="python -m benchmarks.loaders", description=__doc__ or "")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows += small_images(root, 10_000 if config.quick else 50_000, config.repeats)
        photographs = make_photographs(128 if config.quick else 1024)
        rows += jpeg_photographs(root, photographs, config.repeats)
        rows += raw_photographs(root, photographs, config.repeats)
    print_rows(rows)
    write_rows(config.results, rows, quick=config.quick)
    return 0


def small_images(root: Path, images: int, rounds: int) -> list[Row]:
    """32x32 pixels, padded, cropped and flipped."""
    work = f"{images:,} x 32x32, crop + flip"
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(images) % 100
    beton = write_beton(root / "small", [(RAW, image, image.tobytes()) for image in pixels], labels)
    steps = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    theirs = data_loader(ArrayImages(pixels, labels, steps), SMALL_BATCH)
    stock = [SimpleRGBImageDecoder(), RandomTranslate(padding=4), RandomHorizontalFlip(), ToTensor()]
    paces = race(
        {
            "resident": our_feed(beton, SMALL, SMALL_BATCH, "resident"),
            "stream": our_feed(beton, SMALL, SMALL_BATCH, "stream"),
            "stream without FFCV": our_feed(beton, SMALL, SMALL_BATCH, "stream", PrefetchReader),
            "stock FFCV": stock_feed(beton, SMALL_BATCH, stock),
            f"torchvision DataLoader, {cores()} workers": lambda: sum(len(labels) for _, labels in theirs),
        },
        rounds,
    )
    return [
        *pace_rows(work, paces),
        ratio_row(work, paces, "resident", "stock FFCV", 2.5),
        ratio_row(work, paces, "resident", f"torchvision DataLoader, {cores()} workers", 30),
        ratio_row(work, paces, "stream", "stock FFCV", None),
        ratio_row(work, paces, "stream without FFCV", "stream", None),
    ]


def jpeg_photographs(root: Path, photographs: list[NDArray[np.uint8]], rounds: int) -> list[Row]:
    """Photographs of about 500x375 as JPEG, a random box scaled to 224x224, flipped."""
    labels = np.arange(len(photographs)) % 2
    plain = [encode_plain(image) for image in photographs]
    cuttable = [encode_jpeg(image, QUALITY) for image in photographs]
    kilobytes = statistics.mean(map(len, plain)) / 1000
    work = f"photographs 500x375, JPEG q90 ({kilobytes:.0f} KB), random-resized-crop 224 + flip"

    def stored(blobs: list[bytes]) -> list[tuple[int, NDArray[np.uint8], bytes]]:
        return [(JPEG, image, blob) for image, blob in zip(photographs, blobs, strict=True)]

    ours = write_beton(root / "ours", stored(cuttable), labels)
    theirs = write_beton(root / "theirs", stored(plain), labels)
    for number, blob in enumerate(plain):
        folder = root / "files" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}.jpg").write_bytes(blob)
    steps = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    files = data_loader(ImageFolder(root / "files", steps), BATCH)
    baseline, alone = f"torchvision DataLoader, {cores()} workers", "JPEG decoding alone"
    paces = race(
        {
            "stream": our_feed(ours, PHOTOGRAPHS, BATCH, "stream"),
            "stream without FFCV": our_feed(ours, PHOTOGRAPHS, BATCH, "stream", PrefetchReader),
            "stock FFCV": stock_feed(theirs, BATCH, stock_resized_crop()),
            alone: decoding_alone(plain, photographs[0].shape),
            "cutting and decoding our boxes alone": decoding_boxes(cuttable, photographs[0].shape),
            baseline: lambda: sum(len(labels) for _, labels in files),
        },
        rounds,
    )
    return [
        *pace_rows(work, paces),
        ratio_row(work, paces, "stream", "stock FFCV", 1.5),
        ratio_row(work, paces, "stream", baseline, 5),
        ratio_row(work, paces, "stream", alone, 0.85),
        ratio_row(work, paces, "stream without FFCV", "stream", None),
    ]


def raw_photographs(root: Path, photographs: list[NDArray[np.uint8]], rounds: int) -> list[Row]:
    """The photographs raw, the longer side 256 pixels."""
    work = "photographs raw, 256 px, random-resized-crop 224 + flip"
    small = [shrink(image, 256) for image in photographs]
    beton = write_beton(
        root / "raw", [(RAW, image, image.tobytes()) for image in small], np.arange(len(small)) % 2
    )
    paces = race(
        {
            "stream": our_feed(beton, PHOTOGRAPHS, BATCH, "stream"),
            "stock FFCV": stock_feed(beton, BATCH, stock_resized_crop()),
        },
        rounds,
    )
    return [*pace_rows(work, paces), ratio_row(work, paces, "stream", "stock FFCV", 1.5)]


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
    """A DataLoader that keeps its processes. They are spawned, because numba's threads forbid a fork."""
    return DataLoader(
        images,
        batch_size,
        shuffle=True,
        num_workers=cores(),
        drop_last=True,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )


def stock_resized_crop() -> list[Operation]:
    return [RandomResizedCropRGBImageDecoder((224, 224)), RandomHorizontalFlip(), ToTensor()]


def decoding_alone(blobs: list[bytes], shape: tuple[int, ...]) -> Callable[[], int]:
    """Every JPEG in full, with one thread per core."""
    arrays = [np.frombuffer(blob, np.uint8) for blob in blobs]
    pool = ThreadPoolExecutor(cores())

    def decode(part: Sequence[NDArray[np.uint8]]) -> int:
        memory = np.empty(int(np.prod(shape)), np.uint8)
        return sum(len(jpeg.decode(blob, shape[0], shape[1], memory)) > 0 for blob in part)

    parts = [arrays[start : start + 8] for start in range(0, len(arrays), 8)]
    return lambda: sum(pool.map(decode, parts))


def decoding_boxes(blobs: list[bytes], shape: tuple[int, ...]) -> Callable[[], int]:
    """The part of every JPEG under a random box: the least that the stream feed has to do."""
    arrays = [np.frombuffer(blob, np.uint8) for blob in blobs]
    pool, epochs = ThreadPoolExecutor(cores()), count()
    largest = max(map(len, blobs)) + jpeg.HEADROOM

    def decode(epoch: int, part: Sequence[int]) -> int:
        memory, smaller = np.empty(int(np.prod(shape)), np.uint8), np.empty(largest, np.uint8)
        for sample in part:
            top, left, height, width = random_box(U64(1), U64(epoch), U64(sample), shape[0], shape[1])
            size, _, _, rows, columns = jpeg.cut(
                arrays[sample], top, top + height, left, left + width, 1, smaller
            )
            jpeg.decode(smaller[:size], rows, columns, memory)
        return len(part)

    parts = [range(start, min(start + 8, len(arrays))) for start in range(0, len(arrays), 8)]

    def epoch() -> int:
        return sum(pool.map(functools.partial(decode, next(epochs)), parts))

    return epoch


class ArrayImages(Dataset[tuple[torch.Tensor, int]]):
    """Images in memory, as torchvision's CIFAR classes hold them."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], steps: v2.Transform) -> None:
        self.pixels, self.labels, self.steps = pixels, labels.tolist(), steps

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.steps(Image.fromarray(self.pixels[index])), self.labels[index]


def pace_rows(work: str, paces: Mapping[str, Pace]) -> Iterator[Row]:
    for name, pace in paces.items():
        yield median_row(work, name, pace.images_per_s, "images/s")
        yield median_row(work, name, pace.images_per_cpu_s, "images/CPU-s")


def ratio_row(work: str, paces: Mapping[str, Pace], ours: str, other: str, target: float | None) -> Row:
    pairs = zip(paces[ours].images_per_s, paces[other].images_per_s, strict=True)
    ratios = [one / two for one, two in pairs]
    return median_row(work, f"{ours} / {other}", ratios, "ratio", target)


if __name__ == "__main__":
    sys.exit(main())
