"""Jobs on SLURM: submit what is missing, adopt what is there, watch, and try again what deserves it.

Truth is the record of each run. The queue, the accounting and the tasks' own reports are hints: each may
be missing, late or wrong, and the worst that follows is a job that finds its records made and ends.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from common.jobs import LOST, SETTLED, JobRef, JobState, Outcome, Phase
from common.signals import DISPATCHER, StopSignals
from common.text import printable
from harness.dispatch.local import PROGRAM, Show
from harness.dispatch.retries import Retries
from harness.grouping import Job
from results.store import Store
from slurm import scheduler
from slurm.commands import NoAnswer, WrongQuestion
from slurm.ledger import Array, Ledger
from slurm.profile import Profile, Request
from slurm.reconcile import Reconciliation, Task, reconcile, tasks_of
from slurm.scheduler import Entry
from slurm.snapshot import Snapshot, intact, take
from slurm.submit import LimitReached, NotNow, Refused, dependency, shapes, submit
from slurm.verdicts import TaskVerdicts
from slurm.worker import WorkerReport

SHOW_S = 0.5
SLOWEST_S = 60.0
BACKOFF = 1.5
HOLD_S = 15.0
"""How long to leave sbatch alone after it could not take a job."""
FIRST_LOOKS = 2
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def run_slurm(
    jobs: Sequence[Job],
    *,
    runs: Path,
    profile: Profile,
    show: Show,
    console: Console,
    wait: bool = True,
    program: str = PROGRAM,
) -> Outcome:
    """See `jobs` through on SLURM; Ctrl-C detaches, and the same call takes them up again.

    Args:
        jobs: parents before children, each with its folder and `job.json` in place.
        runs: the folder of records, on a file system that all nodes share.
        profile: what to ask of the cluster.
        show: called with the state of every Job, about twice a second.
        console: where warnings go.
        wait: whether to stay until all is settled, rather than to leave once all is submitted.
        program: module that does a Job.

    Raises:
        ValueError: sbatch refuses a job for good, or squeue the question.
        FileNotFoundError: the folder of records was removed.
    """
    if "%" in str(runs.absolute()):
        raise ValueError(f"runs={runs}: sbatch takes a % in a path for a placeholder: choose another folder")
    watch = _Watch(jobs, runs=runs, profile=profile, program=program, console=console)
    watch.warn()
    with StopSignals(DISPATCHER) as stop:
        detached = watch.run(show, stop, wait=wait)
    return Outcome(states=watch.states, detached=detached)


class _Watch:
    """One process's view of a plan on SLURM."""

    def __init__(
        self, jobs: Sequence[Job], *, runs: Path, profile: Profile, program: str, console: Console
    ) -> None:
        self.states: Mapping[str, JobState] = {job.id: JobState(phase=Phase.WAITING) for job in jobs}
        self._jobs = {job.id: job for job in jobs}
        self._refs = [job.ref for job in jobs]
        self._ledger = Ledger(runs)
        self._store = Store(runs)
        self._retries = Retries(self._store)
        self._verdicts = TaskVerdicts(self._ledger, self._store)
        self._profile = profile
        self._program = program
        self._console = console
        self._arrays: dict[str, Array] = {}
        self._done: set[str] = set()
        self._tracked: dict[str, Task] = {}
        self._silent = False
        self._unsubmitted = True
        self._not_before = 0.0
        self._trouble = ""
        self._in_queue: Collection[str] = ()
        """Numbers of all jobs of the submitters at the last look, also of those from elsewhere."""
        self._first = True
        self._copy: Snapshot | None = None
        self._first_looks = 0
        self._was_blind = False
        self._welcome = sys.maxsize
        """How many tasks a new array may have before the site's limit on queued jobs is met."""
        self._doubtful: dict[tuple[tuple[str, ...], Request, str], Array] = {}
        """Arrays that sbatch may have taken although it said otherwise: they are not submitted again."""

    def warn(self) -> None:
        """Say beforehand which Jobs will not fit their time limit."""
        tight = [job for job in self._jobs.values() if self._request(job.ref).minutes < job.resources.minutes]
        if tight:
            worst = max(tight, key=lambda job: job.resources.minutes)
            self._console.print(
                f"[yellow]note[/] {len(tight)} job(s) may need more than their time limit: {worst.title} "
                f"wants {worst.resources.minutes} min and gets {self._request(worst.ref).minutes}; at the "
                "limit they write a checkpoint and queue again (slurm.time= gives more)",
                highlight=False,
                soft_wrap=True,
            )

    def run(self, show: Show, stop: StopSignals, *, wait: bool) -> bool:
        """Go on until all is settled; True when it left before."""
        pause = self._profile.poll_s
        while not stop.asked:
            before = self.states
            try:
                self._look()
            except (Refused, WrongQuestion) as refusal:
                if stop.count():  # a terminal's Ctrl-C reaches SLURM's commands too
                    return True
                raise ValueError(f"{refusal}{self._already_queued()}") from refusal
            show(self.states)
            if all(state.phase in SETTLED for state in self.states.values()):
                return False
            if not wait and not self._silent and not self._unsubmitted:
                return True
            pause = self._profile.poll_s if self.states != before else min(pause * BACKOFF, SLOWEST_S)
            self._sleep(max(pause, self._profile.poll_s), show, stop)
        return True

    def _already_queued(self) -> str:
        """What a person must know who is told that sbatch took only a part."""
        try:
            living = [entry for entry in self._queue() if entry.live]
        except (NoAnswer, WrongQuestion):
            return "; jobs that are queued go on"
        if not living:
            return ""
        end = f"python -m slurm.cancel runs={self._ledger.records.root}"
        return f"; {len(living)} other job(s) are queued and go on ({end} ends them)"

    def _sleep(self, seconds: float, show: Show, stop: StopSignals) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stop.asked:
            show(self.states)
            time.sleep(min(SHOW_S, max(deadline - time.monotonic(), 0)))

    def _queue(self) -> list[Entry]:
        """What the queue shows of this folder's tasks."""
        entries = scheduler.queue(self._ledger.users())
        self._in_queue = scheduler.main_ids(entries)
        return self._ledger.ours(entries)

    def _note_silence(self, silence: str) -> None:
        """Say once that the controller is gone and in which words, and once that it is back."""
        if silence and not self._silent:
            self._say(f"SLURM does not answer; waiting for it ({silence})")
        elif self._silent and not silence:
            self._say("SLURM answers again")
        self._silent = bool(silence)

    def _say(self, line: str) -> None:
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)

    def _look(self) -> None:
        """One round with one question to the queue: account for what ended, submit what is missing.

        What is submitted rests on a look under the lock, which no other submitter can make stale.
        """
        if not self._ledger.records.root.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "The folder of records was removed", str(self._ledger.records.root)
            )
        with self._ledger.lock() if self._may_submit() else contextlib.nullcontext():
            try:
                entries = self._queue()
            except NoAnswer as silence:
                self._verdicts.silence()
                self._note_silence(str(silence))
                return
            self._note_silence("")
            tasks = self._take_over(entries)
            self._read_records()
            if self._first and self._looks_incomplete(tasks):
                return
            if self._first:  # what ended before this process began is nobody's to charge
                self._verdicts.settled |= {task.entry.slurm_id for task in tasks if not task.entry.live}
            self._first = False
            picture = self._reconcile(tasks)
            if picture.ended:
                self._settle(picture)
                picture = self._reconcile(tasks)
            if picture.submit and self._may_submit() and not self._is_blind(entries):
                picture = self._reconcile([*tasks, *self._submit_missing(picture)])
            self._unsubmitted = bool(picture.submit)
        self.states = {job_id: self._told(job_id, state) for job_id, state in picture.states.items()}

    def _settle(self, picture: Reconciliation) -> None:
        """Find out why tasks left runs without a record, and charge their jobs."""
        for ended in self._verdicts.of(picture):
            self._retries.count_timeouts(ended.job, ended.timeouts)
            if ended.verdict == "dependency":
                continue
            if ended.verdict == "cancelled":
                self._retries.give_up(ended.job, ended.message)
                continue
            failure = self._store.first_failure(self._store.missing(ended.job.run_ids))
            explained = failure is not None and failure.message == ended.message
            self._retries.charge(
                ended.job, ended.verdict, ended.message, explained=explained, node=ended.node
            )

    def _looks_incomplete(self, tasks: Sequence[Task]) -> bool:
        """Whether to look again before a first answer is believed that lacks jobs which were submitted once.

        An answer that is cut short by mistake would have what runs submitted once more.
        """
        self._first_looks += 1
        submitted = {job.id: job for array in self._ledger.arrays() for job in array.jobs}
        unseen = submitted.keys() & self._jobs.keys() - {task.job.id for task in tasks}
        open_jobs = [i for i in unseen if not self._done.issuperset(submitted[i].run_ids)]
        return bool(open_jobs) and self._first_looks < FIRST_LOOKS

    def _is_blind(self, entries: Sequence[Entry]) -> bool:
        """Whether living tasks are of an array whose description is damaged: they may do any job."""
        unknown = [e.slurm_id for e in entries if e.live and e.comment not in self._arrays]
        if unknown and not self._was_blind:
            self._say(
                f"what SLURM jobs {', '.join(unknown[:5])} do cannot be read in {self._ledger.root}: "
                "nothing is submitted until they have ended (or scancel ends them)"
            )
        self._was_blind = bool(unknown)
        return self._was_blind

    def _may_submit(self) -> bool:
        return self._unsubmitted and time.monotonic() >= self._not_before

    def _take_over(self, entries: Sequence[Entry]) -> list[Task]:
        """The tasks behind those entries of the queue that this folder knows of."""
        for token in {entry.comment for entry in entries} - self._arrays.keys():
            if (array := self._ledger.read(token)) is not None:
                self._arrays[token] = array
        return tasks_of(entries, self._arrays)

    def _reconcile(self, tasks: Sequence[Task]) -> Reconciliation:
        picture = reconcile(
            self._refs,
            records=self._ledger.records,
            done=self._done,
            tasks=tasks,
            tracked=self._tracked,
            settled=self._verdicts.settled,
            failed=self._retries.failed,
        )
        for task in sorted(tasks, key=lambda task: task.number):
            self._tracked[task.job.id] = task
        return picture

    def _read_records(self) -> None:
        """Look for the records of Jobs that may have made some since the last look."""
        for job in self._refs:
            if self.states[job.id].phase in (Phase.DONE, Phase.PENDING):
                continue
            for run_id in job.run_ids:
                there = self._ledger.records.run(run_id).record.exists()
                if run_id not in self._done and there and self._store.read(run_id) is not None:
                    self._done.add(run_id)

    def _submit_missing(self, picture: Reconciliation) -> list[Task]:
        """Hand to sbatch what nothing works on; the tasks that this made.

        Parents go before children, since a dependency names the ids that SLURM gave to the parents.
        """
        made: list[Task] = []
        ids = {job_id: tuple(t.entry.slurm_id for t in live) for job_id, live in picture.live.items()}
        left = [job for job in picture.submit if not self._retries.disk.waits(job.id)]
        try:
            while level := [job for job in left if self._has_parents(job, picture, ids)]:
                self._submit_level(level, ids, made)
                handed_in = {job.id for job in level}
                left = [job for job in left if job.id not in handed_in]
        except OSError as trouble:
            if not isinstance(trouble, NotNow) and trouble.errno not in UNWRITABLE:
                raise
            if str(trouble) != self._trouble:  # once, and not once for every job that waits
                self._say(f"waiting to submit more: {trouble}")
            self._trouble = str(trouble)
            self._not_before = time.monotonic() + max(HOLD_S, 3 * self._profile.poll_s)
        else:
            self._trouble = ""
        return made

    def _has_parents(self, job: JobRef, picture: Reconciliation, ids: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether each parent is settled or in the queue; without that a dependency could not be said."""
        states = picture.states
        return all(p not in states or states[p].phase in {Phase.DONE, *LOST} or ids.get(p) for p in job.after)

    def _submit_level(
        self, level: Sequence[JobRef], ids: dict[str, tuple[str, ...]], made: list[Task]
    ) -> None:
        """Hand in jobs whose parents are all in the queue; `ids` and `made` grow by what SLURM took."""
        requests = {job.id: self._request(job) for job in level}
        depends = {job.id: self._dependency(job, ids) for job in level}
        for members in shapes(level, requests, depends, largest=self._largest_array):
            left = members
            while left:
                piece = left[: self._welcome]
                taken = self._submit(piece, requests[piece[0].id], depends[piece[0].id])
                if taken is None:  # too many: the half may fit
                    continue
                left = left[len(piece) :]
                for job, entry in zip(piece, taken, strict=False):  # none where sbatch refused a second try
                    ids[job.id] = (entry.slurm_id,)
                    made.append(Task(job=job, entry=entry))

    def _submit(self, jobs: Sequence[JobRef], request: Request, depends: str) -> Sequence[Entry] | None:
        """The tasks of `jobs`; None where an array of fewer should be tried."""
        key = (tuple(job.id for job in jobs), request, depends)
        array = self._doubtful.pop(key, None) or Array.new(
            jobs, request, program=self._program, code=self._code()
        )
        self._arrays[array.token] = array
        try:
            submitted = submit(array, self._ledger, depends=depends, earlier=self._in_queue)
        except LimitReached:
            del self._arrays[array.token]
            if len(jobs) == 1:
                raise
            self._welcome = len(jobs) // 2
            return None
        except NotNow:
            self._doubtful[key] = array
            raise
        except Refused as refusal:
            if not all(job.id in self._retries.notes for job in jobs):
                raise
            for job in jobs:  # more memory, say, than any node has
                self._retries.give_up(job, str(refusal))
            return ()
        if len(jobs) == self._welcome:
            self._welcome *= 2
        if submitted.note:
            self._say(submitted.note)
        return submitted.tasks

    def _dependency(self, job: JobRef, ids: Mapping[str, tuple[str, ...]]) -> str:
        parents = [slurm_id for parent in job.after for slurm_id in ids.get(parent, ())]
        return dependency(parents, ids.get(job.id, ()))

    def _request(self, job: JobRef) -> Request:
        first = self._jobs[job.id].runs[0]
        return self._profile.request(
            self._jobs[job.id].resources,
            role=first.role,
            arch=first.model.arch,
            memory_factor=self._retries.memory_factor(job),
            avoid=self._retries.bad_nodes(job),
        )

    @functools.cached_property
    def _largest_array(self) -> int:
        return scheduler.largest_array()

    def _code(self) -> Snapshot:
        """The copy of the code for all that this process submits; made again where it was damaged."""
        if self._copy is None or not intact(self._copy):
            self._copy = take(self._ledger.code)
        return self._copy

    def _told(self, job_id: str, state: JobState) -> JobState:
        """A state with what only this process knows: how often it was started, why it is tried again."""
        if state.phase in SETTLED:
            return state
        notes = [state.note, self._retries.notes.get(job_id, "")]
        report = WorkerReport.read(self._ledger.records.job(job_id)) if state.phase is Phase.RUNNING else None
        starts = report.starts if report is not None else 0
        return replace(state, note=", ".join(dict.fromkeys(filter(None, notes))), starts=starts)
