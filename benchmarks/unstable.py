"""What the mark of unstable methods tells: `python -m benchmarks.unstable runs=FOLDER`.

Draws tables as `benchmarks.statistics` does, from a probit model with the spreads of its trained models,
which lie in `runs=`. In each cell it counts the tables in which a method is marked, in which ranks err, and
in which both happen; and those in which ranks would err if marked methods were ranked with the others: what
does it cost to leave them out? It takes a few minutes.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.report import describe_machine
from benchmarks.statistics import Cell, Rates, SpreadName, Trained, tables_of
from common.cli import command, parse
from common.files import write_atomically
from results.ranking import rank
from results.row_ranking import rank_rows

WORLDS: tuple[tuple[Rates, SpreadName], ...] = (
    ("equal", "equal"),
    ("equal", "own"),
    ("equal", "one x 3"),
    ("equal", "one x 10"),
    ("equal, 20 %", "one x 10"),
)
FIGURES = ("marked", "ranks err", "both", "err if all are ranked")


@dataclass(frozen=True, kw_only=True)
class UnstableBenchmark:
    """Settings of the benchmark."""

    runs: Path = Path("runs/statistics")
    """Folder of the models that `benchmarks.statistics` trains."""
    tables: int = 1000
    """Tables in each cell."""
    out: Path = Path("benchmarks/results/unstable.json")
    """File that the figures are written to."""


@command
def main(argv: Sequence[str]) -> int:
    """Measure all cells, print shares of tables in %, and write them."""
    prog = "python -m benchmarks.unstable"
    config = parse(UnstableBenchmark, argv, prog=prog, description=__doc__ or "")
    trained = Trained.read(config.runs)
    shown = Shown("rates", "spread", "methods", "seeds", *(f"{name}, %" for name in FIGURES))
    found = []
    for (rates, spread), methods, seeds in itertools.product(WORLDS, (3, 8, 20), (3, 5, 10)):
        samples = trained.plain.shape[1]
        cell = Cell(
            source="simulated", rates=rates, spread=spread, methods=methods, seeds=seeds, samples=samples
        )
        shares = dict(zip(FIGURES, measure(cell, trained, config.tables), strict=True))
        found.append({"rates": rates, "spread": spread, "methods": methods, "seeds": seeds, **shares})
        words = [rates, spread, str(methods), str(seeds)]
        shown.add_row(*words, *(f"{100 * share:.1f}" for share in shares.values()))
    Console().print(shown)
    content = {**describe_machine(), "tables": config.tables, "cells": found}
    write_atomically(config.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def measure(cell: Cell, trained: Trained, tables: int) -> tuple[float, ...]:
    """Shares of tables with each of `FIGURES`; ranks err where they tell a pair of equal methods apart."""
    random = np.random.default_rng([cell.methods, cell.seeds])
    draw = tables_of(cell, trained)
    marked, err, err_of_all = (np.empty(tables, bool) for _ in range(3))
    for i in range(tables):
        flips = draw(random).flips
        rows = {str(method): dict(enumerate(by_seed)) for method, by_seed in enumerate(flips)}
        ranked, ranking = rank_rows(rows, range(cell.seeds))
        assert ranking is not None, "three seeds at least"
        marked[i], err[i] = len(ranked) < len(rows), ranking.separated.any()
        of_all = rank(flips)
        assert of_all is not None, "three seeds at least"
        err_of_all[i] = of_all.separated.any()
    return tuple(float(found.mean()) for found in (marked, err, marked & err, err_of_all))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
