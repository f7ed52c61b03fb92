"""How long a plan of many runs takes to make and to reconcile against a queue, and the memory of both.

python -m benchmarks.reconcile_scale [RUNS]      (default 10000; seconds, no SLURM, no GPU)
"""

import resource
import sys
import time
from pathlib import Path

from common.jobs import Resources
from common.paths import RecordsFolder
from harness.grouping import Job, group
from harness.plan import Model, Setting, Split, Variant, expand
from harness.recipes import recipe_for
from loaders.datasets import DATASETS
from slurm.reconcile import Task, reconcile
from slurm.scheduler import Entry

STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SUSPENDED")


def make_jobs(runs: int) -> tuple[Job, ...]:
    """About `runs` runs, a job each: per seed an old model, eight references and 91 candidates."""
    model = Model(arch="resnet8", stem="cifar")
    variants = tuple(
        Variant(method="mpt-kl", hyperparameters=(("k", float(k)),), shown=(), references=8, version=1)
        for k in range(91)
    )
    setting = Setting(
        dataset="digits",
        data="0" * 8,
        split=Split(classes=10, old_classes=5),
        old_model=model,
        model=model,
        old_recipe=recipe_for(DATASETS["digits"], "resnet8", {}),
        recipe=recipe_for(DATASETS["digits"], "resnet8", {}),
        precision="fp32",
        init="scratch",
        variants=variants,
        seeds=tuple(range(runs // 100)),
    )
    needs = Resources(cpus=1, gpus=0, memory_gb=1, minutes=10)
    return group(expand(setting), cohort=lambda run: 1, resources=lambda members: needs)


def make_tasks(jobs: tuple[Job, ...]) -> list[Task]:
    """A task for nine jobs in ten, in all kinds of states."""
    return [
        Task(
            job=job.ref,
            entry=Entry(slurm_id=f"{i // 1000}_{i % 1000}", index=i % 1000, state=STATES[i % len(STATES)]),
        )
        for i, job in enumerate(jobs)
        if i % 10
    ]


def main() -> None:
    """Print both times and the peak memory of this process."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    began = time.perf_counter()
    jobs = make_jobs(wanted)
    planned = time.perf_counter()
    tasks = make_tasks(jobs)
    before = time.perf_counter()
    picture = reconcile(
        [job.ref for job in jobs],
        records=RecordsFolder(Path("runs")),
        done=set(),
        tasks=tasks,
        tracked={},
        settled=set(),
        failed={},
    )
    after = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(jobs)} runs: plan {planned - began:.2f} s, reconcile {after - before:.2f} s, {peak:.0f} MB")
    print(f"{len(picture.submit)} to submit, {len(picture.ended)} to look into")


if __name__ == "__main__":
    main()
