"""How a Job ends without its records: told to stop, or failed, and why, where people will look for it."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from common.files import write_atomically
from common.signals import Stopped
from harness.distributed import World
from harness.progress import ProgressWriter
from results.store import Attempt, Cause, Failure, StaleAttempt, Store

SHARED = "error.json"  # in the Job's folder: how the one of several processes failed that failed first


def forget_last_try(folder: Path) -> None:
    """Remove what a process of an earlier try has left there for the first one."""
    (folder / SHARED).unlink(missing_ok=True)


@contextmanager
def failures_recorded(
    attempts: Mapping[str, Attempt], store: Store, folder: Path, progress: ProgressWriter, world: World
) -> Iterator[None]:
    """Leave a Failure in the folder of every run that has no record when the block raises.

    Of several processes the one that fails first leaves its words for the first one, which only sees it go.
    """
    shared = folder / SHARED
    try:
        yield
    except StaleAttempt:
        raise  # the newer attempt speaks for the run
    except Exception as error:
        if isinstance(error, Stopped) and not shared.exists():
            raise  # to stop is no failure, unless it is for another process's
        words = " ".join(str(error).split())[:500]
        message = words if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {words}"
        cause, log = _cause(error), folder / "log.txt"
        if not world.first:
            said = {"cause": cause, "message": message, "log": str(folder / f"log.rank{world.rank}.txt")}
            with contextlib.suppress(OSError):
                write_atomically(shared, json.dumps(said).encode())
            raise
        if shared.exists():
            said = json.loads(shared.read_bytes())
            cause, message, log = said["cause"], said["message"], Path(said["log"])
        progress.say(state="failed", message=message)
        for run_id, attempt in attempts.items():
            if store.read(run_id) is not None:  # it was whole before its sibling failed
                continue
            # A full disk, say, refuses this too: the first error is the one to show.
            with contextlib.suppress(OSError, StaleAttempt):
                attempt.fail(Failure(attempt=attempt.number, cause=cause, message=message, log=str(log)))
        if isinstance(error, Stopped):
            raise RuntimeError(message) from error
        raise


class ParentMissing(ValueError):  # noqa: N818
    """A run that this one learns from has no valid record."""


def _cause(error: Exception) -> Cause:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, ParentMissing):
        return "parent"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    return "data" if isinstance(error, ValueError | OSError) else "bug"
