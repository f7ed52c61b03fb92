"""Checking a store, and moving its runs between machines in a tar file.

The archive holds `<run id>/<file>` for every file that a record names, the record after them, and at
its end the number of runs, so that a lost end is noticed.
"""

import gzip
import io
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.cli import HELP_WORDS, command, parse
from common.files import digest, replacing
from common.text import nearest
from results.store import BrokenRecord, Record, Store

END = "end"


def problems(store: Store) -> Iterator[str]:
    """What is wrong with the store's records and their files, a line each; reads every byte."""
    for record in store.scan():
        if isinstance(record, BrokenRecord):
            yield str(record)
            continue
        for name, expected in record.files.items():
            path = store.folder(record.id) / name
            if digest(path.read_bytes()) != expected:
                yield f"{path}: its digest is not the one in record.json"
            elif (
                name == record.file("predictions") and store.predictions(record).packed_right != record.right
            ):
                yield f"{path.parent / 'record.json'}: its right answers are not those of the predictions"


def export_runs(store: Store, file: Path, *, weights: bool) -> int:
    """Write all whole runs into a tar file (gzip by its ending); how many. ValueError for a bad digest."""
    count = 0
    mode: Literal["w:gz", "w"] = "w:gz" if file.suffix in (".gz", ".tgz") else "w"
    with replacing(file) as output, tarfile.open(fileobj=output, mode=mode) as archive:
        for record in store.records():
            left = None if weights else record.file("weights")
            kept = {name: of for name, of in record.files.items() if name != left}
            for name in kept:
                _append(archive, f"{record.id}/{name}", store.content(record, name.partition("-")[0]))
            _append(archive, f"{record.id}/record.json", replace(record, files=kept).to_bytes())

            count += 1
        _append(archive, END, str(count).encode())
    return count


def _append(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def import_runs(store: Store, file: Path) -> tuple[int, int]:
    """Add the runs of an archive; how many are new, and how many the store had already and kept.

    Raises ValueError, naming the file, for anything but an intact archive; runs before the damage are kept.
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


def _runs(archive: tarfile.TarFile) -> Iterator[tuple[Record, dict[str, bytes]]]:
    contents: dict[str, bytes] = {}
    ended = False
    for member in archive:
        if member.name == END:
            ended = True
            continue
        folder, _, name = member.name.partition("/")
        source = archive.extractfile(member) if member.isreg() else None
        if source is None or not name or Path(name).name != name:
            raise BrokenRecord(f"unexpected entry {member.name!r}")
        contents[f"{folder}/{name}"] = source.read()
        if name == "record.json":
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
            raise BrokenRecord(f"{folder}/{name} has another digest than its record says")
    return {name: contents[f"{folder}/{name}"] for name in record.files}


def _add(store: Store, record: Record, contents: dict[str, bytes]) -> None:
    """As an attempt of its own, so that whoever is at work on the same run gives way."""
    attempt = store.begin(record.id)
    names = {name: attempt.name(_without_attempt(name)) for name in contents}
    files = {names[name]: attempt.write(names[name], data) for name, data in contents.items()}
    attempt.publish(replace(record, attempt=attempt.number, files=files))


def _without_attempt(name: str) -> str:
    path = Path(name)
    return path.stem.rpartition("-")[0] + path.suffix


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which store, which archive."""

    runs: Path = Path("runs")
    """Folder of records."""
    file: Path | None = None
    """The archive to write or to read: .tar, .tar.gz or .tgz."""
    weights: bool = True
    """Whether an export holds the weights, which new candidates of the same references need."""


def _run(argv: Sequence[str]) -> int:
    """verify: check all digests; export, import: move runs between machines; exit code 1 for damage."""
    verb, words = (argv[0], argv[1:]) if argv and argv[0] not in HELP_WORDS else ("", ["--help"])
    if verb and verb not in _VERBS:
        raise ValueError(f"'{verb}' is none of {', '.join(_VERBS)}{nearest(verb, _VERBS)}")
    settings = parse(Settings, words, prog="python -m results.store verb", description=_run.__doc__ or "")
    if verb != "import" and not settings.runs.is_dir():
        raise ValueError(f"runs={settings.runs}: no such folder")
    return _VERBS[verb](Store(settings.runs), settings)


def _verify(store: Store, settings: Settings) -> int:
    found = list(problems(store))
    for problem in found:
        print(problem)
    print(f"{settings.runs}: {sum(1 for _ in store.records())} whole runs, {len(found)} problems")
    return 1 if found else 0


def _export(store: Store, settings: Settings) -> int:
    broken = [found for found in store.scan() if isinstance(found, BrokenRecord)]
    for problem in broken:
        print(f"left out: {problem}", file=sys.stderr)
    count = export_runs(store, _archive(settings), weights=settings.weights)
    print(f"{settings.file}: {count} runs" + (f", {len(broken)} damaged ones left out" if broken else ""))
    return 1 if broken else 0


def _import(store: Store, settings: Settings) -> int:
    new, known = import_runs(store, _archive(settings))
    print(f"{settings.runs}: {new} runs imported, {known} were there already")
    return 0


def _archive(settings: Settings) -> Path:
    if settings.file is None:
        raise ValueError("file= must name the archive")
    if not settings.file.name.endswith((".tar", ".tar.gz", ".tgz")):
        raise ValueError(f"file={settings.file}: the ending must be .tar, .tar.gz or .tgz")
    return settings.file


_VERBS: dict[str, Callable[[Store, Settings], int]] = {
    "verify": _verify,
    "export": _export,
    "import": _import,
}

main: Callable[[Sequence[str] | None], int] = command(_run)
