"""Moving runs between machines in a tar file.

The archive holds `<run id>/<file>` for every file that a record names, then the record itself, and at its end
the number of runs, so that a missing end is noticed.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from common.files import digest, replacing
from results.store.folder import Store
from results.store.records import BrokenRecord, Record

_RECORD, _END = "record.json", "end"
_GZIP_SUFFIXES = (".gz", ".tgz")
SUFFIXES = (".tar", ".tar.gz", ".tgz")


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


def import_runs(store: Store, file: Path) -> tuple[int, int]:
    """Add the runs of an archive; how many are new, and how many the store already had and kept.

    Raises:
        ValueError: anything but an intact archive; runs before the damage are kept.
    """
    new = known = 0
    try:
        with tarfile.open(file) as archive:
            for record, contents in _runs(archive):
                if store.read(record.id) is None:
                    _add(store, record, contents)
                    new += 1
                else:
                    known += 1
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, BrokenRecord) as error:
        raise ValueError(
            f"{file}: not an intact archive of runs ({error}); {new} runs were imported"
        ) from error
    return new, known


def _append(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _runs(archive: tarfile.TarFile) -> Iterator[tuple[Record, dict[str, bytes]]]:
    contents: dict[str, bytes] = {}
    ended = False
    for member in archive:
        if member.name == _END:
            ended = True
            continue
        folder, _, name = member.name.partition("/")
        source = archive.extractfile(member) if member.isreg() else None
        if source is None or not name or Path(name).name != name:
            raise BrokenRecord(f"unexpected entry {member.name!r}")
        contents[f"{folder}/{name}"] = source.read()
        if name == _RECORD:
            record = Record.from_bytes(contents.pop(member.name))
            yield record, _checked(record, folder, contents)
            contents = {}
    if contents or not ended:
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
