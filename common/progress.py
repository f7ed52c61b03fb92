"""`progress.json`: what a running job says about itself, as a hint for people and never as a proof."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from common.files import write_atomically
from common.paths import JobFolder

INTERVAL_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One look at a job."""

    state: str = "starting"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    images_per_s: float = 0.0
    eta_s: float | None = None
    attempt: int = 0
    host: str = ""
    pid: int = 0
    time: float = 0.0
    """Unix time of writing."""
    message: str = ""

    @classmethod
    def read(cls, folder: JobFolder) -> Progress | None:
        """The progress of the job in `folder`; None while there is none that can be read."""
        try:
            return msgspec.json.decode(folder.progress.read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None


class ProgressWriter:
    """Writes a job's progress when told to; a full disk does not stop the job."""

    def __init__(self, folder: JobFolder, *, speaks: bool = True) -> None:
        """`speaks` is for the one of several processes that writes."""
        self._folder = folder
        self._speaks = speaks
        self._last = 0.0
        self._progress = Progress(host=socket.gethostname(), pid=os.getpid())

    def say(self, **changes: Any) -> None:
        """Change fields of `Progress`, and write it now."""
        self._progress = replace(self._progress, **changes, time=time.time())
        self._last = time.monotonic()
        if not self._speaks:
            return
        try:
            write_atomically(self._folder.progress, msgspec.json.encode(self._progress), durable=False)
        except OSError as error:
            print(f"{self._folder.progress.name}: {error}", flush=True)

    def due(self) -> bool:
        """Whether it is time to say something again: at most twice a second."""
        return time.monotonic() - self._last >= INTERVAL_S
