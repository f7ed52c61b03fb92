"""What teachers lose in bf16: with weights in fp32 that are cast at every call, or cast once and for all.

python -m benchmarks.precision runs=FOLDER    (a folder of records of a finished sweep)

The harness does the second (`harness.teachers.Teachers`), with BatchNorm folded before the cast. Both are
compared with fp32 on the test images, over plain models of the folder; the figures go to
`benchmarks/results/precision.json`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.report import Row, median_row, print_rows, write_rows
from common.cli import command, parse
from harness.compute import ComputeConfig
from harness.engine import Normalise
from harness.parents import Parents
from harness.plan import Run
from harness.recipes import images_of
from harness.teachers import Teachers
from loaders.batches import Feed
from loaders.betons import ensure_beton
from loaders.feeds import open_feed
from results.store import Store

RESULTS = Path(__file__).parent / "results" / "precision.json"


@dataclass(frozen=True, kw_only=True)
class PrecisionBenchmark:
    """Settings of the benchmark."""

    runs: Path = Path("runs")
    """Folder of records."""
    data: Path | None = None
    """Folder of the dataset's files, where it needs one."""
    models: int = 20
    """The most models to look at."""
    results: Path = RESULTS
    """File that the figures are written to."""


@command
def main(argv: Sequence[str]) -> int:
    """Compare teachers in bf16 with the same teachers in fp32."""
    asked = parse(PrecisionBenchmark, argv, prog="python -m benchmarks.precision", description=__doc__ or "")
    torch.set_num_threads(1)
    store = Store(asked.runs)
    done = [record for record in store.records() if record.state == "done" and record.run["method"] == "none"]
    trained = [Run.from_content(record.run) for record in done if record.precision == "fp32"]
    runs = [run for run in trained if run.recipe is not None][: asked.models]
    if not runs:
        raise ValueError(f"runs={asked.runs}: no plain model in fp32")
    found: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        assert run.recipe is not None
        dataset = images_of(run.dataset, run.recipe)
        beton = ensure_beton(dataset, "test", data=asked.data, betons=asked.runs / "betons")
        feed = open_feed(beton, dataset, train=False, batch_size=500)
        network = Parents(store).network(run.id)
        exact = answers(network, feed, dataset.mean, dataset.std, "fp32")
        work = f"{run.dataset}, {run.model.label}: teachers in bf16 against fp32, test images"
        for how in ("cast at every call", "cast once (the harness)"):
            logits = answers(network, feed, dataset.mean, dataset.std, how)
            error = (logits - exact).pow(2).mean().sqrt() / exact.std()
            other = (logits.argmax(1) != exact.argmax(1)).float().mean()
            found.setdefault((work, how, "error of the logits"), []).append(100 * float(error))
            found.setdefault((work, how, "other predictions"), []).append(100 * float(other))
    units = {"error of the logits": "% of their deviation", "other predictions": "% of the images"}
    rows: list[Row] = [
        median_row(work, f"{what}, {how}", values, units[what]) for (work, how, what), values in found.items()
    ]
    print_rows(rows)
    largest = {" ".join(key): round(max(values), 3) for key, values in found.items()}
    means = {" ".join(key): round(statistics.mean(values), 4) for key, values in found.items()}
    write_rows(asked.results, rows, largest=largest, means=means)
    return 0


@torch.inference_mode()
def answers(network: nn.Module, feed: Feed, mean: Sequence[float], std: Sequence[float], how: str) -> Tensor:
    """Logits [N, C] of a network in evaluation."""
    exact = ComputeConfig(device=torch.device("cpu"))
    half = ComputeConfig(device=torch.device("cpu"), precision="bf16")
    normalise = Normalise(mean, std, exact)
    teachers = Teachers(network, [], half)
    network.eval()
    logits = []
    with feed.epoch(0, 0) as batches:
        for batch in batches:
            images = normalise(batch.images)
            if how == "cast once (the harness)":
                answer = teachers(images).old
                assert answer is not None
            elif how == "fp32":
                answer = network(images)
            else:
                with half.autocast():
                    answer = network(images)
            logits.append(answer.float())
    return torch.cat(logits)


if __name__ == "__main__":
    sys.exit(main())
