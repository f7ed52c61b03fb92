"""Writes docs/RESULTS.md and its picture from the measurements: `python -m benchmarks.results_page`.

It reads `benchmarks/results/evidence/tables.json`, which `benchmarks.evidence` makes, and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.evidence import FOLDER, PARTS
from common.cli import command, parse
from common.files import write_atomically
from results.figure_style import add_axes, new_figure, save, styles_of

DOCS = Path(__file__).parent.parent / "docs"
Table = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A difference that should have a sign."""

    text: str
    metric: str
    of: str
    minus: str
    sign: Literal[-1, 1]

    def verdict(self, table: Table) -> str | None:
        """`holds: -1.2 [-1.9, -0.5]` for one table; None where it lacks a row."""
        for pair in table["differences"].get(self.metric, ()):
            if (pair["of"], pair["minus"]) == (self.of, self.minus):
                estimate, low, high = (100 * pair[name] for name in ("estimate", "low", "high"))
                word = "undecided"
                if low > 0 or high < 0:
                    word = "**holds**" if estimate * self.sign > 0 else "**the opposite**"
                return f"{word}: {estimate:+.2f} [{low:+.2f}, {high:+.2f}]"
        return None


PAPER = (
    Claim(text="MPT-KL flips less than No Treatment", metric="nfr", of="mpt-kl", minus="none", sign=-1),
    Claim(text="... than PCT-KL", metric="nfr", of="mpt-kl", minus="pct-kl", sign=-1),
    Claim(text="... than ELODI", metric="nfr", of="mpt-kl", minus="elodi", sign=-1),
    Claim(text="MPT-LM flips less than No Treatment", metric="nfr", of="mpt-lm", minus="none", sign=-1),
    Claim(text="... than PCT-LM", metric="nfr", of="mpt-lm", minus="pct-lm", sign=-1),
    Claim(
        text="the margin is needed: NFR falls by it",
        metric="nfr",
        of="mpt-kl",
        minus="mpt-kl-nobias",
        sign=-1,
    ),
    Claim(
        text="distillation is needed: NFR falls by it",
        metric="nfr",
        of="mpt-kl",
        minus="mpt-nodistill",
        sign=-1,
    ),
    Claim(text="the margin alone costs errors", metric="er_all", of="mpt-nodistill", minus="none", sign=1),
    Claim(
        text="distillation pays them back: ER all falls by it",
        metric="er_all",
        of="mpt-kl",
        minus="mpt-nodistill",
        sign=-1,
    ),
    Claim(
        text="more of the old margins is kept than by No Treatment",
        metric="margin_kept",
        of="mpt-kl",
        minus="none",
        sign=1,
    ),
)
OURS = (
    Claim(
        text="a bias after training flips less than No Treatment",
        metric="nfr",
        of="posthoc-bias",
        minus="none",
        sign=-1,
    ),
    Claim(text="MPT-KL flips less than that bias", metric="nfr", of="mpt-kl", minus="posthoc-bias", sign=-1),
    Claim(text="... and errs less", metric="er_all", of="mpt-kl", minus="posthoc-bias", sign=-1),
    Claim(
        text="old and new together flip less than MPT-KL",
        metric="nfr",
        of="ensemble-old-new",
        minus="mpt-kl",
        sign=-1,
    ),
    Claim(text="... and err less", metric="er_all", of="ensemble-old-new", minus="mpt-kl", sign=-1),
    Claim(
        text="eight new models together flip less than MPT-KL",
        metric="nfr",
        of="ensemble-new",
        minus="mpt-kl",
        sign=-1,
    ),
    Claim(
        text="any teacher helps: one reference, no old model",
        metric="nfr",
        of="self-distill",
        minus="none",
        sign=-1,
    ),
)
MARGIN = (
    Claim(
        text="a larger k lowers NFR: MPT-KL, k 8 against 0",
        metric="nfr",
        of="mpt-kl[k=8]",
        minus="mpt-kl[k=0]",
        sign=-1,
    ),
    Claim(
        text="... and costs errors on new classes",
        metric="er_new",
        of="mpt-kl[k=8]",
        minus="mpt-kl[k=0]",
        sign=1,
    ),
    Claim(text="the same of MPT-LM: NFR", metric="nfr", of="mpt-lm[k=8]", minus="mpt-lm[k=0]", sign=-1),
    Claim(
        text="... and errors on new classes",
        metric="er_new",
        of="mpt-lm[k=8]",
        minus="mpt-lm[k=0]",
        sign=1,
    ),
)
NOTES = FOLDER / "notes.md"
"""Explanations written by hand."""


