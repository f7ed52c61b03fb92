"""What lies where in a folder of records: every file and folder name is spelled here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    root: Path

    @property
    def record(self) -> Path:
        """The record: written last, it proves that the run is done."""
        return self.root / "record.json"

    @property
    def failure(self) -> Path:
        """Why the last attempt failed."""
        return self.root / "failure.json"

    @property
    def attempts(self) -> Path:
        """One folder per attempt."""
        return self.root / "attempts"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.root / "lock"


@dataclass(frozen=True)
class JobFolder:
    """The files of one job."""

    root: Path

    @property
    def description(self) -> Path:
        """What the job has to do."""
        return self.root / "job.json"

    @property
    def progress(self) -> Path:
        """How far the job says it is."""
        return self.root / "progress.json"

    @property
    def shared_error(self) -> Path:
        """The error of whichever of several processes failed first."""
        return self.root / "error.json"

    @property
    def worker(self) -> Path:
        """What the newest SLURM task reports about itself."""
        return self.root / "task.json"

    @property
    def records(self) -> RecordsFolder:
        """The folder of records that the job belongs to."""
        return RecordsFolder(self.root.parent.parent)

    def log(self, rank: int = 0) -> Path:
        """What a process of the job printed, over all its attempts."""
        return self.root / ("log.txt" if rank == 0 else f"log.rank{rank}.txt")


@dataclass(frozen=True)
class RecordsFolder:
    """A folder of records (`runs=`): one folder per run, and these beside them."""

    root: Path

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.root / run_id)

    def job(self, job_id: str) -> JobFolder:
        """The folder of a job."""
        return JobFolder(self.jobs / job_id)

    def job_folders(self) -> Iterator[JobFolder]:
        """The folders of all jobs that have a description, by id."""
        return (JobFolder(path.parent) for path in sorted(self.jobs.glob("*/job.json")))

    @property
    def jobs(self) -> Path:
        """One folder per job."""
        return self.root / "jobs"

    @property
    def betons(self) -> Path:
        """Images in FFCV's format, unless `betons=` names another folder."""
        return self.root / "betons"

    @property
    def features(self) -> Path:
        """Features that frozen backbones computed."""
        return self.root / "features"

    @property
    def figures(self) -> Path:
        """Pictures drawn from the records."""
        return self.root / "figures"

    @property
    def slurm(self) -> Path:
        """What was submitted to SLURM."""
        return self.root / ".slurm"

    @property
    def reserved(self) -> frozenset[str]:
        """Names beside the runs' folders that are not runs."""
        return frozenset(path.name for path in (self.jobs, self.betons, self.features, self.figures))
