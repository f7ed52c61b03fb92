"""Jobs as processes of this machine: the right number at once, each with its own log.

The processes are forked from a server that has imported torch and FFCV once, so a Job starts at once.
They ignore Ctrl-C, which a terminal sends to all alike; this process tells them to stop, and they also
stop by themselves where this process is gone. To stop means: write a checkpoint, exit with 75.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import TextIO

from common.signals import DISPATCHER, StopSignals, when_parent_ends
from harness.jobfile import INTERRUPTED, job_folder
from harness.plan import Job
from results.store import Store
from slurm.failures import explain, first_failure, missing, record_failure
from slurm.machine import Machine, Places, oom_kills
from slurm.progress import log_path
from slurm.room import Room
from slurm.states import (
    LOST,
    SETTLED,
    Budget,
    JobState,
    Outcome,
    Phase,
    blocked_note,
    children,
    is_blocked,
)

PROGRAM = "harness.execute"
GRACE_S = 90.0
POLL_S = 0.25

Show = Callable[[Mapping[str, JobState]], None]


def run_processes(
    jobs: Sequence[Job],
    *,
    runs: Path,
    machine: Machine,
    show: Show,
    program: str = PROGRAM,
    grace_s: float = GRACE_S,
) -> Outcome:
    """Run `jobs` (parents before children, each with its folder and `job.json` in place) to their end.

    Args:
        jobs: what to run.
        runs: the folder of records.
        machine: what may be used at once.
        show: called with the state of every Job, several times a second.
        program: module whose `run_job(folder) -> int` does a Job.
        grace_s: how long a Job may take to stop before it is killed.

    Raises:
        ValueError: a Job wants more GPUs than there are.
    """
    for job in jobs:
        if job.resources.gpus > len(machine.gpus):
            raise ValueError(
                f"{job.title} wants {job.resources.gpus} GPU(s) and this machine has {len(machine.gpus)}: "
                "say device=cpu, or cluster=slurm"
            )
    with StopSignals(DISPATCHER) as interrupts:
        pool = _Pool(jobs, runs=runs, machine=machine, program=program)
        pool.run(show, interrupts, grace_s)
    return Outcome(states=pool.states, interrupted=interrupts.count() > 0)


def run_inline(jobs: Sequence[Job], *, runs: Path, show: Show, program: str = PROGRAM) -> Outcome:
    """Run `jobs` one after the other in this process, for a debugger: what a Job raises is raised here."""
    book = Book(jobs, runs=runs)
    run_job = importlib.import_module(program).run_job
    for job in jobs:
        if book.states[job.id].phase in SETTLED:
            continue
        book.set(job, Phase.RUNNING)
        show(book.states)
        code = run_job(job_folder(runs, job.id))
        book.settle(job, code)
        show(book.states)
        if code == INTERRUPTED:
            return Outcome(states=book.stopped(), interrupted=True)
    return Outcome(states=book.states)


class Book:
    """The state of every Job of a dispatch, and what an ended try means for it and its dependants."""

    def __init__(self, jobs: Sequence[Job], *, runs: Path) -> None:
        self.jobs = jobs
        self.runs = runs
        self.states = {job.id: JobState(phase=Phase.WAITING) for job in jobs}
        self.budgets = {job.id: Budget() for job in jobs}
        self.room = Room(runs)
        self._store = Store(runs)
        self._children = children(jobs)
        self._lost: set[str] = set()

    def set(self, job: Job, phase: Phase, note: str = "", *, started: bool = False) -> None:
        """Change a Job's state."""
        tries = self.states[job.id].tries + started
        self.states[job.id] = JobState(phase=phase, note=note, tries=tries)

    def ready(self, job: Job) -> bool:
        """Whether the Job is yet to start and all that it waits for is done, or will not be."""
        if self.states[job.id].phase is not Phase.WAITING or self.room.waits(job.id):
            return False
        return all(self.states[p].phase in {Phase.DONE, *LOST} for p in job.after if p in self.states)

    @property
    def open(self) -> bool:
        """Whether a Job may still start: it waits for room on the disk."""
        return any(state.phase is Phase.WAITING for state in self.states.values())

    def settle(self, job: Job, code: int, *, oom: bool = False, retry: bool = False) -> None:
        """Decide about a Job whose try ended with exit `code` (negative: by a signal).

        The records are the truth; the code only explains why they are missing.
        """
        left = missing(self._store, job)
        if not left:
            self.set(job, Phase.DONE)
            return
        cause, message = explain(self._store, left, code, oom=oom)
        explained = code == INTERRUPTED or (code > 0 and first_failure(self._store, left) is not None)
        cause = self.room.cause(cause, explained=explained)
        if cause == "disk":
            self.room.wait(job.id)
        elif not explained:
            record_failure(self._store, left, cause, message, log_path(self.runs, job.id))
        if retry and self.budgets[job.id].spend(cause):
            note = "no room on the disk" if cause == "disk" else f"again after {cause}: {message}"
            self.set(job, Phase.WAITING, note)
        elif code == INTERRUPTED:
            self.set(job, Phase.STOPPED, "interrupted after a checkpoint")
        else:
            self.set(job, Phase.FAILED, f"{cause}: {message}")
            self._lost |= set(left)
            self._block_children(job)

    def stopped(self) -> dict[str, JobState]:
        """The states once nothing runs any more: what is not settled was stopped."""
        for job in self.jobs:
            if self.states[job.id].phase not in SETTLED:
                self.set(job, Phase.STOPPED, "not started" if not self.states[job.id].tries else "stopped")
        return self.states

    def _block_children(self, job: Job) -> None:
        for child in self._children.get(job.id, ()):
            left = missing(self._store, child)
            if is_blocked(child, left, self._lost):
                self.set(child, Phase.BLOCKED, blocked_note(job.title, log_path(self.runs, job.id)))
                self._lost |= set(left)
                self._block_children(child)


