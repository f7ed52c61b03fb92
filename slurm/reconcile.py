"""What the Jobs of a plan are up to, from records and SLURM's hints: pure functions, fit for 10,000 runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from harness.jobfile import INTERRUPTED
from harness.plan import Job
from results.store import Cause, Failure
from slurm.desk import Array, Slip
from slurm.failures import death
from slurm.progress import log_path
from slurm.scheduler import ACTIVE, Entry
from slurm.states import FOR_PARENTS, LOST, UNSUBMITTED, JobState, Phase, blocked_note, is_blocked
from slurm.task import Report

OUT_OF_MEMORY = (
    "exceeded memory limit",
    "exceeded job memory limit",
    "oom-kill",
    "oom_kill",
    "Out Of Memory",
)
NEVER = "DependencyNeverSatisfied"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task of ours in SLURM's queue, with the Job that it does."""

    slip: Slip
    entry: Entry

    @property
    def number(self) -> int:
        """Grows from one submission to the next."""
        return int(self.entry.slurm_id.partition("_")[0])


def tasks_of(entries: Iterable[Entry], arrays: Mapping[str, Array]) -> list[Task]:
    """The tasks behind those entries of the queue whose comment is the token of one of `arrays`."""
    return [
        Task(slip=array.slips[entry.index], entry=entry)
        for entry in entries
        if (array := arrays.get(entry.comment)) is not None
        and entry.index < len(array.slips)
        and not entry.refused
    ]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How a plan stands at one moment."""

    states: Mapping[str, JobState]
    """By Job id."""
    submit: tuple[Job, ...] = ()
    """Jobs that nothing works on and nothing speaks against, parents before children."""
    ended: tuple[tuple[Job, Task], ...] = ()
    """Jobs whose newest task is over although runs have no record: somebody must find out why."""
    live: Mapping[str, tuple[Task, ...]] = field(default_factory=dict)
    """Tasks in the queue that work on a Job's missing runs, by Job id."""


def reconcile(
    jobs: Sequence[Job],
    *,
    runs: Path,
    done: Collection[str],
    tasks: Iterable[Task],
    tracked: Mapping[str, Task],
    settled: Collection[str],
    failed: Mapping[str, str],
) -> Picture:
    """Compare what should be with what is.

    Args:
        jobs: parents before children.
        runs: the folder of records, for the names of logs.
        done: ids of runs with a valid record, the only proof that anything is finished.
        tasks: what the queue shows, lately ended tasks included.
        tracked: the newest task that was ever seen for a Job, which the queue may have forgotten.
        settled: SLURM ids of ended tasks that have been accounted for.
        failed: Jobs that are not to be tried again, with the reason.
    """
    newest, working = _index(tasks)
    states: dict[str, JobState] = {}
    submit: list[Job] = []
    ended: list[tuple[Job, Task]] = []
    live: dict[str, tuple[Task, ...]] = {}
    titles = {job.id: job.title for job in jobs}
    gone: set[str] = set()
    for job in jobs:
        missing = [run.id for run in job.runs if run.id not in done]
        if not missing:
            states[job.id] = JobState(phase=Phase.DONE)
            continue
        if job.id in failed:
            states[job.id] = JobState(phase=Phase.FAILED, note=failed[job.id])
            gone.update(missing)
            continue
        lost = [p for p in job.after if p in states and states[p].phase in LOST]
        if lost and is_blocked(job, missing, gone):
            gone.update(missing)
            states[job.id] = JobState(
                phase=Phase.BLOCKED, note=blocked_note(titles[lost[0]], log_path(runs, lost[0]))
            )
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
    return Picture(states=states, submit=tuple(submit), ended=tuple(ended), live=live)


def _index(tasks: Iterable[Task]) -> tuple[dict[str, Task], dict[str, Task]]:
    """The newest task of each Job, and the newest living one of each run."""
    newest: dict[str, Task] = {}
    working: dict[str, Task] = {}
    for task in sorted(tasks, key=lambda task: task.number):
        newest[task.slip.job] = task
        if task.entry.live:
            working.update(dict.fromkeys(task.slip.runs, task))
    return newest, working


def _forgotten(task: Task | None) -> Task | None:
    """A task that the queue shows no more is over, whatever its last known state was."""
    if task is None or not task.entry.live:
        return task
    return replace(task, entry=task.entry.ended_as(""))


def live_state(tasks: Sequence[Task]) -> JobState:
    """How the Job stands that these living tasks work on."""
    entries = [task.entry for task in tasks]
    running = next((entry for entry in entries if entry.state in ACTIVE), None)
    if running is not None:
        return JobState(phase=Phase.RUNNING, node=running.node)
    entry = entries[0]
    if entry.reason == "Dependency":
        return JobState(phase=Phase.WAITING, note=FOR_PARENTS)
    note = entry.reason if entry.state == "PENDING" else entry.state.lower()
    return JobState(phase=Phase.PENDING, note=note, node=entry.node)


Verdict = Cause | Literal["dependency", "cancelled"]
STATES: Mapping[str, tuple[Verdict, str]] = {
    "TIMEOUT": ("timeout", "it ran into its time limit"),
    "DEADLINE": ("timeout", "it could not end before its deadline"),
    "OUT_OF_MEMORY": ("memory", "it used more memory than it asked for"),
    "NODE_FAIL": ("node", "its node failed"),
    "BOOT_FAIL": ("node", "its node did not start"),
    "PREEMPTED": ("preempted", "it was preempted"),
}


def lost_parent(job: Job, task: Task, picture: Picture) -> bool:
    """Whether a Job that `task` waited for has gone: ended without its records, or submitted anew since."""
    waited_for = [p for p in job.after if p in picture.states and picture.states[p].phase is not Phase.DONE]
    return any(all(t.number > task.number for t in picture.live.get(p, ())) for p in waited_for)


def judge(
    entry: Entry,
    report: Report | None,
    failure: Failure | None,
    transport_log: str,
    *,
    orphan: bool = False,
    unwanted: bool = False,
) -> tuple[Verdict, str]:
    """Why a task ended without all its records, from whatever there is.

    Args:
        entry: its last state in the queue; an empty state where SLURM has forgotten it.
        report: what the task itself wrote, None if it never came to that.
        failure: what the program wrote of its failure.
        transport_log: the end of what SLURM printed into the task's stderr.
        orphan: see `lost_parent`.
        unwanted: whether `slurm.cancel` ended it.
    """
    where = f" on {entry.node or (report.node if report else '')}".rstrip().removesuffix(" on")
    started = report is not None or bool(entry.node)
    if not unwanted and (entry.reason == NEVER or (entry.state == "CANCELLED" and orphan and not started)):
        return "dependency", "a job that it waited for failed"
    if unwanted or entry.state == "CANCELLED":
        return "cancelled", "it was cancelled; the same command submits it again"
    if entry.state in STATES:
        cause, words = STATES[entry.state]
        return cause, words + where
    if any(words in transport_log for words in OUT_OF_MEMORY):
        return "memory", "it used more memory than it asked for" + where
    if report is None:
        said = transport_log.strip().rpartition("\n")[2]
        return "node", f"it ended before the program started{where}" + (f": {said[-200:]}" if said else "")
    if report.code is None:
        return "node", "it disappeared" + where
    if report.code == INTERRUPTED:
        return "preempted", report.why or "it was told to stop"
    if report.code > 0 and failure is not None:
        return failure.cause, failure.message
    return death(report.code, oom=report.oom)
