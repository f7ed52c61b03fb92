"""Full disks: a job that ran into one waits until there is room again."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

PROBE_BYTES = 2**24
LOOK_S = 5.0


class DiskSpace:
    """Whether the folder of records has room, and which jobs wait for some."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: set[str] = set()
        self._next_look = 0.0

    @property
    def full(self) -> bool:
        """Whether the folder has no room at this moment."""
        return not has_room(self._folder)

    def wait(self, job_id: str) -> None:
        """Do not start the job before there is room."""
        self._waiting.add(job_id)
        self._next_look = 0.0

    def waits(self, job_id: str) -> bool:
        """Whether the job must wait; looks at the disk now and then."""
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
