"""Folders of images, and the identity of the images that a run sees."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loaders.datasets.base import Dataset, Encoding, Part

PART_FOLDERS: Mapping[Part, str] = {"train": "train", "test": "val"}  # of a folder of images
# Those of torchvision.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What there is of a dataset."""

    classes: int
    train_samples: int
    listing: str | None = None
    """Digest of the names and sizes of a folder's images; None for a dataset of fixed content."""


def look_into(dataset: Dataset, data: Path | None) -> Contents:
    """Find out what there is; a folder of images is walked once, everything else is known already.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    if dataset.classes is not None and dataset.train_samples is not None:
        return Contents(classes=dataset.classes, train_samples=dataset.train_samples)
    classes = folder_classes(dataset, data)
    assert data is not None
    digest, counts = hashlib.sha256(), {}
    for part, name in PART_FOLDERS.items():
        files = image_files(data / name)
        counts[part] = len(files)
        for path in files:
            digest.update(os.fsencode(f"{path.relative_to(data)} {path.stat().st_size}\n"))
    return Contents(classes=len(classes), train_samples=counts["train"], listing=digest.hexdigest())


def fingerprint(
    dataset: Dataset,
    data: Path | None = None,
    encoding: Encoding | None = None,
    contents: Contents | None = None,
) -> str:
    """Identity of the images and labels that a run sees, such as `digits-1-3fa94c01d2`.

    Datasets of fixed content are named by their version and sizes alone; a folder of images, of which
    nothing is known, by the names and sizes of its files.

    Args:
        dataset: its entry.
        data: folder of its images, where it needs one.
        encoding: how they are stored, if not in the dataset's own way.
        contents: what `look_into` found, so that nothing is looked at twice.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    contents = contents or look_into(dataset, data)
    encoding = encoding or dataset.encoding()
    content = [dataset.name, dataset.version, dataset.train_samples, dataset.test_samples, encoding.label]
    if contents.listing is not None:
        content.append(contents.listing)
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return f"{dataset.name}-{dataset.version}-{digest[:10]}"


def class_count(dataset: Dataset, data: Path | None = None) -> int:
    """How many classes there are.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    return len(folder_classes(dataset, data)) if dataset.classes is None else dataset.classes


def require_files(dataset: Dataset, data: Path) -> None:
    """Check that `data` may hold the dataset, by names alone.

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
        raise ValueError(f"data={data} is not a directory")
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