@dataclass(frozen=True, kw_only=True)
class ResultsPage:
    """Settings of the page."""

    out: Path = DOCS / "RESULTS.md"
    """File to write; the picture lies beside it."""


@command
def main(argv: Sequence[str]) -> int:
    """Write the page and its picture."""
    settings = parse(ResultsPage, argv, prog="python -m benchmarks.results_page", description=__doc__ or "")
    measured = json.loads((FOLDER / "tables.json").read_text())
    write_atomically(settings.out, ("\n".join(_page(measured)) + "\n").encode())
    _picture(_main_tables(measured), settings.out.parent / "evidence")
    print(settings.out)
    return 0


def _main_tables(measured: Table) -> list[Table]:
    """The tables of all methods, one for each set of images."""
    return [table for table in measured["tables"] if PARTS[table["part"]].title == "all methods"]


def _page(measured: Table) -> Iterator[str]:
    machine, versions = measured["machine"], measured["versions"]
    mains = _main_tables(measured)
    yield "# What was measured"
    yield ""
    yield (
        "Made by `python -m benchmarks.results_page` from `benchmarks/results/evidence/`, which "
        "`python -m benchmarks.evidence` measures; nothing here is written by hand but the explanations."
    )
    yield (
        f"{machine['cores']} cores of {machine['processor']}, Python {versions['python']}, torch "
        f"{versions['torch']}; {measured['date'][:10]}. Rates are in %, mean±std over seeds; differences "
        "have 95 % intervals over seeds and test samples, each by itself (`docs/methods.md`)."
    )
    yield ""
    yield "![Error against negative flips](evidence.png)"
    yield ""
    yield from _claims("The paper's claims", PAPER, mains)
    yield from _claims("Ours", OURS, mains)
    of_k = [table for table in measured["tables"] if PARTS[table["part"]].title == "the margin k"]
    yield from _claims("The margin k", MARGIN, of_k)
    yield from NOTES.read_text().splitlines()
    yield ""
    for part in PARTS.values():
        tables = [table for table in measured["tables"] if table["part"] == part.name]
        if tables:
            yield f"## {part.images}: {part.title}"
            yield ""
            yield f"`{' '.join(('flips', 'sweep', *part.words))}`"
            yield ""
        for table in tables:
            yield from _chain(table) if "chain" in table else _table(table)
            yield ""
    yield from _speed(measured["speed"])


