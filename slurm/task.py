"""What SLURM runs on a node: the program as a child, with signals turned into checkpoints and requeues.

submitit calls `run`. It never returns: the exit code of the program is the job's, so that dependants see
it and no result goes through a pickle.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from common.files import write_atomically
from harness import jobfile
from harness.jobfile import INTERRUPTED
from results.store import Store
from slurm import scheduler
from slurm.failures import missing, record_failure
from slurm.machine import oom_kills
from slurm.states import RETRIES

WARNING = signal.SIGUSR2
"""What submitit asks SLURM to send before the time limit; also sent at a preemption."""
SLACK_S = 60.0
"""How exactly SLURM keeps the moment of its warning."""
LINGER_S = 300.0
REQUEUE_PAUSES_S = (0.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Report:
    """`task.json`: how the newest task of a Job fares, a hint for whoever looks after it."""

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

    @classmethod
    def read(cls, folder: Path) -> Report | None:
        """The report in a Job's folder; None if there is none that can be read."""
        try:
            return cls(**json.loads((folder / "task.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Put it into the Job's folder; a full disk does not stop the Job."""
        try:
            write_atomically(folder / "task.json", json.dumps(asdict(self)).encode(), durable=False)
        except OSError as error:
            print(f"task.json: {error}", flush=True)


def run(folder: str, program: str, minutes: int, warning_s: int) -> NoReturn:
    """Run `python -m program folder` and end with its exit code.

    Args:
        folder: the Job's folder.
        program: module to run.
        minutes: the time limit.
        warning_s: how long before it the warning comes.
    """
    sys.exit(_Task(Path(folder), os.environ).run(program, 60 * minutes - warning_s))


class _Task:
    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._rank = int(environment.get("SLURM_PROCID", "0"))
        self._ranks = int(environment.get("SLURM_NTASKS", "1"))
        self._raw_id = environment["SLURM_JOB_ID"]
        array, index = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        slurm_id = f"{array}_{index}" if array else self._raw_id
        self._report = Report(
            slurm_id=slurm_id, node=environment.get("SLURMD_NODENAME", socket.gethostname())
        )
        before = Report.read(folder)
        if self._rank == 0 and before is not None and before.slurm_id == slurm_id:
            self._report = replace(self._report, starts=before.starts + 1, timeouts=before.timeouts)
        self._told = False
        self._warned = False
        self._child: subprocess.Popen[bytes] | None = None

    def run(self, program: str, seconds_to_warning: float) -> int:
        """The exit code to end with."""
        for number in (signal.SIGTERM, WARNING):
            signal.signal(number, self._pass_on)
        self._tell(self._report)
        ooms = oom_kills()
        code = self._wait_for(program)
        if self._told and code in (-signal.SIGTERM, -signal.SIGUSR1):
            code = INTERRUPTED  # it had not come to the point of listening to signals
        self._tell(replace(self._report, code=code, oom=oom_kills() > ooms))
        if code != INTERRUPTED or self._rank:
            return code if code >= 0 else 128 - code
        timed_out = self._warned and time.monotonic() - self._began >= seconds_to_warning - SLACK_S
        return self._interrupted(timed_out=timed_out)

    def _wait_for(self, program: str) -> int:
        log = "log.txt" if self._rank == 0 else f"log.rank{self._rank}.txt"
        environment = {**os.environ, **_rendezvous(self._ranks)}
        with (self._folder / log).open("ab") as output:
            report = self._report
            start = f", start {report.starts}" if self._rank == 0 else f", process {self._rank}"
            header = f"SLURM job {report.slurm_id} on {report.node}{start}"
            output.write(f"--- {time.strftime('%F %T')} {header}\n".encode())
            output.flush()
            self._child = subprocess.Popen(
                [sys.executable, "-u", "-m", program, str(self._folder)],
                stdout=output,
                stderr=output,
                env=environment,
                preexec_fn=_ignore_warning,
            )
            return self._child.wait()

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

    def _give_up(self, report: Report) -> None:
        job, runtime, _ = jobfile.read(self._folder)
        store = Store(runtime.runs)
        message = f"it ran into its time limit {report.timeouts} times: give it more with slurm.time="
        record_failure(store, missing(store, job), "timeout", message, self._folder / "log.txt")
        self._tell(replace(report, code=1, why=message))

    def _tell(self, report: Report) -> None:
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
