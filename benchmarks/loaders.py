"""Speed of the loaders against stock FFCV and others: `python -m benchmarks.loaders`.

All variants run in one process on the same images. In every round each variant runs once, one after the
other; a ratio is the median of the rounds' ratios. It takes some minutes on two cores, and one with
`quick=true`. The photographs are seeded crops of scikit-learn's two sample images, with varied brightness and
added noise; `photographs=FOLDER` measures on the JPEG files of a folder instead.

FFCV's own pipeline runs with `loaders.ffcv_patches`, none of which is on the path of its images. Its JPEGs
have no restart markers. Ours have one after every MCU and are a few per cent larger. `JPEG decoding alone`
decodes FFCV's, which are faster.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from ffcv.fields.decoders import SimpleRGBImageDecoder
from ffcv.transforms import RandomHorizontalFlip, RandomTranslate, ToTensor
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.images import QUALITY, encode_plain, make_photographs, write_beton
from benchmarks.photographs import measure_photographs
from benchmarks.race import (
    data_loader,
    decoding_alone,
    our_feed,
    pace_rows,
    race,
    ratio_row,
    stock_feed,
    stock_resized_crop,
)
from benchmarks.report import Row, cores, print_rows, write_rows
from common.cli import command, parse
from loaders import datasets, jpeg
from loaders.encoding import encode_jpeg, shrink
from loaders.kernels import U64
from loaders.layout import JPEG, RAW
from loaders.resize import random_box
from loaders.stream import PrefetchReader

RESULTS = Path(__file__).parent / "results"
SMALL, PHOTOGRAPHS = datasets.DATASETS["cifar100"], datasets.DATASETS["folder"]
SMALL_BATCH, BATCH = 128, 64


@dataclass(frozen=True, kw_only=True)
class LoaderBenchmark:
    """Settings of the benchmark."""

    quick: bool = False
    """Fewer images and rounds: a quick check, not a result."""
    rounds: int = 0
    """How often each variant runs (default: 9, or 3 when quick)."""
    photographs: Path | None = None
    """A folder of JPEG files to measure on, instead of photographs that are made."""
    results: Path | None = None
    """File that the figures are written to (default: loaders.json or photographs.json in the results)."""

    @property
    def repeats(self) -> int:
        """How often each variant runs."""
        return self.rounds or (3 if self.quick else 9)


@command
def main(argv: Sequence[str]) -> int:
    """Run all comparisons, print the tables and write the figures."""
    config = parse(LoaderBenchmark, argv, prog="python -m benchmarks.loaders", description=__doc__ or "")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if config.photographs:
            files = sorted(p for p in config.photographs.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
            if not files:
                raise ValueError(f"photographs={config.photographs}: no JPEG files there")
            rows += measure_photographs(root, files[:50] if config.quick else files, config.repeats)
        else:
            rows += small_images(root, 10_000 if config.quick else 50_000, config.repeats)
            photographs = make_photographs(128 if config.quick else 1024)
            rows += jpeg_photographs(root, photographs, config.repeats)
            rows += raw_photographs(root, photographs, config.repeats)
    print_rows(rows)
    name = "photographs.json" if config.photographs else "loaders.json"
    write_rows(config.results or RESULTS / name, rows, quick=config.quick)
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
            alone: decoding_alone(plain, photographs),
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


if __name__ == "__main__":
    sys.exit(main())
