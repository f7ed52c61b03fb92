"""Jobs as processes of this machine: as many at once as fit, each with its own log.

The processes are forked from a server that has imported torch and FFCV once, so a job starts at once.
They ignore Ctrl-C, which a terminal sends to all processes alike; this process tells them to stop, and they
also stop by themselves when it is gone. To stop means: write a checkpoint, exit with 75.
"""

from __future__ import annotations

import contextlib
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

from common.exits import INTERRUPTED, LOST_CHILD, NO_LOG, cause_of_exit, oom_kills
from common.jobs import (
    LOST,
    SETTLED,
    Cause,
    JobState,
    Outcome,
    Phase,
    blocked,
    blocked_state,
)
from common.paths import JobFolder, RecordsFolder
from common.signals import DISPATCHER, StopSignals, when_parent_ends
from harness.dispatch.machine import Machine, Places
from harness.dispatch.retries import Retries
from harness.grouping import Job
from results.store import Store

PROGRAM = "harness.execute"
GRACE_S = 90.0
POLL_S = 0.25
SERVER_STARTS = 5

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
        show: called with the state of every job, several times a second.
        program: module whose `run_job(folder) -> int` does a job.
        grace_s: how long a job may take to stop before it is killed.

    Raises:
        ValueError: a job wants more GPUs than there are.
    """
    for job in jobs:
        if job.resources.gpus > len(machine.gpus):
            raise ValueError(
                f"{job.title} wants {job.resources.gpus} GPU(s) and this machine has {len(machine.gpus)}: "
                "say device=cpu, or cluster=slurm"
            )
    with StopSignals(DISPATCHER) as stop:
        pool = _Pool(jobs, runs=runs, machine=machine, program=program)
        pool.run(show, stop, grace_s)
    return Outcome(states=pool.states, interrupted=stop.asked)


def run_inline(jobs: Sequence[Job], *, runs: Path, show: Show, program: str = PROGRAM) -> Outcome:
    """Run `jobs` one after the other in this process, for a debugger: what a job raises is raised here."""
    tracker = _Tracker(jobs, runs=runs)
    run_job = importlib.import_module(program).run_job
    for job in jobs:
        while tracker.states[job.id].phase not in SETTLED:
            tracker.set(job, Phase.RUNNING, started=True)
            show(tracker.states)
            code = run_job(RecordsFolder(runs).job(job.id).root)
            if code == INTERRUPTED:
                tracker.interrupt(job)
                return Outcome(states=tracker.stopped(), interrupted=True)
            tracker.settle(job, code)
            show(tracker.states)
            while tracker.retries.disk.waits(job.id):
                time.sleep(POLL_S)
    return Outcome(states=tracker.states)


class _Tracker:
    """The state of every job of a dispatch, and what an ended attempt means for it and its dependants."""

    def __init__(self, jobs: Sequence[Job], *, runs: Path) -> None:
        self.states = {job.id: JobState(phase=Phase.WAITING) for job in jobs}
        self.retries = Retries(Store(runs))
        self._jobs = jobs
        self._refs = {job.id: job.ref for job in jobs}
        self._records = RecordsFolder(runs)
        self._store = Store(runs)

    def set(self, job: Job, phase: Phase, note: str = "", *, started: bool = False) -> None:
        """Change a job's state."""
        starts = self.states[job.id].starts + started
        self.states[job.id] = JobState(phase=phase, note=note, starts=starts)

    def ready(self, job: Job) -> bool:
        """Whether the job is yet to start and all that it waits for is done, or never will be."""
        if self.states[job.id].phase is not Phase.WAITING or self.retries.disk.waits(job.id):
            return False
        return all(self.states[p].phase in {Phase.DONE, *LOST} for p in job.after if p in self.states)

    @property
    def open(self) -> bool:
        """Whether a job may still start, such as one that waits for room on the disk."""
        return any(state.phase is Phase.WAITING for state in self.states.values())

    def memory_gb(self, job: Job) -> float:
        """What the job asks for, more after it ran out of it."""
        return job.resources.memory_gb * self.retries.memory_factor(self._refs[job.id])

    def settle(self, job: Job, code: int, *, oom: bool = False) -> None:
        """Decide about a job whose attempt ended with exit `code` (negative: by a signal).

        The records are the truth; the code only explains why they are missing.
        """
        ref = self._refs[job.id]
        left = self._store.missing(ref.run_ids)
        if not left:
            self.set(job, Phase.DONE)
            return
        cause, message, explained = self._explain(left, code, oom=oom)
        if self.retries.charge(ref, cause, message, explained=explained):
            self.set(job, Phase.WAITING, self.retries.notes[job.id])
            return
        self.set(job, Phase.FAILED, self.retries.failed.get(job.id, ""))
        lost = blocked(self._refs.values(), self.retries.failed, lambda one: self._store.missing(one.run_ids))
        for other in self._jobs:
            if other.id in lost and (other is job or self.states[other.id].phase is Phase.WAITING):
                self.states[other.id] = blocked_state(self._refs[lost[other.id]], self._records)

    def interrupt(self, job: Job) -> None:
        """Settle a job that this process told to stop."""
        left = self._store.missing(self._refs[job.id].run_ids)
        self.set(job, *((Phase.STOPPED, "interrupted after a checkpoint") if left else (Phase.DONE,)))

    def stopped(self) -> dict[str, JobState]:
        """The states once nothing runs any more: what is not settled was stopped."""
        for job in self._jobs:
            if self.states[job.id].phase not in SETTLED:
                self.set(job, Phase.STOPPED, "stopped" if self.states[job.id].starts else "not started")
        return self.states

    def _explain(self, left: Sequence[str], code: int, *, oom: bool) -> tuple[Cause, str, bool]:
        """Cause and message of an ended program, and whether it is the program itself that says so."""
        if code == INTERRUPTED:
            return "preempted", "it was told to stop", True
        failure = self._store.first_failure(left) if code > 0 else None
        if failure is not None:
            return failure.cause, failure.message, True
        return *cause_of_exit(code, oom=oom), False


