"""Columns turned into arrays: classes as codes, ids, numbers, conditions. Errors name the row, from 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.layout import Condition

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]
Column = Any  # a pyarrow.ChunkedArray or Array; pyarrow carries no types

LARGEST_EXACT = 2**53
"""Whole numbers beyond it cannot all be told apart as floats."""
ABOVE_ONE = 1e-6
"""What fp32 arithmetic may bring to a probability of 1."""
NEVER_A_CLASS = frozenset({"nan", "<na>", "#n/a", "#na", "nat", "-nan", "1.#qnan", "1.#ind"})
"""What programs write for an absent value, in lower case."""
SELDOM_A_CLASS = frozenset({"none", "null", "na", "n/a"})
"""The same, but people name classes so: refused unless samples have it as their target."""
ABSENT = -1
"""Code of an absent value."""
_WHOLE = re.compile(r"(-?)0*(\d+)(?:\.0*)?")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Labels:
    """Classes of N samples: a code each, and the classes' names."""

    codes: Codes
    """[N]"""
    names: tuple[str, ...]

    def take(self, where: NDArray[Any]) -> Labels:
        """The samples at the positions, or under the mask, `where`."""
        return Labels(codes=self.codes[where], names=self.names)

    def as_coded_by(self, codes: Mapping[str, int]) -> Codes:
        """[N] codes of another list of names; absent answers stay so."""
        table = np.array([*(codes.get(name, ABSENT) for name in self.names), ABSENT], np.int32)
        return table[self.codes]

    @property
    def used(self) -> set[str]:
        """Names that at least one sample has."""
        present = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return {name for name, count in zip(self.names, present.tolist(), strict=True) if count}


def whole(text: str) -> str | None:
    """A whole number without what a format adds to it, `3.0` or `03` -> `3`; None for other text."""
    match = _WHOLE.fullmatch(text)
    return match[1] + match[2] if match else None


def class_name(text: str) -> str:
    """A class as files are compared by: `3.0` and `03` are `3`."""
    text = text.strip()
    return whole(text) or text


def plain_number(text: str) -> str:
    """`3.0` -> `3`; zeros in front belong to a name."""
    return (whole(text) or text) if "." in text else text


def plain_id(text: str) -> str:
    """An id as files are paired by: `3.0` -> `3`."""
    return plain_number(text.strip())


def is_number(text: str) -> bool:
    """Whether Python reads `text` as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def coded(name: str, column: Column) -> tuple[Codes, list[str]]:
    """[N] codes and the texts they stand for; -1 for a null or NaN.

    Raises:
        ValueError: naming the row, for fractions, lists and other values that are neither number nor text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)  # also finds nulls among the dictionary's values
        kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), -1, np.int32), []
    if pa.types.is_floating(kind):
        column = _whole_floats(name, column)
    elif not (
        pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_date(kind)
    ):
        what = "a list" if is_list(kind) else str(kind)
        raise ValueError(f"row 1: {name} must be a whole number or a name, not {what}")
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = pc.dictionary_encode(encoded)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return codes, [str(value) for value in encoded.dictionary.to_pylist()]


def _whole_floats(name: str, column: Column) -> Column:
    values = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
    there = ~np.isnan(values)
    bad = np.flatnonzero(there & ((values != np.round(values)) | ~np.isfinite(values)))
    if len(bad):
        raise ValueError(f"row {bad[0] + 1}: {name} is {values[bad[0]]:g}; {name} holds fractions")
    if (np.abs(values[there]) > LARGEST_EXACT).any():
        raise ValueError(f"{name} holds floats too large to be told apart; write it as text")
    return pa.array(np.where(there, values, 0).astype(np.int64), mask=~there)


def is_list(kind: Any) -> bool:
    """Whether a type of pyarrow is one of lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def merged(names: Sequence[str], codes: Codes) -> tuple[list[str], Codes]:
    """Names once each, with the codes that go with that."""
    unique = list(dict.fromkeys(names))
    if len(unique) == len(names):
        return unique, codes
    position = {text: code for code, text in enumerate(unique)}
    table = np.array([*(position[text] for text in names), -1], np.int32)
    return unique, table[codes]


def plain_ids(name: str, column: Column) -> Column:
    """[N] ids: whole numbers where all are, else text without spaces around it.

    Raises:
        ValueError: naming the row of an absent id, or of a value that cannot be an id.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_floating(kind):
        column = _whole_floats(name, column)
        kind = column.type
    if pa.types.is_integer(kind):
        _refuse_absent(name, pc.is_null(column))
        return _flat(column.cast(pa.string()) if kind == pa.uint64() else column.cast(pa.int64()))
    if is_list(kind) or pa.types.is_struct(kind):
        raise ValueError(f"row 1: {name} must be a whole number or a name, not a list")
    texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    _refuse_absent(name, pc.fill_null(pc.equal(texts, ""), True))
    if pc.any(pc.match_substring_regex(texts, r"^-?[0-9]+\.0*$")).as_py():
        texts = pc.replace_substring_regex(texts, r"^(-?)0*([0-9]+)\.0*$", r"\1\2")
    if pc.all(pc.match_substring_regex(texts, r"^(0|-?[1-9][0-9]{0,17})$")).as_py():
        return _flat(texts.cast(pa.int64()))
    return _flat(texts)


