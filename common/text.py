"""Small tools for text that people read: hints for misspelt names, and text that is safe to print."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_ASCII = {"─": "-", "±": "+/-", "→": "->", "−": "-", "…": "...", "†": "+"}


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ` (did you mean 'x'?)`, or the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(known)})"


def printable(text: str) -> str:
    """`text` without characters that steer a terminal or are not allowed in XML, such as escape sequences."""
    return "".join(character if character.isprintable() else "?" for character in text)


def encodable(text: str, encoding: str) -> str:
    """`text` with ASCII in the place of characters that the `encoding` lacks."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = "".join(_ASCII.get(character, character) for character in text)
        return text.encode(encoding, errors="replace").decode(encoding)
    return text


def disk_space(size: int) -> str:
    """A number of bytes for people, such as `12 MB` or `1,500 GB`."""
    unit, name = (1e9, "GB") if size >= 1e10 else (1e6, "MB")
    return f"{max(1, round(size / unit)):,} {name}"


def say(text: object) -> None:
    """Print a line that may hold names from elsewhere on stdout, whatever its encoding."""
    print(encodable(printable(str(text)), sys.stdout.encoding or "utf-8"))


def displayed(name: str | Path) -> str:
    r"""A file name as text for people and JSON: bytes that are not UTF-8 become escapes such as `\xe9`."""
    return os.fsencode(name).decode(errors="backslashreplace")
