"""A real SLURM of three nodes on this machine, as root, without systemd or cgroups.

Daemons run in the foreground as children of this process, with ports and folders of their own, so that
nothing of the machine's own SLURM or munge is touched and all of them can be stopped by process id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import psutil

NODES = ("n1", "n2", "n3")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "srun")

CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=15
InactiveLimit=0
KillWait=5
MinJobAge=10
MaxArraySize=11
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
Prolog={root}/prolog
NodeName=n[1-3] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_ports}] CPUs=1 RealMemory=4000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def unavailable() -> str | None:
    """Why no SLURM can be started here, or None."""
    if os.geteuid() != 0:
        return "a SLURM of the tests' own needs root"
    return f"missing: {', '.join(absent())} (tools/test-packages installs them)" if absent() else None


def absent() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Cluster:
    """munged, slurmctld and three slurmds; `environment` makes SLURM's commands talk to them."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.environment = {"SLURM_CONF": str(self.root / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._write_configuration()

    def start(self) -> None:
        self._start_munge()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_until(self.is_idle)

    def stop(self) -> None:
        self.clear()
        for name in (*(f"slurmd {node}" for node in NODES), "slurmctld", "munged"):
            self._end(name, signal.SIGTERM)
        self.end_strays()
        shutil.rmtree(self.root, ignore_errors=True)

    def clear(self) -> None:
        """All daemons up, no job left."""
        if "slurmctld" not in self._daemons:
            self.start_controller()
        for node in NODES:
            if f"slurmd {node}" not in self._daemons:
                self.start_node(node)
        (self.root / "prolog-fails").unlink(missing_ok=True)
        for job in self.queue():
            self.run("scancel", job, check=False)
        self.run("scontrol", "update", "nodename=n[1-3]", "state=resume", check=False)
        self.wait_until(self.is_idle)

    def is_idle(self) -> bool:
        """Whether all nodes wait for work and no job is left."""
        counts = self.run("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D", check=False).split()
        return sum(map(int, counts)) == len(NODES) and not self.queue()

    def processes(self, node: str = "n*") -> list[psutil.Process]:
        """What runs on a node for its jobs, slurmd's own step daemons included."""
        daemons = {daemon.pid for daemon in self._daemons.values()}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SLURM_CONF") == self._configuration and "SLURM_JOB_ID" in environment
                logs = [Path(file.path).name for file in process.open_files() if str(self.root) in file.path]
                steps = process.name() == "slurmstepd" and any(
                    fnmatch(log, f"slurmd.{node}.log") for log in logs
                )
                here = ours and fnmatch(environment.get("SLURMD_NODENAME", ""), node)
                if process.pid not in daemons and (steps or here):
                    found.append(process)
        return found

    def end_strays(self, node: str = "n*") -> None:
        """Kill what runs for jobs, with or without its daemon."""
        for process in self.processes(node):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def start_controller(self) -> None:
        self._launch("slurmctld", ["slurmctld", "-D", "-f", self._configuration])
        self.wait_until(lambda: "is UP" in self.run("scontrol", "ping", check=False), 30)

    def stop_controller(self) -> None:
        self._end("slurmctld", signal.SIGTERM)

    def start_node(self, node: str) -> None:
        self._launch(f"slurmd {node}", ["slurmd", "-D", "-f", self._configuration, "-N", node])

    def kill_node(self, node: str) -> None:
        """The slurmd alone dies, as a machine that loses its daemon."""
        self._end(f"slurmd {node}", signal.SIGKILL)

    def run(self, *command: str, check: bool = True) -> str:
        """Output of one of SLURM's commands."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def queue(self) -> list[str]:
        """Ids of the jobs that the controller knows as not finished."""
        lines = self.run("squeue", "-h", "-r", "-o", "%i", check=False).split()
        return list(dict.fromkeys(lines))

    def wait_until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        """The last lines of every daemon's log."""
        paths = sorted((self.root / "log").glob("*"))
        return "\n".join(f"== {path.name}\n" + path.read_text(errors="replace")[-2000:] for path in paths)

    @property
    def _configuration(self) -> str:
        return str(self.root / "slurm.conf")

    def _write_configuration(self) -> None:
        self.root.chmod(0o711)
        for name in ("munge", "state", "log", *(f"spool.{node}" for node in NODES)):
            (self.root / name).mkdir(mode=0o711)
        prolog = self.root / "prolog"
        prolog.write_text(f"#!/bin/sh\n[ ! -e {self.root}/prolog-fails ]\n")
        prolog.chmod(0o755)
        key = self.root / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        controller, first = _free_ports(len(NODES))
        text = CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            root=self.root,
            controller_port=controller,
            node_ports=f"{first}-{first + len(NODES) - 1}",
        )
        (self.root / "slurm.conf").write_text(text)

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        options = [
            f"--{what}={folder}/{name}"
            for what, name in (
                ("key-file", "key"),
                ("pid-file", "pid"),
                ("log-file", "log"),
                ("seed-file", "seed"),
            )
        ]
        self._launch("munged", ["munged", "--force", "--foreground", "-S", str(folder / "sock"), *options])
        self.wait_until((folder / "sock").exists, 20)

    def _launch(self, name: str, command: list[str]) -> None:
        assert name not in self._daemons
        with (self.root / "log" / f"{name.replace(' ', '.')}.out").open("a") as output:
            self._daemons[name] = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _free_ports(nodes: int) -> tuple[int, int]:
    """A free port for the controller and the first of `nodes` free ones in a row."""
    for first in range(17001, 30000, nodes + 1):
        try:
            sockets = [socket.create_server(("127.0.0.1", port)) for port in range(first, first + nodes + 1)]
        except OSError:
            continue
        for listening in sockets:
            listening.close()
        return first + nodes, first
    raise AssertionError("no free ports")
