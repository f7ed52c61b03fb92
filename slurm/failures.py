"""From the end of a process to a cause: the same words wherever a Job ran."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.jobfile import INTERRUPTED
from harness.plan import Job
from results.store import Cause, Failure, Store

LOST_CHILD = 255
"""Exit code of a child whose fork server was killed."""


def missing(store: Store, job: Job) -> list[str]:
    """Ids of the Job's runs that have no valid record yet."""
    return [run.id for run in job.runs if store.read(run.id) is None]


def first_failure(store: Store, run_ids: Iterable[str]) -> Failure | None:
    """What the program itself wrote about its failure."""
    return next((found for run_id in run_ids if (found := store.failure(run_id)) is not None), None)


def explain(store: Store, run_ids: Sequence[str], code: int, *, oom: bool = False) -> tuple[Cause, str]:
    """Cause and message of an ended program that left `run_ids` without a record.

    Args:
        store: where the program may have left a failure.json.
        run_ids: the runs without a record.
        code: its exit code, negative for a signal.
        oom: whether the kernel killed something for memory meanwhile.
    """
    if code == INTERRUPTED:
        return "preempted", "it was told to stop"
    failure = first_failure(store, run_ids) if code > 0 else None
    return (failure.cause, failure.message) if failure is not None else death(code, oom=oom)


def death(code: int, *, oom: bool) -> tuple[Cause, str]:
    """Cause and message for an exit `code` that no failure.json explains."""
    if code == 0:
        return "bug", "it ended without an error and without a record"
    if code == LOST_CHILD:
        return "node", "its process was lost"
    if code > 0:
        return "bug", f"it ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if code == -signal.SIGKILL and oom:
        return "memory", f"killed by {name}: the machine ran out of memory"
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        return "node", f"killed by {name} from outside"
    return "bug", f"killed by {name}"


def record_failure(store: Store, run_ids: Iterable[str], cause: Cause, message: str, log: Path) -> None:
    """Say in the runs' folders why they have no record; whatever still works on them is fenced off."""
    for run_id in run_ids:
        attempt = store.begin(run_id)
        attempt.fail(Failure(attempt=attempt.number, cause=cause, message=message, log=str(log)))
