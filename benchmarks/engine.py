"""What lockstep gains, against counting and against the usual way: `python -m benchmarks.engine`.

In every round each variant runs once, one after the other; a ratio is the median over the rounds of each
round's own. Alone and in lockstep the same engine trains the same eight candidates on the same batches
(ELODI without its warm-up). What counting allows is the ratio of the summed costs of batches, teachers'
forwards and students' steps, each measured by itself in the same round. Some minutes on two cores;
`quick=true` takes one. What needs a GPU is skipped where there is none.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.images import QUALITY, make_photographs, write_beton
from benchmarks.report import Row, median_row, print_rows, wait_for_gpu, write_rows
from common.cli import command, parse
from harness import checkpoint, models
from harness.compute import ComputeConfig
from harness.engine import Cohort, Normalise, Position, SharedBatch, Student, plain_batch
from harness.inference import frozen
from harness.plan import Model
from harness.recipes import Recipe
from harness.teachers import Teachers
from loaders.batches import Batch, Feed
from loaders.betons import Beton, ensure_beton
from loaders.datasets import DATASETS, Dataset
from loaders.encoding import encode_jpeg
from loaders.feeds import open_feed
from loaders.layout import JPEG, RAW
from methods import GROUPS, METHODS, Loss
from results.store import Store

RESULTS = Path(__file__).parent / "results" / "engine.json"
CANDIDATES = GROUPS["all"]
REFERENCES = 8
THREADS = 2
SMALL_IMAGES = 8192
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
NUMERICS = ComputeConfig(device=DEVICE, precision="bf16" if CUDA else "fp32")  # as jobs have them


@dataclass(frozen=True, kw_only=True)
class EngineBenchmark:
    """Settings of the benchmark."""

    quick: bool = False
    """Fewer rounds: a look, not a result."""
    rounds: int = 0
    """How often each variant runs (default: 5, or 1 when quick)."""
    results: Path = RESULTS
    """File that the figures are written to."""

    @property
    def repeats(self) -> int:
        """How often each variant runs."""
        return self.rounds or (1 if self.quick else 5)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One setting to train in."""

    name: str
    beton: Beton
    dataset: Dataset
    model: Model
    classes: int
    batch_size: int
    steps: int


@command
def main(argv: Sequence[str]) -> int:
    """Run all works, print the table and write the figures."""
    config = parse(EngineBenchmark, argv, prog="python -m benchmarks.engine", description=__doc__ or "")
    torch.set_num_threads(THREADS)
    torch.backends.cudnn.benchmark = CUDA
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for work in works(root, quick=config.quick):
            rows += lockstep(work, config.repeats)
        rows += against_the_usual_way(root, config.repeats)
        for threads in (1, THREADS):  # a job on a CPU has one
            rows += ensemble(config.repeats, threads)
        rows += checkpoints(root, config.repeats)
    print_rows(rows)
    if not CUDA:
        print("skipped, for want of a GPU: what python -m benchmarks.gpu measures")
    write_rows(config.results, rows, threads=THREADS, quick=config.quick, device=DEVICE.type)
    return 0


def works(root: Path, *, quick: bool) -> Iterator[Work]:
    """Digits, 32x32 pixels and photographs from JPEG."""
    digits = DATASETS["digits"]
    yield Work(
        name="digits, resnet8, batch 50",
        beton=ensure_beton(digits, "train", betons=root / "betons"),
        dataset=digits,
        model=Model(arch="resnet8", stem="cifar"),
        classes=10,
        batch_size=50,
        steps=6,
    )
    yield Work(
        name="32x32, ResNet-18 (imagenet stem), batch 128",
        beton=small_beton(root),
        dataset=DATASETS["cifar100"],
        model=Model(arch="resnet18", stem="imagenet"),
        classes=100,
        batch_size=128,
        steps=1,
    )
    if quick:
        return
    photographs = make_photographs(16)
    images = [(JPEG, image, encode_jpeg(image, QUALITY)) for image in photographs]
    yield Work(
        name="224x224 from JPEG, ResNet-18 (imagenet stem), batch 4",
        beton=write_beton(root / "photographs", images, np.arange(len(images)) % 10),
        dataset=DATASETS["folder"],
        model=Model(arch="resnet18", stem="imagenet"),
        classes=10,
        batch_size=4,
        steps=1,
    )


