"""Jobs for the stand-in program (`tests.standin`), whose scripts say how they go."""

from pathlib import Path

from common.jobs import Resources
from common.paths import JobFolder
from harness import jobfile
from harness.grouping import Job
from harness.plan import Model, Run, Split
from harness.recipes import recipe_for
from harness.settings import Runtime
from loaders.datasets import DATASETS

SMALL = Resources(cpus=1, gpus=0, memory_gb=0.1, minutes=1)
ROOT = Path(__file__).parent.parent


class Bench:
    """A folder of records with Jobs for the stand-in program, whose scripts say how they go."""

    def __init__(self, runs):
        self.runs = runs

    def job(self, name, *script, after=(), size=1, learning=99, resources=SMALL):
        """`size` runs that train together; `learning` of them learn from all in `after`, others from one."""
        runs = tuple(
            Run(
                role="candidate",
                seed=0,
                dataset=name,
                data="0" * 8,
                split=Split(classes=10, old_classes=5),
                model=Model(arch="resnet8", stem="cifar"),
                recipe=recipe_for(DATASETS["digits"], "resnet8", {}),
                method="none",
                hyperparameters=(("member", member),),
                parents=tuple(
                    run.id for parent in (after if member < learning else after[:1]) for run in parent.runs
                ),
            )
            for member in range(size)
        )
        job = Job(runs=runs, after=tuple(parent.id for parent in after), resources=resources)
        folder = jobfile.write(job, Runtime(runs=self.runs))
        (folder / "script.txt").write_text("\n".join(script or ("train 1 0",)))
        return job

    def folder(self, job):
        return self.runs / "jobs" / job.id

    def job_folder(self, job):
        return JobFolder(self.folder(job))

    def lines(self, job, name):
        path = self.folder(job) / name
        return path.read_text().splitlines() if path.exists() else []

    def tries(self, job):
        return len(self.lines(job, "tries.txt"))
