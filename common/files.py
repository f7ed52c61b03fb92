"""Files between processes: written so that a reader sees a whole file or none, and locks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

LOCK_POLL_S = 0.5


def digest(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def check_can_hold(setting: str, path: Path) -> None:
    """Refuse, before any work is done, a `setting=path` that no file can be written to.

    Raises:
        ValueError: its folder is missing, or it is a folder.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{setting}={path}: no such folder: {path.parent}")
    if path.is_dir():
        raise ValueError(f"{setting}={path}: a folder; name a file in it")


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put `data` at `path`: the old content stays until all of the new is there.

    The folder must exist. `durable=False` leaves out the fsyncs, for hints such as a progress file.
    """
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` where the block ends without an error."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a folder", str(path))
    # Not tempfile: its files are private (0600), and a store is shared by a group.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # `write` cannot say where it had no room
            raise OSError(error.errno, f"{error.strerror}, while writing", str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files that killed writers of `name` (a glob) left in `folder`."""
    for leftover in folder.glob(f".{name}.tmp"):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the file lock at `path`; while another process has it, call `waiting` twice a second.

    `waiting` may raise to give up.
    """
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=LOCK_POLL_S)
            break
        except Timeout:
            waiting()
    try:
        yield
    finally:
        lock.release()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot sync a folder say so like this
            raise
    finally:
        os.close(descriptor)
