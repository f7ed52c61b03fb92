"""What came of the tasks that ended without a record, and what the next try of their Jobs must heed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence

from harness.jobfile import job_folder
from harness.plan import Job
from results.store import Cause, Store
from slurm import scheduler
from slurm.desk import Desk
from slurm.failures import first_failure, missing, record_failure
from slurm.progress import log_path
from slurm.reconcile import Picture, judge, lost_parent
from slurm.room import Room
from slurm.scheduler import Entry
from slurm.states import Budget
from slurm.submit import transport_log
from slurm.task import Report

LATE_LOOKS = 3
"""Looks after which a record that a completed task should have left is not merely slow to appear."""
BAD_NODE = 2
"""Failures of one Job on one node after which the Job stays away from it."""


class Tries:
    """The account of one process's watch over its Jobs."""

    def __init__(self, desk: Desk, store: Store) -> None:
        self.settled: set[str] = set()
        """SLURM ids of ended tasks that need no more attention."""
        self.failed: dict[str, str] = {}
        """Jobs that are not tried again, with the reason."""
        self.notes: dict[str, str] = {}
        """Why a Job is tried again."""
        self._desk = desk
        self._store = store
        self._budgets: dict[str, Budget] = {}
        self._nodes: dict[str, Counter[str]] = {}
        self._looks: Counter[str] = Counter()
        self.room = Room(desk.runs)

    def settle(self, picture: Picture) -> None:
        """Account for tasks that are over; what the queue has forgotten, sacct may know."""
        forgotten = [task.entry.slurm_id for _, task in picture.ended if not task.entry.state]
        known = scheduler.final_states(forgotten)
        for job, task in picture.ended:
            entry = task.entry
            if state := known.get(entry.slurm_id):
                entry = entry.ended_as(state)
            self._settle(job, entry, orphan=lost_parent(job, task, picture))

    def _settle(self, job: Job, entry: Entry, *, orphan: bool) -> None:
        """Find out why a task left runs without a record, and decide about another try."""
        slurm_id, node = entry.slurm_id, entry.node
        self._looks[slurm_id] += 1
        if entry.state in ("COMPLETED", "") and self._looks[slurm_id] < LATE_LOOKS:
            return  # a shared file system may show the record late, and the queue may err
        self.settled.add(slurm_id)
        report = self._report(job, slurm_id)
        if report is not None:  # a task counts its own timeouts, which may be the last ones allowed
            self._budget(job).used["timeout"] += report.timeouts
        failure = first_failure(self._store, missing(self._store, job))
        said = transport_log(self._desk, slurm_id)
        unwanted = self._desk.is_cancelled(slurm_id)
        verdict, message = judge(entry, report, failure, said, orphan=orphan, unwanted=unwanted)
        if report is None and verdict == "node" and said:
            self._keep_log(job, entry, said)
        if verdict == "dependency":
            return
        if verdict == "cancelled":
            self.failed[job.id] = message
            return
        self._charge(job, verdict, message, node)

    def _charge(self, job: Job, cause: Cause, message: str, node: str) -> None:
        """Another try where the cause allows it, else the end of the Job."""
        if cause == "node" and node:
            self._nodes.setdefault(job.id, Counter())[node] += 1
        left = missing(self._store, job)
        failure = first_failure(self._store, left)
        explained = failure is not None and failure.message == message
        cause = self.room.cause(cause, explained=explained)
        if cause == "disk":
            self.room.wait(job.id)
        if self._budget(job).spend(cause):
            self.notes[job.id] = f"again after {cause}: {message}"
            return
        self.failed[job.id] = f"{cause}: {message}"
        if not explained and cause != "disk":
            record_failure(self._store, left, cause, message, log_path(self._desk.runs, job.id))

    def _keep_log(self, job: Job, entry: Entry, said: str) -> None:
        """What SLURM said of a program that never started, where people look for the program's own words."""
        where = f" on {entry.node}" if entry.node else ""
        with contextlib.suppress(OSError), log_path(self._desk.runs, job.id).open("a") as log:
            log.write(f"--- SLURM job {entry.slurm_id}{where} ended before the program started\n{said}\n")

    def give_up(self, jobs: Sequence[Job], refusal: str) -> bool:
        """End `jobs` whose next try sbatch refuses (no node has so much memory); False for first tries."""
        if not all(job.id in self.notes for job in jobs):
            return False
        self.failed |= {job.id: f"{self.notes[job.id]}; {refusal}" for job in jobs}
        return True

    def memory_factor(self, job: Job) -> int:
        """By how much to multiply the memory that `job` asks for."""
        return self._budget(job).memory_factor

    def bad_nodes(self, job: Job) -> tuple[str, ...]:
        """Nodes where `job` failed so often that it should run elsewhere."""
        counts = self._nodes.get(job.id, Counter())
        return tuple(sorted(node for node, count in counts.items() if count >= BAD_NODE))

    def _budget(self, job: Job) -> Budget:
        return self._budgets.setdefault(job.id, Budget())

    def _report(self, job: Job, slurm_id: str) -> Report | None:
        """What the task wrote itself, unless that is an older or a newer one's."""
        report = Report.read(job_folder(self._desk.runs, job.id))
        return report if report is not None and report.slurm_id == slurm_id else None
