"""What this machine offers to local jobs: cores, memory, GPUs; asked without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.exits import CGROUP
from common.jobs import Resources

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Cores and memory that processes here may use, and the ids of the visible GPUs."""

    cpus: int
    memory_gb: float
    gpus: tuple[str, ...] = ()
    jobs_per_gpu: int = 1

    @classmethod
    def here(cls) -> Machine:
        """This machine, within the limits of the container or cgroup that this process lives in."""
        return cls(cpus=_cores(), memory_gb=_memory_gb(), gpus=_gpus(os.environ))


@dataclass
class Places:
    """Which share of a machine is taken.

    A job that asks for more cores or memory than there are gets the machine for itself rather than
    waiting forever; a job with GPUs is limited by them alone, and sees only its own.
    """

    machine: Machine

    def __post_init__(self) -> None:
        self._taken: dict[str, Resources] = {}
        self._gpus: dict[str, tuple[str, ...]] = {}

    def take(self, key: str, wanted: Resources) -> Mapping[str, str] | None:
        """The environment variables of a place for `wanted`, or None while there is none."""
        if wanted.gpus:
            used = Counter(gpu for held in self._gpus.values() for gpu in held)
            free = [gpu for gpu in self.machine.gpus if used[gpu] < self.machine.jobs_per_gpu]
            if wanted.gpus > len(free):
                return None
            self._gpus[key] = tuple(sorted(free, key=used.__getitem__)[: wanted.gpus])
            return {"CUDA_VISIBLE_DEVICES": ",".join(self._gpus[key])}
        if not self._fits(wanted):
            return None
        self._taken[key] = wanted
        return {"CUDA_VISIBLE_DEVICES": ""}

    def free(self, key: str) -> None:
        """Give a place back."""
        self._taken.pop(key, None)
        self._gpus.pop(key, None)

    def _fits(self, wanted: Resources) -> bool:
        taken = self._taken.values()
        cpus = sum(used.cpus for used in taken) + wanted.cpus
        memory = sum(used.memory_gb for used in taken) + wanted.memory_gb
        return not taken or (cpus <= self.machine.cpus and memory <= self.machine.memory_gb)


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _memory_gb() -> float:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(CGROUP / "memory.max").strip()
    return min(total, int(limit) if limit.isdigit() else total) / GIB


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of the GPUs that a process started here would see."""
    installed = _installed_gpus()
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is None:
        return installed
    found: list[str] = []
    for word in visible.split(","):
        name = word.strip()
        there = int(name) < len(installed) if name.isdecimal() else _names_one(name, installed)
        if not there or name in found:  # CUDA itself ignores everything after an unknown name
            break
        found.append(name)
    return tuple(found)


def _names_one(name: str, installed: Sequence[str]) -> bool:
    """Whether `name` is the id of a GPU, its beginning, or a part of a GPU."""
    if name.startswith("MIG-"):
        return bool(installed)
    return name.startswith("GPU-") and any(uuid.startswith(name) for uuid in installed)


def _installed_gpus() -> tuple[str, ...]:
    """Ids of this machine's GPUs, whatever the environment hides."""
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(asked.stdout.split()) if asked.returncode == 0 else ()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not Linux, or no such controller
        return ""
