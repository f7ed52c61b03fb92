"""Datasets of photographs of any size, stored as they are."""

from __future__ import annotations

from dataclasses import replace

from loaders.datasets.base import ORIGINAL, Augmentation, Dataset, Training

IMAGENET = Dataset(
    name="imagenet",
    summary="ImageNet-1k: data= has train/ and val/ with a folder per wnid (ILSVRC2012)",
    version=1,
    source="loaders.sources:folder",
    classes=1000,
    image_size=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    augmentation=Augmentation(kind="resized-crop", resize=256),
    stored=ORIGINAL,
    arch="resnet18",
    training=Training(epochs=90, batch_size=128, lr=0.1, weight_decay=1e-4, schedule="step"),
    hyperparameters={"k": 1.5},  # of MPT, as the paper sets it
    embedding={"resnet": 128},  # the paper's protocol
    needs_data=True,
    train_samples=1_281_167,
    test_samples=50_000,
)

FOLDER = replace(
    IMAGENET,
    name="folder",
    summary="any images: data= has train/ and val/ with a folder per class",
    classes=None,
    embedding={},
    train_samples=None,
    test_samples=None,
)