class _Pool:
    """The processes of one dispatch."""

    def __init__(self, jobs: Sequence[Job], *, runs: Path, machine: Machine, program: str) -> None:
        self._tracker = _Tracker(jobs, runs=runs)
        self._places = Places(machine)
        self._program = program
        self._records = RecordsFolder(runs)
        self._jobs = jobs
        self._running: dict[str, ForkServerProcess] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._ooms = oom_kills()
        _start_server(program)

    @property
    def states(self) -> dict[str, JobState]:
        return self._tracker.states

    def run(self, show: Show, stop: StopSignals, grace_s: float) -> None:
        """Start and reap until all is settled or a signal asks to stop."""
        while not stop.asked:
            self._start_ready()
            show(self.states)
            if not self._running and not self._tracker.open:
                return
            for job, code, oom in self._ended(POLL_S):
                self._tracker.settle(job, code, oom=oom)
        self._stop(show, stop, grace_s)

    def _start_ready(self) -> None:
        for job in self._jobs:
            if not self._tracker.ready(job):
                continue
            needs = replace(job.resources, memory_gb=self._tracker.memory_gb(job))
            place = self._places.take(job.id, needs)
            if place is None:
                continue
            self._running[job.id] = self._start(job, place)
            self._tracker.set(job, Phase.RUNNING, started=True)

    def _start(self, job: Job, place: Mapping[str, str]) -> ForkServerProcess:
        """A process for `job`; a fork server that was killed, which the kernel likes to do, is replaced."""
        arguments = (self._records.job(job.id).root, self._program, dict(place))
        for _ in range(SERVER_STARTS):
            _start_server(self._program)
            process = self._context.Process(target=_work, args=arguments, name=job.id)
            try:
                process.start()
            except (EOFError, ConnectionError):
                continue
            return process
        raise ChildProcessError("the server that starts jobs was killed again and again: is memory short?")

    def _ended(self, timeout: float) -> list[tuple[Job, int, bool]]:
        """Jobs whose process has ended: exit code, and whether the kernel killed for memory meanwhile."""
        sentinels = set(wait([process.sentinel for process in self._running.values()], timeout))
        found = []
        for job in self._jobs:
            process = self._running.get(job.id)
            if process is None or process.sentinel not in sentinels:
                continue
            process.join()
            assert process.exitcode is not None
            code = process.exitcode
            if (
                code == LOST_CHILD and process.pid is not None
            ):  # its fork server was killed, it may not have been
                _end_orphan(process.pid, job.id)
            process.close()
            del self._running[job.id]
            self._places.free(job.id)
            ooms, self._ooms = self._ooms, oom_kills()
            found.append((job, code, self._ooms > ooms))
        return found

    def _stop(self, show: Show, stop: StopSignals, grace_s: float) -> None:
        """Ask all to stop; a second signal, or the end of the grace period, kills them."""
        by_id = {job.id: job for job in self._jobs}
        for job_id, process in self._running.items():
            process.terminate()
            self._tracker.set(by_id[job_id], Phase.RUNNING, "writing a checkpoint (Ctrl-C again: kill)")
        deadline = time.monotonic() + grace_s
        while self._running:
            if stop.count() > 1 or time.monotonic() > deadline:
                for process in self._running.values():
                    process.kill()
            for job, code, oom in self._ended(POLL_S):
                if code == INTERRUPTED or code < 0:  # a signal of ours ended it, at the latest our SIGKILL
                    self._tracker.interrupt(job)
                else:
                    self._tracker.settle(job, code, oom=oom)
            show(self.states)
        self._tracker.stopped()


def _start_server(program: str) -> None:
    """Start the fork server, which ignores what a terminal or `kill` sends to a whole group of processes.

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


def _end_orphan(pid: int, job_id: str) -> None:
    """End a job whose fork server is gone, before another process starts the same job."""
    deadline = time.monotonic() + GRACE_S
    sent = signal.SIGTERM
    while _is_orphan(pid, job_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        time.sleep(POLL_S)
        if time.monotonic() > deadline:
            sent = signal.SIGKILL


def _is_orphan(pid: int, job_id: str) -> bool:
    """Whether the process still lives, and is that job's and not a newer one with its number."""
    status = Path(f"/proc/{pid}")
    try:
        state = (status / "stat").read_text().rpartition(")")[2].split()[0]
        logs = [link.readlink() for link in (status / "fd").glob("[12]")]
    except OSError:
        return False
    return state != "Z" and any(log.parent.name == job_id for log in logs)


def _work(folder: Path, program: str, environment: Mapping[str, str]) -> None:
    """What a child does: its output into its log, then the job."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log = JobFolder(folder).log()
    try:
        _redirect(log.open("a"))
    except OSError as error:
        print(f"error: {log}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(NO_LOG)
    print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} process {os.getpid()}", flush=True)
    os.environ.update(environment)
    when_parent_ends(_stop)
    sys.exit(importlib.import_module(program).run_job(folder))


def _redirect(log: TextIO) -> None:
    """Send everything that this process prints, C code included, to `log`."""
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