def small_beton(root: Path) -> Beton:
    """Random 32x32 images in a beton, and as arrays for `benchmarks.plain`."""
    images = np.random.default_rng(0).integers(0, 256, (SMALL_IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(len(images)) % 100
    np.save(root / "images.npy", images)
    np.save(root / "labels.npy", labels)
    return write_beton(root / "small", [(RAW, image, image.tobytes()) for image in images], labels)


def lockstep(work: Work, rounds: int) -> list[Row]:
    """All candidates in one cohort, against one after the other, against what counting allows."""
    feed = open_feed(
        work.beton, work.dataset, train=True, batch_size=work.batch_size, workers=THREADS, device=DEVICE
    )
    old = models.build(work.model, work.classes // 2, 100)
    references = [models.build(work.model, work.classes, 101 + i) for i in range(REFERENCES)]

    def cohort(names: Sequence[str]) -> Cohort:
        methods = [candidate(name) for name in names]
        count = max(method.references for method in methods)
        teachers = Teachers(
            old if any(method.uses_old for method in methods) else None, references[:count], NUMERICS
        )
        return make_cohort(work, methods, teachers, feed)

    together, alone = cohort(CANDIDATES), [cohort([name]) for name in CANDIDATES]
    units = Units(work, feed, old)
    for trained in (together, *alone):
        train(trained, 1)
    gains, allowed, shares = [], [], []
    for _ in range(rounds):
        lockstep_s = train(together, work.steps)
        alone_s = sum(train(trained, work.steps) for trained in alone)
        gains.append(alone_s / lockstep_s)
        allowed.append(units.allowed_gain(together))
        shares.append(gains[-1] / allowed[-1])
    return [
        median_row(work.name, "lockstep gain over one by one", gains, "ratio"),
        median_row(work.name, "gain that counting allows", allowed, "ratio"),
        median_row(work.name, "share of it reached", shares, "ratio", 0.9),
    ]


def candidate(name: str) -> Loss:
    """The method with its defaults, ELODI without plain epochs at the start."""
    entry = METHODS[name]
    warmup = {"warmup_epochs": 0} if name.startswith("elodi") else {}
    method = entry.load()(**{**entry.defaults, **warmup})
    assert isinstance(method, Loss)
    return method


def make_cohort(work: Work, methods: Sequence[Loss], teachers: Teachers, feed: Feed) -> Cohort:
    recipe = Recipe(epochs=10_000, batch_size=work.batch_size, lr=0.01, weight_decay=5e-4)
    students = [
        Student(models.build(work.model, work.classes, 0), method, recipe, work.classes // 2, NUMERICS)
        for method in methods
    ]
    normalise = Normalise(work.dataset.mean, work.dataset.std, NUMERICS)
    return Cohort(students, teachers, feed, key=0, recipe=recipe, normalise=normalise, position=Position())


def train(cohort: Cohort, steps: int) -> float:
    """Seconds of so many further steps; a step's loading counts, opening an epoch does not."""
    stream = cohort.train()
    wait_for_gpu()
    began = time.perf_counter()
    for _ in range(steps):
        next(stream)
    wait_for_gpu()
    seconds = time.perf_counter() - began
    stream.close()  # type: ignore[attr-defined]
    return seconds


class Units:
    """What a batch, a teacher's forward and a student's step cost, each by itself."""

    def __init__(self, work: Work, feed: Feed, old: nn.Module) -> None:
        self._feed = feed
        self._normalise = Normalise(work.dataset.mean, work.dataset.std, NUMERICS)
        self._one_teacher = Teachers(old, [], NUMERICS)
        self._epoch = 0

    def allowed_gain(self, cohort: Cohort) -> float:
        """(eight times all that a candidate needs) / (what they need together)."""
        batch, load = self._load()
        images = self._normalise(batch.images)
        forward = statistics.median(timed(lambda: self._one_teacher(images)) for _ in range(3))
        shared = SharedBatch(
            images=images,
            targets=batch.targets,
            indices=batch.indices,
            class_counts=self._feed.class_counts,
            teachers=cohort._teachers(images),
            whole=batch.whole,
            epoch=0,
        )
        steps = [
            timed(lambda student=student: student.learn(shared, lr=0.01))  # type: ignore[misc]
            for student in cohort.students
        ]
        forwards = [student.method.uses_old + student.method.references for student in cohort.students]
        one_by_one = sum(load + count * forward + step for count, step in zip(forwards, steps, strict=True))
        return one_by_one / (load + max(forwards) * forward + sum(steps))

    def _load(self) -> tuple[Batch, float]:
        self._epoch += 1
        with self._feed.epoch(1, self._epoch) as batches:
            next(batches)
            began = time.perf_counter()
            batch = next(batches)
            self._normalise(batch.images)
            wait_for_gpu()
            return batch, time.perf_counter() - began


def timed(work: Callable[[], object]) -> float:
    wait_for_gpu()
    began = time.perf_counter()
    work()
    wait_for_gpu()
    return time.perf_counter() - began


def against_the_usual_way(root: Path, rounds: int) -> list[Row]:
    """One cohort of eight, against `benchmarks.plain` once for each of them."""
    name = "32x32, ResNet-18, batch 128, eight candidates"
    work = next(w for w in works(root, quick=True) if w.batch_size == 128)
    feed = open_feed(
        work.beton, work.dataset, train=True, batch_size=work.batch_size, workers=THREADS, device=DEVICE
    )
    references = [models.build(work.model, work.classes, 101 + i) for i in range(REFERENCES)]
    teachers = Teachers(models.build(work.model, work.classes // 2, 100), references, NUMERICS)
    cohort = make_cohort(work, [candidate(name) for name in CANDIDATES], teachers, feed)
    steps = 20 if CUDA else 2
    train(cohort, steps)
    ours, usual = [], []
    for _ in range(rounds):
        ours.append(train(cohort, steps) / steps)
        usual.append(sum(plain_step(name, root) for name in CANDIDATES))
    ratios = [one / other for one, other in zip(usual, ours, strict=True)]
    target = 20.0 if CUDA else 1.5
    return [
        median_row(name, "lockstep, seconds for a step of all", ours, "s"),
        median_row(name, "the usual way, seconds for a step of all", usual, "s"),
        median_row(name, "usual way / lockstep", ratios, "ratio", target),
    ]


def plain_step(name: str, folder: Path) -> float:
    """Median seconds of a step of `benchmarks.plain` in a process of its own."""
    call = [sys.executable, "-m", "benchmarks.plain", name, str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return statistics.median(map(float, done.stdout.split("\n")[-2].split()))


def ensemble(rounds: int, threads: int) -> list[Row]:
    """Eight references: a loop, a loop over folded networks, and stacked with vmap."""
    rows: list[Row] = []
    torch.set_num_threads(threads)
    for model, pixels, batch in (
        (Model(arch="resnet8", stem="cifar"), 8, 50),
        (Model(arch="resnet18", stem="imagenet"), 32, 128),
    ):
        work = f"ensemble of eight, {model.arch} at {pixels} pixels, batch {batch}, {threads} thread(s)"
        layout = torch.channels_last  # as in the engine
        networks: list[Any] = [models.build(model, 100, i).eval() for i in range(REFERENCES)]
        networks = [network.to(memory_format=layout) for network in networks]
        images = torch.randn(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
        images = images.contiguous(memory_format=layout)
        variants = ensemble_variants(networks, images)
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        with torch.inference_mode():
            for round_ in range(rounds + 1):
                for name, forward in variants.items():
                    taken = timed(forward)
                    if round_:
                        seconds[name].append(taken)
        rows += [median_row(work, name, [1000 * s for s in values], "ms") for name, values in seconds.items()]
        for name in list(variants)[1:]:
            ratios = [a / b for a, b in zip(seconds["loop"], seconds[name], strict=True)]
            rows.append(median_row(work, f"{name}, speed against loop", ratios, "ratio"))
    return rows


def ensemble_variants(
    networks: Sequence[nn.Module], images: torch.Tensor
) -> Mapping[str, Callable[[], object]]:
    folded = [frozen(network) for network in networks]

    def stacked(members: Sequence[nn.Module]) -> Callable[[], object]:
        states = [member.state_dict() for member in members]
        state = {name: torch.stack([s[name] for s in states]) for name in states[0]}
        one = members[0]
        call = torch.vmap(lambda s, x: torch.func.functional_call(one, s, (x,)), in_dims=(0, None))
        return lambda: call(state, images)

    return {
        "loop": lambda: [network(images) for network in networks],
        "folded loop": lambda: [network(images) for network in folded],
        "vmap": stacked(networks),
        "folded vmap": stacked(folded),
    }


def checkpoints(root: Path, rounds: int) -> list[Row]:
    """How long training waits for a ResNet-18's checkpoint, of an epoch of ten seconds."""
    work = "checkpoint of one ResNet-18 with its optimizer"
    compute = ComputeConfig(device=torch.device("cpu"))
    recipe = Recipe(epochs=1, batch_size=8, lr=0.01, weight_decay=0)
    network = models.build(Model(arch="resnet18", stem="imagenet"), 100, 0)
    student = Student(network, candidate("none"), recipe, 50, compute)
    student.learn(plain_batch(torch.zeros(8, 3, 32, 32), torch.zeros(8, dtype=torch.int64)), lr=0.01)
    attempt = Store(root / "runs").begin("benchmark")
    writer = checkpoint.Writer({})
    waits, whole = [], []
    for _ in range(max(3, rounds)):
        began = time.perf_counter()
        writer.save({attempt: {"student": student.state()}})
        waits.append(time.perf_counter() - began)
        writer.wait()
        whole.append(time.perf_counter() - began)
    writer.close()
    share = [0.01 / (seconds / 10.0) for seconds in waits]
    return [
        median_row(work, "training waits", [1000 * s for s in waits], "ms"),
        median_row(work, "until it is on disk", [1000 * s for s in whole], "ms"),
        median_row(work, "1 % of ten seconds / wait", share, "ratio", 1.0),
    ]


if __name__ == "__main__":
    sys.exit(main())
