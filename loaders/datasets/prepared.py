"""A dataset as a sweep asks for it: with another augmentation, or with images of another size."""

from __future__ import annotations

from dataclasses import replace

from loaders.datasets.base import RAW, Augmentation, AugmentationName, Dataset
from loaders.datasets.small import CIFAR_TRAINING

LARGEST_SMALL = 64  # pixels: what is asked for in such a size is taken to have it


def prepared(
    dataset: Dataset, augmentation: AugmentationName | None = None, image_size: int | None = None
) -> Dataset:
    """The dataset with another augmentation than its own, and with networks that see another image size.

    A folder of images that is asked for in 64 pixels or less is one of small images of that size: stored raw,
    shifted, and trained on by CIFAR's recipe. `resized-crop` scales them instead.

    Raises:
        ValueError: a size that its images do not have.
    """
    size, own = dataset.image_size if image_size is None else image_size, dataset.augmentation
    if size < 1:
        raise ValueError(f"image_size={size}: must be 1 or more")
    kind = usual_augmentation(dataset, size) if augmentation in (None, "none") else augmentation
    changed = dataset
    if own.kind == "resized-crop" and kind == "pad-crop":
        changed = replace(
            dataset,
            augmentation=Augmentation(kind="pad-crop", pad=max(1, size // 8), flip=own.flip),
            stored=RAW,
            training=CIFAR_TRAINING,
            hyperparameters={},
        )
    elif own.kind == "pad-crop" and kind == "resized-crop":
        scaled = Augmentation(kind="resized-crop", flip=own.flip, resize=size)
        changed = replace(dataset, augmentation=scaled)
    elif own.kind == "resized-crop":
        resize = round(own.resize * size / dataset.image_size)
        changed = replace(dataset, augmentation=replace(own, resize=resize))
    elif size != dataset.image_size:
        raise ValueError(
            f"image_size={size}: {dataset.name} has images of {dataset.image_size} pixels "
            "(augmentation=resized-crop scales them)"
        )
    random = changed.augmentation.random and augmentation != "none"
    return replace(changed, image_size=size, augmentation=replace(changed.augmentation, random=random))


def usual_augmentation(dataset: Dataset, image_size: int | None = None) -> AugmentationName:
    """What `prepared` chooses where nothing is asked for."""
    small = dataset.classes is None and (image_size or dataset.image_size) <= LARGEST_SMALL
    return "pad-crop" if small else dataset.augmentation.kind
