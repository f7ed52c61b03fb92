"""What only a GPU can show: `python -m benchmarks.gpu`.

The whole CIFAR-protocol table on glyphs100, ResNet-50 at 224 pixels from batches that lie on the device and
from a beton, and what deterministic algorithms and torch.compile change. `table=false` leaves out the longest
part. `tiny=true` runs the same code in small, on a CPU too, and writes nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.images import QUALITY, make_photographs, write_beton
from benchmarks.report import Row, median_row, print_rows, wait_for_gpu, write_rows
from common.cli import command, parse
from harness import models
from harness.compute import ComputeConfig
from harness.engine import Normalise, Student, plain_batch
from harness.plan import Model
from harness.recipes import recipe_for
from loaders.batches import Feed
from loaders.datasets import DATASETS
from loaders.encoding import encode_jpeg
from loaders.feeds import open_feed
from loaders.layout import JPEG
from methods.plain import NoTreatment

RESULTS = Path(__file__).parent / "results" / "gpu.json"
MLPERF_H100 = 7008.0  # images/s of ResNet-50 training on one GPU of an eight-GPU H100 machine
TABLE_MINUTES = 10.0


@dataclass(frozen=True, kw_only=True)
class GpuBenchmark:
    """Settings of the benchmark."""

    tiny: bool = False
    """Small numbers, on whatever device there is: to see that the code runs."""
    table: bool = True
    """Whether to train the whole table on glyphs100."""
    epochs: int = 100
    """Of that table; fewer are a look, from which the time of all can be told."""
    jobs_per_gpu: int = 4
    """Of that table: how many base models train at once."""
    rounds: int = 5
    """How often each variant runs."""
    results: Path = RESULTS
    """File that the figures are written to."""


@command
def main(argv: Sequence[str]) -> int:
    """Run everything, print the table and write the figures."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the first product
    config = parse(GpuBenchmark, argv, prog="python -m benchmarks.gpu", description=__doc__ or "")
    if not (config.tiny or torch.cuda.is_available()):
        raise ValueError("torch finds no GPU here (tiny=true runs the same code in small)")
    cuda = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = cuda
    compute = ComputeConfig(device=torch.device("cuda" if cuda else "cpu"), precision="bf16")
    rows = [*switches(compute, config), *photographs(compute, config)]
    publish(rows, config)
    if config.table and not config.tiny:  # the longest part, which might not come to its end
        publish([*rows, *whole_table(config.epochs, config.jobs_per_gpu)], config)
    return 0


def publish(rows: Sequence[Row], config: GpuBenchmark) -> None:
    """Print the rows, and write them down."""
    print_rows(rows)
    if not config.tiny:
        write_rows(config.results, rows, device=torch.cuda.get_device_name())


