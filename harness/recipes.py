"""How models are trained: the recipe of a dataset, with what an architecture and the command line change.

Old model, references and candidates of a setting share one recipe, so that methods are compared and
not tunings. Sources: `docs/methods.md` (the paper's protocol); the digits' is explained where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from harness.architectures import ARCHITECTURES
from loaders.datasets import DATASETS, AugmentationName, Dataset, Loader, Schedule, prepared

Draws = Literal["counter", "torchvision"]
Statistics = Literal["auto"]
"""Channel statistics that are measured on the training images."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about optimisation that decides a model's weights.

    The learning rate follows `schedule` over this run's own `epochs`: `cosine` is set at the start of every
    epoch, as in the public code, `cosine-step` at every step; `step` divides by ten after each third.
    """

    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    draws: Draws = "counter"
    """Who draws crops and flips: a counter-based hash, or torchvision, as under loader=torch."""
    augmentation: AugmentationName | None = None
    image_size: int | None = None
    statistics: Statistics | None = None
    """These three where they are not those of the dataset (`loaders.datasets.prepared`); the statistics are
    the mean and deviation that images are normalised with."""
    version: int = 2
    """Raised when the meaning of what stands above changes. 1: the last, partial batch of an epoch was left
    out, and `cosine` was what `cosine-step` is."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")

    def lr_at(self, epoch: float) -> float:
        """Learning rate at a (fractional) epoch, counted from 0."""
        if self.schedule == "step":
            return float(self.lr * 0.1 ** int(3 * epoch / self.epochs))
        if self.schedule == "cosine":
            epoch = math.floor(epoch)
        return float(self.lr * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs)))


def _require(holds: bool, name: str, value: float, wanted: str) -> None:
    if not (holds and math.isfinite(value)):
        raise ValueError(f"{name}={value}: must be a finite number {wanted}")


class SeenAs(Protocol):
    """How a model sees images, where that is not the dataset's own way."""

    @property
    def augmentation(self) -> AugmentationName | None: ...
    @property
    def image_size(self) -> int | None: ...
    @property
    def statistics(self) -> Statistics | None: ...


def images_of(dataset: str, seen: SeenAs) -> Dataset:
    """The dataset as a model sees it."""
    return prepared(DATASETS[dataset], seen.augmentation, seen.image_size)


def draws(loader: Loader) -> Draws:
    """Who draws crops and flips under `loader=`: all that a run's identity holds of a loader."""
    return "torchvision" if loader == "torch" else "counter"


def recipe_for(dataset: Dataset, arch: str, overrides: Mapping[str, Any]) -> Recipe:
    """The dataset's recipe, as the architecture changes it, as the command line overrides it.

    Raises:
        ValueError: a value out of range.
    """
    return Recipe(**{**asdict(dataset.training), **ARCHITECTURES[arch].recipe, **overrides})
