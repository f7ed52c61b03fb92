"""How a job ends without all its records: why it failed, written where people will look for it."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import torch

from common.files import write_atomically
from common.jobs import Cause
from common.paths import JobFolder
from common.progress import ProgressWriter
from common.signals import Stopped
from harness.distributed import World
from results.store import Attempt, Failure, StaleAttempt, Store


class ParentMissing(ValueError):  # noqa: N818 - a state of another run
    """A run that this one learns from has no valid record."""


@dataclass(frozen=True, kw_only=True)
class SharedError:
    """`error.json` in the job's folder: why the first of several processes to fail did so.

    The process that writes records only sees the others go, so it needs their word.
    """

    cause: Cause
    message: str
    log: str

    @classmethod
    def read(cls, folder: JobFolder) -> SharedError | None:
        """What another process left; None where none has failed."""
        try:
            return msgspec.json.decode(folder.shared_error.read_bytes(), type=cls)
        except FileNotFoundError:
            return None


def forget_last_attempt(folder: JobFolder) -> None:
    """Remove the error that a process of an earlier attempt has left."""
    folder.shared_error.unlink(missing_ok=True)


@contextmanager
def failures_recorded(
    attempts: Mapping[str, Attempt], store: Store, folder: JobFolder, progress: ProgressWriter, world: World
) -> Iterator[None]:
    """Leave a Failure in the folder of every run that has no record when the block raises."""
    try:
        yield
    except StaleAttempt:
        raise  # the newer attempt speaks for the run
    except Exception as error:
        theirs = SharedError.read(folder)
        if isinstance(error, Stopped) and theirs is None:
            raise  # to stop is not a failure, unless another process's failure is the reason
        mine = SharedError(cause=_cause(error), message=_message(error), log=str(folder.log(world.rank)))
        if not world.first:
            with contextlib.suppress(OSError):
                write_atomically(folder.shared_error, msgspec.json.encode(mine))
            raise
        first = theirs or mine
        progress.say(state="failed", message=first.message)
        for run_id, attempt in attempts.items():
            if store.read(run_id) is not None:  # it was complete before its sibling failed
                continue
            failure = Failure(attempt=attempt.number, cause=first.cause, message=first.message, log=first.log)
            # A full disk, say, refuses this too: the first error is the one to show.
            with contextlib.suppress(OSError, StaleAttempt):
                attempt.fail(failure)
        if isinstance(error, Stopped):
            raise RuntimeError(first.message) from error
        raise


def _message(error: Exception) -> str:
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"


def _cause(error: Exception) -> Cause:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "memory"
    if isinstance(error, ParentMissing):
        return "parent"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    return "data" if isinstance(error, ValueError | OSError) else "bug"
