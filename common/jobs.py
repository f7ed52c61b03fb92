"""Jobs as those see them who run, watch and show them: what a job is, how it stands, what blocks it.

What a job trains is none of their business; `harness.grouping` makes the jobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import msgspec

from common.paths import JobFolder, RecordsFolder

Cause = Literal["bug", "memory", "timeout", "preempted", "node", "disk", "parent", "data"]
"""Why an attempt ended without its records."""
RETRIES: Mapping[Cause, int] = {"memory": 1, "timeout": 5, "node": 3, "disk": 3}
"""Retries after the first attempt, by cause. A preempted job resumes for free; a bug or bad data is final."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job needs of a machine; `minutes` is an estimate with a margin, for a scheduler's time limit."""

    cpus: int
    gpus: int
    memory_gb: float
    minutes: int
    nodes: int = 1


@dataclass(frozen=True, kw_only=True)
class RunRef:
    """A run by its id, with the ids of the runs that it learns from or is compared with."""

    id: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobRef:
    """A job by its id, with as much as it takes to schedule it and to talk about it."""

    id: str
    title: str
    """Short name for people: `old s0`, `8 candidates s2`."""
    runs: tuple[RunRef, ...]
    after: tuple[str, ...] = ()
    """Ids of the jobs that must be done before."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """Ids of its runs."""
        return tuple(run.id for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class _JobFile:
    job: JobRef


def read_job_ref(folder: JobFolder) -> JobRef:
    """The job described in `folder`.

    Raises:
        ValueError: job.json is missing or not a job's description.
    """
    try:
        return msgspec.json.decode(folder.description.read_bytes(), type=_JobFile).job
    except (OSError, msgspec.DecodeError) as error:
        raise ValueError(f"{folder.description}: not a job's description ({error})") from error


class Phase(StrEnum):
    """Where a job stands."""

    WAITING = "waiting"
    """For other jobs, or for a free place on this machine."""
    PENDING = "pending"
    """In a cluster's queue."""
    RUNNING = "running"
    DONE = "done"
    """Every run has a valid record."""
    FAILED = "failed"
    BLOCKED = "blocked"
    """All that it still has to train learns from runs that failed."""
    STOPPED = "stopped"
    """Interrupted; the same command resumes it from its checkpoint."""


FOR_PARENTS = "for its parents"
UNSUBMITTED = "to be submitted"
SETTLED = frozenset({Phase.DONE, Phase.FAILED, Phase.BLOCKED, Phase.STOPPED})
LOST = frozenset({Phase.FAILED, Phase.BLOCKED})


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A job's phase with what a person wants to know beside it."""

    phase: Phase
    note: str = ""
    """Why: the scheduler's reason, the cause of a failure, the parent that failed."""
    node: str = ""
    starts: int = 0
    """How often it was started."""
    held: bool = False
    """Whether it stays in a cluster's queue until a person does what the note says."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a dispatch ended."""

    states: Mapping[str, JobState]
    """By job id, for every job that was asked for."""
    interrupted: bool = False
    """A signal ended it before the jobs did."""
    detached: bool = False
    """The jobs continue in a cluster's queue without this process."""

    def count(self, phase: Phase) -> int:
        """How many jobs ended in `phase`."""
        return sum(state.phase is phase for state in self.states.values())

    @property
    def complete(self) -> bool:
        """Whether every job is done."""
        return all(state.phase is Phase.DONE for state in self.states.values())


def blocked(
    jobs: Iterable[JobRef], failed: Collection[str], missing: Callable[[JobRef], Sequence[str]]
) -> dict[str, str]:
    """Jobs that cannot run because of failed ones, each with the id of the parent job that it lost.

    A job is blocked when every run that it still has to train learns from a lost run. A cohort with one
    run that does not can still train that run, and is blocked after it.

    Args:
        jobs: parents before children.
        failed: ids of jobs that will not be tried again.
        missing: ids of a job's runs that have no record; asked only where it matters.
    """
    parents: dict[str, str] = {}
    lost: set[str] = set()
    for job in jobs:
        if job.id in failed:
            lost.update(missing(job))
            continue
        parent = next((p for p in job.after if p in failed or p in parents), None)
        if parent is None:
            continue
        left = set(missing(job))
        needed = [run.parents for run in job.runs if run.id in left]
        if needed and all(not lost.isdisjoint(ids) for ids in needed):
            parents[job.id] = parent
            lost |= left
    return parents


def blocked_state(parent: JobRef, records: RecordsFolder) -> JobState:
    """The state of a job that lost `parent`: it names that job and the log that says why it failed."""
    return JobState(phase=Phase.BLOCKED, note=f"{parent.title} failed, see {records.job(parent.id).log()}")
