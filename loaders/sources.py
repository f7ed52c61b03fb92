"""The images that betons are built from: all labels at once, images one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.registry import load_object
from common.text import displayed
from loaders.datasets import Dataset, Part, class_files, folder_classes
from loaders.images import RgbImage, read_image
from loaders.kernels import epoch_order


class Source(Protocol):
    """One part of a dataset. It can be pickled, so that several processes can read it."""

    classes: tuple[str, ...]
    """Names in the order of the labels."""
    labels: NDArray[np.int64]
    parallel: bool
    """Whether reading an image takes so long that several processes should share the work."""

    def read(self, index: int) -> RgbImage:
        """One sample's image.

        Raises:
            UnreadableError: it cannot be read.
        """


class ArraySource:
    """Images that are already in memory."""

    parallel = False

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]
    ) -> None:
        self.images, self.labels, self.classes = images, labels, classes

    def read(self, index: int) -> RgbImage:
        """One sample's image."""
        return RgbImage(pixels=self.images[index])


class FolderSource:
    """Image files in one folder per class, numbered as by torchvision's ImageFolder."""

    parallel = True

    def __init__(self, root: Path, classes: tuple[str, ...], files: Sequence[Sequence[str]]) -> None:
        """Take `files`, paths under `root`, by class."""
        self.classes = tuple(displayed(name) for name in classes)
        self._root = root
        self._paths = [path for group in files for path in group]
        self.labels = np.repeat(np.arange(len(files), dtype=np.int64), [len(group) for group in files])

    def read(self, index: int) -> RgbImage:
        """One sample's image.

        Raises:
            UnreadableError: empty, truncated, or not an image.
        """
        return read_image(self._root / self._paths[index])

    def content(self, index: int) -> bytes:
        """One sample's file as it is; empty if it cannot be read."""
        try:
            return (self._root / self._paths[index]).read_bytes()
        except OSError:
            return b""


def open_source(dataset: Dataset, part: Part, data: Path | None, download: Path | None = None) -> Source:
    """Find a dataset's images, and read its labels.

    `download` is the folder to download them to where `data` is not given; None forbids it.

    Raises:
        ValueError: `data` does not hold what the dataset needs.
    """
    source: Source = load_object(dataset.source)(dataset, part, data, download)
    return source


def digits(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """scikit-learn's digits, divided into parts once and for all."""
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    order = epoch_order(0, 0, np.arange(len(digits.target), dtype=np.int64))
    train, test = dataset.train_samples, dataset.test_samples
    assert train is not None
    assert test is not None
    chosen = np.sort(order[:train] if part == "train" else order[train : train + test])
    grey = np.rint(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    rgb = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=3))
    return ArraySource(rgb, digits.target[chosen].astype(np.int64), tuple("0123456789"))


def cifar(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """CIFAR as torchvision reads it."""
    from torchvision import datasets  # imports torch: only CIFAR takes these seconds
    from torchvision.datasets.utils import check_integrity

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[dataset.name]
    root = data or download
    if root is None:
        raise ValueError(
            f"{dataset.name} needs data=FOLDER with {kind.filename} (or it unpacked), or download=true"
        )
    # Asked to download, torchvision unpacks an intact archive that is there without touching the network.
    intact = check_integrity(str(root / kind.filename), kind.tgz_md5)
    try:
        made = kind(str(root), train=part == "train", download=data is None or intact)
    except RuntimeError as error:
        raise ValueError(f"{root} has no intact {kind.filename} ({error})") from error
    return ArraySource(made.data, np.array(made.targets, dtype=np.int64), tuple(made.classes))


def folder(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """A folder per class."""
    classes = folder_classes(dataset, data)
    assert data is not None
    found = class_files(dataset, part, data, classes)
    return FolderSource(data, classes, [[file.path for file in group] for group in found])


def glyphs(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """Characters that are drawn when they are read."""
    from loaders.glyphs import GlyphSource

    samples = dataset.train_samples if part == "train" else dataset.test_samples
    assert samples is not None
    return GlyphSource(dataset.version, part, samples)
