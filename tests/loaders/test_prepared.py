"""Datasets with another augmentation, or seen in another size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from loaders.betons import Beton, ensure_beton
from loaders.datasets import DATASETS, RAW, Dataset, prepared
from loaders.feeds import open_feed

DIGITS, FOLDER, IMAGENET = (DATASETS[name] for name in ("digits", "folder", "imagenet"))


def test_a_dataset_stays_as_it_is_unless_something_is_asked_for() -> None:
    assert all(prepared(dataset) == dataset for dataset in DATASETS.values())
    assert prepared(DIGITS, "pad-crop", 8) == DIGITS


def test_a_folder_of_small_images_is_stored_raw_and_trained_on_as_cifar_is() -> None:
    small = prepared(FOLDER, image_size=32)

    assert (small.image_size, small.encoding()) == (32, RAW)
    assert (small.augmentation.kind, small.augmentation.pad) == ("pad-crop", 4)
    assert small.training == DATASETS["cifar10"].training
    assert prepared(FOLDER, "pad-crop", 96).encoding() == RAW, "asked for, in any size"


def test_photographs_are_scaled_to_the_size_asked_for() -> None:
    assert prepared(IMAGENET, image_size=112).augmentation.resize == 128
    assert prepared(FOLDER, "resized-crop", 32).augmentation.kind == "resized-crop"
    assert prepared(IMAGENET, image_size=64).augmentation.kind == "resized-crop"


@pytest.mark.parametrize("size", [0, -1, 16])
def test_a_size_that_the_images_do_not_have_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size={size}: "):
        prepared(DIGITS, image_size=size)


def pixels(beton: Beton, dataset: Dataset, *, train: bool, kind: str = "auto") -> NDArray[np.uint8]:
    feed = open_feed(beton, dataset, train=train, batch_size=20, kind=kind)  # type: ignore[arg-type]
    with feed.epoch(1, 2) as batches:
        seen = list(batches)
    order = torch.cat([batch.indices for batch in seen]).argsort()
    images: NDArray[np.uint8] = torch.cat([batch.images for batch in seen])[order].numpy()
    return images


@pytest.mark.parametrize("kind", ["resident", "stream", "torch"])
def test_without_augmentation_training_sees_the_images_of_evaluation(train_digits: Beton, kind: str) -> None:
    plain = prepared(DIGITS, "none")

    evaluated = pixels(train_digits, plain, train=False)
    assert np.array_equal(pixels(train_digits, plain, train=True, kind=kind), evaluated)
    assert not np.array_equal(pixels(train_digits, DIGITS, train=True, kind=kind), evaluated)


@pytest.mark.parametrize("kind", ["stream", "torch"])
def test_small_images_can_be_scaled(train_digits: Beton, kind: str) -> None:
    larger = prepared(DIGITS, "resized-crop", 16)

    assert pixels(train_digits, larger, train=True, kind=kind).shape == (300, 16, 16, 3)


def folder_of(data: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    for part in ("train", "val"):
        for number, (name, size) in enumerate(sizes.items()):
            (data / part / name).mkdir(parents=True)
            for shade in range(3):
                image = Image.new("RGB", size, (50 * shade, 100, 10 * number))
                image.save(data / part / name / f"{shade}.png")
    return data


def test_small_images_of_a_folder_keep_every_pixel_and_stay_resident(tmp_path: Path) -> None:
    small = prepared(FOLDER, image_size=12)
    data = folder_of(tmp_path / "data", {"a": (12, 12), "b": (12, 12)})
    beton = ensure_beton(small, "train", data=data, betons=tmp_path / "betons")

    feed = open_feed(beton, small, train=False, batch_size=6)
    assert type(feed).__name__ == "ResidentFeed"
    with feed.epoch(0, 0) as batches:
        (batch,) = batches
    assert batch.images[:, 0, 0].tolist() == [[50 * i, 100, 10 * c] for c in (0, 1) for i in range(3)]


def test_a_small_image_of_another_size_is_named(tmp_path: Path) -> None:
    small = prepared(FOLDER, image_size=12)
    data = folder_of(tmp_path / "data", {"a": (12, 12), "b": (12, 11)})
    beton = ensure_beton(small, "train", data=data, betons=tmp_path / "betons")

    with pytest.raises(ValueError, match=r"image_size=12: 3 of 6 train images have .* such as 12x11 \("):
        open_feed(beton, small, train=True, batch_size=2)
