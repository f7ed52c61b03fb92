"""All that was submitted to SLURM from a folder of records and is not done: `status runs=PATH`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from rich.console import Console

from common import cli
from harness import jobfile
from harness.plan import Job
from results.store import Store
from slurm import scheduler
from slurm.desk import Desk
from slurm.failures import first_failure
from slurm.progress import log_path
from slurm.reconcile import Task, live_state, tasks_of
from slurm.states import LOST, JobState, Phase, blocked_note
from slurm.view import failure, table


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Settings of the command."""

    runs: Path = Path("runs")
    """Folder of records."""


@cli.command
def main(argv: Sequence[str]) -> int:
    """Exit code 0, or 1 where SLURM does not answer."""
    asked = cli.parse(StatusConfig, argv, prog="python -m slurm.status", description=str(__doc__))
    console, desk = Console(), Desk(asked.runs)
    if not desk.exists:
        console.print(f"nothing was submitted to SLURM from {asked.runs}", highlight=False)
        return 0
    tasks = living(desk)
    if tasks is None:
        console.print("SLURM does not answer")
        return 1
    jobs, states = overview(desk, tasks)
    console.print(f"{len(tasks)} task(s) queued or running, {len(jobs)} job(s) not done", highlight=False)
    console.print(table(jobs, states, runs=desk.runs, rows=len(jobs) + 1))
    for job in jobs:
        if states[job.id].phase is Phase.FAILED:
            console.print(failure(job, states[job.id], runs=desk.runs), soft_wrap=True)
    return 0


def living(desk: Desk) -> list[Task] | None:
    """Tasks from this folder that wait or run; None where SLURM does not answer."""
    entries = scheduler.queue(desk.name)
    if entries is None:
        return None
    arrays = {array.token: array for array in desk.arrays()}
    return tasks_of([entry for entry in entries if entry.live], arrays)


def overview(desk: Desk, tasks: Sequence[Task]) -> tuple[list[Job], dict[str, JobState]]:
    """The Jobs that have runs without a record, and how each of them stands."""
    store = Store(desk.runs)
    working: dict[str, list[Task]] = {}
    for task in tasks:
        working.setdefault(task.slip.job, []).append(task)
    slips = {slip.job: slip for array in desk.arrays() for slip in array.slips}
    left = {
        job_id: missing
        for job_id, slip in slips.items()
        if (missing := [run_id for run_id in slip.runs if store.read(run_id) is None])
    }
    jobs = [jobfile.read(jobfile.job_folder(desk.runs, job_id))[0] for job_id in left]
    states: dict[str, JobState] = {}
    for job in _parents_first(jobs):
        lost = [p for p in job.after if p in states and states[p].phase in LOST]
        if job.id in working:
            states[job.id] = live_state(working[job.id])
        elif (failed := first_failure(store, left[job.id])) is not None:
            states[job.id] = JobState(phase=Phase.FAILED, note=f"{failed.cause}: {failed.message}")
        elif lost:
            title = next(parent.title for parent in jobs if parent.id == lost[0])
            note = blocked_note(title, log_path(desk.runs, lost[0]))
            states[job.id] = JobState(phase=Phase.BLOCKED, note=note)
        else:
            states[job.id] = JobState(phase=Phase.STOPPED, note="no longer queued; the same sweep submits it")
    return jobs, states


def _parents_first(jobs: Sequence[Job]) -> list[Job]:
    by_id = {job.id: job for job in jobs}
    order = TopologicalSorter({job.id: [p for p in job.after if p in by_id] for job in jobs})
    return [by_id[job_id] for job_id in order.static_order()]


if __name__ == "__main__":
    sys.exit(main())
