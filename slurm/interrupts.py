"""Ctrl-C and its kin as a flag: nothing is torn out of the middle of starting or reaping a process."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts signals that ask to stop while its context is open; puts the old handlers back afterwards.

    Outside the main thread Python allows no handlers; there it counts nothing.
    """

    def __init__(self) -> None:
        self._count = 0
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
            self._old = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def count(self) -> int:
        """How many have come; may grow between any two lines."""
        return self._count

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
