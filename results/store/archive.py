"""Moving runs between machines in a tar file.

The archive holds `<run id>/<file>` for every file that a record names, then the record itself, and at its end
the number of runs, so that a missing end is noticed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal, cast

from common.files import digest, replacing
from common.text import printable
from results.store.folder import Store
from results.store.records import BrokenRecord, Record

_RECORD, _END = "record.json", "end"
_GZIP_SUFFIXES, _GZIP_MAGIC = (".gz", ".tgz"), b"\x1f\x8b"
SUFFIXES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True, kw_only=True)
class ImportLimits:
    """What an archive may hold; a small compressed file may unpack to any size."""

    runs: int = 100_000
    bytes: int = 100 * 10**9
    """All files together."""
    file_bytes: int = 4 * 10**9
    """One file, which is held in memory."""
    files_per_run: int = 32


DEFAULT_LIMITS = ImportLimits()


def export_runs(store: Store, file: Path, *, weights: bool) -> int:
    """Write all intact runs into a tar file (compressed if its suffix says so); how many.

    Raises:
        ValueError: a file's digest is not the one in its record.
    """
    count = 0
    mode: Literal["w:gz", "w"] = "w:gz" if file.suffix in _GZIP_SUFFIXES else "w"
    with replacing(file) as output, tarfile.open(fileobj=output, mode=mode) as archive:
        for record in store.records():
            left_out = None if weights else record.file("weights")
            kept = {name: sha256 for name, sha256 in record.files.items() if name != left_out}
            for name in kept:
                _append(archive, f"{record.id}/{name}", store.content(record, name.partition("-")[0]))
            _append(archive, f"{record.id}/{_RECORD}", replace(record, files=kept).to_bytes())
            count += 1
        _append(archive, _END, str(count).encode())
    return count


def import_runs(store: Store, file: Path, limits: ImportLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Add the runs of an archive; how many are new, and how many the store already had and kept.

    Raises:
        ValueError: anything but an intact archive within the limits; the message names the archive. Runs
            before the damage are kept.
    """
    new = known = 0
    try:
        with _opened(file, limits) as archive:
            for record, contents in _runs(archive, limits):
                if store.read(record.id) is None:
                    _add(store, record, contents)
                    new += 1
                else:
                    known += 1
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, BrokenRecord, OverflowError) as error:
        raise ValueError(
            f"{file}: not an intact archive of runs ({error}); {new} runs were imported"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}; {new} runs were imported") from error
    return new, known


@contextlib.contextmanager
def _opened(file: Path, limits: ImportLimits) -> Iterator[tarfile.TarFile]:
    with file.open("rb") as plain:
        compressed = plain.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        plain.seek(0)
        source = cast(IO[bytes], gzip.GzipFile(fileobj=plain) if compressed else plain)
        bounded = cast(IO[bytes], _BoundedReader(source, limits.file_bytes))
        with tarfile.open(fileobj=bounded, mode="r:") as archive:
            yield archive


class _BoundedReader:
    """A file of which no single read may ask for more than `limit` bytes, as a forged header might."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit
        self.tell, self.seek, self.close = file.tell, file.seek, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._limit:
            raise BrokenRecord(f"an entry is larger than {self._limit:,} bytes")
        return self._file.read(size)


def _append(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _runs(archive: tarfile.TarFile, limits: ImportLimits) -> Iterator[tuple[Record, dict[str, bytes]]]:
    contents: dict[str, bytes] = {}
    count = size = 0
    for member in archive:
        size += member.size
        if member.size > limits.file_bytes:
            raise ValueError(f"{printable(member.name)} is larger than {limits.file_bytes:,} bytes")
        if size > limits.bytes:
            raise ValueError(f"it holds more than {limits.bytes:,} bytes (max_gb= allows more)")
        source = archive.extractfile(member) if member.isreg() and not member.issparse() else None
        if source is None:
            raise BrokenRecord(f"unexpected entry {printable(member.name)!r}")
        data = source.read()
        if member.name == _END:
            if data != str(count).encode() or contents or archive.next() is not None:
                raise BrokenRecord("it does not end after the last run")
            return
        folder, _, name = member.name.partition("/")
        if not name or Path(name).name != name:
            raise BrokenRecord(f"unexpected entry {printable(member.name)!r}")
        contents[member.name] = data
        if len(contents) > limits.files_per_run:
            raise ValueError(f"{printable(folder)} has more than {limits.files_per_run} files")
        if name == _RECORD:
            count += 1
            if count > limits.runs:
                raise ValueError(f"it holds more than {limits.runs:,} runs (max_runs= allows more)")
            record = Record.from_bytes(contents.pop(member.name))
            yield record, _checked(record, folder, contents)
            contents = {}
    raise BrokenRecord("its end is missing")


def _checked(record: Record, folder: str, contents: dict[str, bytes]) -> dict[str, bytes]:
    if record.id != folder or contents.keys() != {f"{folder}/{name}" for name in record.files}:
        raise BrokenRecord(f"the files of {folder} are not those of its record")
    for name, expected in record.files.items():
        if digest(contents[f"{folder}/{name}"]) != expected:
            raise BrokenRecord(f"the digest of {folder}/{name} is not the one in its record")
    return {name: contents[f"{folder}/{name}"] for name in record.files}


def _add(store: Store, record: Record, contents: dict[str, bytes]) -> None:
    """Write the run as a new attempt, so that a process at work on the same run gives way."""
    attempt = store.begin(record.id)
    names = {name: attempt.name(_without_attempt(name)) for name in contents}
    files = {names[name]: attempt.write(names[name], data) for name, data in contents.items()}
    attempt.publish(replace(record, attempt=attempt.number, files=files))


def _without_attempt(name: str) -> str:
    path = Path(name)
    return path.stem.rpartition("-")[0] + path.suffix
