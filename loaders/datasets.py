"""The datasets by name: sizes, statistics and what a training image goes through. Imports no torch."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

Part = Literal["train", "test"]
PART_FOLDERS: Mapping[Part, str] = {"train": "train", "test": "val"}  # of a folder of images
# Those of torchvision.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What a training image goes through; every draw is a function of (key, epoch, sample index).

    `pad-crop` shifts an image by up to `pad` pixels over a black border. `resized-crop` cuts a box of
    8 to 100 % of the area and of 3:4 to 4:3 and scales it to the image size, torchvision's
    RandomResizedCrop. Evaluation images are left alone by the first; under the second their shorter side
    becomes `resize` pixels and the centre is cut out.
    """

    kind: Literal["pad-crop", "resized-crop"]
    pad: int = 0
    flip: bool = True
    resize: int = 256


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How images are stored in a beton; it decides pixels, so it is part of the data's fingerprint.

    `proportion` stores about `jpeg_share` of the images as JPEG and the others raw. `max_resolution`
    bounds the longer side in pixels; 0 keeps the size.
    """

    write_mode: Literal["raw", "jpg", "proportion"] = "raw"
    max_resolution: int = 0
    jpeg_quality: int = 90
    jpeg_share: float = 0.5

    def __post_init__(self) -> None:
        if self.max_resolution < 0:
            raise ValueError(f"max_resolution={self.max_resolution}: must be 0 (keep the size) or more")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality={self.jpeg_quality}: must lie in 1..100")
        if not 0 <= self.jpeg_share <= 1:
            raise ValueError(f"jpeg_share={self.jpeg_share}: must lie in [0, 1]")

    @property
    def label(self) -> str:
        """`raw`, `jpg-500-q90` or, as in ffcv-imagenet, `proportion-400-0.1-q90`."""
        size = f"-{self.max_resolution}" if self.max_resolution else ""
        share = f"-{self.jpeg_share:g}" if self.write_mode == "proportion" else ""
        quality = "" if self.write_mode == "raw" else f"-q{self.jpeg_quality}"
        return f"{self.write_mode}{size}{share}{quality}"


RAW = Encoding()
# ffcv-imagenet's choices: resolution, share of JPEGs and quality by network.
PHOTOGRAPHS = Encoding(write_mode="proportion", max_resolution=500, jpeg_share=0.5)
PHOTOGRAPHS_BY_ARCH: Mapping[str, Encoding] = {
    "resnet18": Encoding(write_mode="proportion", max_resolution=400, jpeg_share=0.1),
}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset: all that the other rooms need to know before its images are there."""

    name: str
    summary: str
    version: int
    classes: int | None
    """How many; None where the folders say."""
    image_size: int
    """Side in pixels of what a feed yields."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the training pixels in [0, 1], RGB."""
    augmentation: Augmentation
    arch: str
    """The architecture that it is used with by default."""
    needs_data: bool = False
    """Whether `data=` must say where the images are."""
    files: tuple[str, ...] = ()
    """Names of which `data=` must hold one; none where it holds folders of images."""
    train_samples: int | None = None
    test_samples: int | None = None

    def encoding(self, arch: str | None = None, **asked: Any) -> Encoding:
        """How this dataset's images are stored for a network, changed by the fields of `asked` not None.

        Raises:
            ValueError: an encoding that this dataset cannot have.
        """
        changes = {name: value for name, value in asked.items() if value is not None}
        if self.augmentation.kind != "pad-crop":
            return replace(PHOTOGRAPHS_BY_ARCH.get(arch or self.arch, PHOTOGRAPHS), **changes)
        if changes:
            name, value = next(iter(changes.items()))
            raise ValueError(f"{name}={value}: {self.name} is stored raw, in its own size")
        return RAW


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR_AUGMENTATION = Augmentation(kind="pad-crop", pad=4)

