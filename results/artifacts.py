"""What a run leaves for figures and the report: images of its flips, and two-dimensional embeddings.

They lie in its folder as `gallery-<attempt>.npz` and `embeddings-<attempt>.npz`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from results.metrics import Pair, pair
from results.predictions import Booleans, Floats, Integers, Predictions, read_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Images of some test samples."""

    index: Integers
    """[G] indices of the samples, as in the predictions."""
    images: NDArray[np.uint8]
    """[G, H, W, 3]"""

    def __post_init__(self) -> None:
        shape, count = self.images.shape, len(self.index)
        if self.images.dtype != np.uint8 or len(shape) != 4 or shape[0] != count or shape[3] != 3:
            raise ValueError(f"gallery: {count} samples, but images {shape} of {self.images.dtype}")

    def to_bytes(self) -> bytes:
        """The content of an NPZ file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, index=self.index, images=self.images)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: not a file of images.
        """
        return cls(**_named_arrays(data, "index", "images"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """A model's two-dimensional embedding of test samples, and the linear classifier on it."""

    embedding: NDArray[np.float32]
    """[N, 2]"""
    target: NDArray[np.int64]
    """[N]"""
    prediction: NDArray[np.int64]
    """[N]"""
    weight: NDArray[np.float32]
    """[C, 2]"""
    bias: NDArray[np.float32]
    """[C]"""

    def __post_init__(self) -> None:
        n, c = len(self.target), len(self.bias)
        shapes = {"embedding": (n, 2), "prediction": (n,), "weight": (c, 2)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"embeddings: {name} has shape {getattr(self, name).shape}, expected {shape}"
                )

    def to_bytes(self) -> bytes:
        """The content of an NPZ file."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in self.__dataclass_fields__}
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: not a file of embeddings.
        """
        return cls(**_named_arrays(data, *cls.__dataclass_fields__))


@dataclass(frozen=True, kw_only=True, eq=False)
class WorstFlips:
    """The worst flips of an update as indices of samples, the most confident mistake first."""

    negative: Integers
    """Sorted by the new model's confidence in its wrong prediction."""
    positive: Integers
    """Sorted by the old model's confidence in its wrong prediction."""


def worst_flips(old: Predictions, new: Predictions, *, most: int = 12) -> WorstFlips:
    """Up to `most` flips of each kind: the samples whose images a candidate's job keeps."""
    both: Pair = pair(old, new)
    return WorstFlips(
        negative=_most_confident(both, both.negative, both.new.confidence, most),
        positive=_most_confident(both, both.positive, both.old.confidence, most),
    )


def _named_arrays(data: bytes, *names: str) -> dict[str, NDArray[Any]]:
    arrays = read_arrays(data)
    for name in names:
        if name not in arrays:
            raise ValueError(f"the file has no array '{name}'")
    return {name: arrays[name] for name in names}


def _most_confident(both: Pair, mask: Booleans, confidence: Floats | None, most: int) -> Integers:
    where = np.flatnonzero(mask)
    if confidence is not None:
        where = where[np.argsort(-confidence[where], kind="stable")]
    return both.old.index[where[:most]]
