"""Time to read 10,000 records, and to print their leaderboard: `python -m benchmarks.store`.

40 settings of 10 seeds, each with an old model, 8 references and 16 candidates tested on 10,000 samples. The
records are written, without waiting for the disk, into a temporary folder or into `records=FOLDER`, where
later calls find them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.report import median_row, print_rows
from common.cli import command, parse
from harness.plan import Model, Run, Split
from harness.recipes import Recipe
from results.metrics import METRICS
from results.predictions import Predictions
from results.store import Record, Store

SETTINGS, SEEDS, REFERENCES, SAMPLES, CLASSES, OLD_CLASSES = 40, 10, 8, 10_000, 10, 5
METHODS = ("none", "pct-naive", "pct-kl", "pct-lm", "elodi", "elodi-topk")
KS = (0, 1, 2, 4, 8)
NO_FILES: Mapping[str, bytes] = {}


def plan(settings: int = SETTINGS) -> Iterator[Run]:
    """The runs of so many settings: 250 each."""
    for setting in range(settings):
        recipe = Recipe(epochs=100 + setting, batch_size=128, lr=0.1, weight_decay=5e-4)
        split = Split(classes=CLASSES, old_classes=OLD_CLASSES)
        for seed in range(SEEDS):
            old = Run(
                role="old", seed=seed, dataset="cifar10", data="0123456789abcdef", split=split,
                model=Model(arch="resnet18", stem="imagenet"), recipe=recipe,
            )  # fmt: skip
            whole = replace(split, old_classes=CLASSES)
            references = [replace(old, role="reference", index=i, split=whole) for i in range(REFERENCES)]
            parents = (old.id, *(reference.id for reference in references))
            yield from (old, *references)
            for method in METHODS:
                yield replace(old, role="candidate", method=method, parents=parents)
            for method in ("mpt-kl", "mpt-lm"):
                for k in KS:
                    chosen = (("k", float(k)),)
                    variant = replace(old, role="candidate", method=method, parents=parents)
                    yield replace(variant, hyperparameters=chosen, shown=chosen)


def predictions_of(run: Run, random: np.random.Generator) -> Predictions:
    """Predictions drawn at random: an old model's on samples of old classes, another's on all."""
    tested = OLD_CLASSES if run.role == "old" else CLASSES
    target = np.arange(SAMPLES) % CLASSES
    index = np.flatnonzero(target < tested)
    right = random.random(len(index)) < (0.93 if run.role == "old" else random.uniform(0.85, 0.92))
    prediction = np.where(right, target[index], (target[index] + 1) % tested)
    return Predictions(index=index, target=target[index], prediction=prediction)


def publish(
    store: Store,
    run: Run,
    predictions: Predictions,
    random: np.random.Generator,
    files: Mapping[str, bytes] = NO_FILES,
) -> None:
    """Leave the record of a done run with its predictions and further files, by name."""
    metrics = {name: random.uniform(0.1, 0.2) for name in METRICS}
    metrics |= {"samples_old": SAMPLES / 2, "samples_all": SAMPLES}
    history = [{"epoch": epoch, "loss": 1 / (epoch + 1)} for epoch in range(100)]
    attempt = store.begin(run.id)
    contents = {attempt.name(name): data for name, data in files.items()}
    contents[attempt.name("predictions.npz")] = predictions.to_bytes()
    record = Record(
        run=run.document(), state="done", metrics=metrics, images_per_s=1e4, peak_memory_bytes=2**30,
        timings={"train_s": 36.0, "evaluate_s": 1.0},
        environment={"device": "cpu", "host": "node1", "versions": {"torch": "2.15.0", "numpy": "2.4.6"}},
        attempt=attempt.number, files={name: attempt.write(name, data) for name, data in contents.items()},
        finished="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    attempt.publish(record, history=history)


@dataclass(frozen=True, kw_only=True)
class StoreBenchmark:
    """Settings of the benchmark."""

    records: Path | None = None
    """Folder of the records, which are written where it is missing; by default a temporary one."""
    rounds: int = 5
    """How often each is measured."""


@command
def main(argv: Sequence[str]) -> int:
    """Measure, and print medians with their spread."""
    settings = parse(StoreBenchmark, argv, prog="python -m benchmarks.store", description=__doc__ or "")
    with tempfile.TemporaryDirectory() as temporary:
        store = Store(settings.records or Path(temporary) / "runs")
        if not store.root.exists():
            write_records(store)
        command_line = [sys.executable, "-m", "results.leaderboard", f"runs={store.root}"]
        reads, commands = [], []
        for _ in range(settings.rounds):
            reads.append(seconds(lambda: sum(1 for _ in store.records())))
            print_table = partial(subprocess.run, command_line, check=True, stdout=subprocess.DEVNULL)
            commands.append(seconds(print_table))
        count = sum(1 for _ in store.records())
    work = f"{count:,} records"
    print_rows([median_row(work, "read", reads, "s"), median_row(work, "leaderboard command", commands, "s")])
    return 0


def write_records(store: Store) -> None:
    random = np.random.default_rng(0)
    with patch("os.fsync"):
        for run in plan():
            publish(store, run, predictions_of(run, random), random)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
