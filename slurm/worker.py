"""What SLURM runs on a node: the program as a child, with signals turned into checkpoints and requeues.

Its exit code is the program's, so that dependent jobs see it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import msgspec

from common.exits import INTERRUPTED, oom_kills
from common.files import write_atomically
from common.jobs import RETRIES, Cause, read_job_ref
from common.paths import JobFolder
from results.store import Store
from slurm import scheduler

WARNING = signal.SIGUSR2
"""What submitit asks SLURM to send before the time limit; also sent at a preemption."""
SLACK_S = 60.0
"""How exactly SLURM keeps the moment of its warning."""
LINGER_S = 300.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
REQUEUE_PAUSES_S = (0.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """`task.json`: how the newest SLURM task of a job fares, a hint for whoever watches it."""

    slurm_id: str
    node: str
    starts: int = 1
    """How often SLURM has started this task, requeues included."""
    timeouts: int = 0
    """How often it ran into its time limit."""
    code: int | None = None
    """Exit code of the program; None while it runs."""
    oom: bool = False
    """Whether the kernel killed something for memory on its node meanwhile."""
    why: str = ""
    cause: Cause | None = None
    """Of an end that the worker itself explains."""

    @classmethod
    def read(cls, folder: JobFolder) -> WorkerReport | None:
        """The report in a job's folder; None if there is none that can be read."""
        try:
            return msgspec.json.decode(folder.worker.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, folder: JobFolder) -> None:
        """Put it into the job's folder; a full disk does not stop the job."""
        try:
            write_atomically(folder.worker, msgspec.json.encode(self), durable=False)
        except OSError as error:
            print(f"{folder.worker.name}: {error}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run `python -m PROGRAM FOLDER`; its exit code.

    Args:
        arguments: the job's folder, the module to run, the time limit in minutes, and how many seconds before
            it the warning comes.
    """
    folder, program, minutes, warning_s = arguments
    if not Path(folder).is_dir():
        print(f"error: {folder}: the job's folder was removed", file=sys.stderr)
        return 1
    worker = Worker(JobFolder(Path(folder)), os.environ)
    return worker.run(program, seconds_to_warning=60 * int(minutes) - int(warning_s))


class Worker:
    """One start of a task: runs the program, passes signals on, and asks for the way back into the queue."""

    def __init__(self, folder: JobFolder, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._rank = int(environment.get("SLURM_PROCID", "0"))
        self._ranks = int(environment.get("SLURM_NTASKS", "1"))
        self._raw_id = environment["SLURM_JOB_ID"]
        array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        slurm_id = f"{array}_{index}" if array else self._raw_id
        self._report = WorkerReport(
            slurm_id=slurm_id, node=environment.get("SLURMD_NODENAME", socket.gethostname())
        )
        before = WorkerReport.read(folder)
        if self._rank == 0 and before is not None and before.slurm_id == slurm_id:
            self._report = replace(self._report, starts=before.starts + 1, timeouts=before.timeouts)
        self._told = False
        self._warned = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *, seconds_to_warning: float) -> int:
        """The exit code to end with."""
        for number in (signal.SIGTERM, WARNING):
            signal.signal(number, self._pass_on)
        self._tell(self._report)
        ooms = oom_kills()
        try:
            code = self._wait_for(program)
        except OSError as error:
            return self._without_log(error)
        if self._told and code in (-signal.SIGTERM, -signal.SIGUSR1):
            code = INTERRUPTED  # it had not come to the point of listening to signals
        self._tell(replace(self._report, code=code, oom=oom_kills() > ooms))
        if code != INTERRUPTED or self._rank:
            return code if code >= 0 else 128 - code
        timed_out = self._warned and time.monotonic() - self._began >= seconds_to_warning - SLACK_S
        return self._interrupted(timed_out=timed_out)

    def _wait_for(self, program: str) -> int:
        environment = {**os.environ, **_rendezvous(self._ranks)}
        with self._folder.log(self._rank).open("ab") as output:
            report = self._report
            start = f", start {report.starts}" if self._rank == 0 else f", process {self._rank}"
            header = f"SLURM job {report.slurm_id} on {report.node}{start}"
            output.write(f"--- {time.strftime('%F %T')} {header}\n".encode())
            output.flush()
            self._child = subprocess.Popen(
                [sys.executable, "-u", "-m", program, str(self._folder.root)],
                stdout=output,
                stderr=output,
                env=environment,
                preexec_fn=_ignore_warning,
            )
            return self._child.wait()

    def _without_log(self, error: OSError) -> int:
        """The end of a task that cannot keep what its program prints."""
        cause: Cause = "disk" if error.errno in NO_ROOM else "data"
        why = f"its log cannot be written: {error}"
        self._tell(replace(self._report, code=1, cause=cause, why=why))
        print(f"error: {why}", file=sys.stderr, flush=True)
        return 1

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """SLURM's word to stop, in the words that the program knows."""
        self._told = True
        self._warned |= number == WARNING
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(signal.SIGUSR1 if number == WARNING else signal.SIGTERM)

    def _interrupted(self, *, timed_out: bool) -> int:
        """After a checkpoint: back into the queue, unless the job was cancelled, which ends its RUNNING."""
        report = replace(self._report, code=INTERRUPTED, timeouts=self._report.timeouts + timed_out)
        if report.timeouts > RETRIES["timeout"]:
            self._give_up(report)
            return 1
        self._tell(replace(report, why="time limit" if timed_out else "told to stop"))
        if scheduler.state_of(self._raw_id) in ("RUNNING", None) and self._requeue():
            time.sleep(LINGER_S)  # SLURM ends this process; to leave earlier would end the job
        return INTERRUPTED

    def _requeue(self) -> bool:
        """Ask for the way back; a controller that is just being restarted is asked again."""
        for pause in REQUEUE_PAUSES_S:
            time.sleep(pause)
            if scheduler.requeue(self._raw_id):
                return True
        print("SLURM did not take the job back into its queue", flush=True)
        return False

    def _give_up(self, report: WorkerReport) -> None:
        job, store = read_job_ref(self._folder), Store(self._folder.records.root)
        message = f"it ran into its time limit {report.timeouts} times: give it more with slurm.time="
        store.fail(store.missing(job.run_ids), "timeout", message, self._folder.log())
        self._tell(replace(report, code=1, why=message))

    def _tell(self, report: WorkerReport) -> None:
        if self._rank == 0:
            report.write(self._folder)


def _ignore_warning() -> None:
    """SLURM sends its warning to every process of a job; the program knows SIGUSR1 and SIGTERM alone."""
    signal.signal(WARNING, signal.SIG_IGN)


def _rendezvous(ranks: int) -> dict[str, str]:
    """Where the processes of one run find each other (torch.distributed's `env://`)."""
    if ranks == 1:
        return {}
    from submitit.helpers import TorchDistributedEnvironment

    meeting = TorchDistributedEnvironment()
    host = meeting.master_addr
    try:
        socket.getaddrinfo(host, None)
    except OSError:  # node names that are no host names: the address from which srun started all
        host = os.environ.get("SLURM_LAUNCH_NODE_IPADDR", host)
    return {
        "MASTER_ADDR": host,
        "MASTER_PORT": str(meeting.master_port),
        "RANK": str(meeting.rank),
        "WORLD_SIZE": str(meeting.world_size),
        "LOCAL_RANK": str(meeting.local_rank),
        "LOCAL_WORLD_SIZE": str(meeting.local_world_size),
    }
