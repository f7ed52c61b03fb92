"""One classifier's prediction for each test sample: all that a comparison of two models needs."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]

_INTEGERS = ("index", "target", "prediction")
_FLOATS = ("confidence", "target_confidence", "margin")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """One model's predictions on N samples; samples of two models are paired by `index`.

    Targets and predictions are positions in the class order, so that an old model's classes come first.
    The last three arrays are None where a file from elsewhere does not have them.

    Raises:
        ValueError: arrays of unequal length, a duplicate index, a negative class, or a number that is not
            finite.
    """

    index: Integers
    """[N] indices in the test set, without duplicates."""
    target: Integers
    """[N] the true class."""
    prediction: Integers
    """[N] the class with the highest logit."""
    confidence: Floats | None = None
    """[N] softmax probability of the prediction."""
    target_confidence: Floats | None = None
    """[N] softmax probability of the true class."""
    margin: Floats | None = None
    """[N] logit of the true class minus the highest other logit; positive where the prediction is right."""

    def __post_init__(self) -> None:
        for name in _INTEGERS:
            object.__setattr__(self, name, _integers(name, getattr(self, name)))
        for name in _FLOATS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _floats(name, getattr(self, name)))
        for name in (*_INTEGERS, *_FLOATS):
            array = getattr(self, name)
            if array is not None and array.shape != (len(self.index),):
                raise ValueError(
                    f"predictions: {name} has shape {array.shape}, the index has {self.index.shape}"
                )
        if not _distinct(self.index):
            raise ValueError(f"predictions: sample {_first_duplicate(self.index)} comes more than once")
        for name in ("target", "prediction"):
            if len(self) and getattr(self, name).min() < 0:
                raise ValueError(
                    f"predictions: {name} holds {getattr(self, name).min()}, classes count from 0"
                )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def right(self) -> Booleans:
        """[N] where the prediction is the target."""
        right: Booleans = self.prediction == self.target
        return right

    @property
    def packed_right(self) -> str:
        """`right` in the order of (target, index), one bit per sample, as text (see `unpack_bits`).

        Samples of old classes come first, so that the bits of an old model and of its update line up.
        """
        order = np.lexsort((self.index, self.target))
        return base64.b64encode(np.packbits(self.right[order]).tobytes()).decode()

    def take(self, where: Integers | Booleans) -> Self:
        """The samples at these positions, in that order, or those under this mask."""
        taken = {name: array[where] for name, array in self._arrays().items()}
        return type(self)(**taken)

    @classmethod
    def from_logits(cls, *, index: ArrayLike, target: ArrayLike, logits: ArrayLike) -> Self:
        """Predictions, probabilities and margins from `logits` [N, C].

        Raises:
            ValueError: a NaN, an infinity, or a target outside the C classes.
        """
        z = np.asarray(logits, np.float64)
        y = _integers("target", target)
        if z.ndim != 2 or z.shape[1] < 2 or z.shape[0] != len(y):
            raise ValueError(f"predictions: logits have shape {z.shape}, expected ({len(y)}, classes)")
        if not np.isfinite(z).all():
            raise ValueError("predictions: the logits hold a NaN or an infinity")
        if len(y) and not 0 <= y.min() <= y.max() < z.shape[1]:
            raise ValueError(f"predictions: a target lies outside the {z.shape[1]} classes of the logits")
        rows = np.arange(len(y))
        others = z.copy()
        others[rows, y] = -np.inf
        probabilities = np.exp(z - z.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return cls(
            index=_integers("index", index),
            target=y,
            prediction=z.argmax(axis=1),
            confidence=_floats("confidence", probabilities.max(axis=1)),
            target_confidence=_floats("target_confidence", probabilities[rows, y]),
            margin=_floats("margin", z[rows, y] - others.max(axis=1)),
        )

    def to_bytes(self) -> bytes:
        """The content of an NPZ file; the same predictions always give the same bytes."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **self._arrays())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: not a file of predictions.
        """
        arrays = read_arrays(data)
        missing = [name for name in _INTEGERS if name not in arrays]
        if missing:
            raise ValueError(f"not a file of predictions: it has no {missing[0]}")
        return cls(**{name: arrays[name] for name in (*_INTEGERS, *_FLOATS) if name in arrays})

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {name: getattr(self, name) for name in (*_INTEGERS, *_FLOATS)}
        return {name: array for name, array in arrays.items() if array is not None}


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file, by name.

    Raises:
        ValueError: not an intact NPZ file of plain arrays.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _NOT_AN_ARCHIVE as error:
        raise ValueError("not an NPZ file of plain arrays") from error


_NOT_AN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    OSError,
    EOFError,
    AttributeError,
    TypeError,  # a single array, as np.save writes it, is not a context manager
    NotImplementedError,  # a compression that zipfile does not know
)


def unpack_bits(text: str, count: int) -> Booleans:
    """The first `count` bits that `Predictions.packed_right` wrote.

    Raises:
        ValueError: there are fewer.
    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if 8 * len(packed) < count:
        raise ValueError(f"{len(packed)} bytes do not hold {count} bits")
    return np.unpackbits(packed, count=count).view(np.bool_)


def _integers(name: str, values: ArrayLike) -> Integers:
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"predictions: {name} must hold integers, not {array.dtype}")
    return array.astype(np.int64, copy=False)


def _floats(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"predictions: {name} holds a NaN or an infinity")
    return array


def _distinct(index: Integers) -> bool:
    """Whether no number comes twice; numpy's `unique` takes seconds for a million of them."""
    if bool((index[1:] > index[:-1]).all()):
        return True
    ordered = np.sort(index)
    return bool((ordered[1:] != ordered[:-1]).all())


def _first_duplicate(index: Integers) -> int:
    values, counts = np.unique(index, return_counts=True)
    return int(values[counts > 1][0])
