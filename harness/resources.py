"""What a Job needs of a machine, counted from its arithmetic: coarse, and on the safe side."""

from __future__ import annotations

from collections.abc import Sequence

from common.jobs import Resources
from harness.plan import Model, Run
from harness.recipes import ARCHITECTURES

# Sustained rates that leave room for slow loading; a limit that is too long costs a place in the queue,
# one that is too short costs the run a restart.
GPU_GFLOPS = 10_000.0
CPU_GFLOPS = 10.0
MARGIN = 2.0
START_MINUTES = 10
CIFAR_STEM_FACTOR = 15  # the 3x3 stem without pooling, against the 7x7 stem with it, on the same image
COHORT_GPU_GB = 60.0


def forward_gflops(model: Model, image_size: int) -> float:
    """Multiply-adds of one image's forward pass, in units of 1e9, doubled: additions count too."""
    architecture = ARCHITECTURES[model.arch]
    stem = CIFAR_STEM_FACTOR if model.stem == "cifar" and "imagenet" in architecture.stems else 1
    return 2 * architecture.gflops * stem * (image_size / architecture.size) ** 2


def estimate(runs: Sequence[Run], *, image_size: int, train_samples: int, gpu: bool) -> Resources:
    """Cores, memory and minutes for Runs that train in lockstep."""
    first = runs[0]
    forward = forward_gflops(first.model, image_size)
    teachers = max((len(run.parents) for run in runs), default=0)
    passes = (3 * len(runs) + teachers) * first.recipe.epochs
    if ARCHITECTURES[first.model.arch].pretrained:  # a frozen backbone sees every image once, in its own size
        forward, passes = forward_gflops(first.model, ARCHITECTURES[first.model.arch].size), 1
    minutes = forward * passes * train_samples / (GPU_GFLOPS if gpu else CPU_GFLOPS) / 60
    weights_gb = ARCHITECTURES[first.model.arch].megabytes / 1000
    return Resources(
        cpus=8 if gpu else 1,
        gpus=1 if gpu else 0,
        memory_gb=round((6 if gpu else 2) + 6 * weights_gb * (len(runs) + teachers), 1),
        minutes=START_MINUTES + round(MARGIN * minutes),
    )


def cohort_size(run: Run, *, image_size: int, gpu: bool) -> int:
    """How many candidates like `run` fit together: by GPU memory, and at most sixteen."""
    if not gpu:
        return 16
    weights_gb = ARCHITECTURES[run.model.arch].megabytes / 1000
    # Activations of a training step by its arithmetic: some 11 bytes a kiloflop for residual nets in bf16.
    activations_gb = 0.011 * forward_gflops(run.model, image_size) * run.recipe.batch_size
    return max(1, min(16, int(COHORT_GPU_GB / (4 * weights_gb + activations_gb))))
