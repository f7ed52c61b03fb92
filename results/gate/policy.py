"""What an update may lose, and how sure that has to be: the caps, from words or from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.text import nearest
from results.statistics import LEVEL

CAPS = (
    "max_nfr",
    "max_rel_nfr",
    "max_class_nfr",
    "max_slice_nfr",
    "max_error_increase",
    "max_churn",
    "max_nfi",
)
"""In the order in which they are checked."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The caps, as fractions of 1; None where nothing is asked."""

    max_nfr: float | None = None
    """Of the negative flip rate."""
    max_rel_nfr: float | None = None
    """Of the relative NFR."""
    max_class_nfr: float | None = None
    """Of the NFR within every class."""
    max_slice_nfr: float | None = None
    """Of the NFR within every slice."""
    max_error_increase: float | None = None
    """Of the new error rate less the old one (non-inferiority)."""
    max_churn: float | None = None
    """Of the share of samples on which the two predictions differ."""
    max_nfi: float | None = None
    """Of the share of the new model's errors that are negative flips."""
    critical: Collection[str] | None = None
    """Ids of samples of which none may flip."""
    slices: tuple[str, ...] = ()
    """Columns whose values are slices; `country+device` for the pairs of values of two columns."""
    min_slice_samples: int = 1
    """Slices with fewer samples are shown, but held against no cap."""
    level: float = LEVEL
    """Of every interval."""
    undecided: Literal["", "pass", "fail"] = ""
    """What UNDECIDED is to the exit code; by default, a code of its own."""

    def __post_init__(self) -> None:
        for name in CAPS:
            cap = getattr(self, name)
            if cap is not None and not 0 <= cap < float("inf"):
                raise ValueError(f"{name}={cap}: must be 0 or more")
        if not 0.5 <= self.level < 1:
            raise ValueError(f"level={self.level}: must lie between 0.5 and 1, as 0.95 or 0.99")
        if self.min_slice_samples < 1:
            raise ValueError(f"min_slice_samples={self.min_slice_samples}: must be 1 or more")
        if self.max_slice_nfr is not None and not self.slices:
            raise ValueError("max_slice_nfr= needs slices=: the columns to slice by")
        for name in self.slices:
            if not all(name.split("+")) or name.count("+") > 1:
                raise ValueError(f"slices={name}: expected a column, or two of them as country+device")

    @property
    def slice_columns(self) -> tuple[str, ...]:
        """Every column that a slice needs, once."""
        return tuple(dict.fromkeys(column for name in self.slices for column in name.split("+")))


def rate(name: str, text: str) -> float | None:
    """A cap as people write it: `1%` or `0.01`; None for no text.

    Raises:
        ValueError: no rate, or a number that may be meant as a percentage.
    """
    if not text:
        return None
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{name}={text}: expected a rate such as 1% or 0.01") from None
    if not text.endswith("%") and (value > 1 if name == "max_rel_nfr" else value >= 1):
        raise ValueError(f"{name}={text}: write {text}% or a fraction below 1")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}={text}: must be 0 or more")
    return value


def policy_words(path: Path, known: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a policy file, as the words of a command line.

    Lists become comma lists, and a table `[columns]` the words `columns.id=...`.

    Raises:
        ValueError: naming the file: not TOML, or a key that is not a setting.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"policy={path}: not TOML ({error})") from error
    words: dict[str, str] = {}
    for key, value in content.items():
        if key == "columns" and isinstance(value, dict):
            words |= {f"columns.{role}": _word(path, f"columns.{role}", name) for role, name in value.items()}
            continue
        if key not in known:
            raise ValueError(f"policy={path}: unknown setting '{key}'{nearest(key, known)}")
        words[key] = _word(path, key, value)
    return words


def _word(path: Path, key: str, value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(item, str | int) for item in value):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"policy={path}: {key} must be text, a number or a list of them")
