"""`python -m slurm.status runs=PATH`: all that was submitted from a folder of records and is not done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness import jobfile, words
from harness.plan import Job
from results.store import Store
from slurm import scheduler
from slurm.desk import Desk
from slurm.failures import first_failure
from slurm.progress import job_folder
from slurm.reconcile import Task, live_state, tasks_of
from slurm.states import JobState, Phase
from slurm.view import table


@dataclass(frozen=True, kw_only=True)
class StatusConfig:
    """Settings of the command."""

    runs: Path = Path("runs")
    """Folder of records."""


@words.command
def main(argv: Sequence[str]) -> int:
    """Exit code 0, or 1 where SLURM does not answer."""
    asked = words.parse(StatusConfig, argv, prog="python -m slurm.status", description=str(__doc__))
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
    jobs: list[Job] = []
    states: dict[str, JobState] = {}
    for job_id, slip in slips.items():
        missing = [run_id for run_id in slip.runs if store.read(run_id) is None]
        if not missing:
            continue
        jobs.append(jobfile.read(job_folder(desk.runs, job_id))[0])
        failure = first_failure(store, missing)
        if job_id in working:
            states[job_id] = live_state(working[job_id])
        elif failure is not None:
            states[job_id] = JobState(phase=Phase.FAILED, note=f"{failure.cause}: {failure.message}")
        else:
            states[job_id] = JobState(phase=Phase.STOPPED, note="no longer queued; the same sweep submits it")
    return jobs, states


if __name__ == "__main__":
    sys.exit(main())
