"""A report for people who were not there: a summary for a pull request, and one page for a browser."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from matplotlib.figure import Figure

from common.text import printable
from results.gate.checks import Check
from results.gate.groups import GroupRow
from results.gate.outputs import count_flips, metrics_table, notes
from results.gate.report import GateReport
from results.tables import Cell, Table, markdown

SIGNS = {"PASS": "✅", "FAIL": "❌", "UNDECIDED": "⚠️"}
MEANINGS = {
    "PASS": "The update keeps every cap.",
    "FAIL": "The update breaks a cap.",
    "UNDECIDED": "There are too few samples to tell whether the update keeps every cap.",
}
MOST_FLIPS = 5_000
"""Of each kind on the page; more would make a browser slow."""
LONGEST = 60_000
"""Characters of Markdown; GitHub takes 65,536 in a comment."""
_COLOURS = {"PASS": "#00683f", "FAIL": "#a32d00", "UNDECIDED": "#8a6100"}


def as_markdown(report: GateReport, *, most: int = 10) -> str:
    """A summary for a pull request: verdict, checks and metrics; slices, classes and flips folded away."""
    while True:
        text = _markdown(report, most)
        if len(text) <= LONGEST or most == 0:
            return text
        most //= 2


def _markdown(report: GateReport, most: int) -> str:
    parts = [f"## {_heading(report)}\n"]
    if report.checks:
        checks = Table(
            title="",
            header=("check", "seen", "interval", "cap", "verdict"),
            rows=tuple(_check_row(check) for check in report.checks),
        )
        parts.append(_untitled(checks))
        undecided = [check for check in report.checks if check.verdict != "PASS"]
        lines = [
            f"- {SIGNS[check.verdict]} {_escaped(f'{check.name}: {check.message}')}" for check in undecided
        ]
        parts.append("\n".join(lines) + "\n" if lines else "")
    metrics = metrics_table(report)
    parts.append(_folded("All metrics", _untitled(metrics)))
    for title, rows in (("Worst slices", report.slices), ("Worst classes", report.classes)):
        if shown := [row for row in rows if row.negative_flips][:most]:
            parts.append(_folded(title, _untitled(_group_table(shown))))
    flips = report.flips("negative", most)
    if flips:
        total = count_flips(report)
        title = f"{total:,} negative flip{'' if total == 1 else 's'}" + (
            f", the first {len(flips)}" if total > len(flips) else ""
        )
        parts.append(_folded(title, _untitled(_flip_table(flips))))
    return "\n".join(parts)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(printable(text).split()))


def _heading(report: GateReport) -> str:
    nfr = f"NFR {report.nfr.estimate:.2%} [{report.nfr.low:.2%}, {report.nfr.high:.2%}]"
    if report.verdict is None:
        return f"Negative flips: {nfr}"
    return f"{SIGNS[report.verdict]} {report.verdict}: {nfr}"


def _check_row(check: Check) -> tuple[Cell, ...]:
    seen = between = ""
    if check.interval is not None:
        signed = "+" if check.name == "max_error_increase" else ""
        seen = f"{check.interval.estimate:{signed}.2%}"
        between = f"[{check.interval.low:{signed}.2%}, {check.interval.high:{signed}.2%}]"
    cap = "" if check.cap is None else f"{check.cap:.2%}"
    verdict = f"{SIGNS[check.verdict]} {check.verdict}"
    return tuple(Cell(text) for text in (check.name, seen, between, cap, verdict))


def _group_table(rows: Sequence[GroupRow]) -> Table:
    sliced = rows[0].column != "class"
    noise = rows[0].noise is not None
    header = (
        "slice" if sliced else "class", "samples", "ER old model", "ER new model",
        "negative flips", "positive flips", "NFR", *(("noise",) if noise else ()), "interval",
    )  # fmt: skip
    return Table(title="", header=header, rows=tuple(_group_cells(row) for row in rows))


def _group_cells(row: GroupRow) -> tuple[Cell, ...]:
    name = row.value if row.column == "class" else f"{row.column}={row.value}"
    texts = [
        name,
        f"{row.samples:,}",
        f"{row.er_old_model:.1%}",
        f"{row.er_new_model:.1%}",
        f"{row.negative_flips:,}" if isinstance(row.negative_flips, int) else f"{row.negative_flips:,.1f}",
        f"{row.positive_flips:,}" if isinstance(row.positive_flips, int) else f"{row.positive_flips:,.1f}",
        f"{row.nfr:.2%}",
        *(() if row.noise is None else (f"{row.noise:.2%}",)),
        f"[{row.low:.2%}, {row.high:.2%}]",
    ]
    return tuple(Cell(text) for text in texts)


def _flip_table(rows: Sequence[dict[str, Any]]) -> Table:
    names = [name for name in rows[0] if name != "flip"]
    cells = tuple(tuple(Cell(_text(row[name])) for name in names) for row in rows)
    return Table(title="", header=tuple(name.replace("_", " ") for name in names), rows=cells)


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))


def _untitled(table: Table) -> str:
    return markdown([table]).partition("\n")[2].strip() + "\n"


def _folded(title: str, text: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n</details>\n"


def as_html(report: GateReport) -> str:
    """One page that needs no network; its script only filters the table of flips."""
    flips = [
        {
            "negative": kind == "negative",
            "cells": [_text(value) for name, value in row.items() if name != "flip"],
        }
        for kind in ("negative", "positive")
        for row in report.flips(kind, MOST_FLIPS)
    ]
    first = next(iter(report.flips(most=1)), {})
    metrics = metrics_table(report)
    return _ENVIRONMENT.get_template("page.html.jinja").render(
        verdict=report.verdict,
        meaning=MEANINGS.get(report.verdict or ""),
        colour=_COLOURS.get(report.verdict or "", "#1a1a1a"),
        heading=_heading(report).removeprefix("Negative flips: "),
        checks=[
            {
                "colour": _COLOURS[check.verdict],
                "verdict": check.verdict,
                "name": check.name,
                "message": check.message,
            }
            for check in report.checks
        ],
        picture=_picture(report),
        metrics=metrics,
        notes=notes(report),
        groups=[
            (title, _group_table(rows), len(rows) - 50)
            for title, rows in (("Slices", report.slices), ("Classes", report.classes))
            if rows
        ],
        most_rows=50,
        flip_names=[name.replace("_", " ") for name in first if name != "flip"],
        flips=flips,
        hidden=max(0, count_flips(report) - MOST_FLIPS),
        level=f"{report.policy.level * 100:.4g} %",
    )


def _picture(report: GateReport) -> str:
    """Intervals against their caps as an SVG element; empty where no check has an interval."""
    checks = [check for check in report.checks if check.interval is not None and check.cap is not None]
    if not checks:
        return ""
    figure = Figure(figsize=(8, 0.35 + 0.62 * len(checks)), layout="constrained")
    for axes, check in zip(figure.subplots(len(checks), 1, squeeze=False)[:, 0], checks, strict=True):
        assert check.interval is not None
        assert check.cap is not None
        seen = check.interval
        low, estimate, high, cap = (100 * value for value in (seen.low, seen.estimate, seen.high, check.cap))
        colour = _COLOURS[check.verdict]
        axes.plot([low, high], [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot([estimate], [0], "o", color=colour, markersize=7)
        axes.plot([cap, cap], [-0.35, 0.35], color="black", linewidth=1.5)
        ends = min(low, cap), max(high, cap)
        margin = 0.15 * (ends[1] - ends[0]) or 1.0
        axes.set_xlim(ends[0] - margin, ends[1] + margin)
        axes.set_yticks([0], [check.name])
        axes.set_ylim(-0.6, 0.6)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.4g}%")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=8)
    figure.supxlabel("dot: seen, bar: interval, black mark: cap", fontsize=8)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("results.gate", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
