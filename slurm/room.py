"""Full disks: a Job that ran into one waits until there is room again."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from results.store import Cause

PROBE_BYTES = 2**24
LOOK_S = 5.0


class Room:
    """The room in a folder, and which Jobs wait for some."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: set[str] = set()
        self._next_look = 0.0

    def cause(self, cause: Cause, *, explained: bool) -> Cause:
        """`cause`, or "disk" where the disk is full and the program could not say what stopped it."""
        return cause if explained or has_room(self._folder) else "disk"

    def wait(self, job_id: str) -> None:
        """The Job is not to start before there is room."""
        self._waiting.add(job_id)
        self._next_look = 0.0

    def waits(self, job_id: str) -> bool:
        """Whether the Job must wait; looks at the disk now and then."""
        if self._waiting and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            if has_room(self._folder):
                self._waiting.clear()
        return job_id in self._waiting


def has_room(folder: Path) -> bool:
    """Whether a file of some megabytes can be written into `folder`: quotas hide behind free space."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True
