"""What the jobs of a plan are up to, from records and SLURM's hints: pure functions, fit for 10,000 runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from common.jobs import FOR_PARENTS, UNSUBMITTED, JobRef, JobState, Phase, blocked, blocked_state
from common.paths import RecordsFolder
from slurm.ledger import Array
from slurm.scheduler import ACTIVE, Entry

NEVER = "DependencyNeverSatisfied"
HELD_STATES = frozenset({"REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
HELD_REASONS = re.compile(r"\bheld\b|Held|HoldMaxRequeue|" + NEVER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task of ours in SLURM's queue, with the job that it does."""

    job: JobRef
    entry: Entry

    @property
    def number(self) -> int:
        """Grows from one submission to the next."""
        return int(self.entry.main_id)


def tasks_of(entries: Iterable[Entry], arrays: Mapping[str, Array]) -> list[Task]:
    """The tasks behind those entries of the queue whose comment is the token of one of `arrays`."""
    return [
        Task(job=array.jobs[entry.index], entry=entry)
        for entry in entries
        if (array := arrays.get(entry.comment)) is not None
        and entry.index < len(array.jobs)
        and not entry.refused
    ]


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """How a plan stands at one moment."""

    states: Mapping[str, JobState]
    """By job id."""
    submit: tuple[JobRef, ...] = ()
    """Jobs to submit: nothing works on them and nothing speaks against them; parents before children."""
    ended: tuple[tuple[JobRef, Task], ...] = ()
    """Jobs whose newest task is over although runs have no record: somebody must find out why."""
    live: Mapping[str, tuple[Task, ...]] = field(default_factory=dict)
    """Tasks in the queue that work on a job's missing runs, by job id."""


def reconcile(
    jobs: Sequence[JobRef],
    *,
    records: RecordsFolder,
    done: Collection[str],
    tasks: Iterable[Task],
    tracked: Mapping[str, Task],
    settled: Collection[str],
    failed: Mapping[str, str],
) -> Reconciliation:
    """Compare what should be with what is.

    Args:
        jobs: parents before children.
        records: the folder of records, for the names of logs.
        done: ids of runs with a valid record, the only proof that anything is finished.
        tasks: what the queue shows, lately ended tasks included.
        tracked: the newest task that was ever seen for a job, which the queue may have forgotten.
        settled: SLURM ids of ended tasks that have been accounted for.
        failed: Jobs that are not to be tried again, with the reason.
    """
    newest, working = _index(tasks)
    states: dict[str, JobState] = {}
    submit: list[JobRef] = []
    ended: list[tuple[JobRef, Task]] = []
    live: dict[str, tuple[Task, ...]] = {}
    by_id = {job.id: job for job in jobs}
    lost = blocked(jobs, failed, lambda job: _missing(job, done))
    for job in jobs:
        missing = _missing(job, done)
        if not missing:
            states[job.id] = JobState(phase=Phase.DONE)
            continue
        if job.id in lost:
            states[job.id] = blocked_state(by_id[lost[job.id]], records)
            continue
        if job.id in failed:
            states[job.id] = JobState(phase=Phase.FAILED, note=failed[job.id])
            continue
        found = {run: working[run] for run in missing if run in working}
        live[job.id] = tuple({task.entry.slurm_id: task for task in found.values()}.values())
        last = newest.get(job.id) or _forgotten(tracked.get(job.id))
        if len(found) == len(missing):
            states[job.id] = live_state(live[job.id])
        elif last is not None and last.entry.slurm_id not in settled:
            states[job.id] = JobState(phase=Phase.RUNNING, note="ended, looking why", node=last.entry.node)
            ended.append((job, last))
        else:
            states[job.id] = JobState(phase=Phase.WAITING, note=UNSUBMITTED)
            submit.append(job)
    return Reconciliation(states=states, submit=tuple(submit), ended=tuple(ended), live=live)


def _missing(job: JobRef, done: Collection[str]) -> list[str]:
    return [run_id for run_id in job.run_ids if run_id not in done]


def _index(tasks: Iterable[Task]) -> tuple[dict[str, Task], dict[str, Task]]:
    """The newest task of each job, and the newest living one of each run."""
    newest: dict[str, Task] = {}
    working: dict[str, Task] = {}
    for task in sorted(tasks, key=lambda task: task.number):
        newest[task.job.id] = task
        if task.entry.live:
            working.update(dict.fromkeys(task.job.run_ids, task))
    return newest, working


def _forgotten(task: Task | None) -> Task | None:
    """A task that the queue shows no more is over, whatever its last known state was."""
    if task is None or not task.entry.live:
        return task
    return replace(task, entry=task.entry.ended_as(""))


def live_state(tasks: Sequence[Task]) -> JobState:
    """The state of the job that these living tasks work on."""
    entries = [task.entry for task in tasks]
    running = next((entry for entry in entries if entry.state in ACTIVE), None)
    if running is not None:
        return JobState(phase=Phase.RUNNING, node=running.node)
    held = next((entry for entry in entries if _is_held(entry)), None)
    if held is not None:
        return JobState(phase=Phase.PENDING, note=_held_note(held), node=held.node, held=True)
    entry = entries[0]
    if entry.reason == "Dependency":
        return JobState(phase=Phase.WAITING, note=FOR_PARENTS)
    note = entry.reason if entry.state == "PENDING" else entry.state.lower()
    return JobState(phase=Phase.PENDING, note=note, node=entry.node)


def _is_held(entry: Entry) -> bool:
    """Whether it stays in the queue until a person acts."""
    return entry.state in HELD_STATES or (
        entry.state == "PENDING" and bool(HELD_REASONS.search(entry.reason))
    )


def _held_note(entry: Entry) -> str:
    """The scheduler's reason, and the command that helps."""
    if entry.reason == NEVER:
        return f"{NEVER}: scancel {entry.slurm_id} lets the sweep submit it again"
    reason = entry.reason or entry.state.lower()
    return f"held in the queue: {reason}; scontrol release {entry.slurm_id} lets it start"
