"""What a Job needs of a machine, estimated from its arithmetic: coarse, and on the safe side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.jobs import Resources
from harness.architectures import ARCHITECTURES
from harness.plan import Model, Run

# Sustained rates that leave room for slow loading; a limit that is too long costs a place in the queue,
# one that is too short costs the run a restart.
GPU_GFLOPS = 10_000.0
CPU_GFLOPS = 10.0
MARGIN = 2.0
START_MINUTES = 10
COHORT_GPU_GB = 60.0


def estimate(runs: Sequence[Run], *, image_size: int, train_samples: int, gpu: bool) -> Resources:
    """Cores, memory and minutes for Runs that train in lockstep."""
    first = runs[0]
    if not first.model.is_known:
        return Resources(cpus=8 if gpu else 1, gpus=1 if gpu else 0, memory_gb=2, minutes=START_MINUTES)
    architecture = ARCHITECTURES[first.model.arch]
    forward = 2 * gmacs(first.model, image_size)
    teachers = max((len(run.parents) for run in runs), default=0)
    passes = 1  # a frozen backbone, or what is not trained, sees every image once
    if architecture.backbone is None and first.is_trained and first.recipe:
        passes = (3 * len(runs) + teachers) * first.recipe.epochs
    minutes = forward * passes * train_samples / (GPU_GFLOPS if gpu else CPU_GFLOPS) / 60
    weights_gb = architecture.megabytes / 1000
    return Resources(
        cpus=8 if gpu else 1,
        gpus=1 if gpu else 0,
        memory_gb=round((6 if gpu else 2) + 6 * weights_gb * (len(runs) + teachers), 1),
        minutes=START_MINUTES + round(MARGIN * minutes),
    )


def training_minutes(needs: Resources) -> float:
    """The expected minutes of training in an estimate, without its margins."""
    return (needs.minutes - START_MINUTES) / MARGIN


def gmacs(model: Model, image_size: int) -> float:
    """Multiply-adds of one sample's forward pass, in units of 1e9, a frozen backbone included."""
    return ARCHITECTURES[model.arch].gflops_at(model.stem, image_size) / 2


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The arithmetic of one sample's training step, in GMACs; the parts that depend on the method."""

    student: float
    """Forward and backward pass: three forward passes."""
    old: float
    """The old model's forward pass; 0 where the method does not read it."""
    references: float
    """The forward passes of the references that the method reads."""

    @classmethod
    def of(cls, run: Run, old: Model | None, references: int, image_size: int) -> StepCost:
        """A step of `run`, whose method reads `old` (None: it does not) and so many references."""
        forward = gmacs(run.model, image_size)
        return cls(
            student=3 * forward,
            old=0.0 if old is None else gmacs(old, image_size),
            references=references * forward,
        )

    @property
    def total(self) -> float:
        """Of a run that trains alone."""
        return self.student + self.old + self.references


def shares_alone(costs: Sequence[StepCost]) -> list[float]:
    """What each run of a cohort would take alone, as a share of what the cohort takes together.

    A cohort forwards each teacher once for all its runs, so the shares add up to more than 1 where runs have
    teachers in common. Loading images is not counted.
    """
    together = sum(cost.student for cost in costs)
    together += max(cost.old for cost in costs) + max(cost.references for cost in costs)
    return [cost.total / together for cost in costs]


def cohort_size(run: Run, *, image_size: int, gpu: bool) -> int:
    """How many candidates like `run` fit together: by GPU memory, and at most sixteen."""
    if not run.recipe:
        return 1
    if not gpu:
        return 16
    architecture = ARCHITECTURES[run.model.arch]
    # Activations of a training step by its arithmetic: some 11 bytes per kiloflop for residual nets in bf16.
    activations_gb = 0.011 * architecture.gflops_at(run.model.stem, image_size) * run.recipe.batch_size
    return max(1, min(16, int(COHORT_GPU_GB / (4 * architecture.megabytes / 1000 + activations_gb))))
