"""The one retry policy, for jobs on this machine and on a cluster alike: the cause decides.

A preempted job resumes for free. A timeout, a lost node, a full disk and too little memory are worth some
more attempts (`common.jobs.RETRIES`), after memory with twice as much. A bug or bad data is final.
"""

from __future__ import annotations

from collections import Counter

from common.jobs import RETRIES, Cause, JobRef
from common.paths import RecordsFolder
from harness.dispatch.disk import DiskSpace
from results.store import Store

BAD_NODE = 2
"""Failures of one job on one node after which the job stays away from it."""


class Retries:
    """What becomes of jobs whose attempts ended without all their records."""

    def __init__(self, store: Store) -> None:
        self.failed: dict[str, str] = {}
        """Jobs that are not tried again, with the reason."""
        self.notes: dict[str, str] = {}
        """Why a job is tried again."""
        self.disk = DiskSpace(store.root)
        self._store = store
        self._records = RecordsFolder(store.root)
        self._used: dict[str, Counter[Cause]] = {}
        self._nodes: dict[str, Counter[str]] = {}

    def charge(
        self, job: JobRef, cause: Cause, message: str, *, explained: bool = False, node: str = ""
    ) -> bool:
        """Account for an attempt that ended; True where the job is to be tried again.

        The last attempt leaves a failure in the folder of every run without a record.

        Args:
            job: whose attempt it was.
            cause: why it ended.
            message: the same in words.
            explained: whether the program itself wrote that into the runs' folders.
            node: where it ran, on a cluster.
        """
        if cause == "node" and node:
            self._nodes.setdefault(job.id, Counter())[node] += 1
        # A program that cannot write to the disk cannot say so either.
        trouble = self.disk.trouble if cause == "disk" or not explained else ""
        if trouble:
            cause, message = "disk", trouble
        if cause == "disk":
            self.disk.wait(job.id)
        if self._spend(job, cause):
            self.notes[job.id] = trouble or f"again after {cause}: {message}"
            return True
        if cause == "parent" and any(parent in self.failed for parent in job.after):
            return False  # not its own failure: it is blocked
        self.failed[job.id] = f"{cause}: {message}"
        if not explained and cause != "disk":
            log = self._records.job(job.id).log()
            self._store.fail(self._store.missing(job.run_ids), cause, message, log)
        return False

    def give_up(self, job: JobRef, reason: str) -> None:
        """End a job for a reason that no attempt of its own gave."""
        note = self.notes.get(job.id)
        self.failed[job.id] = f"{note}; {reason}" if note else reason

    def count_timeouts(self, job: JobRef, number: int) -> None:
        """Charge timeouts that the job's worker counted and bridged by itself."""
        self._of(job)["timeout"] += number

    def memory_factor(self, job: JobRef) -> int:
        """What to multiply the job's memory by: doubled each time it ran out."""
        return int(2 ** self._of(job)["memory"])

    def bad_nodes(self, job: JobRef) -> tuple[str, ...]:
        """Nodes where the job failed so often that it should run elsewhere."""
        counts = self._nodes.get(job.id, Counter())
        return tuple(sorted(node for node, count in counts.items() if count >= BAD_NODE))

    def _of(self, job: JobRef) -> Counter[Cause]:
        return self._used.setdefault(job.id, Counter())

    def _spend(self, job: JobRef, cause: Cause) -> bool:
        if cause == "preempted":
            return True
        self._of(job)[cause] += 1
        return self._of(job)[cause] <= RETRIES.get(cause, 0)
