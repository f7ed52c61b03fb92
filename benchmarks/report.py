"""The output of a benchmark: rows of medians with their spread, on the terminal and in a JSON file."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: the median of `runs`, and half the distance between their quartiles as `spread`."""

    work: str
    variant: str
    value: float
    unit: str
    runs: int
    spread: float
    target: float | None = None
    met: bool | None = None
    at_most: bool = False
    """Whether the target is an upper bound."""


def median_row(work: str, variant: str, values: list[float], unit: str, target: float | None = None) -> Row:
    value = statistics.median(values)
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (value,) * 3
    return Row(
        work=work,
        variant=variant,
        value=round(value, 3),
        unit=unit,
        runs=len(values),
        spread=round((high - low) / 2, 3),
        target=target,
        met=None if target is None else value >= target,
    )


def print_rows(rows: Sequence[Row]) -> None:
    console = Console()
    for work, group in groupby(rows, key=lambda row: row.work):
        table = Table(title=work, title_justify="left", title_style="bold")
        table.add_column("variant")
        for name in ("median", "±"):
            table.add_column(name, justify="right")
        for name in ("unit", "target", "met"):
            table.add_column(name)
        for row in group:
            target = "" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:g}"
            met = {None: "", True: "yes", False: "no"}[row.met]
            figures = (_shown(row.value), _shown(row.spread))
            table.add_row(row.variant, *figures, row.unit, target, met)
        console.print(table)


def _shown(value: float) -> str:
    """At least three significant digits: 0.412, 2.35, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def describe_machine() -> dict[str, object]:
    packages = ("torch", "torchvision", "ffcv", "numba", "numpy", "scipy", "opencv-python", "pillow")
    peers = ("simplejpeg", "litdata", "spdl", "webdataset")
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": model, "cores": cores(), "system": platform.system()},
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in (*packages, *peers)},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # OpenCV goes by several names
        return None


def wait_for_gpu() -> None:
    """Wait until a GPU, if there is one, has finished its work, so that the clock may be read."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def cores() -> int:
    return len(os.sched_getaffinity(0))


def write_rows(path: Path, rows: Sequence[Row], **more: Any) -> None:
    """Write the rows into `path`, with the machine, the versions, the date and `more`."""
    content = {**describe_machine(), **more, "rows": [asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
