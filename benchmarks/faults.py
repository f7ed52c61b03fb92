"""Random faults against sweeps: none may lose a run, change a number or leave a sweep hanging.

python -m benchmarks.faults where=slurm minutes=30 seed=0      (as root: it starts a SLURM of its own)
python -m benchmarks.faults where=local minutes=30 seed=0
python -m benchmarks.faults minutes=0                          (prints the table of all parts so far)

Each round starts a sweep of the digits in a new folder of records on a small disk of its own, and disturbs it
with many random faults. A sweep that ends early is started again by the same command. When the faults are
over it has to end by itself, with every record there and all numbers equal, bit for bit, to those of a sweep
that nobody disturbed. Where a message asks to remove a finished run whose files are damaged, that is done, as
its reader would. Every round is added to the file of results at once, so a campaign may run in parts.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from common import cli
from results.store import Store
from tests.slurm.cluster import NODES, Cluster

SWEEP = ("methods=none,mpt-kl", "dataset=digits", "seeds=0", "epochs=20", "device=cpu")
ON_SLURM = ("cluster=slurm", "slurm.poll_s=1", "slurm.memory_gb=3", "slurm.time=20")
RUNS = 4
DISK = "400m"
QUIET_S = 600.0
"""How long a sweep may take once the faults are over, on a busy machine."""
WRAPPER = """#!/bin/sh
mode=$(cat {folder}/{name}.mode 2>/dev/null)
case "$mode" in
  empty) exit 0;;
  refuse) echo "{name}: error: Socket timed out on send/recv operation" >&2; exit 1;;
  contact) echo "{name}: error: Transport endpoint is not connected" >&2; exit 1;;
  zero) echo "{name}: error: Zero Bytes were transmitted or received" >&2; exit 1;;
  hang) sleep 4; exit 1;;
  half) {real} "$@" | head -n 1; exit 0;;
  torn) {real} "$@" | head -c 40; exit 0;;
  state) {real} "$@" | sed 's/RUNNING/EXPEDITING/';;
  banner) echo "Welcome. Last job 4711 of yours was fine."; {real} "$@"; code=$?; echo "Bye"; exit $code;;
  deny) {real} "$@" >/dev/null; echo "{name}: error: Socket timed out on send/recv operation" >&2; exit 1;;
  limit) echo "{name}: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1;;
  comment) {real} --comment=rewritten "$@";;
  *) exec {real} "$@";;
esac
"""
MODES = {
    "squeue": ("empty", "refuse", "contact", "zero", "hang", "half", "torn", "state", "banner"),
    "sbatch": ("refuse", "contact", "hang", "banner", "deny", "limit", "comment"),
    "scontrol": ("refuse", "hang"),
    "scancel": ("refuse",),
}


Undo = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """Settings of the campaign."""

    where: Literal["slurm", "local"] = "slurm"
    """What runs the sweeps' jobs."""
    minutes: float = 10.0
    """How long to go on; 0 only prints the table."""
    seed: int = 0
    """Decides which faults come, and when."""
    results: Path = Path("benchmarks/results/faults.json")
    """Where all rounds are added up."""
    work: Path | None = None
    """Folder for the sweeps; what a failed round leaves stays there."""


