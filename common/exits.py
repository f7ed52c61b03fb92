"""How a job's process ends: exit codes, signals, and the kernel's kills because memory ran out."""

from __future__ import annotations

import signal
from pathlib import Path

from common.jobs import Cause

INTERRUPTED = 75
"""Exit code of a job that stopped after a checkpoint (EX_TEMPFAIL)."""
LOST_CHILD = 255
"""Exit code of a child whose fork server was killed."""
NO_LOG = 73
"""Exit code of a job that could not open its log (EX_CANTCREAT)."""
CGROUP = Path("/sys/fs/cgroup")


def cause_of_exit(code: int, *, oom: bool) -> tuple[Cause, str]:
    """Cause and message for an exit code that the program itself did not explain.

    Args:
        code: the exit code, negative for a signal.
        oom: whether the kernel killed something because memory ran out meanwhile.
    """
    if code == 0:
        return "bug", "it ended without an error and without a record"
    if code == LOST_CHILD:
        return "node", "its process was lost"
    if code == NO_LOG:
        return "data", "its log could not be opened"
    if code > 0:
        return "bug", f"it ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if code == -signal.SIGKILL and oom:
        return "memory", f"killed by {name}: the machine ran out of memory"
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        return "node", f"killed by {name} from outside"
    return "bug", f"killed by {name}"


def oom_kills() -> int:
    """How often the kernel has killed because memory ran out; a rise tells that from any other SIGKILL."""
    total = 0
    for path in (Path("/proc/vmstat"), CGROUP / "memory.events"):
        try:
            lines = path.read_text().splitlines()
        except OSError:  # not Linux, or no such controller
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            total += int(value) if name == "oom_kill" else 0
    return total
