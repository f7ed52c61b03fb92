"""SLURM's queue and accounting, asked seldom; every answer is a hint that may be missing."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slurm.commands import NoAnswer, WrongQuestion, ask, call, words

PING_S = 10.0
SEPARATOR = "\x1f"  # no comment and no path holds it
FORMAT = SEPARATOR.join(("%i", "%K", "%T", "%r", "%N", "%U", "%V", "%k", "%o"))
OVER = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
    | {"REVOKED", "TIMEOUT"}
)
"""States of jobs that are over. All others, those of SLURM versions to come included, are living ones."""
ACTIVE = frozenset(
    {"RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "UPDATE_DB", "EXPEDITING"}
)
DEFAULT_ARRAY = 1001
GONE = ("Invalid job id", "already completing or completed")


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
    """The owner's number."""
    submitted: str = ""
    """When, in SLURM's words."""
    comment: str = ""
    command: str = ""
    """The batch file."""

    @property
    def main_id(self) -> str:
        """The number that sbatch gave to it and to all other tasks of its array."""
        return self.slurm_id.partition("_")[0]

    @property
    def live(self) -> bool:
        """Whether it waits or runs, as far as anybody knows."""
        return bool(self.state) and self.state not in OVER

    @property
    def marks(self) -> tuple[str, str]:
        """Where the token of its array may stand: sites rewrite comments, and leave the command alone."""
        return self.comment, Path(self.command).stem

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
    with contextlib.suppress(NoAnswer, WrongQuestion):
        if "is UP" in ask("scontrol", "ping", timeout_s=PING_S):
            return True, "a SLURM controller answers"
    return False, "SLURM is installed, but no controller answers"


def has_gpus() -> bool:
    """Whether any node of the cluster has a GPU as a generic resource."""
    with contextlib.suppress(NoAnswer, WrongQuestion):
        return "gpu" in ask("sinfo", "-h", "-o", "%G")
    return False


def queue(users: Iterable[int]) -> list[Entry]:
    """All tasks of these users (by number), the lately ended ones too.

    Not by name or comment: a site may rewrite both.

    Raises:
        NoAnswer: the controller is silent.
        WrongQuestion: this squeue does not know the options that it needs.
    """
    owners = ",".join(map(str, sorted(set(users))))
    return parse_queue(ask("squeue", "-h", "-r", "-t", "all", "-u", owners, "-o", FORMAT).splitlines())


def parse_queue(lines: Iterable[str]) -> list[Entry]:
    """Lines of squeue in `FORMAT`; a banner between them is ignored."""
    entries = []
    for line in lines:
        parts = line.split(SEPARATOR)
        if len(parts) != 9 or not parts[0].partition("_")[0].isdecimal():
            continue
        slurm_id, index, state, reason, node, user, submitted, comment, command = parts
        entries.append(
            Entry(
                slurm_id=slurm_id,
                index=int(index) if index.isdecimal() else 0,
                state=state,
                reason="" if reason == "None" else reason,
                node=node,
                user=user,
                submitted=submitted,
                comment=comment,
                command=command,
            )
        )
    return entries


def final_states(slurm_ids: Sequence[str]) -> dict[str, str]:
    """States of jobs by id, as sacct remembers them; empty where there is no accounting."""
    if not slurm_ids or shutil.which("sacct") is None:
        return {}
    try:
        asked = ask("sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", ",".join(slurm_ids))
    except (NoAnswer, WrongQuestion):
        return {}
    pairs = (line.split("|", 1) for line in asked.splitlines() if "|" in line)
    return {slurm_id: state.split()[0] for slurm_id, state in pairs if state.split()}


def cancel(slurm_ids: Sequence[str]) -> None:
    """End jobs; those that have ended meanwhile are left out.

    Raises:
        OSError: SLURM will not, with its words.
    """
    for start in range(0, len(slurm_ids), 100):
        done = call(["scancel", *slurm_ids[start : start + 100]])
        left = [line for line in done.stderr.splitlines() if not any(word in line for word in GONE)]
        if done.returncode and (said := words("\n".join(left))):
            raise OSError(said if said.startswith("scancel") else f"scancel: {said}")


def state_of(slurm_id: str) -> str | None:
    """A job's state in SLURM's word; None while the controller is silent."""
    with contextlib.suppress(NoAnswer, WrongQuestion):
        return ask("squeue", "-h", "-j", slurm_id, "-o", "%T").strip()
    return None


def requeue(slurm_id: str) -> bool:
    """Put a running job back into the queue under its id; whether SLURM did."""
    with contextlib.suppress(NoAnswer, WrongQuestion):
        ask("scontrol", "requeue", slurm_id)
        return True
    return False


def largest_array() -> int:
    """How many tasks one array may have."""
    shown = ""
    with contextlib.suppress(NoAnswer, WrongQuestion):
        shown = ask("scontrol", "show", "config")
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", shown)
    return max(int(match[1]) if match else DEFAULT_ARRAY, 1)


def mine(entries: Iterable[Entry], uid: int) -> list[Entry]:
    """Those tasks that belong to the user with this number."""
    return [entry for entry in entries if entry.user == str(uid)]


def main_ids(entries: Iterable[Entry]) -> Collection[str]:
    """The numbers that sbatch gave."""
    return {entry.main_id for entry in entries}
