"""A table of text cells, and its output formats: terminal, Markdown, LaTeX; and CSV of raw values."""

from __future__ import annotations

import csv
import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from common.text import encodable, printable

Emphasis = Literal["", "best"]


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a cell, which is never read as markup, and its emphasis."""

    text: str
    emphasis: Emphasis = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table. The first column holds names, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    rules: frozenset[int] = frozenset()
    """Indices of the rows that a horizontal rule follows."""
    footer: tuple[str, ...] = ()
    """A note that begins with a column's heading and a colon is about that column."""
    essential: tuple[str, ...] = ()
    """Headings of the columns that a narrow terminal leaves out last, the most important first."""


def show(tables: Sequence[Table], console: Console) -> None:
    """Print one or more tables; notes that all of them share come once, at the end.

    A terminal that is too narrow for a table shows fewer of its columns; a pipe gets them all. Control
    characters become "?"; characters that the encoding lacks become ASCII.
    """

    def clean(text: str) -> str:
        return encodable(printable(text), console.encoding)

    def wrapped(lines: Iterable[str], style: str) -> list[Text]:
        parts = (
            textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
            for line in map(clean, lines)
        )
        return [Text(line, style) for part in parts for line in part]

    width = console.width if console.is_terminal else sys.maxsize
    fitted = [_fitted(table, width) for table in tables]
    first, *others = fitted
    shared = [note for note in first.footer if others and all(note in table.footer for table in others)]
    for table in fitted:
        own = [note for note in table.footer if note not in shared]
        lines = [*wrapped([table.title], "bold"), *_lines(table, clean), *wrapped(own, "dim"), Text()]
        console.print(Text("\n").join(lines), soft_wrap=True)
    if shared:
        console.print(Text("\n").join([*wrapped(shared, "dim"), Text()]), soft_wrap=True)


def _fitted(table: Table, width: int) -> Table:
    """The table without the columns, from the right, that `width` characters have no room for.

    The first column and the most important one always stay.
    """
    columns = list(zip(table.header, *([cell.text for cell in row] for row in table.rows), strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    kept = list(range(len(columns)))
    important = [table.header.index(name) for name in table.essential if name in table.header]
    others = [column for column in kept[1:] if column not in important]
    for column in (*reversed(others), *reversed(important[1:])):
        if sum(widths[i] + 2 for i in kept) - 2 <= width:
            break
        kept.remove(column)
    if len(kept) == len(columns):
        return table
    hidden = [name for i, name in enumerate(table.header) if i not in kept]
    about_hidden = tuple(f"{name}:" for name in hidden)
    notes = [note for note in table.footer if not note.startswith(about_hidden)]
    return replace(
        table,
        header=tuple(table.header[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
        footer=(f"Too narrow for {', '.join(hidden)}: widen the terminal, or export=table.md.", *notes),
    )


def _lines(table: Table, clean: Callable[[str], str]) -> list[Text]:
    """The lines of a table. Not rich's own: forty of those take longer than the rest of a command."""
    styles = {"": "", "best": "bold"}
    rows = [tuple(Cell(name) for name in table.header), *table.rows]
    rows = [tuple(Cell(clean(cell.text), cell.emphasis) for cell in row) for row in rows]
    widths = [max(cell_len(cell.text) for cell in column) for column in zip(*rows, strict=True)]
    rule = Text(clean("─" * (sum(widths) + 2 * (len(widths) - 1))))
    lines = []
    for number, row in enumerate(rows, -1):
        line = Text()
        for position, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - cell_len(cell.text))
            line.append(gap if position else "").append(cell.text, styles[cell.emphasis])
            line.append("  " if position else gap + "  ")
        line.rstrip()
        lines += [line, rule] if number == -1 or number in table.rules else [line]
    return lines


def markdown(tables: Iterable[Table]) -> str:
    """GitHub's Markdown."""
    marks = {"": "{}", "best": "**{}**"}

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    parts = []
    for table in tables:
        rows = [[marks[cell.emphasis].format(_in_markdown(cell.text)) for cell in row] for row in table.rows]
        rule = ["---", *["---:"] * (len(table.header) - 1)]
        lines = [line([_in_markdown(name) for name in table.header]), line(rule), *map(line, rows)]
        notes = "<br>\n".join(_in_markdown(note) for note in table.footer)
        parts.append(f"### {_in_markdown(table.title)}\n\n" + "\n".join(lines) + f"\n\n{notes}\n")
    return "\n".join(parts)


def latex(tables: Iterable[Table]) -> str:
    """Tables for LaTeX with the package booktabs."""
    marks = {"": "{}", "best": r"\textbf{{{}}}"}
    parts: list[str] = []
    for table in tables:
        slug = re.sub(r"[^a-z0-9]+", "-", table.title.lower())[:50].strip("-")
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_in_latex(table.title)}}}",
            rf"\label{{tab:{slug}-{len(parts) + 1}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            " & ".join(_in_latex(name) for name in table.header) + r" \\",
            r"\midrule",
        ]
        for number, row in enumerate(table.rows):
            lines.append(" & ".join(marks[c.emphasis].format(_in_latex(c.text)) for c in row) + r" \\")
            if number in table.rules and number + 1 < len(table.rows):
                lines.append(r"\midrule")
        lines += [
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {_one_line(note)}" for note in table.footer),
            r"\end{table}",
            "",
        ]
        parts.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n".join(parts)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of raw values under the union of their keys; text that a spreadsheet would run gets a quote."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([harmless(name) for name in header])
    for row in rows:
        writer.writerow([harmless(row.get(name)) for name in header])
    return buffer.getvalue()


def harmless(value: Any) -> Any:
    """`value` for a CSV cell: text that begins like a formula gets a quote, so that it stays text."""
    if not isinstance(value, str):
        return value
    text = "".join(c if c.isprintable() or c in "\t\r\n" else "?" for c in value)
    return "'" + text if value[:1] in tuple("=+-@\t\r\n＝＋－＠") else text


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", _one_line(text))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "→": r"$\to$",
    "−": "$-$",
    "†": r"$\dagger$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bare bracket would be read as a length
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _in_latex(text: str) -> str:
    signs = re.sub(r"(?<![\w.])-(?=\d)", "−", _one_line(text).replace("->", "→"))
    return "".join(_LATEX.get(character, character) for character in signs)
