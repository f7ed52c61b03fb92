"""All that was submitted to SLURM from a folder of records and is not done: `status runs=PATH`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path

from rich.console import Console

from common import cli
from common.jobs import UNSUBMITTED, JobRef, JobState, Phase
from common.jobtable import failure_line, held_line, jobs_table
from results.store import Store
from slurm import scheduler
from slurm.commands import NoAnswer
from slurm.ledger import Ledger
from slurm.reconcile import Task, reconcile, tasks_of


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Settings of the command."""

    runs: Path = Path("runs")
    """Folder of records."""


@cli.command
def main(argv: Sequence[str]) -> int:
    """Exit code 0, or 1 where SLURM does not answer."""
    asked = cli.parse(StatusConfig, argv, prog="python -m slurm.status", description=str(__doc__))
    console, ledger = Console(), Ledger(asked.runs)
    if not ledger.exists:
        console.print(f"nothing was submitted to SLURM from {asked.runs}", highlight=False, markup=False)
        return 0
    try:
        tasks = living(ledger)
    except NoAnswer as silence:
        console.print(f"SLURM does not answer ({silence})", highlight=False, markup=False)
        return 1
    jobs, states = overview(ledger, tasks)
    console.print(f"{len(tasks)} task(s) queued or running, {len(jobs)} job(s) not done", highlight=False)
    console.print(jobs_table(jobs, states, records=ledger.records, rows=len(jobs) + 1))
    for job in jobs:
        if states[job.id].held:
            console.print(held_line(job, states[job.id]), soft_wrap=True)
        if states[job.id].phase is Phase.FAILED:
            console.print(failure_line(job, states[job.id], records=ledger.records), soft_wrap=True)
    return 0


def living(ledger: Ledger) -> list[Task]:
    """Tasks from this folder that wait or run.

    Raises:
        NoAnswer: SLURM is silent.
    """
    entries = ledger.ours(scheduler.queue(ledger.users()))
    arrays = {array.token: array for array in ledger.arrays()}
    return tasks_of([entry for entry in entries if entry.live], arrays)


def overview(ledger: Ledger, tasks: Sequence[Task]) -> tuple[list[JobRef], dict[str, JobState]]:
    """The submitted jobs that have runs without a record, and how each of them stands."""
    store = Store(ledger.records.root)
    submitted = {job.id: job for array in ledger.arrays() for job in array.jobs}
    missing = {job.id: left for job in submitted.values() if (left := store.missing(job.run_ids))}
    jobs = _parents_first([submitted[job_id] for job_id in missing])
    working = {task.job.id for task in tasks}
    failures = {
        job.id: failure
        for job in jobs
        if job.id not in working and (failure := store.first_failure(missing[job.id])) is not None
    }
    failed = {
        job_id: f"{failure.cause}: {failure.message}"
        for job_id, failure in failures.items()
        if failure.cause != "parent" or not any(parent in failures for parent in submitted[job_id].after)
    }
    lacking = {run_id for left in missing.values() for run_id in left}
    picture = reconcile(
        jobs,
        records=ledger.records,
        done={run_id for job in jobs for run_id in job.run_ids} - lacking,
        tasks=tasks,
        tracked={},
        settled=(),
        failed=failed,
    )
    return jobs, {job.id: _without_a_sweep(picture.states[job.id]) for job in jobs}


def _without_a_sweep(state: JobState) -> JobState:
    """What waits to be submitted waits for somebody to start the sweep again."""
    if state.note != UNSUBMITTED:
        return state
    return replace(state, phase=Phase.STOPPED, note="not in the queue; the same sweep submits it")


def _parents_first(jobs: Sequence[JobRef]) -> list[JobRef]:
    by_id = {job.id: job for job in jobs}
    order = TopologicalSorter({job.id: [p for p in job.after if p in by_id] for job in jobs})
    return [by_id[job_id] for job_id in order.static_order()]


if __name__ == "__main__":
    sys.exit(main())
