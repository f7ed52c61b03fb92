"""What a dataset is: everything that the other rooms need to know before its images are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Part = Literal["train", "test"]
WriteMode = Literal["original", "raw", "jpg", "proportion"]
Loader = Literal["auto", "stream", "resident", "torch"]
"""How images come into memory: FFCV from disk, all at once, or torchvision's DataLoader."""

Schedule = Literal["cosine", "cosine-step", "step"]
"""How the learning rate falls (`harness.recipes.Recipe`)."""
AugmentationName = Literal["pad-crop", "resized-crop", "none"]
"""What `augmentation=` takes."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What a training image goes through; every draw is a function of (key, epoch, sample index).

    `pad-crop` shifts an image by up to `pad` pixels over a black border. `resized-crop` cuts a box of
    8 to 100 % of the area and of 3:4 to 4:3 and scales it to the image size, torchvision's
    RandomResizedCrop. Evaluation images are left alone by the first; under the second their shorter side
    becomes `resize` pixels and the centre is cut out. Where nothing is `random`, training images are those of
    evaluation.
    """

    kind: Literal["pad-crop", "resized-crop"]
    pad: int = 0
    flip: bool = True
    resize: int = 256
    random: bool = True


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How images are stored in a beton; it decides pixels, so it is part of the data's fingerprint.

    `original` keeps the coefficients of JPEGs and every pixel of other images; feeds decode large boxes of
    these JPEGs at reduced scale. `proportion` stores about `jpeg_share` of the images as new JPEGs and the
    others raw. `max_resolution` bounds the longer side in pixels; 0 keeps the size.
    """

    write_mode: WriteMode = "raw"
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
        """`original`, `raw`, `jpg-500-q90` or, as in ffcv-imagenet, `proportion-400-0.1-q90`."""
        size = f"-{self.max_resolution}" if self.max_resolution else ""
        share = f"-{self.jpeg_share:g}" if self.write_mode == "proportion" else ""
        quality = f"-q{self.jpeg_quality}" if self.write_mode in ("jpg", "proportion") else ""
        return f"{self.write_mode}{size}{share}{quality}"


_NOT_ORIGINAL = "original photographs are kept as they are (write_mode=raw, jpg or proportion changes them)"
RAW = Encoding()
ORIGINAL = Encoding(write_mode="original")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How networks are trained on a dataset: the values of a recipe, without an architecture's changes."""

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: Schedule = "cosine"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset. It is complete: an entry that lacks something cannot be made."""

    name: str
    summary: str
    version: int
    """Raise it when the images change; it is part of their fingerprint."""
    source: str
    """Where its images come from: a function (dataset, part, data, download) -> Source, as `module:name`."""
    classes: int | None
    """How many; None where the folders say."""
    image_size: int
    """Side in pixels of what a feed yields."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the training pixels in [0, 1], RGB."""
    augmentation: Augmentation
    stored: Encoding
    """How its images are stored."""
    arch: str
    """The architecture that it is used with by default."""
    training: Training
    hyperparameters: Mapping[str, Any] = field(hash=False)
    """Defaults of methods that are different on it, by the hyperparameter's name."""
    embedding: Mapping[str, int] = field(hash=False)
    """Width of a linear layer before the classifier, by the beginning of an architecture's name."""
    needs_data: bool
    """Whether `data=` must say where the images are."""
    files: tuple[str, ...] = ()
    """Names of which `data=` must hold one; none where it holds folders of images."""
    packaged: str = ""
    """Folder in which a system package keeps the files."""
    train_samples: int | None
    test_samples: int | None
    """How many; None where the folders say."""

    @property
    def of_folders(self) -> bool:
        """Whether its images are files in one folder per class, under `data=`."""
        return not self.files and (self.needs_data or self.classes is None)

    def encoding(self, **asked: Any) -> Encoding:
        """How the images are stored, changed by those fields of `asked` that are not None.

        Raises:
            ValueError: an encoding that this dataset cannot have.
        """
        changes = {name: value for name, value in asked.items() if value is not None}
        if changes and self.augmentation.kind == "pad-crop":
            name, value = next(iter(changes.items()))
            raise ValueError(f"{name}={value}: {self.name} is stored raw, in its own size")
        encoding = replace(self.stored, **changes)
        lossy = {name: value for name, value in changes.items() if name != "write_mode" and value}
        if lossy and encoding.write_mode == "original":
            name, value = next(iter(lossy.items()))
            raise ValueError(f"{name}={value}: {_NOT_ORIGINAL}")
        return encoding
