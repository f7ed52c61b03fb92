"""What a Job says of itself while it runs: `progress.json`, a hint for whoever watches."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from common.files import write_atomically

INTERVAL_S = 0.5


class ProgressWriter:
    """Writes a Job's progress at most twice a second; a full disk does not stop the Job."""

    def __init__(self, folder: Path, *, speaks: bool = True) -> None:
        """`speaks` is for the one of several processes that writes."""
        self._path = folder / "progress.json"
        self._speaks = speaks
        self._last = 0.0
        self._fields: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid()}

    def say(self, **fields: Any) -> None:
        """Change fields and write now."""
        self._fields |= fields
        self._last = time.monotonic()
        if not self._speaks:
            return
        content = json.dumps(self._fields | {"time": time.time()}).encode()
        try:
            write_atomically(self._path, content, durable=False)
        except OSError as error:
            print(f"progress.json: {error}", flush=True)

    def due(self) -> bool:
        """Whether it is time to say something again."""
        return time.monotonic() - self._last >= INTERVAL_S