def _flat(column: Column) -> Column:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _refuse_absent(name: str, absent: Column) -> None:
    if pc.any(absent).as_py():
        row = pc.index(absent, True).as_py()
        raise ValueError(f"row {row + 1}: {name} is empty")


def absent_values(column: Column) -> Booleans:
    """[N] where a value is null, NaN or an empty text."""
    kind = column.type
    absent = pc.is_null(column, nan_is_null=pa.types.is_floating(kind))
    mask: Booleans = np.array(absent.to_numpy(zero_copy_only=False), np.bool_)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        words = pa.array(sorted({"", *NEVER_A_CLASS, *SELDOM_A_CLASS}))
        lower = pc.utf8_lower(pc.utf8_trim_whitespace(column))
        mask |= np.array(pc.fill_null(pc.is_in(lower, words), True).to_numpy(zero_copy_only=False), np.bool_)
    return mask


def numbers(name: str, column: Column, decimal: str = ".") -> NDArray[np.float64]:
    """[N] finite numbers.

    Raises:
        ValueError: naming the row of anything else.
    """
    kind = column.type
    if is_list(kind):
        raise ValueError(f"{name} has lists in its cells, wanted one number for each sample")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _parsed(name, column, decimal)
    if not (
        pa.types.is_floating(column.type)
        or pa.types.is_integer(column.type)
        or pa.types.is_boolean(column.type)
        or pa.types.is_decimal(column.type)
    ):
        raise ValueError(f"{name} holds something that is not a number ({column.type})")
    values = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        what = "empty" if column[int(bad[0])].as_py() is None else "NaN or infinite"
        raise ValueError(f"row {bad[0] + 1}: {name} is {what}")
    return np.asarray(values, np.float64)


def _parsed(name: str, column: Column, decimal: str) -> Column:
    texts = pc.utf8_trim_whitespace(column)
    empty = pc.fill_null(pc.equal(texts, ""), True)
    _refuse_absent(name, empty)
    if decimal != ".":
        texts = pc.replace_substring(texts, decimal, ".")
    try:
        return texts.cast(pa.float64())
    except pa.ArrowException:
        for row, text in enumerate(texts.to_pylist(), 1):
            if not is_number(text):
                comma = decimal == "." and is_number(text.replace(",", ".", 1))
                hint = "; if the comma is a decimal mark: decimal=," if comma else ""
                raise ValueError(
                    f"row {row}: {name} holds something that is not a number ('{text}'){hint}"
                ) from None
        return pa.array([float(text) for text in texts.to_pylist()])


def lists(name: str, column: Column) -> NDArray[np.float64]:
    """[N, C] of a column of lists, one length in all rows."""
    flat = _flat(column)
    if pa.types.is_string(flat.type):
        raise ValueError(f"{name} holds text, wanted lists of numbers")
    if not is_list(flat.type):
        raise ValueError(f"{name} holds single numbers, wanted a list of one per class (samples, classes)")
    _refuse_absent(name, pc.is_null(flat))
    lengths = pc.unique(pc.list_value_length(flat)).to_pylist()
    if len(lengths) != 1:
        raise ValueError(f"{name} must have one length in all rows, found {min(lengths)} and {max(lengths)}")
    values = flat.flatten()
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise ValueError(f"{name} holds something that is not a number ({values.type})")
    matrix = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    matrix = matrix.reshape(len(flat), lengths[0])
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise ValueError(f"row {bad[0] + 1}: {name} is NaN or infinite")
    return np.asarray(matrix, np.float64)


def probability(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers in [0, 1]; the rounding of fp32 above 1 is taken for 1."""
    bad = np.flatnonzero((values < 0) | (values > 1 + ABOVE_ONE))
    if len(bad):
        raise ValueError(f"row {bad[0] + 1}: {name} is {values[bad[0]]:.9g}; {name} must lie in [0, 1]")
    return np.minimum(values, 1.0)


def satisfies(
    column: Column, asked: Condition, number: Callable[[str, Column], NDArray[np.float64]]
) -> Booleans:
    """[N] where a column satisfies a condition; absent values do not.

    Raises:
        ValueError: a bound, or a value, that is not a number.
    """
    if asked.operator == "==":
        codes, names = coded_text(column)
        wanted = {asked.value, plain_number(asked.value)}
        table = np.array([*(plain_number(text.strip()) in wanted for text in names), False], np.bool_)
        return np.asarray(table[codes])
    if not is_number(asked.value):
        raise ValueError(f"{asked.column}{asked.operator}{asked.value}: '{asked.value}' is not a number")
    bound = float(asked.value)
    absent = absent_values(column)
    values = np.full(len(column), np.nan)
    if not absent.all():
        values[~absent] = number(asked.column, column.filter(pa.array(~absent)))
    with np.errstate(invalid="ignore"):
        result = {
            ">=": values >= bound, "<=": values <= bound, ">": values > bound, "<": values < bound,
        }[asked.operator]  # fmt: skip
    return np.asarray(result)


def coded_text(column: Column) -> tuple[Codes, list[str]]:
    """As `coded`, of values of any kind as text."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = column.cast(kind)
    if pa.types.is_floating(kind) or is_list(kind) or pa.types.is_struct(kind):
        column = pa.array(
            [None if v is None or v != v else _short(v) for v in column.to_pylist()], pa.string()
        )
    return coded("", column)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
