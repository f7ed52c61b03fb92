"""Ids of samples: whether each comes once, and where those of one file stand in another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.values import Column

SPARSE = 4
"""Whole numbers are looked up in an array where it has at most so many places per number."""


def distinct(ids: Column) -> bool:
    """Whether no id comes twice."""
    if pa.types.is_integer(ids.type):
        numbers = ids.to_numpy()
        if bool((numbers[1:] > numbers[:-1]).all()):
            return True
        if _are_dense(numbers):
            return int(np.bincount(numbers - numbers.min()).max()) == 1
    return int(pc.count_distinct(ids).as_py()) == len(ids)


def positions(wanted: Column, among: Column) -> NDArray[np.int64]:
    """[N] where each wanted id stands in `among`, whose ids are distinct; its length where it is absent."""
    wanted, among = same_type(wanted, among)
    if len(wanted) == len(among) and wanted.equals(among):
        return np.arange(len(wanted), dtype=np.int64)
    if pa.types.is_integer(among.type) and len(among) and _are_dense(among.to_numpy()):
        return _looked_up(wanted.to_numpy(), among.to_numpy())
    # Codes are given in the order of first appearance, so that the codes of `among` are its positions.
    encoded = pc.dictionary_encode(pa.concat_arrays([among, wanted]))
    codes = encoded.indices.to_numpy()[len(among) :]
    return np.asarray(np.minimum(codes, len(among)), np.int64)


def same_type(one: Column, other: Column) -> tuple[Column, Column]:
    """Two columns of ids as whole numbers if both are, else as text."""
    if pa.types.is_integer(one.type) and pa.types.is_integer(other.type):
        return one.cast(pa.int64()), other.cast(pa.int64())
    return one.cast(pa.string()), other.cast(pa.string())


def _are_dense(numbers: NDArray[Any]) -> bool:
    return len(numbers) > 0 and int(numbers.max()) - int(numbers.min()) < SPARSE * len(numbers) + 1000


def _looked_up(wanted: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    lowest, highest = int(among.min()), int(among.max())
    table = np.full(highest - lowest + 1, len(among), np.int64)
    table[among - lowest] = np.arange(len(among))
    inside = (wanted >= lowest) & (wanted <= highest)
    rows = table[np.where(inside, wanted, lowest) - lowest]
    return np.where(inside, rows, len(among))