def _claims(title: str, claims: Sequence[Claim], tables: Sequence[Table]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield "Difference in points, first method minus second, with its interval and the number of seeds."
    yield ""
    yield "| claim | " + " | ".join(f"{table['images']}, {table['seeds']} seeds" for table in tables) + " |"
    yield "|---" * (1 + len(tables)) + "|"
    for claim in claims:
        yield f"| {claim.text} | " + " | ".join(claim.verdict(table) or "-" for table in tables) + " |"
    yield ""


def _table(table: Table) -> Iterator[str]:
    yield f"{table['title']}. {table['seeds']} seeds; {table['recipe']}."
    yield ""
    yield "| method | rank | ER old | ER all | NFR | NFR - plain | margin kept | h alone | networks |"
    yield "|---" * 9 + "|"
    for row in table["rows"]:
        minus = row.get("nfr_minus_plain")
        difference = (
            "-" if minus is None else f"{100 * minus:+.2f}±{100 * (row.get('nfr_minus_plain_se') or 0):.2f}"
        )
        p = row.get("nfr_minus_plain_p")
        cells = [
            f"`{row['method']}`",
            _plain(row.get("rank")),
            *(_rate(row, name) for name in ("er_old", "er_all", "nfr")),
            difference + ("*" if p is not None and p < 0.05 else ""),
            _rate(row, "margin_kept"),
            _plain(row.get("train_hours_alone"), ".3f"),
            _plain(row.get("networks"), ".0f"),
        ]
        yield "| " + " | ".join(cells) + " |"


def _chain(table: Table) -> Iterator[str]:
    yield f"{table['chain']}."
    yield ""
    names = [
        name for name in table["rows"][0] if name.startswith(("nfr_", "er_")) and not name.endswith("_std")
    ]
    yield "| method | " + " | ".join(name.replace("_", " ") for name in names) + " |"
    yield "|---" * (1 + len(names)) + "|"
    for row in table["rows"]:
        yield f"| `{row['method']}` | " + " | ".join(_rate(row, name) for name in names) + " |"


def _rate(row: Mapping[str, Any], name: str) -> str:
    if row.get(name) is None:
        return "-"
    std = row.get(f"{name}_std")
    return f"{100 * row[name]:.2f}" + ("" if std is None else f"±{100 * std:.2f}")


def _plain(value: float | None, form: str = "") -> str:
    return "-" if value is None else f"{value:{form}}"


def _speed(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the evidence run says about the harness."""
    if not entries:
        return
    total = {
        name: sum(entry[name] for entry in entries) for name in ("runs", "wall_s", "train_s", "evaluate_s")
    }
    capacity = sum(entry["wall_s"] * entry["cores"] for entry in entries)
    yield "## Speed on the way"
    yield ""
    yield (
        f"{total['runs']:,} runs in {total['wall_s'] / 3600:.1f} h: "
        f"{total['runs'] / total['wall_s'] * 3600:,.0f} an hour. Shares of the time of all cores; a load "
        "average above their number means that other work shared them, which makes every time longer:"
    )
    yield ""
    heads = ("part", "runs", "runs/h", "training", "evaluation", "start-up, loading and idle")
    yield f"| {' | '.join(heads)} | load average |"
    yield "|---" * 7 + "|"
    for entry in entries:
        yield "| " + " | ".join(_shares(entry)) + " |"
    load = sum(entry["load"] * entry["wall_s"] for entry in entries) / total["wall_s"]
    whole = {**total, "part": "all", "cores": capacity / total["wall_s"], "load": load}
    yield "| " + " | ".join(_shares(whole)) + " |"


def _shares(entry: Mapping[str, Any]) -> list[str]:
    capacity = entry["wall_s"] * entry["cores"]
    rest = max(0.0, capacity - entry["train_s"] - entry["evaluate_s"])
    shares = (entry["train_s"], entry["evaluate_s"], rest)
    return [
        str(entry["part"]),
        f"{entry['runs']:,}",
        f"{entry['runs'] / entry['wall_s'] * 3600:,.0f}",
        *(f"{share / capacity:.0%}" for share in shares),
        f"{entry['load']:.1f}",
    ]


def _picture(tables: Sequence[Table], stem: Path) -> None:
    """Error on all classes against NFR for every method, one panel for each set of images."""
    figure = new_figure(4.2 * max(1, len(tables)) + 1.6, 4.2)
    grid = figure.add_gridspec(1, max(1, len(tables)))
    for place, table in enumerate(tables):
        axes = add_axes(figure, grid[0, place])
        rows = [row for row in table["rows"] if row.get("nfr") is not None and row.get("er_all") is not None]
        styles = styles_of([(row["method"].partition("[")[0], row["method"]) for row in rows])
        beyond = 4 * sorted(row["nfr"] for row in rows)[len(rows) // 2]
        for row in rows:
            style = styles[row["method"]]
            if row["nfr"] <= beyond:
                axes.plot(
                    100 * row["er_all"],
                    100 * row["nfr"],
                    style.marker,
                    color=style.colour,
                    label=row["method"],
                )
        left_out = sorted(row["method"] for row in rows if row["nfr"] > beyond)
        note = f" (beyond: {', '.join(left_out)})" if left_out else ""
        axes.set_title(f"{table['images']}, {table['seeds']} seeds{note}", fontsize=8, loc="left")
        axes.set(xlabel="error rate on all classes in %", ylim=(0, None))
        if place == 0:
            axes.set(ylabel="negative flip rate in %")
    if figure.axes:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=6)
    save(figure, stem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
