"""How recipes are chosen: plain models alone, on held-out training images, with seeds that no table uses.

python -m benchmarks.recipes what=digits
python -m benchmarks.recipes what=fashion-mnist data=FOLDER
python -m benchmarks.recipes            (prints what has been measured so far)

The test set has no part in it: the numbers are those of `metrics=validation`. They go to
`benchmarks/results/recipes.json`. A quarter and half an hour on one busy core.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import describe_machine
from common.cli import command, parse
from harness import config, sweep
from harness.plan import Run, expand
from results.held_out import HeldOutStore

RESULTS = Path(__file__).parent / "results" / "recipes.json"
GRIDS = {
    "digits": (
        "epochs=15,30,60",
        "lr=0.05,0.1,0.2",
        "validation=0.3",
        "seeds=100..109",
    ),
    "fashion-mnist": (
        "arch=resnet8",
        "epochs=15",
        "lr=0.05,0.1,0.2",
        "train_data=0.1",
        "validation=0.1",
        "seeds=100,101",
    ),
}


@dataclass(frozen=True, kw_only=True)
class RecipesBenchmark:
    """Settings of the benchmark."""

    what: str | None = None
    """The dataset whose recipe is looked for; without one, the results so far are printed."""
    data: Path | None = None
    """Folder of its files, where it needs one."""
    runs: Path = Path("runs/recipes")
    """Folder of records."""
    results: Path = RESULTS
    """File that the figures are added to."""

    def __post_init__(self) -> None:
        if self.what not in (None, *GRIDS):
            raise ValueError(f"what={self.what}: expected one of {', '.join(GRIDS)}")


@command
def main(argv: Sequence[str]) -> int:
    """Train plain models by every recipe of a grid, and write down how they err on what was held out."""
    asked = parse(RecipesBenchmark, argv, prog="python -m benchmarks.recipes", description=__doc__ or "")
    known = json.loads(asked.results.read_text()) if asked.results.exists() else {}
    if asked.what is not None:
        began = time.monotonic()
        words = [f"dataset={asked.what}", "methods=none", *GRIDS[asked.what], "metrics=validation"]
        command_line = " ".join(["flips sweep", *words])
        words += [f"runs={asked.runs}", "cluster=inline", "device=cpu"]
        words += [f"data={asked.data}"] if asked.data else []
        if code := sweep.main(words):
            return code
        minutes = round((time.monotonic() - began) / 60, 1)
        recipes = measured(expand_all(words), asked.runs)
        known[asked.what] = {
            **describe_machine(),
            "command": command_line,
            "minutes": minutes,
            "recipes": recipes,
        }
        asked.results.write_text(json.dumps(known, indent=1) + "\n")
    for name, found in known.items():
        show(name, found["recipes"])
    return 0


def expand_all(words: Sequence[str]) -> list[Run]:
    """All runs of a sweep."""
    return [run for setting in config.read(words).settings for run in expand(setting)]


def measured(runs: Sequence[Run], folder: Path) -> list[dict[str, Any]]:
    """By recipe: the error rates in % on the held-out images, over the seeds."""
    store = HeldOutStore(folder)
    errors: dict[tuple[int, float], dict[str, list[float]]] = {}
    for run in runs:
        record, recipe = store.read(run.id), run.recipe
        assert record is not None
        assert recipe is not None, "only a given old model has none"
        name = "er_old" if run.role == "old" else "er_all"
        values = errors.setdefault((recipe.epochs, recipe.lr), {}).setdefault(run.role, [])
        values.append(100 * record.metrics[name])
    return [
        {
            "epochs": epochs,
            "lr": lr,
            **{f"{role}_error": round(statistics.mean(values), 2) for role, values in found.items()},
            **{f"{role}_std": round(statistics.stdev(values), 2) for role, values in found.items()},
            "seeds": len(found["old"]),
        }
        for (epochs, lr), found in errors.items()
    ]


def show(name: str, recipes: Sequence[dict[str, Any]]) -> None:
    """Print what was measured on one dataset."""
    table = Table(title=f"{name}: error on held-out training images, %", title_justify="left")
    for heading in ("epochs", "lr", "old model", "±", "all classes", "±", "seeds"):
        table.add_column(heading, justify="right")
    for one in recipes:
        columns = ("epochs", "lr", "old_error", "old_std", "candidate_error", "candidate_std", "seeds")
        table.add_row(*(f"{one[column]:g}" for column in columns))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
