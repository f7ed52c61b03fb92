"""Signals that ask a process to stop, as a flag that it looks at when it suits; and the end of its parent."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any, Self

DISPATCHER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process that starts and watches jobs to stop."""
JOB = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What asks a job to write a checkpoint and end."""


class Stopped(Exception):  # noqa: N818 - not an error
    """The process was asked to stop before it had anything to keep."""


class StopSignals:
    """Counts the signals that ask to stop while its context is open, and restores the old handlers after.

    Ignored signals stay ignored (nohup). Outside the main thread Python allows no handlers, so nothing is
    counted there.
    """

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        self._numbers = numbers
        self._count = 0
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in self._numbers if signal.getsignal(number) is not signal.SIG_IGN]
            self._old = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def count(self) -> int:
        """How many signals have arrived; may grow between any two lines."""
        return self._count

    @property
    def asked(self) -> bool:
        """Whether any signal has arrived."""
        return self._count > 0

    def check(self) -> None:
        """Raise Stopped if a signal has arrived."""
        if self.asked:
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 1


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call `act`, in a thread of its own, once the process that started this one is gone.

    A parent that is killed can tell nobody, so its children have to watch for its end.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only children started by multiprocessing can watch their parent"

    def watch() -> None:
        parent.join()
        act()

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