def switches(compute: ComputeConfig, config: GpuBenchmark) -> list[Row]:
    """One plain ResNet-18 at 32 pixels: eager, compiled, and with deterministic algorithms alone."""
    model, pixels, batch, steps = (Model(arch="resnet18", stem="imagenet"), 32, 128, 200)
    if config.tiny:
        model, batch, steps = Model(arch="resnet8", stem="cifar"), 8, 2
    variants = {
        "eager": Training(model, pixels, batch, compute),
        "compiled": Training(model, pixels, batch, replace(compute, compile=True)),
    }
    paces: dict[str, list[float]] = {name: [] for name in (*variants, "deterministic")}
    for round_ in range(config.rounds + 1):
        for name, training in variants.items():
            pace = training.images_per_s(steps)
            paces[name] += [pace] if round_ else []
        with deterministic_algorithms():
            pace = variants["eager"].images_per_s(steps)
        paces["deterministic"] += [pace] if round_ else []
    work = f"{model.arch} at {pixels} pixels, batch {batch}, {compute.precision}, batches on the device"
    rows = [median_row(work, name, values, "images/s") for name, values in paces.items()]
    return rows + [
        median_row(work, f"{name} / eager", ratios(paces[name], paces["eager"]), "ratio")
        for name in ("compiled", "deterministic")
    ]


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """What `deterministic=true` sets."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before


def photographs(compute: ComputeConfig, config: GpuBenchmark) -> list[Row]:
    """ResNet-50 at 224 pixels: from the device, the loader alone, and both together from a beton of JPEGs."""
    model, batch, steps, different, count = Model(arch="resnet50", stem="imagenet"), 256, 40, 512, 16384
    if config.tiny:
        model, batch, steps, different, count = Model(arch="resnet18", stem="imagenet"), 4, 2, 8, 16
    training = Training(model, 224, batch, compute)
    alone: list[float] = []
    loading: list[float] = []
    together: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        stored = [(JPEG, image, encode_jpeg(image, QUALITY)) for image in make_photographs(different)]
        stored *= count // different
        beton = write_beton(Path(folder) / "photographs", stored, np.arange(count) % 1000)
        feed = open_feed(beton, DATASETS["folder"], train=True, batch_size=batch, device=compute.device)
        for round_ in range(config.rounds + 1):
            paces = (
                training.images_per_s(steps),
                epoch_pace(feed, round_, None),
                epoch_pace(feed, round_, training),
            )
            if round_:
                for values, pace in zip((alone, loading, together), paces, strict=True):
                    values.append(pace)
    work = f"{model.arch} at 224 pixels, batch {batch}, {compute.precision}"
    shares = [whole / min(a, b) for a, b, whole in zip(alone, loading, together, strict=True)]
    return [
        median_row(work, "engine alone, batches on the device", alone, "images/s"),
        median_row(work, "share of MLPerf's 7,008 images/s", [pace / MLPERF_H100 for pace in alone], "ratio"),
        median_row(work, "loader alone, JPEG of 500x375", loading, "images/s"),
        median_row(work, "both, end to end", together, "images/s"),
        median_row(work, "end to end / the lower of both", shares, "ratio", 0.95),
    ]


def whole_table(epochs: int, jobs_per_gpu: int) -> list[Row]:
    """Nine base models and eight candidates of one seed by the CIFAR protocol, once the images are there."""
    with tempfile.TemporaryDirectory() as runs:
        words = ["methods=all", "dataset=glyphs100", "seeds=0", f"epochs={epochs}"]
        words += ["device=cuda", "cluster=local", f"jobs_per_gpu={jobs_per_gpu}", f"runs={runs}"]
        subprocess.run(
            [sys.executable, "-m", "loaders.build", "dataset=glyphs100", f"betons={runs}/betons"], check=True
        )
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "harness.sweep", *words], check=True)
        minutes = (time.perf_counter() - began) / 60
    work = (
        f"the whole table on glyphs100: {epochs} epochs, batch 128, ResNet-18, 9 base models and 8 candidates"
    )
    return [
        median_row(work, "from images to the table", [minutes], "min"),
        median_row(
            work, "ten minutes / that", [TABLE_MINUTES / minutes], "ratio", 1.0 if epochs == 100 else None
        ),
    ]


class Training:
    """One plain student, and a batch that lies on the device."""

    def __init__(self, model: Model, pixels: int, batch: int, compute: ComputeConfig) -> None:
        network = models.build(model, 1000, 0)
        recipe = recipe_for(DATASETS["imagenet"], "resnet18", {})
        self._student = Student(network, NoTreatment(), recipe, 500, compute)
        self._normalise = Normalise((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), compute)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (batch, pixels, pixels, 3), generator=generator, dtype=torch.uint8)
        self._images = images.to(compute.device)
        self._targets = torch.randint(0, 1000, (batch,), generator=generator).to(compute.device)

    def images_per_s(self, steps: int) -> float:
        """The pace of so many steps on the same batch."""
        wait_for_gpu()
        began = time.perf_counter()
        for _ in range(steps):
            self.step(self._images, self._targets)
        wait_for_gpu()
        return steps * len(self._images) / (time.perf_counter() - began)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> None:
        """As the engine does it, without a look at the loss."""
        self._student.learn(plain_batch(self._normalise(images), targets), lr=0.01)


def epoch_pace(feed: Feed, epoch: int, training: Training | None) -> float:
    """Images a second of one epoch, trained on or only loaded; without its first batch, which starts it."""
    seen = 0
    with feed.epoch(0, epoch) as batches:
        next(batches)
        wait_for_gpu()
        began = time.perf_counter()
        for batch in batches:
            if training is not None:
                training.step(batch.images, batch.targets)
            seen += len(batch.targets)
        wait_for_gpu()
    return seen / (time.perf_counter() - began)


def ratios(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
