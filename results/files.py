"""Writing files so that a reader sees a whole file or none, whatever happens to the writer."""

import contextlib
import errno
import hashlib
import io
import os
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def digest(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def read_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file by name.

    Raises:
        ValueError: anything but an intact NPZ file of plain arrays.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _NO_ARCHIVE as error:
        raise ValueError("not an NPZ file of plain arrays") from error


_NO_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    OSError,
    EOFError,
    AttributeError,
    TypeError,  # a single array, as np.save writes it, is no context manager
    NotImplementedError,  # a compression that zipfile does not know
)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed in the middle of `write_atomically`."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot sync a folder say so like this
            raise
    finally:
        os.close(descriptor)
