"""How long the release gate takes, from the command to the verdict, and how much memory.

    python -m benchmarks.gate                      # 1,000,000 rows of each format, 10,000,000 of Parquet
    python -m benchmarks.gate rows=100000 parquet_rows=1000000

Each measurement is a process of its own, files already written; the targets are 10 s and 1 GB for a million
rows, 60 s and 4 GB for ten million rows of Parquet.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from common.cli import command, parse

CLASSES = 100


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much."""

    rows: int = 1_000_000
    """Rows of every format."""
    parquet_rows: int = 10_000_000
    """Rows of the large Parquet files."""


def frame(rows: int, seed: int, accuracy: float) -> pd.DataFrame:
    """Predictions of one version on shuffled samples, with a confidence and a column to slice by."""
    target = np.random.default_rng(0).integers(0, CLASSES, rows)
    country = np.random.default_rng(1).integers(0, 20, rows)
    random = np.random.default_rng(seed)
    right = random.random(rows) < accuracy
    prediction = np.where(right, target, (target + random.integers(1, CLASSES, rows)) % CLASSES)
    made = pd.DataFrame(
        {
            "id": np.arange(rows),
            "target": target,
            "prediction": prediction,
            "confidence": random.random(rows).round(4),
            "country": np.array([f"C{i:02d}" for i in range(20)])[country],
        }
    )
    return made.iloc[random.permutation(rows)]


def with_text_ids(made: pd.DataFrame) -> pd.DataFrame:
    """Ids as file names, which is what classifiers are often tested by."""
    return made.assign(id=[f"val/{i:08d}.jpg" for i in made["id"]])


WRITERS: dict[str, tuple[str, Callable[[pd.DataFrame, Path], object]]] = {
    "CSV": ("csv", lambda made, path: made.to_csv(path, index=False)),
    "CSV, gzip": ("csv.gz", lambda made, path: made.to_csv(path, index=False)),
    "CSV, text ids": ("csv", lambda made, path: with_text_ids(made).to_csv(path, index=False)),
    "JSON lines": ("jsonl", lambda made, path: made.to_json(path, orient="records", lines=True)),
    "Parquet": ("parquet", lambda made, path: made.to_parquet(path, index=False)),
}


def measure(words: list[str]) -> tuple[float, float, int]:
    """(seconds, seconds of processor time, peak bytes) of one call of the command."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "results.compare", *words]
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, processor = 0, 0.0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            processor = sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    assert process.stderr is not None
    if complaint := process.stderr.read().decode():
        raise RuntimeError(complaint)
    return time.perf_counter() - began, processor, peak


@command
def main(argv: Sequence[str]) -> int:
    """Measure the release gate."""
    settings = parse(Settings, argv, prog="python -m benchmarks.gate", description=main.__doc__ or "")
    cases = [(name, settings.rows) for name in WRITERS if settings.rows] + [
        ("Parquet", settings.parquet_rows)
    ]
    for name, rows in cases:
        ending, write = WRITERS[name]
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{version}.{ending}" for version in ("old", "new")]
            for seed, (path, accuracy) in enumerate(zip(paths, (0.90, 0.92), strict=True)):
                write(frame(rows, seed + 2, accuracy), path)
            words = [f"old={paths[0]}", f"new={paths[1]}"]
            for more in ([], ["max_nfr=8%", "max_class_nfr=9%", "slices=country", "max_slice_nfr=9%"]):
                seconds, processor, peak = min(measure([*words, *more]) for _ in range(2))
                what = "caps and slices" if more else "metrics"
                took = f"{seconds:6.1f} s, {processor:6.1f} s of processor time, {peak / 1e9:5.2f} GB"
                print(f"{rows:>12,} rows  {name:14} {what:16} {took}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