class _Pool:
    """The processes of one dispatch."""

    def __init__(self, jobs: Sequence[Job], *, runs: Path, machine: Machine, program: str) -> None:
        self._book = Book(jobs, runs=runs)
        self._places = Places(machine)
        self._program = program
        self._runs = runs
        self._jobs = jobs
        self._running: dict[str, ForkServerProcess] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._ooms = oom_kills()
        _start_server(program)

    @property
    def states(self) -> dict[str, JobState]:
        return self._book.states

    def run(self, show: Show, interrupts: StopSignals, grace_s: float) -> None:
        """Start and reap until all is settled or a signal asks to stop."""
        while not interrupts.count():
            self._start_ready()
            show(self.states)
            if not self._running and not self._book.open:
                return
            self._reap(POLL_S, retry=True)
        self._stop(show, interrupts, grace_s)

    def _start_ready(self) -> None:
        for job in self._jobs:
            if not self._book.ready(job):
                continue
            memory_gb = job.resources.memory_gb * self._book.budgets[job.id].memory_factor
            place = self._places.take(job.id, replace(job.resources, memory_gb=memory_gb))
            if place is None:
                continue
            arguments = (str(job_folder(self._runs, job.id)), self._program, dict(place))
            process = self._context.Process(target=_work, args=arguments, name=job.id)
            process.start()
            self._running[job.id] = process
            self._book.set(job, Phase.RUNNING, started=True)

    def _reap(self, timeout: float, *, retry: bool) -> None:
        ended = set(wait([process.sentinel for process in self._running.values()], timeout))
        for job in self._jobs:
            process = self._running.get(job.id)
            if process is None or process.sentinel not in ended:
                continue
            process.join()
            assert process.exitcode is not None
            code = process.exitcode
            process.close()
            del self._running[job.id]
            self._places.free(job.id)
            ooms, self._ooms = self._ooms, oom_kills()
            if code < 0 and not retry:
                code = INTERRUPTED  # ended by this process, at the latest by its SIGKILL
            self._book.settle(job, code, oom=self._ooms > ooms, retry=retry)

    def _stop(self, show: Show, interrupts: StopSignals, grace_s: float) -> None:
        """Ask all to stop; a second signal, or the end of the grace, kills them."""
        for process in self._running.values():
            process.terminate()
        for job_id in self._running:
            job = next(job for job in self._jobs if job.id == job_id)
            self._book.set(job, Phase.RUNNING, "writing a checkpoint (Ctrl-C again: kill)")
        deadline = time.monotonic() + grace_s
        while self._running:
            if interrupts.count() > 1 or time.monotonic() > deadline:
                for process in self._running.values():
                    process.kill()
            self._reap(POLL_S, retry=False)
            show(self.states)
        self._book.stopped()


def _start_server(program: str) -> None:
    """Start the fork server deaf to what a terminal or `kill` sends to a whole group of processes.

    Its children inherit that without a gap; they are told to stop one by one.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload([program])
    if threading.current_thread() is not threading.main_thread():
        ensure_running()
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in DISPATCHER}
    try:
        ensure_running()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _work(folder: str, program: str, environment: Mapping[str, str]) -> None:
    """What a child does: its output into its log, then the Job."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log = (Path(folder) / "log.txt").open("a")
    _redirect(log)
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}", flush=True)
    os.environ.update(environment)
    when_parent_ends(_stop)
    sys.exit(importlib.import_module(program).run_job(Path(folder)))


def _redirect(log: TextIO) -> None:
    """Everything that this process prints, C code included, goes to `log`."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log.fileno(), stream.fileno())


def _stop() -> None:
    """Stop as on SIGTERM: with a checkpoint, if that takes no longer than the grace period."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
