"""Where a dataset's images come from: labels at once, images one by one. Used only to build betons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.registry import load_object
from loaders.datasets import PART_FOLDERS, Dataset, Part, folder_classes, image_files
from loaders.kernels import epoch_order


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pixels uint8 [H, W, 3], and what had to be converted to get them, if anything."""

    pixels: NDArray[np.uint8]
    converted: str = ""


class UnreadableError(Exception):
    """An image that cannot be read; the message names the file and says why."""


class Source(Protocol):
    """One part of a dataset; can be pickled, so that processes can share its reading."""

    classes: tuple[str, ...]
    """Names in the order of the labels."""
    labels: NDArray[np.int64]
    parallel: bool
    """Whether an image takes so long that several processes should share the work."""
    largest: int | None
    """Bytes of the largest image's pixels, where that is known."""

    def read(self, index: int) -> Picture:
        """One sample's image.

        Raises:
            UnreadableError: it cannot be read.
        """


class ArraySource:
    """Images that are in memory already."""

    parallel = False

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]
    ) -> None:
        self.images, self.labels, self.classes = images, labels, classes
        self.largest: int | None = images[0].nbytes

    def read(self, index: int) -> Picture:
        """One sample's image."""
        return Picture(pixels=self.images[index])


class FolderSource:
    """Image files in one folder a class, as torchvision's ImageFolder numbers them: all sorted by name."""

    parallel = True
    largest: int | None = None

    def __init__(self, root: Path, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._root = root
        self._paths: list[str] = []
        labels: list[int] = []
        for label, name in enumerate(classes):
            found = [str(path.relative_to(root)) for path in image_files(root / name)]
            if not found:
                raise ValueError(f"{root / name} holds no images")
            self._paths += found
            labels += [label] * len(found)
        self.labels = np.array(labels, dtype=np.int64)

    def read(self, index: int) -> Picture:
        """One sample's image.

        Raises:
            UnreadableError: empty, torn, or no image at all.
        """
        return read_picture(self._root / self._paths[index])


def open_source(dataset: Dataset, part: Part, data: Path | None, download: Path | None = None) -> Source:
    """Find a dataset's images, and read its labels.

    `download` is a folder to load them to from the network where `data` is not given.

    Raises:
        ValueError: `data` does not hold what the dataset needs.
    """
    source: Source = load_object(dataset.source)(dataset, part, data, download)
    return source


def read_picture(path: Path) -> Picture:
    """Read an image file of any mode as RGB.

    Raises:
        UnreadableError: empty, torn, or no image at all.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            expected = Image.registered_extensions().get(path.suffix.lower())
            named = "" if image.format in (expected, "MPO") else f"{image.format} named {path.suffix}"
            mode = image.mode
            if mode.startswith("I"):  # 16 bits, which Pillow would cut off rather than scale
                grey = np.asarray(image).astype(np.int64) >> 8
                pixels = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
            else:
                pixels = np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "empty" if path.is_file() and path.stat().st_size == 0 else str(error)
        raise UnreadableError(f"{path}: {reason}") from error
    converted = ", ".join(filter(None, (named, "" if mode == "RGB" else mode)))
    return Picture(pixels=pixels, converted=converted)


def digits(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """scikit-learn's digits, divided into parts once and for all."""
    from sklearn.datasets import load_digits  # a second to import, and needed only here

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
    from torchvision import datasets  # and with it torch: seconds that only this takes
    from torchvision.datasets.utils import check_integrity

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[dataset.name]
    root = data or download
    if root is None:
        raise ValueError(
            f"{dataset.name} needs data=FOLDER with {kind.filename} (or what it unpacks to), or download=true"
        )
    # Asked to download, torchvision unpacks a whole archive that is there without touching the network.
    whole = check_integrity(str(root / kind.filename), kind.tgz_md5)
    try:
        made = kind(str(root), train=part == "train", download=data is None or whole)
    except RuntimeError as error:
        raise ValueError(f"{root} holds no whole {kind.filename} ({error})") from error
    return ArraySource(made.data, np.array(made.targets, dtype=np.int64), tuple(made.classes))


def folder(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """A folder per class."""
    classes = folder_classes(dataset, data)
    assert data is not None
    return FolderSource(data / PART_FOLDERS[part], classes)


def glyphs(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """Characters that are drawn when they are read."""
    from loaders.glyphs import GlyphSource

    samples = dataset.train_samples if part == "train" else dataset.test_samples
    assert samples is not None
    return GlyphSource(dataset.version, part, samples)
