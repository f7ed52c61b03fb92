"""Filters by anything that is known about a run: `arch=resnet18 epochs=30,60 seeds=0,1 k=2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from common.cli import HELP_WORDS, build, expand_range, print_help, split
from common.text import nearest
from results.columns import HYPERPARAMETERS

Settings = TypeVar("Settings")
METHODS = "methods"
"""Stands for both columns, method and label."""
ALIASES = {"seeds": "seed"}
HELP = (
    ("methods=", "Only these methods, by name or label."),
    ("seeds=", "Only these seeds: 0,3 or 0..9."),
    (
        "dataset= arch= epochs= lr= old_classes= ...",
        "Only runs with these values, of any column of a per_run= file.",
    ),
    ("k= ...", "Only methods with this hyperparameter."),
)


@dataclass(frozen=True)
class Filters:
    """Wanted values, by column. Filters of methods hide rows; all others choose the runs of a table."""

    wanted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: frozenset[str] = frozenset()
    """The command's own settings, which a misspelt filter may have meant."""

    def __str__(self) -> str:
        return " ".join(f"{name}={','.join(values)}" for name, values in self.wanted.items())

    def resolved(self, candidates: Sequence[Mapping[str, Any]]) -> Filters:
        """These filters by the names of columns, as they are among the columns of all candidates.

        Raises:
            ValueError: there is no such column or no such value; the message suggests the nearest.
        """
        known = {name for columns in candidates for name in columns}
        wanted = {}
        for name, texts in self.wanted.items():
            column = _column(name, known, self.settings)
            found = [value for columns in candidates for value in _values(columns, column)]
            for text in texts:
                if not any(_same(value, text) for value in found):
                    choices = {_text(value) for value in found}
                    raise ValueError(f"{name}={text}: no such candidate{nearest(text, choices)}")
            wanted[column] = texts
        return Filters(wanted)

    def keeps_run(self, columns: Mapping[str, Any]) -> bool:
        """Whether a candidate with these columns enters a table."""
        return all(
            _matches(columns, name, texts) for name, texts in self.wanted.items() if not _hides_rows(name)
        )

    def shows_row(self, columns: Mapping[str, Any]) -> bool:
        """Whether the row of a method with these columns is shown; it counts in ranks anyway."""
        return all(_matches(columns, name, texts) for name, texts in self.wanted.items() if _hides_rows(name))


def read(
    cls: type[Settings],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    sections: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (),
) -> tuple[Settings, Filters]:
    """Read a command's words: those of the dataclass `cls`, and filters.

    Prints the help and exits with 0 where it is asked for.

    Raises:
        ValueError: a word of the wrong form or type.
    """
    if HELP_WORDS & set(argv):
        print_help(cls, prog=prog, description=description, sections=[("Filters", HELP), *sections])
        raise SystemExit(0)
    words = split(argv)
    own = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]
    for name, text in words.items():
        if name not in own and not text:
            raise ValueError(f"{name}= has no value")
    wanted = {
        name: tuple(each for part in text.split(",") for each in expand_range(part))
        for name, text in words.items()
        if name not in own
    }
    return build(cls, {name: text for name, text in words.items() if name in own}), Filters(
        wanted, frozenset(own)
    )


def _hides_rows(column: str) -> bool:
    return column in (METHODS, "method", "label") or column.startswith(HYPERPARAMETERS)


def _column(name: str, known: set[str], settings: frozenset[str]) -> str:
    if name == METHODS:
        return name
    for column in (name, ALIASES.get(name), f"{HYPERPARAMETERS}{name}"):
        if column in known:
            return column
    hint = nearest(name, {*known, METHODS, *ALIASES, *settings})
    if "did you mean" not in hint:  # seventy names are no help
        hint = ": no setting of this command (--help), and no column of its per-run rows"
    raise ValueError(f"unknown setting '{name}'{hint}")


def _values(columns: Mapping[str, Any], column: str) -> list[Any]:
    if column == METHODS:
        return [columns["method"], columns["label"]]
    return [columns[column]] if column in columns else []


def _matches(columns: Mapping[str, Any], name: str, wanted: Sequence[str]) -> bool:
    return any(_same(value, text) for value in _values(columns, name) for text in wanted)


def _same(value: Any, text: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return _text(value) == text


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
