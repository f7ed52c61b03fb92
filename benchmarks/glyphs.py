"""How hard glyphs100 is: the plain ResNet-18 of the CIFAR protocol, `python -m benchmarks.glyphs`.

An hour on two cores for the protocol's hundred epochs; `epochs=10` is a look. The error on the test images is
taken every tenth of the way, and the figures go to `benchmarks/results/glyphs.json`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from benchmarks.report import Row, print_rows, write_rows
from common.cli import command, parse
from harness import models
from harness.compute import ComputeConfig
from harness.engine import Cohort, Normalise, Position, Student, predict
from harness.plan import Model
from harness.recipes import recipe_for
from harness.teachers import Teachers
from loaders.batches import Feed
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS, PART_FOLDERS
from loaders.feeds import open_feed
from methods.plain import NoTreatment

RESULTS = Path(__file__).parent / "results" / "glyphs.json"
GLYPHS = DATASETS["glyphs100"]


@dataclass(frozen=True, kw_only=True)
class GlyphsBenchmark:
    """Settings of the benchmark."""

    epochs: int = 100
    """The protocol has a hundred."""
    seed: int = 0
    """Of the initial weights, the order and the augmentation."""
    threads: int = 2
    """Of torch, on a CPU."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of forward and backward passes."""
    betons: Path = Path("runs/betons")
    """Where the images are, built when missing."""
    results: Path = RESULTS
    """File that the figures are written to."""


@command
def main(argv: Sequence[str]) -> int:
    """Train one plain model and write down how it errs on the way."""
    config = parse(GlyphsBenchmark, argv, prog="python -m benchmarks.glyphs", description=__doc__ or "")
    torch.set_num_threads(config.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compute = ComputeConfig(device=device, precision=config.precision)
    recipe = replace(recipe_for(DATASETS["glyphs100"], "resnet18", {}), epochs=config.epochs)
    feeds: dict[str, Feed] = {
        part: open_feed(
            ensure_beton(GLYPHS, part, betons=config.betons),
            GLYPHS,
            train=part == "train",
            batch_size=recipe.batch_size if part == "train" else 1000,
            device=device,
        )
        for part in PART_FOLDERS
    }
    normalise = Normalise(GLYPHS.mean, GLYPHS.std, compute)
    network = models.build(Model(arch="resnet18", stem="imagenet"), 100, config.seed)
    student = Student(network, NoTreatment(), recipe, 50, compute)
    cohort = Cohort(
        [student],
        Teachers(None, [], compute),
        feeds["train"],
        key=config.seed,
        recipe=recipe,
        normalise=normalise,
        position=Position(),
    )
    work = f"glyphs100, ResNet-18 (imagenet stem), {config.epochs} epochs of batch {recipe.batch_size}, plain"
    rows: list[Row] = []
    began = time.perf_counter()
    for position in cohort.train():
        if position.batch:
            continue
        last = student.history[-1]
        print(
            f"epoch {position.epoch}: loss {last['loss']:.3f}, training error "
            f"{1 - last['train_accuracy']:.1%}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        if position.epoch % max(1, config.epochs // 10) == 0 or position.epoch == config.epochs:
            logits, targets, _ = predict(student.network, feeds["test"], normalise, compute)
            error = 100 * (logits.argmax(1) != targets).float().mean().item()
            variant = f"test error after {position.epoch} epochs"
            rows.append(Row(work=work, variant=variant, value=round(error, 2), unit="%", runs=1, spread=0.0))
            print(f"  {variant}: {error:.2f} %", flush=True)
    print_rows(rows)
    write_rows(
        config.results,
        rows,
        seed=config.seed,
        precision=config.precision,
        device=device.type,
        minutes=round((time.perf_counter() - began) / 60, 1),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