_ENTRIES = (
    Dataset(
        name="digits",
        summary="1,797 real handwritten digits of 8x8 pixels that come with scikit-learn",
        version=1,
        classes=10,
        image_size=8,
        mean=(0.3053, 0.3053, 0.3053),
        std=(0.3759, 0.3759, 0.3759),
        augmentation=Augmentation(kind="pad-crop", pad=1, flip=False),
        arch="resnet8",
        # Chosen by the lead on plain models' accuracy alone: 300 images teach the plain network 95 to 96 %
        # of the digits, and 1,497 test images give the NFR a resolution of 0.13 % of the old classes'.
        train_samples=300,
        test_samples=1497,
    ),
    Dataset(
        name="cifar10",
        summary="CIFAR-10: 60,000 photographs of 32x32 pixels (data= or download=true)",
        version=1,
        classes=10,
        image_size=32,
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        augmentation=CIFAR_AUGMENTATION,
        arch="resnet18",
        needs_data=True,
        files=("cifar-10-python.tar.gz", "cifar-10-batches-py"),
        train_samples=50_000,
        test_samples=10_000,
    ),
    Dataset(
        name="cifar100",
        summary="CIFAR-100: 60,000 photographs of 32x32 pixels (data= or download=true)",
        version=1,
        classes=100,
        image_size=32,
        mean=CIFAR_MEAN,
        std=CIFAR_STD,
        augmentation=CIFAR_AUGMENTATION,
        arch="resnet18",
        needs_data=True,
        files=("cifar-100-python.tar.gz", "cifar-100-python"),
        train_samples=50_000,
        test_samples=10_000,
    ),
    Dataset(
        name="glyphs100",
        summary="60,000 drawn characters of 32x32 pixels, the shape of CIFAR-100, made here (no download)",
        version=1,
        classes=100,
        image_size=32,
        mean=(0.316, 0.316, 0.316),
        std=(0.186, 0.186, 0.186),
        augmentation=CIFAR_AUGMENTATION,
        arch="resnet18",
        train_samples=50_000,
        test_samples=10_000,
    ),
    Dataset(
        name="imagenet",
        summary="ImageNet-1k: data= has train/ and val/ with a folder per wnid (ILSVRC2012)",
        version=1,
        classes=1000,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation=Augmentation(kind="resized-crop", resize=256),
        arch="resnet18",
        needs_data=True,
        train_samples=1_281_167,
        test_samples=50_000,
    ),
    Dataset(
        name="folder",
        summary="any images: data= has train/ and val/ with a folder per class",
        version=1,
        classes=None,
        image_size=224,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        augmentation=Augmentation(kind="resized-crop", resize=256),
        arch="resnet18",
        needs_data=True,
    ),
)
DATASETS: Mapping[str, Dataset] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
        ValueError: no such dataset; the message names the nearest one.
    """
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(DATASETS)}"
    raise ValueError(f"unknown dataset '{name}' ({hint})")


def fingerprint(dataset: Dataset, data: Path | None = None, encoding: Encoding | None = None) -> str:
    """Identity of the images and labels that a run sees, such as `digits-1-3fa94c01d2`.

    Datasets of fixed content are named by their version and sizes alone; a folder of images, of which
    nothing is known, by the names and sizes of its files.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    encoding = encoding or dataset.encoding()
    content = [dataset.name, dataset.version, dataset.train_samples, dataset.test_samples, encoding.label]
    if dataset.classes is None:
        content.append(_listing(dataset, data))
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return f"{dataset.name}-{dataset.version}-{digest[:10]}"


def class_count(dataset: Dataset, data: Path | None = None) -> int:
    """How many classes there are.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    return len(folder_classes(dataset, data)) if dataset.classes is None else dataset.classes


@cache
def train_count(dataset: Dataset, data: Path | None) -> int:
    """How many training images there are; a look into the folder where the dataset does not say."""
    if dataset.train_samples is not None:
        return dataset.train_samples
    return len(image_files(data / PART_FOLDERS["train"])) if data else 0


def require_files(dataset: Dataset, data: Path) -> None:
    """Look whether `data` may hold the dataset, by names alone.

    Raises:
        ValueError: it cannot.
    """
    if not dataset.files:
        folder_classes(dataset, data)
    elif not any((data / name).exists() for name in dataset.files):
        raise ValueError(f"data={data} holds neither {' nor '.join(dataset.files)}")


def folder_classes(dataset: Dataset, data: Path | None) -> tuple[str, ...]:
    """Names of the class folders under `data`, sorted; they must be the same for both parts.

    Raises:
        ValueError: not an image folder with train/ and val/, or not as many classes as the dataset has.
    """
    if data is None:
        raise ValueError(f"{dataset.name} needs data=FOLDER, a folder with train/ and val/")
    if not data.is_dir():
        raise ValueError(f"data={data} is no folder")
    names: dict[str, tuple[str, ...]] = {}
    for name in PART_FOLDERS.values():
        if not (data / name).is_dir():
            raise ValueError(f"{data} lacks the folder {name}/: {dataset.name} needs train/ and val/")
        names[name] = tuple(sorted(p.name for p in (data / name).iterdir() if p.is_dir()))
    if not names["train"]:
        raise ValueError(f"{data / 'train'} has no class folders")
    for part, other in (("train", "val"), ("val", "train")):
        if missing := sorted(set(names[other]) - set(names[part])):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"{data / part} lacks the class folder '{missing[0]}'{more}, which {other}/ has")
    if dataset.classes not in (None, len(names["train"])):
        raise ValueError(
            f"{data} has {len(names['train'])} class folders, {dataset.name} {dataset.classes} "
            "(dataset=folder takes any number)"
        )
    return names["train"]


def image_files(folder: Path) -> list[Path]:
    """All image files under `folder`, sorted by path."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _listing(dataset: Dataset, data: Path | None) -> str:
    """Digest of the names and sizes of a folder's images."""
    folder_classes(dataset, data)
    assert data is not None
    digest = hashlib.sha256()
    for name in PART_FOLDERS.values():
        for path in image_files(data / name):
            digest.update(os.fsencode(f"{path.relative_to(data)} {path.stat().st_size}\n"))
    return digest.hexdigest()
