"""The code as it is now, kept for jobs that start later: a queued job must not run tomorrow's edit."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.code import ROOMS, SOURCE, commit


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of the code."""

    path: str
    commit: str
    """`<sha>`, or `<sha>+dirty` where tracked files differed from it; `unknown` without git."""


def take(folder: Path, *, source: Path = SOURCE) -> Snapshot:
    """Copy the rooms of `source` into `folder` under a hash of their content.

    Equal code is copied once, however many sweeps and people start at the same moment.
    """
    files = sorted(_files(source))
    digest = hashlib.sha256()
    for path in files:
        content = (source / path).read_bytes()
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    target = folder / digest.hexdigest()[:16]
    if not target.is_dir():
        _copy(files, source, target)
    return Snapshot(path=str(target), commit=commit(source))


def _copy(files: Sequence[Path], source: Path, target: Path) -> None:
    """Make `target` whole at once, or find that somebody else has."""
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    for path in files:
        (temporary / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, temporary / path)
    try:
        temporary.rename(target)
    except OSError:
        shutil.rmtree(temporary)
        if not target.is_dir():
            raise


def _files(source: Path) -> Iterator[Path]:
    """Files of the rooms, relative to `source`, without what Python makes of them."""
    for room in ROOMS:
        for path in (source / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                yield path.relative_to(source)
