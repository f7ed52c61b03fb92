"""Images for benchmarks: photographs made from scikit-learn's two, and betons of arrays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.betons import Beton, Manifest
from loaders.layout import BetonWriter, StoredImage, read_index

QUALITY = 90


def make_photographs(number: int) -> list[NDArray[np.uint8]]:
    """Photographs of 375x500 pixels: crops of two photographs, with varied brightness and added noise."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = load_sample_images().images
    return [one_photograph(sources[n % len(sources)], rng) for n in range(number)]


def one_photograph(source: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    share = rng.uniform(0.75, 1.0)
    height, width = int(source.shape[0] * share), int(source.shape[1] * share)
    top, left = rng.integers(0, source.shape[0] - height + 1), rng.integers(0, source.shape[1] - width + 1)
    part = cv2.resize(
        source[top : top + height, left : left + width], (500, 375), interpolation=cv2.INTER_AREA
    )
    noisy = part * rng.uniform(0.8, 1.2) + rng.normal(0, 14, part.shape)
    pixels: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels


def encode_plain(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG as FFCV's writer makes it."""
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def write_beton(
    path: Path, images: list[tuple[int, NDArray[np.uint8], bytes]], labels: NDArray[np.int64]
) -> Beton:
    """A beton of (mode, pixels, bytes), with a manifest that is not checked."""
    with path.open("wb") as file:
        writer = BetonWriter(file, most=len(images))
        for (mode, pixels, data), label in zip(images, labels.tolist(), strict=True):
            height, width, _ = pixels.shape
            writer.add(StoredImage(mode=mode, height=height, width=width, data=data), label)
        writer.finish()
    counts = np.bincount(labels)
    manifest = Manifest(
        schema=1,
        dataset="benchmark",
        version=1,
        fingerprint="benchmark",
        part="train",
        encoding="",
        classes=tuple(map(str, range(len(counts)))),
        counts=tuple(counts.tolist()),
        bytes=path.stat().st_size,
        sha256="",
        index_sha256=read_index(path).digest,
        converted={},
        rejected=(),
    )
    return Beton(path=path, manifest=manifest)
