import csv
import io
import re

import pytest
from rich.console import Console

from results.tables import Cell, Table, as_csv, latex, markdown, show


def table_of(text) -> Table:
    row = (Cell(text, "best"), Cell(text))
    return Table(title=text, header=("Method", text), rows=(row,), footer=(text,))


@pytest.mark.parametrize("text", ["a|b", "*x*", "[k](http://a)", "<script>", "_a_ `b`", "a\nb"])
def test_markdown_cells_stay_cells_and_text(text):
    lines = markdown([table_of(text)]).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 3
    for line in table:
        assert line.replace(r"\|", "").count("|") == 3
    assert "<script>" not in "\n".join(lines)
    assert all(mark == r"\](" for mark in re.findall(r".?\]\(", "\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% & more_#1", r"50\% \& more\_\#1"),
        ("a\\b{c}", r"a\textbackslash{}b\{c\}"),
        ("[k=2]", "{[}k=2]"),
        ("1±2", r"1$\pm$2"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("-0.5 to -1", r"$-$0.5 to $-$1"),
        ("a -> mpt-kl", r"a $\to$ mpt-kl"),
    ],
)
def test_latex_is_escaped(text, escaped):
    made = latex([table_of(text)])
    assert rf"\textbf{{{escaped}}} & {escaped} \\" in made
    assert all(rule in made for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


@pytest.mark.parametrize("formula", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_in_a_csv_cell_is_text(formula):
    ((header,), (cell,)) = csv.reader(io.StringIO(as_csv([{formula: formula}]), newline=""))
    assert header == cell == "'" + formula


def test_numbers_in_a_csv_stay_numbers_and_nothing_stays_empty():
    assert as_csv([{"a": -0.5, "b": None}, {"a": 1, "c": "x"}]) == "a,b,c\r\n-0.5,,\r\n1,,x\r\n"


def test_a_note_of_several_lines_stays_a_comment_in_latex():
    text = latex([table_of("diverged (NaN\n\\input{x})")])
    assert "% diverged (NaN \\input{x})" in text.splitlines()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_table_prints_on_a_terminal_of_any_encoding(encoding):
    table = Table(
        title="old -> new: caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        header=("Method", "NFR"),
        rows=((Cell("\N{GREEK SMALL LETTER ALPHA}"), Cell("1.00±0.10", "best")), (Cell("none"), Cell("2"))),
        rules=frozenset({0}),
        footer=("mean±std",),
    )
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show([table], Console(file=file))
    file.flush()
    title, header, rule, first, *_ = file.buffer.getvalue().decode(encoding).splitlines()
    assert {len(line) for line in (header, rule, first)} == {len(rule)}, "columns stay aligned"
    assert set(rule) == ({"─"} if encoding == "utf-8" else {"-"})
    assert first.endswith("1.00+/-0.10" if encoding == "ascii" else "1.00±0.10")
    assert title.endswith("caf?" if encoding == "ascii" else "caf\N{LATIN SMALL LETTER E WITH ACUTE}")


@pytest.mark.parametrize("form", [markdown, latex])
def test_control_characters_reach_no_export(form):
    text = form([table_of("a\x1b[31mb\x00\x9bc\udce9d\u202ee")])
    assert all(character.isprintable() or character == "\n" for character in text)
    text.encode()


def test_every_latex_table_has_a_label_of_its_own():
    labels = re.findall(r"\\label\{([^}]*)\}", latex([table_of("a: x -> y"), table_of("a: x -> y")]))
    assert labels == ["tab:a-x-y-1", "tab:a-x-y-2"]


def wide_table(*, note="a note that both tables share"):
    header = ("Method", "Rank", "ER old", "NFR", "Rel-NFR")
    rows = (tuple(Cell(text) for text in ("pct-naive", "1", "2.25±0.23", "1.59±0.23", "72.00±9.45")),)
    footer = (note, "Rel-NFR: relative to the errors", "Rank: 1 is best")
    return Table(title="wide", header=header, rows=rows, footer=footer, essential=("NFR", "Rank"))


def shown(*tables, **how):
    console = Console(file=io.StringIO(), color_system=None, **how)
    show(tables, console)
    return console.file.getvalue()


def test_a_narrow_terminal_shows_fewer_columns_and_breaks_no_word():
    lines = shown(wide_table(), force_terminal=True, width=30).splitlines()
    assert lines[1].split() == ["Method", "Rank", "NFR"]
    assert max(map(len, lines)) <= 30
    assert "Too narrow for ER old, Rel-NFR" in " ".join(lines)
    assert "Rank: 1 is best" in lines
    assert "relative" not in " ".join(lines), "a note about a column that is not shown"


def test_the_most_important_column_stays_longest():
    lines = shown(wide_table(), force_terminal=True, width=22).splitlines()
    assert lines[1].split() == ["Method", "NFR"]


def test_a_pipe_gets_every_column_whatever_its_width():
    assert shown(wide_table(), force_terminal=False, width=30).splitlines()[1].split()[-1] == "Rel-NFR"


def test_notes_that_all_tables_share_are_printed_once():
    text = shown(wide_table(), wide_table(), width=100)
    assert text.count("a note that both tables share") == 1
    text = shown(wide_table(), wide_table(note="another"), width=100)
    assert text.count("a note that both tables share") == text.count("another") == 1
