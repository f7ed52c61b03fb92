"""The flips worth a look, with their images: what `gallery-<attempt>.npz` in a candidate's folder holds."""

import io
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from results.metrics import Pair, pair
from results.predictions import Booleans, Floats, Integers, Predictions, read_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Images of some test samples."""

    index: Integers
    """[G] which samples, as in the predictions."""
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
        """The inverse of `to_bytes`."""
        arrays = read_arrays(data)
        return cls(index=arrays["index"], images=arrays["images"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Flips:
    """The worst flips of an update as indices of samples, the surest mistake first."""

    negative: Integers
    """By the new model's confidence in its wrong answer."""
    positive: Integers
    """By the old model's confidence in its wrong answer."""


def worst_flips(old: Predictions, new: Predictions, *, most: int = 12) -> Flips:
    """Up to `most` flips of each kind: the samples whose images a candidate's job keeps."""
    both: Pair = pair(old, new)
    return Flips(
        negative=_surest(both, both.negative, both.new.confidence, most),
        positive=_surest(both, both.positive, both.old.confidence, most),
    )


def _surest(both: Pair, mask: Booleans, confidence: Floats | None, most: int) -> Integers:
    where = np.flatnonzero(mask)
    if confidence is not None:
        where = where[np.argsort(-confidence[where], kind="stable")]
    return both.old.index[where[:most]]
