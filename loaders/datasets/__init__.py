"""The datasets by name, one entry each. Imports no torch.

`base.py` says what an entry holds, `prepared.py` what a sweep may change about it; `folders.py` finds out
what is in a folder of images (`digests.py` knows its files' content, `disk.py` the space they will take).
"""

from __future__ import annotations

from common.registry import Registry
from loaders.datasets.base import (
    ORIGINAL,
    RAW,
    Augmentation,
    AugmentationName,
    Dataset,
    Encoding,
    Loader,
    Part,
    Schedule,
    Training,
    WriteMode,
)
from loaders.datasets.disk import beton_bytes
from loaders.datasets.folders import (
    PART_FOLDERS,
    Contents,
    class_files,
    fingerprint,
    folder_classes,
    look_into,
    require_files,
)
from loaders.datasets.photographs import FOLDER, IMAGENET
from loaders.datasets.prepared import prepared, usual_augmentation
from loaders.datasets.small import CIFAR10, CIFAR100, DIGITS, FASHION_MNIST, GLYPHS100

__all__ = [
    "DATASETS",
    "ORIGINAL",
    "PART_FOLDERS",
    "RAW",
    "Augmentation",
    "AugmentationName",
    "Contents",
    "Dataset",
    "Encoding",
    "Loader",
    "Part",
    "Schedule",
    "Training",
    "WriteMode",
    "beton_bytes",
    "class_files",
    "find",
    "fingerprint",
    "folder_classes",
    "look_into",
    "prepared",
    "require_files",
    "usual_augmentation",
]

DATASETS: Registry[Dataset] = Registry(
    Dataset,
    "dataset",
    attribute="DATASETS",
    builtin={
        entry.name: entry for entry in (DIGITS, FASHION_MNIST, CIFAR10, CIFAR100, GLYPHS100, IMAGENET, FOLDER)
    },
)


def find(name: str) -> Dataset:
    """The dataset of that name.

    Raises:
        ValueError: no such dataset; the message names the nearest one.
    """
    return DATASETS.find(name)
