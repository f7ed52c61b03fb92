"""A table of text cells, and its output formats: terminal, Markdown, LaTeX; and CSV of raw values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
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


def show(tables: Iterable[Table], console: Console) -> None:
    """Print tables on a terminal or into a pipe; wide tables are not cut.

    Control characters become "?"; characters that the terminal's encoding lacks become ASCII.
    """

    def clean(text: str) -> str:
        return encodable(printable(text), console.encoding)

    for table in tables:
        notes = [Text(clean(line), "dim") for line in table.footer]
        lines = [Text(clean(table.title), "bold"), *_lines(table, clean), *notes, Text()]
        console.print(Text("\n").join(lines), soft_wrap=True)


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
    parts = []
    for table in tables:
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_in_latex(table.title)}}}",
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
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bare bracket would be read as a length
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in _one_line(text))
