"""`key=value` words on a command line, turned into a typed settings dataclass; shared by every command.

A field whose type is itself a dataclass is a section: its settings are given by their own names, without the
section's, and the help prints them as a table of their own.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import re
import signal
import sys
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.text import nearest, printable

Settings = TypeVar("Settings")
HELP_WORDS = frozenset({"help", "-h", "--help"})
MOST_OF_A_RANGE = 10_000


def split(argv: Iterable[str]) -> dict[str, str]:
    """`["a=1", "--b=2"]` -> `{"a": "1", "b": "2"}`.

    Raises:
        ValueError: a word without `=`, or a key given twice.
    """
    words: dict[str, str] = {}
    for word in argv:
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals or not key:
            raise ValueError(f"'{word}' is not of the form key=value (try --help)")
        if key in words:
            raise ValueError(f"{key}= is given twice ('{words[key]}' and '{value}')")
        words[key] = value
    return words


def parse(cls: type[Settings], argv: Sequence[str], *, prog: str, description: str) -> Settings:
    """Read a command's words; prints the help and exits with 0 where it is asked for.

    Raises:
        ValueError: unknown key, wrong type, or whatever the dataclass itself refuses.
    """
    if HELP_WORDS & set(argv):
        print_help(cls, prog=prog, description=description)
        raise SystemExit(0)
    return build(cls, split(argv))


def build(cls: type[Settings], words: Mapping[str, str]) -> Settings:
    """Type-check `words` against the frozen dataclass `cls` and make one.

    Raises:
        ValueError: unknown key, wrong type, or whatever the dataclass itself refuses.
    """
    known = settings(cls)
    for key in words:
        if key not in known:
            raise ValueError(f"unknown setting '{key}'{nearest(key, known)}")
    return _make(cls, {key: value(key, text, known[key].hint) for key, text in words.items()})


@dataclass(frozen=True)
class Option:
    """One setting of a dataclass or of one of its sections."""

    field: Field[Any]
    hint: Any
    """Its type."""


def settings(cls: type[Any]) -> dict[str, Option]:
    """Every setting of the dataclass `cls` by name, those of its sections among them."""
    hints = get_type_hints(cls)
    found: dict[str, Option] = {}
    for field in fields(cls):
        hint = hints[field.name]
        new = settings(hint) if is_dataclass(hint) else {field.name: Option(field, hint)}  # type: ignore[arg-type]
        assert not found.keys() & new.keys(), "a setting is declared once"
        found |= new
    return found


def value(key: str, text: str, hint: Any) -> Any:
    """The value of one word, by a type hint.

    Raises:
        ValueError: the wrong type, in one line that says what was expected.
    """
    if text == "":
        raise ValueError(f"{key}= has no value (expected {_expected(hint)})")
    names = _choices(hint)
    if names and text not in names:
        raise ValueError(f"{key}={text}: expected {_expected(hint)}{nearest(text, names)}")
    complaint = io.StringIO()  # tyro's own is a box of many lines
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                hint,
                args=["--", *_arguments(text, hint)],
                config=(tyro.conf.FlagConversionOff, tyro.conf.Positional),
            )
    except SystemExit:
        raise ValueError(f"{key}={text}: expected {_expected(hint)}") from None


def grid(cls: type[Any], words: Mapping[str, str], *, single: Collection[str] = ()) -> list[dict[str, str]]:
    """Every combination of the values of comma lists given to settings that hold a single value.

    `lr=0.1,0.2 seeds=0,1` -> two dicts where `lr` is scalar and `seeds` a tuple in `cls`.

    Raises:
        ValueError: a list for one of the settings in `single`.
    """
    known = settings(cls)

    def values(key: str, text: str) -> list[str]:
        hint = known[key].hint if key in known else Path
        if get_origin(hint) is tuple or Path in _members(hint):
            return [text]
        if key in single and "," in text:
            raise ValueError(f"{key}={text}: takes one value for the whole sweep")
        return text.split(",")

    choices = [[(key, choice) for choice in values(key, text)] for key, text in words.items()]
    return [dict(combination) for combination in itertools.product(*choices)]


def print_help(
    cls: type[Any],
    *,
    prog: str,
    description: str,
    sections: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (),
) -> None:
    """Usage, the settings of `cls` with their defaults, and further `sections` of (name, text) rows."""
    console = Console(highlight=False)
    console.print(Text(f"usage: {_as_called(prog)} key=value ...", style="bold"))
    console.print(Text(f"\n{description.strip()}\n"))
    hints = get_type_hints(cls)
    nested = [hints[field.name] for field in fields(cls) if is_dataclass(hints[field.name])]
    tables = [("Settings", _rows(cls)), *((_title(section), _rows(section)) for section in nested)]
    for title, section in [*tables, *sections]:
        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, title=title, title_justify="left")
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in section:
            table.add_row(Text(name), Text(" ".join(text.split())))
        console.print(table)


def print_outline(
    cls: type[Any], *, prog: str, description: str, sections: Mapping[str, str], more: str
) -> None:
    """A help text for one screen: what the settings of `cls` mean, those of its sections by name alone.

    Args:
        cls: the settings.
        prog: the command.
        description: what it does.
        sections: further lines by title.
        more: the words that print everything.
    """
    console = Console(highlight=False)
    console.print(Text(f"usage: {_as_called(prog)} key=value ...", style="bold"))
    console.print(Text(f"\n{description.strip()}"))
    hints = get_type_hints(cls)
    nested = [hints[field.name] for field in fields(cls) if is_dataclass(hints[field.name])]
    by_name = {_title(section): " ".join(name for name, _ in _rows(section)) for section in nested}
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for name, text in _rows(cls):
        table.add_row(Text(name), Text(" ".join(text.split())))
    for title, text in (by_name | {**sections}).items():
        table.add_row(Text(title.partition(":")[0]), Text(text))
    console.print(table)
    console.print(Text(f"{_as_called(prog)} {more}: what each of these means, and their defaults"))


class Command(Protocol):
    """A command's `main`: takes the words, or those of the command line, and returns the exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command(main: Callable[[Sequence[str]], int]) -> Command:
    """Make `main(argv)` a command: a user's mistake is one line on stderr and exit code 2, no traceback."""

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        try:
            return main(sys.argv[1:] if argv is None else argv)
        except BrokenPipeError:  # `... | head`: the reader has gone, and there is nobody to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except (ValueError, OSError) as error:
            print(f"error: {printable(' '.join(_message(error).split()))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return guarded


def _message(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"  # without the number
    return str(error)


def _as_called(prog: str) -> str:
    """`python -m results.compare`, or `flips compare` where it was called like that."""
    if Path(sys.argv[0]).stem != "flips" or len(sys.argv) < 2:
        return prog
    _python, _m, _module, *words = prog.split()
    return " ".join(("flips", sys.argv[1], *words))


def _arguments(text: str, hint: Any) -> list[str]:
    if get_origin(hint) is tuple:
        parts = text.split(",")
        return [each for part in parts for each in expand_range(part)] if int in get_args(hint) else parts
    if bool in _members(hint) or (text == "none" and types.NoneType in _members(hint)):
        text = text.capitalize()
    return [text]


def expand_range(text: str) -> list[str]:
    """The numbers of a range such as 0..9, both ends included; any other text as it is."""
    ends = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", text)
    if ends is None:
        return [text]
    first, last = int(ends[1]), int(ends[2])
    if not 0 <= last - first < MOST_OF_A_RANGE:
        raise ValueError(f"{text}: a range must rise, and by less than {MOST_OF_A_RANGE:,}")
    return [str(number) for number in range(first, last + 1)]


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _choices(hint: Any) -> list[str]:
    return [
        str(choice)
        for member in _members(hint)
        if get_origin(member) is Literal
        for choice in get_args(member)
    ]


def _expected(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", Path: "a path"}
    if get_origin(hint) is tuple:
        each = f"{_expected(get_args(hint)[0])} each"
        return (
            f"a comma-separated list ({each}{', or a range such as 0..9' if int in get_args(hint) else ''})"
        )
    if names := _choices(hint):
        return f"one of {', '.join(names)}"
    return " or ".join(words[member] for member in _members(hint) if member in words)


def _make(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A dataclass and its sections from values by the settings' flat names."""
    hints = get_type_hints(cls)
    given: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]
        if is_dataclass(hints[field.name]):
            given[field.name] = _make(hints[field.name], values)
        elif field.name in values:
            given[field.name] = values[field.name]
    return cls(**given)


def _rows(cls: type[Any]) -> list[tuple[str, str]]:
    """Help on a dataclass's own settings: names with defaults, and what their docstrings say."""
    hints = get_type_hints(cls)
    documented = {p.arg_name: p.description or "" for p in docstring_parser.parse_from_object(cls).params}
    return [
        (f"{field.name}={_default(field)}", documented.get(field.name, ""))
        for field in fields(cls)
        if not is_dataclass(hints[field.name])
    ]


def _title(section: type[Any]) -> str:
    return (docstring_parser.parse_from_object(section).short_description or "").rstrip(".")


def _default(field: Field[Any]) -> str:
    value = field.default if field.default is not MISSING else ""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    return str(value)
