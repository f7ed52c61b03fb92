"""Why a task ended without all its records: the verdict from whatever hints there are."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from common.exits import INTERRUPTED, cause_of_exit
from common.jobs import Cause, JobRef, Phase
from common.progress import Progress
from results.store import Failure, Store
from slurm import scheduler
from slurm.ledger import Ledger
from slurm.reconcile import NEVER, Reconciliation, Task
from slurm.scheduler import Entry
from slurm.submit import transport_log
from slurm.worker import WorkerReport

LATE_LOOKS = 3
"""Looks one after the other after which a task is over, or its record not merely slow to appear."""
OUT_OF_MEMORY = (
    "exceeded memory limit",
    "exceeded job memory limit",
    "oom-kill",
    "oom_kill",
    "Out Of Memory",
)


Verdict = Cause | Literal["dependency", "cancelled"]
STATES: Mapping[str, tuple[Verdict, str]] = {
    "TIMEOUT": ("timeout", "it ran into its time limit"),
    "DEADLINE": ("timeout", "it could not end before its deadline"),
    "OUT_OF_MEMORY": ("memory", "it used more memory than it asked for"),
    "NODE_FAIL": ("node", "its node failed"),
    "BOOT_FAIL": ("node", "its node did not start"),
    "PREEMPTED": ("preempted", "it was preempted"),
}


def lost_parent(job: JobRef, task: Task, picture: Reconciliation) -> bool:
    """Whether a job that `task` waited for has gone: ended without its records, or submitted again since."""
    waited_for = [p for p in job.after if p in picture.states and picture.states[p].phase is not Phase.DONE]
    return any(all(t.number > task.number for t in picture.live.get(p, ())) for p in waited_for)


def judge(
    entry: Entry,
    report: WorkerReport | None,
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
        cause, said = STATES[entry.state]
        return cause, said + where
    if any(sign in transport_log for sign in OUT_OF_MEMORY):
        return "memory", "it used more memory than it asked for" + where
    if report is None:
        said = _last_words(transport_log)
        return "node", f"it ended before the program started{where}" + (f": {said[-200:]}" if said else "")
    if report.code is None:
        return "node", "it disappeared" + where
    if report.code == INTERRUPTED:
        return "preempted", report.why or "it was told to stop"
    if report.code > 0 and failure is not None:
        return failure.cause, failure.message
    if report.code > 0 and report.cause is not None:
        return report.cause, report.why
    return cause_of_exit(report.code, oom=report.oom)


def _last_words(log: str) -> str:
    """The last line of a log that says more than that SLURM has seen a task end."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("srun: ", "slurmstepd: "))]
    return (telling or lines or [""])[-1]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A task that is over, and why its job has runs without a record."""

    job: JobRef
    verdict: Verdict
    message: str
    node: str
    timeouts: int
    """Time limits that the task ran into and bridged by itself."""


class TaskVerdicts:
    """Finds out why tasks ended, each once."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self.settled: set[str] = set()
        """SLURM ids of ended tasks that need no more attention."""
        self._ledger = ledger
        self._store = store
        self._looks: Counter[str] = Counter()
        self._heard: dict[str, float] = {}

    def silence(self) -> None:
        """SLURM did not answer: what was missing in the answers before may only have been hidden."""
        self._looks.clear()

    def of(self, picture: Reconciliation) -> Iterator[Ended]:
        """A verdict for every task that is surely over; what the queue has forgotten sacct may know."""
        for seen_again in self._looks.keys() - {task.entry.slurm_id for _, task in picture.ended}:
            del self._looks[seen_again]
        forgotten = [task.entry.slurm_id for _, task in picture.ended if not task.entry.state]
        known = scheduler.final_states(forgotten)
        for job, task in picture.ended:
            entry = task.entry
            if state := known.get(entry.slurm_id):
                entry = entry.ended_as(state)
            if entry.live or (not entry.state and self._still_talks(job, entry)):
                self._looks.pop(entry.slurm_id, None)
                continue
            self._looks[entry.slurm_id] += 1
            if entry.state in ("COMPLETED", "") and self._looks[entry.slurm_id] < LATE_LOOKS:
                continue  # a shared file system may show the record late, and the queue may err
            self.settled.add(entry.slurm_id)
            yield self._verdict(job, entry, orphan=lost_parent(job, task, picture))

    def _still_talks(self, job: JobRef, entry: Entry) -> bool:
        """Whether a job that the queue does not show has said something since the last look."""
        progress = Progress.read(self._ledger.records.job(job.id))
        now = progress.time if progress is not None else 0.0
        before = self._heard.get(entry.slurm_id)
        self._heard[entry.slurm_id] = now
        return before is not None and now != before

    def _verdict(self, job: JobRef, entry: Entry, *, orphan: bool) -> Ended:
        report = self._report(job, entry.slurm_id)
        failure = self._store.first_failure(self._store.missing(job.run_ids))
        said = transport_log(self._ledger, entry.slurm_id)
        unwanted = self._ledger.is_cancelled(entry.slurm_id)
        verdict, message = judge(entry, report, failure, said, orphan=orphan, unwanted=unwanted)
        if report is None and verdict == "node" and said:
            self._keep_log(job, entry, said)
        timeouts = report.timeouts if report is not None else 0
        return Ended(job=job, verdict=verdict, message=message, node=entry.node, timeouts=timeouts)

    def _report(self, job: JobRef, slurm_id: str) -> WorkerReport | None:
        """What the task wrote itself, unless that is an older or a newer one's."""
        report = WorkerReport.read(self._ledger.records.job(job.id))
        return report if report is not None and report.slurm_id == slurm_id else None

    def _keep_log(self, job: JobRef, entry: Entry, said: str) -> None:
        """Keep what SLURM said of a program that never started where people look for the program's output."""
        where = f" on {entry.node}" if entry.node else ""
        log = self._ledger.records.job(job.id).log()
        with contextlib.suppress(OSError), log.open("a") as file:
            file.write(f"--- SLURM job {entry.slurm_id}{where} ended before the program started\n{said}\n")