class Sweep:
    """One sweep that is started again whenever it ends before it should."""

    def __init__(
        self, runs: Path, betons: Path, words: tuple[str, ...], environment: Mapping[str, str]
    ) -> None:
        self.runs = runs
        self.starts = 0
        self._betons = betons
        self._words = words
        self._environment = environment
        self._output = runs.parent / "output.txt"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command (again)."""
        self.starts += 1
        command = [sys.executable, "-m", "harness.sweep", *SWEEP, *self._words]
        command += [f"runs={self.runs}", f"betons={self._betons}"]
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **self._environment}
            )
        return self.process

    def descendants(self, name: str) -> list[psutil.Process]:
        """Processes below the sweep whose command line holds `name`."""
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if name in " ".join(child.cmdline())]
        return []

    def end(self) -> None:
        """Kill it and all that it started."""
        with contextlib.suppress(psutil.Error):
            for process in (*psutil.Process(self.process.pid).children(recursive=True), self.process):
                process.kill()
        self.process.wait()


class Arena:
    """What faults may touch in one round. Each gives back how to undo it, or None without a target."""

    def __init__(
        self, sweep: Sweep, disk: Path, dice: random.Random, cluster: Cluster | None, wrappers: Path
    ) -> None:
        self.sweep = sweep
        self.disk = disk
        self.dice = dice
        self.cluster = cluster
        self.wrappers = wrappers

    # --- processes

    def kill_program(self) -> Undo | None:
        return self._signal(self._programs(), signal.SIGKILL)

    def terminate_program(self) -> Undo | None:
        return self._signal(self._programs(), signal.SIGTERM)

    def stop_program(self) -> Undo | None:
        return self._stop(self._programs())

    def kill_sweep(self) -> Undo | None:
        return self._signal([psutil.Process(self.sweep.process.pid)], signal.SIGKILL)

    def interrupt_sweep(self) -> Undo | None:
        return self._signal([psutil.Process(self.sweep.process.pid)], signal.SIGINT)

    def stop_sweep(self) -> Undo | None:
        return self._stop([psutil.Process(self.sweep.process.pid)])

    def kill_fork_server(self) -> Undo | None:
        return self._signal(self.sweep.descendants("forkserver import main")[:1], signal.SIGKILL)

    def kill_resource_tracker(self) -> Undo | None:
        return self._signal(self.sweep.descendants("resource_tracker import main"), signal.SIGKILL)

    def kill_worker(self) -> Undo | None:
        return self._signal(self._on_nodes("slurm.worker"), signal.SIGKILL)

    def kill_step_daemon(self) -> Undo | None:
        return self._signal(self._on_nodes("slurmstepd"), signal.SIGKILL)

    def kill_batch_shell(self) -> Undo | None:
        return self._signal(self._on_nodes("slurm_script"), signal.SIGKILL)

    # --- the cluster

    def kill_node(self) -> Undo | None:
        cluster, node = self._cluster, self.dice.choice(NODES)
        cluster.kill_node(node)
        cluster.end_strays(node)
        return lambda: cluster.start_node(node)

    def kill_node_daemon(self) -> Undo | None:
        cluster, node = self._cluster, self.dice.choice(NODES)
        cluster.kill_node(node)
        return lambda: cluster.start_node(node)

    def restart_controller(self) -> Undo | None:
        self._cluster.stop_controller()
        return self._cluster.start_controller

    def requeue(self) -> Undo | None:
        return self._each_running("requeue")

    def suspend(self) -> Undo | None:
        return self._each_running("suspend", "resume")

    def hold(self) -> Undo | None:
        return self._on_jobs(
            self._cluster.run("squeue", "-h", "-t", "PD", "-o", "%i").split(), "hold", "release"
        )

    def requeue_and_hold(self) -> Undo | None:
        return self._each_running("requeuehold", "release")

    def drain(self) -> Undo | None:
        cluster, node = self._cluster, self.dice.choice(NODES)
        cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=fault")
        return lambda: _ignore(
            cluster.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        )

    def preempt(self) -> Undo | None:
        self._cluster.run("sbatch", "-p", "high", "-N2", "-o", "/dev/null", "--wrap", "sleep 2")
        return _nothing

    def odd_answers(self) -> Undo | None:
        name = self.dice.choice(tuple(MODES))
        path = self.wrappers / f"{name}.mode"
        path.write_text(self.dice.choice(MODES[name]))
        return lambda: path.unlink(missing_ok=True)

    # --- disks and files

    def fill_disk(self) -> Undo | None:
        ballast = self.disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(2**20))
        return lambda: ballast.unlink(missing_ok=True)

    def lock_disk(self) -> Undo | None:
        for _ in range(20):  # the kernel refuses while a file is open for writing
            if self._remount("ro"):
                return lambda: _ignore(self._remount("rw"))
            time.sleep(0.1)
        return None

    def corrupt_file(self) -> Undo | None:
        return self._damage(lambda data, at: data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])

    def truncate_file(self) -> Undo | None:
        return self._damage(lambda data, at: data[:at])

    def empty_file(self) -> Undo | None:
        return self._damage(lambda data, at: b"")

    def remove_file(self) -> Undo | None:
        path = self._some_file()
        if path is None:
            return None
        path.unlink(missing_ok=True)
        return _nothing

    def _remount(self, how: str) -> bool:
        return (
            subprocess.run(
                ["mount", "-o", f"remount,{how}", self.disk], check=False, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        )

    def _some_file(self) -> Path | None:
        """A file of the sweep at random, locks excepted: each kind equally often."""
        kinds: dict[str, list[Path]] = {}
        for path in self.sweep.runs.rglob("*"):
            if path.is_file() and path.stat().st_size and "lock" not in path.name:
                kinds.setdefault(path.suffix + path.parent.name[:3], []).append(path)
        return self.dice.choice(kinds[self.dice.choice(sorted(kinds))]) if kinds else None

    def _damage(self, change: Callable[[bytes, int], bytes]) -> Undo | None:
        with contextlib.suppress(OSError):
            path = self._some_file()
            if path is not None:
                data = path.read_bytes()
                path.write_bytes(change(data, self.dice.randrange(len(data))))
                return _nothing
        return None

    @property
    def _cluster(self) -> Cluster:
        assert self.cluster is not None
        return self.cluster

    def _programs(self) -> list[psutil.Process]:
        """The programs that train or are about to."""
        if self.cluster is not None:
            return self._on_nodes("harness.execute")
        return self.sweep.descendants("forkserver import main")[1:]  # the first is the server

    def _on_nodes(self, name: str) -> list[psutil.Process]:
        found = []
        for process in self._cluster.processes():
            with contextlib.suppress(psutil.Error):
                if name in " ".join((process.name(), *process.cmdline())):
                    found.append(process)
        return found

    def _each_running(self, verb: str, undo: str = "") -> Undo | None:
        return self._on_jobs(self._cluster.run("squeue", "-h", "-t", "R", "-o", "%i").split(), verb, undo)

    def _on_jobs(self, ids: list[str], verb: str, undo: str) -> Undo | None:
        if not ids:
            return None
        cluster, job = self._cluster, self.dice.choice(ids)
        cluster.run("scontrol", verb, job, check=False)
        return (lambda: _ignore(cluster.run("scontrol", undo, job, check=False))) if undo else _nothing

    def _signal(self, targets: list[psutil.Process], number: signal.Signals) -> Undo | None:
        if not targets:
            return None
        with contextlib.suppress(psutil.Error):
            self.dice.choice(targets).send_signal(number)
            return _nothing
        return None

    def _stop(self, targets: list[psutil.Process]) -> Undo | None:
        if not targets:
            return None
        target = self.dice.choice(targets)

        def go_on() -> None:
            with contextlib.suppress(psutil.Error):
                target.send_signal(signal.SIGCONT)

        with contextlib.suppress(psutil.Error):
            target.send_signal(signal.SIGSTOP)
            return go_on
        return None


Fault = Callable[[Arena], Undo | None]

ANYWHERE: tuple[Fault, ...] = (
    *(Arena.kill_program, Arena.terminate_program, Arena.stop_program),
    *(Arena.kill_sweep, Arena.interrupt_sweep, Arena.stop_sweep),
    *(Arena.fill_disk, Arena.lock_disk),
    *(Arena.corrupt_file, Arena.truncate_file, Arena.empty_file, Arena.remove_file),
)
LOCAL: tuple[Fault, ...] = (
    *ANYWHERE,
    Arena.kill_fork_server,
    Arena.kill_fork_server,
    Arena.kill_resource_tracker,
)
SLURM: tuple[Fault, ...] = (
    *ANYWHERE,
    *(Arena.kill_worker, Arena.kill_step_daemon, Arena.kill_batch_shell),
    *(Arena.kill_node, Arena.kill_node_daemon, Arena.restart_controller),
    *(Arena.requeue, Arena.suspend, Arena.hold, Arena.requeue_and_hold, Arena.drain, Arena.preempt),
    *(Arena.odd_answers,) * 5,
)


def _nothing() -> None:
    """Nothing to undo."""


def _ignore(output: object) -> None:
    """An answer that nobody needs."""


def numbers(runs: Path) -> dict[str, Any]:
    """All that the table is made of, bit for bit, of the runs with a valid record."""
    store = Store(runs)
    found = {}
    for record in store.records():
        with contextlib.suppress(ValueError, OSError):
            found[record.id] = (record.metrics, store.predictions(record).to_bytes())
    return found


def calm(work: Path) -> dict[str, Any]:
    """The numbers of a sweep that nobody disturbs."""
    runs = work / "calm" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(runs, work / "betons", ("cluster=local",), {})
    if sweep.process.wait(900) or len(numbers(runs)) != RUNS:
        raise SystemExit(f"the calm sweep failed: {(runs.parent / 'output.txt').read_text()[-2000:]}")
    return numbers(runs)


def play_round(
    asked: FaultsConfig, number: int, work: Path, expected: Mapping[str, Any], cluster: Cluster | None
) -> dict[str, Any]:
    """One sweep under fire: which faults came, and what came of it (`survived`, `lost` or `changed`)."""
    dice = random.Random(f"{asked.where} {asked.seed} {number}")
    folder = work / f"{asked.where}-{asked.seed}-{number}"
    disk, wrappers = folder / "disk", folder / "bin"
    disk.mkdir(parents=True)
    wrappers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", disk], check=True)
    environment = {}
    if cluster is not None:
        environment = {**cluster.environment, "PATH": f"{wrappers}:{os.environ['PATH']}"}
        for name in MODES:
            path = wrappers / name
            path.write_text(WRAPPER.format(name=name, folder=wrappers, real=shutil.which(name)))
            path.chmod(0o755)
    runs = disk / "runs"
    runs.mkdir()
    words = ON_SLURM if cluster is not None else ("cluster=local",)
    began = time.monotonic()
    sweep = Sweep(runs, work / "betons", words, environment)
    arena = Arena(sweep, disk, dice, cluster, wrappers)
    came = _disturb(arena, SLURM if cluster is not None else LOCAL, dice.randint(16, 30))
    ended = _see_through(sweep, expected)
    found = numbers(runs)
    wrong = [run for run in found if found[run] != expected.get(run)]
    outcome = "changed" if wrong else "survived" if ended else "lost"
    sweep.end()
    if cluster is not None:
        cluster.clear()
    if outcome != "survived":
        shutil.copytree(runs, folder / "runs", dirs_exist_ok=True)
    subprocess.run(["umount", "-l", disk], check=True)
    if outcome == "survived":
        shutil.rmtree(folder)
    return {
        "where": asked.where,
        "seed": asked.seed,
        "round": number,
        "faults": came,
        "starts": sweep.starts,
        "seconds": round(time.monotonic() - began),
        "outcome": outcome,
    }


def _disturb(arena: Arena, faults: tuple[Fault, ...], count: int) -> list[str]:
    """Faults at random moments, each undone after some seconds; ends early where the sweep is through."""
    dice, sweep, came = arena.dice, arena.sweep, list[str]()
    time.sleep(dice.uniform(2, 6))
    while len(came) < count:
        if sweep.process.poll() is not None:
            if sweep.process.returncode == 0 and len(numbers(sweep.runs)) == RUNS:
                break
            _follow_advice(sweep)  # or a sweep that is through would be started for ever
            sweep.start()
            time.sleep(dice.uniform(1, 4))
        fault = dice.choice(faults)
        undo = fault(arena) if sweep.process.poll() is None else None
        if undo is None:
            time.sleep(0.2)
            continue
        came.append(fault.__name__)
        time.sleep(dice.uniform(0.5, 3))
        undo()
        time.sleep(dice.uniform(0, 1.5))
    return came


def _see_through(sweep: Sweep, expected: Mapping[str, Any]) -> bool:
    """Whether the same command, without further faults, comes to its end with every record there.

    A record that was damaged after it was made is found by the next start of the command.
    """
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        if sweep.process.poll() is None:
            time.sleep(0.5)
            continue
        if sweep.process.returncode == 0 and numbers(sweep.runs).keys() == expected.keys():
            return True
        _follow_advice(sweep)
        sweep.start()
    return False


def _follow_advice(sweep: Sweep) -> None:
    """Remove the finished runs that a message wants removed."""
    messages = []
    for path in sweep.runs.glob("*/failure.json"):
        with contextlib.suppress(OSError):
            messages.append(path.read_text())
    store = Store(sweep.runs)
    for record in store.records():
        try:
            store.predictions(record)
        except ValueError as error:
            messages.append(str(error))
    for folder in re.findall(r"remove (\S+) to run it again", "\n".join(messages)):
        shutil.rmtree(folder, ignore_errors=True)


def show(rounds: list[dict[str, Any]], console: Console) -> None:
    """The table: how often each fault came, and what became of the sweeps that it came to."""
    counts: dict[str, Counter[str]] = {}
    for one in rounds:
        for fault in one["faults"]:
            counts.setdefault(fault, Counter())[one["outcome"]] += 1
    table = Table(title=f"{len(rounds)} sweeps, {sum(one['seconds'] for one in rounds) / 60:.0f} minutes")
    for column in ("fault", "tried", "survived", "lost", "changed"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    total: Counter[str] = Counter()
    for fault, count in sorted(counts.items()):
        total += count
        cells = (count.total(), count["survived"], count["lost"], count["changed"])
        table.add_row(fault.replace("_", " "), *map(str, cells))
    table.add_section()
    table.add_row("all", *map(str, (total.total(), total["survived"], total["lost"], total["changed"])))
    console.print(table)


@cli.command
def main(argv: Any) -> int:
    """Exit code 1 where any round of the campaign was lost or changed."""
    asked = cli.parse(FaultsConfig, argv, prog="python -m benchmarks.faults", description=str(__doc__))
    rounds = json.loads(asked.results.read_text()) if asked.results.exists() else []
    console = Console(width=100)
    deadline = time.monotonic() + 60 * asked.minutes
    if asked.minutes > 0:
        work = asked.work or Path(tempfile.mkdtemp(prefix="faults-"))
        expected = calm(work)
        cluster = Cluster() if asked.where == "slurm" else None
        try:
            if cluster is not None:
                cluster.start()
            mine = [
                one["round"] for one in rounds if (one["where"], one["seed"]) == (asked.where, asked.seed)
            ]
            number = max(mine, default=-1)
            while time.monotonic() < deadline:
                number += 1
                one = play_round(asked, number, work, expected, cluster)
                rounds.append(one)
                asked.results.write_text(json.dumps(rounds, indent=1))
                console.print(
                    f"round {number}: {len(one['faults'])} faults, {one['outcome']}", highlight=False
                )
        finally:
            if cluster is not None:
                cluster.stop()
    show(rounds, console)
    return int(any(one["outcome"] != "survived" for one in rounds))


if __name__ == "__main__":
    sys.exit(main())
