"""Time to write the report of 2,000 runs, and its size: `python -m benchmarks.report_page`.

Eight settings of 10 seeds, each with an old model, 8 references and 16 candidates tested on 10,000 samples,
with margins and with the images of 24 flips a candidate. The records are written, without waiting for the
disk, into a temporary folder or into `records=FOLDER`, where later calls find them. Each round is a command
of its own, from a cold start.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.report import median_row, print_rows, write_rows
from benchmarks.store import plan, predictions_of, publish, seconds
from common.cli import command, parse
from results.artifacts import Gallery, worst_flips
from results.predictions import Predictions
from results.store import Store

SETTINGS, SIDE = 8, 32


@dataclass(frozen=True, kw_only=True)
class ReportBenchmark:
    """Settings of the benchmark."""

    records: Path | None = None
    """Folder of the records, which are written where it is missing; by default a temporary one."""
    rounds: int = 5
    """How often the report is written."""
    out: Path = Path("benchmarks/results/report.json")
    """The file for the figures."""


@command
def main(argv: Sequence[str]) -> int:
    """Measure, print medians with their spread, and write them into a file."""
    settings = parse(
        ReportBenchmark, argv, prog="python -m benchmarks.report_page", description=__doc__ or ""
    )
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(settings.records or Path(temporary) / "runs")
        if not store.root.exists():
            write_records(store)
        page = Path(temporary) / "report.html"
        words = [sys.executable, "-m", "results.report", f"runs={store.root}", f"out={page}"]
        write = partial(subprocess.run, words, check=True, stdout=subprocess.DEVNULL)
        times = [seconds(write) for _ in range(settings.rounds)]
        megabytes = page.stat().st_size / 1e6
        work = f"report of {sum(1 for _ in store.records()):,} runs"
    rows = [
        median_row(work, "time (target: below 20)", times, "s"),
        median_row(work, "size (target: below 20)", [megabytes], "MB"),
    ]
    print_rows(rows)
    write_rows(settings.out, rows)
    return 0


def write_records(store: Store) -> None:
    random = np.random.default_rng(0)
    olds: dict[str, Predictions] = {}
    with patch("os.fsync"):
        for run in plan(SETTINGS):
            predictions = with_margins(predictions_of(run, random), random)
            files = {}
            if run.role == "old":
                olds[run.id] = predictions
            if run.role == "candidate":
                files["gallery.npz"] = gallery(olds[run.parents[0]], predictions, random)
            publish(store, run, predictions, random, files)


def with_margins(predictions: Predictions, random: np.random.Generator) -> Predictions:
    """The predictions with margins and confidences that fit them, of one other class."""
    distance = random.gamma(2, 2, len(predictions))
    margin = np.where(predictions.right, distance, -distance).astype(np.float32)
    right = (1 / (1 + np.exp(-margin))).astype(np.float32)
    return replace(
        predictions,
        margin=margin,
        confidence=np.maximum(right, 1 - right),
        target_confidence=right,
    )


def gallery(old: Predictions, new: Predictions, random: np.random.Generator) -> bytes:
    """Images of noise, which no format makes smaller, for the flips that a run keeps."""
    flips = worst_flips(old, new)
    index = np.concatenate([flips.negative, flips.positive])
    images = random.integers(0, 256, (len(index), SIDE, SIDE, 3), np.uint8)
    return Gallery(index=index, images=images).to_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
