"""What can become of a Job, and which failures are worth another try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from harness.plan import Job
from results.store import Cause


class Phase(StrEnum):
    """Where a Job stands."""

    WAITING = "waiting"
    """For other Jobs, or for a free place on this machine."""
    PENDING = "pending"
    """In a cluster's queue."""
    RUNNING = "running"
    DONE = "done"
    """Every run has a valid record."""
    FAILED = "failed"
    BLOCKED = "blocked"
    """A Job that it waits for failed."""
    STOPPED = "stopped"
    """Interrupted; the same command goes on from its checkpoint."""


FOR_PARENTS = "for its parents"
UNSUBMITTED = "to be submitted"
SETTLED = frozenset({Phase.DONE, Phase.FAILED, Phase.BLOCKED, Phase.STOPPED})


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A Job's phase with what a person wants to know beside it."""

    phase: Phase
    note: str = ""
    """Why: the scheduler's reason, the cause of a failure, the parent that failed."""
    node: str = ""
    tries: int = 0
    """How often it was started."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a dispatch ended."""

    states: Mapping[str, JobState]
    """By Job id; every Job that was asked for."""
    interrupted: bool = False
    """A signal ended it before the Jobs did."""
    detached: bool = False
    """The Jobs go on in a cluster's queue without this process."""

    def count(self, phase: Phase) -> int:
        """How many Jobs ended in `phase`."""
        return sum(state.phase is phase for state in self.states.values())

    @property
    def complete(self) -> bool:
        """Whether every Job is done."""
        return all(state.phase is Phase.DONE for state in self.states.values())


RETRIES: Mapping[str, int] = {"memory": 1, "timeout": 5, "node": 3, "disk": 3}
"""Tries after the first, by cause. A preempted Job goes on for free; a bug, bad data or NaN is final."""


@dataclass
class Budget:
    """What one Job has used up of its retries."""

    used: Counter[str] = field(default_factory=Counter)

    def spend(self, cause: Cause) -> bool:
        """Whether the Job may start again after a failure for this cause; counts it."""
        if cause == "preempted":
            return True
        self.used[cause] += 1
        return self.used[cause] <= RETRIES.get(cause, 0)

    @property
    def memory_factor(self) -> int:
        """By how much to multiply the memory that the Job asks for: doubled for each time it ran out."""
        return int(2 ** self.used["memory"])


def children(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """The Jobs that wait for each Job id."""
    waiting: dict[str, list[Job]] = {}
    for job in jobs:
        for parent in job.after:
            waiting.setdefault(parent, []).append(job)
    return waiting


LOST = frozenset({Phase.FAILED, Phase.BLOCKED})


def is_blocked(job: Job, missing: Iterable[str], lost: Collection[str]) -> bool:
    """Whether all `missing` runs of a Job learn from `lost` ones: one that does not can still be trained."""
    wanted = set(missing)
    return all(any(parent in lost for parent in run.parents) for run in job.runs if run.id in wanted)


def blocked_note(parent: str, log: Path) -> str:
    """Why a Job cannot run: the title of the Job that failed, and where it says why."""
    return f"{parent} failed, see {log}"
