"""SLURM's own commands, asked seldom; every answer is a hint that may be missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

TIMEOUT_S = 30.0
PING_S = 10.0
FORMAT = "%i|%K|%T|%r|%N|%u|%k"
QUEUED = frozenset(
    {"PENDING", "CONFIGURING", "SUSPENDED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"}
    | {"SPECIAL_EXIT"}
)
ACTIVE = frozenset({"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"})
DEFAULT_ARRAY = 1001


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One task as squeue tells of it."""

    slurm_id: str
    """`17`, or `17_3` for a task of an array."""
    index: int
    """Place in its array; 0 for a job that is none."""
    state: str
    reason: str = ""
    node: str = ""
    user: str = ""
    comment: str = ""

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state in QUEUED or self.state in ACTIVE

    @property
    def refused(self) -> bool:
        """Whether this is what SLURM remembers of a job that sbatch would not take."""
        return self.state == "FAILED" and not self.node

    def ended_as(self, state: str) -> Entry:
        """This task once the queue has forgotten it: `state` is empty where nobody knows."""
        return replace(self, state=state, reason="")


def answers() -> tuple[bool, str]:
    """Whether a SLURM controller answers here, and in words why or why not."""
    if shutil.which("scontrol") is None or shutil.which("sbatch") is None:
        return False, "SLURM is not installed here"
    asked = _ask("scontrol", "ping", timeout_s=PING_S)
    if asked is not None and "is UP" in asked:
        return True, "a SLURM controller answers"
    return False, "SLURM is installed, but no controller answers"


def has_gpus() -> bool:
    """Whether any node of the cluster has a GPU as a generic resource."""
    asked = _ask("sinfo", "-h", "-o", "%G")
    return asked is not None and "gpu" in asked


def queue(name: str) -> list[Entry] | None:
    """All tasks of jobs called `name`, the lately ended ones too; None while the controller is silent."""
    asked = _ask("squeue", "-h", "-r", "-t", "all", f"--name={name}", "-o", FORMAT)
    return None if asked is None else parse_queue(asked.splitlines())


def parse_queue(lines: Iterable[str]) -> list[Entry]:
    """Lines of squeue in `FORMAT`."""
    entries = []
    for line in lines:
        parts = line.split("|", 6)
        if len(parts) != 7:
            continue
        slurm_id, index, state, reason, node, user, comment = parts
        entries.append(
            Entry(
                slurm_id=slurm_id,
                index=int(index) if index.isdecimal() else 0,
                state=state,
                reason="" if reason == "None" else reason,
                node=node,
                user=user,
                comment=comment,
            )
        )
    return entries


def final_states(slurm_ids: Sequence[str]) -> dict[str, str]:
    """How jobs ended, by id, as sacct remembers it; empty where there is no accounting."""
    if not slurm_ids or shutil.which("sacct") is None:
        return {}
    asked = _ask("sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", ",".join(slurm_ids))
    pairs = (line.split("|", 1) for line in (asked or "").splitlines() if "|" in line)
    return {slurm_id: state.split()[0] for slurm_id, state in pairs if state.split()}


def cancel(slurm_ids: Sequence[str]) -> None:
    """End jobs; OSError where SLURM will not."""
    for start in range(0, len(slurm_ids), 100):
        command = ["scancel", *slurm_ids[start : start + 100]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise OSError(f"scancel: {done.stderr.strip()}")


def state_of(slurm_id: str) -> str | None:
    """A job's state in SLURM's word; None while the controller is silent."""
    asked = _ask("squeue", "-h", "-j", slurm_id, "-o", "%T")
    return None if asked is None else asked.strip()


def requeue(slurm_id: str) -> bool:
    """Put a running job back into the queue under its id; whether SLURM did."""
    return _ask("scontrol", "requeue", slurm_id) is not None


def largest_array() -> int:
    """How many tasks one array may have."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "")
    return max(int(match[1]) if match else DEFAULT_ARRAY, 1)


def _ask(*command: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """Output of a command that only looks; None if it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return None
    return done.stdout if done.returncode == 0 else None
