"""Full and read-only disks: a job that ran into one waits until files can be written again."""

from __future__ import annotations

import contextlib
import errno
import time
import uuid
from pathlib import Path

PROBE_BYTES = 2**24
LOOK_S = 5.0
STALE_S = 60.0
NO_ROOM = "no room on the disk"


class DiskSpace:
    """Whether files can be written into the folder of records, and which jobs wait until they can."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: set[str] = set()
        self._next_look = 0.0

    @property
    def trouble(self) -> str:
        """Why no file can be written at this moment; empty where one can."""
        return trouble_of(self._folder)

    def wait(self, job_id: str) -> None:
        """Do not start the job before files can be written."""
        self._waiting.add(job_id)
        self._next_look = 0.0

    def waits(self, job_id: str) -> bool:
        """Whether the job must wait; looks at the disk now and then."""
        if self._waiting and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            if not self.trouble:
                self._waiting.clear()
        return job_id in self._waiting


def trouble_of(folder: Path) -> str:
    """Why a file of some megabytes cannot be written into `folder`; empty where it can.

    Only an attempt tells: quotas hide behind free space.

    Raises:
        FileNotFoundError: the folder was removed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "The folder of records was removed", str(folder))
    _remove_old_probes(folder)
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        with probe.open("xb") as file:
            probe.unlink()  # so that a killed process leaves nothing behind
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NO_ROOM
        return f"{folder} cannot be written to: {error.strerror}"
    return ""


def _remove_old_probes(folder: Path) -> None:
    """Remove what processes that were killed between two lines have left."""
    with contextlib.suppress(OSError):
        for probe in folder.glob(".probe-*"):
            if time.time() - probe.stat().st_mtime > STALE_S:
                probe.unlink(missing_ok=True)
