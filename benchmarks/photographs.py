"""Real photographs as they are: how fast, how many bytes, and how far from torchvision's pixels."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.images import QUALITY, encode_plain, write_beton
from benchmarks.peers import SIDE, peers
from benchmarks.race import (
    cpu_ratio_row,
    data_loader,
    decoding_alone,
    our_feed,
    pace_rows,
    race,
    ratio_row,
    stock_feed,
    stock_resized_crop,
)
from benchmarks.report import Row, cores, median_row
from loaders import datasets
from loaders.betons import Beton, ensure_beton
from loaders.datasets import Encoding
from loaders.encoding import encode_jpeg, shrink
from loaders.kernels import U64
from loaders.layout import JPEG, Index, read_index
from loaders.photographs import Crop, File, crop_photographs
from loaders.stream import PrefetchReader

FOLDER = datasets.DATASETS["folder"]
BATCH = 64
LEAST = 400  # photographs in an epoch: each comes as often as it takes
QUALITIES = (50, 75, 85, 90, 95, 100)
OTHERS = (
    Encoding(write_mode="jpg", max_resolution=500),
    Encoding(write_mode="proportion", max_resolution=500, jpeg_share=0.5),
    Encoding(write_mode="proportion", max_resolution=400, jpeg_share=0.1),
)
SMALLER = (SIDE, 112, 64)  # targets at which boxes are decoded at reduced scale


def measure_photographs(root: Path, files: Sequence[Path], rounds: int) -> list[Row]:
    """All rows about JPEG files, which stay in memory after the first round."""
    data = _linked(root / "data", files)
    betons = {
        encoding.label: ensure_beton(FOLDER, "train", data=data, betons=root / "betons", encoding=encoding)
        for encoding in (FOLDER.stored, *OTHERS)
    }
    rows = _speed(root, data, betons, rounds)
    kept = read_index(betons["original"].path)
    file = np.memmap(betons["original"].path, np.uint8, mode="r")
    stored = File(file, kept.starts, kept.sizes, kept.modes, kept.heights, kept.widths)
    return [
        *rows,
        *_sizes(data, betons, kept),
        *_differences(stored, sorted((data / "train").rglob("*.jpg"))),
        *_bytes_per_pixel(files),
    ]


def _linked(data: Path, files: Sequence[Path]) -> Path:
    """A folder of two classes with links to the files, each as often as an epoch needs."""
    for number in range(len(files) * -(-LEAST // len(files))):
        path = files[number % len(files)]
        for part in ("train", "val") if number < 2 else ("train",):
            folder = data / part / str(number % 2)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:05}.jpg").symlink_to(path.absolute())
    return data


def _speed(root: Path, data: Path, betons: dict[str, Beton], rounds: int) -> list[Row]:
    files = ImageFolder(data / "train")
    paths = [(Path(path), label) for path, label in files.samples]
    contents = [path.read_bytes() for path, _ in paths]
    labels = np.array(files.targets)
    pixels = [np.asarray(Image.open(path).convert("RGB")) for path, _ in paths]
    same = write_beton(root / "same", _jpegs(pixels, contents), labels)
    own = write_beton(root / "own", _jpegs(pixels, [encode_plain(image) for image in pixels]), labels)
    steps = v2.Compose([v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    plain = data_loader(ImageFolder(data / "train", steps), BATCH)
    baseline, alone = f"torchvision DataLoader, {cores()} workers", "JPEG decoding alone"
    others = peers(root, paths, BATCH)
    paces = race(
        {
            "original": our_feed(betons["original"], FOLDER, BATCH, "stream"),
            "original without FFCV": our_feed(betons["original"], FOLDER, BATCH, "stream", PrefetchReader),
            **{
                encoding.label: our_feed(betons[encoding.label], FOLDER, BATCH, "stream")
                for encoding in OTHERS
            },
            "stock FFCV, same JPEGs": stock_feed(same, BATCH, stock_resized_crop()),
            f"stock FFCV, its writer's JPEGs (q{QUALITY})": stock_feed(own, BATCH, stock_resized_crop()),
            alone: decoding_alone(contents, pixels),
            baseline: lambda: sum(len(labels) for _, labels in plain),
            **others,
        },
        rounds,
    )
    targets = {
        baseline: 2.7,
        alone: 1.5,
        "stock FFCV, same JPEGs": 2,
        f"stock FFCV, its writer's JPEGs (q{QUALITY})": None,
        **dict.fromkeys(others, 1),
        **dict.fromkeys((encoding.label for encoding in OTHERS), None),
    }
    kilobytes = statistics.mean(map(len, contents)) / 1000
    work = f"{len(set(contents))} photographs ({kilobytes:.0f} KB), random-resized-crop 224 + flip"
    return [
        *pace_rows(work, paces),
        *(ratio_row(work, paces, "original", name, target) for name, target in targets.items()),
        ratio_row(work, paces, "original without FFCV", "original", None),
        *(cpu_ratio_row(work, paces, "original", name) for name in targets),
    ]


def _jpegs(
    pixels: list[NDArray[np.uint8]], contents: list[bytes]
) -> list[tuple[int, NDArray[np.uint8], bytes]]:
    return [(JPEG, image, content) for image, content in zip(pixels, contents, strict=True)]


def _sizes(data: Path, betons: dict[str, Beton], kept: Index) -> list[Row]:
    work = "bytes, by those of the files"
    before = sum(path.stat().st_size for path in (data / "train").rglob("*.jpg"))
    rows = [
        median_row(work, label, [float(read_index(beton.path).sizes.sum() / before)], "ratio")
        for label, beton in betons.items()
    ]
    return [_at_most(row, 1.08) if row.variant == "original" else row for row in rows]


def _differences(stored: File, paths: list[Path]) -> list[Row]:
    """Mean absolute differences in grey levels."""
    work = "pixels, mean difference"
    centre = Crop(train=False, key=U64(0), epoch=U64(0), flip=False, resize=256, reduced=True)
    chosen = np.unique([path.resolve() for path in paths], return_index=True)[1]
    steps = v2.Compose([v2.Resize(256), v2.CenterCrop(SIDE), v2.PILToTensor()])
    theirs = torch.stack([steps(Image.open(paths[sample]).convert("RGB")) for sample in chosen])
    ours = _cropped(stored, chosen, centre, SIDE)
    seen = np.abs(ours - theirs.permute(0, 2, 3, 1).numpy().astype(np.int64)).mean(axis=(1, 2, 3))
    rows = [_at_most(_mean_row(work, "evaluation, to torchvision on the files", seen), 0.2)]
    for side in SMALLER:
        crop = Crop(train=True, key=U64(1), epoch=U64(0), flip=True, resize=0, reduced=True)
        reduced, whole = (_cropped(stored, chosen, crop._replace(reduced=how), side) for how in (True, False))
        changed = np.abs(reduced - whole).mean(axis=(1, 2, 3))
        changed = changed[changed > 0]
        if len(changed):
            rows.append(_at_most(_mean_row(work, f"reduced scale, boxes to {side} pixels", changed), 0.7))
    return rows


def _cropped(stored: File, samples: NDArray[np.int64], crop: Crop, side: int) -> NDArray[np.int64]:
    out = np.empty((len(samples), side, side, 3), np.uint8)
    crop_photographs(stored, samples, crop, out)
    return out.astype(np.int64)


def _mean_row(work: str, variant: str, values: NDArray[np.float64]) -> Row:
    """The mean over images, with their number as `runs` and their standard deviation as `spread`."""
    spread = round(float(values.std()), 3)
    return Row(
        work=work,
        variant=variant,
        value=round(float(values.mean()), 3),
        unit="grey levels",
        runs=len(values),
        spread=spread,
    )


def _at_most(row: Row, target: float) -> Row:
    return replace(row, target=target, met=row.value <= target, at_most=True)


def _bytes_per_pixel(files: Sequence[Path]) -> list[Row]:
    """Of new JPEGs, the longer side at most 500 pixels."""
    images = [shrink(np.asarray(Image.open(path).convert("RGB")), 500) for path in files[::2]]
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    return [
        median_row(
            "new JPEGs at 500 pixels",
            f"q{quality}",
            [sum(len(encode_jpeg(image, quality)) for image in images) / pixels],
            "bytes/pixel",
        )
        for quality in QUALITIES
    ]
