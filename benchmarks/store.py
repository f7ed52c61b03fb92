"""How long 10,000 records take to read, and their leaderboard to print.

    python -m benchmarks.store

40 settings of 10 seeds, each with an old model, 8 references and 16 candidates tested on 10,000 samples.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.plan import Model, Run, Split
from harness.recipes import Recipe
from results.metrics import METRICS
from results.predictions import Predictions
from results.store import Record, Store

SETTINGS, SEEDS, REFERENCES, SAMPLES, CLASSES, OLD_CLASSES = 40, 10, 8, 10_000, 10, 5
METHODS = ("none", "pct-naive", "pct-kl", "pct-lm", "elodi", "elodi-topk")
KS = (0, 1, 2, 4, 8)


def plan() -> Iterator[Run]:
    for setting in range(SETTINGS):
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


def finish(store: Store, run: Run, random: np.random.Generator) -> None:
    tested = OLD_CLASSES if run.role == "old" else CLASSES
    target = np.arange(SAMPLES) % CLASSES
    index = np.flatnonzero(target < tested)
    right = random.random(len(index)) < (0.93 if run.role == "old" else random.uniform(0.85, 0.92))
    prediction = np.where(right, target[index], (target[index] + 1) % tested)
    predictions = Predictions(index=index, target=target[index], prediction=prediction)

    metrics = {name: random.uniform(0.1, 0.2) for name in METRICS}
    metrics |= {"samples_old": SAMPLES / 2, "samples_all": SAMPLES}
    history = [{"epoch": epoch, "loss": 1 / (epoch + 1)} for epoch in range(100)]
    attempt = store.begin(run.id)
    name = attempt.name("predictions.npz")
    record = Record(
        run=run.document(), state="done", metrics=metrics, images_per_s=1e4, peak_memory_bytes=2**30,
        timings={"train_s": 36.0, "evaluate_s": 1.0},
        environment={"device": "cpu", "host": "node1", "versions": {"torch": "2.15.0", "numpy": "2.4.6"}},
        attempt=attempt.number, files={name: attempt.write(name, predictions.to_bytes())},
        finished="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    attempt.publish(record, history=history)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, random = Store(Path(folder) / "runs"), np.random.default_rng(0)
        for run in plan():
            finish(store, run, random)
        for _ in range(3):
            began = time.perf_counter()
            count = sum(1 for _ in store.records())
            print(f"{count:,} records read in {time.perf_counter() - began:.2f} s", flush=True)
        for _ in range(3):
            began = time.perf_counter()
            command = [sys.executable, "-m", "results.leaderboard", f"runs={store.root}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            print(f"leaderboard, from cold, in {time.perf_counter() - began:.2f} s", flush=True)


if __name__ == "__main__":
    main()
