"""The code as it is now, kept for jobs that start later: a queued job must not run tomorrow's edit."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.code import ROOMS, SOURCE, commit
from slurm import bootstrap


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A copy of the code."""

    path: str
    commit: str
    """`<sha>`, or `<sha>+dirty` where tracked files differed from it; `unknown` without git."""
    digest: str = ""
    """SHA-256 of all its files, checked on the node before anything is imported."""


def take(folder: Path, *, source: Path = SOURCE) -> Snapshot:
    """Copy the rooms of `source` into `folder` under a hash of their content.

    Equal code is copied once, however many sweeps start at the same moment; a copy that was changed is made
    again.
    """
    files = list(_files(source))
    digest = bootstrap.tree_digest(source, files)
    target = folder / digest[:16]
    copy = Snapshot(path=str(target), commit=commit(source), digest=digest)
    if target.is_dir() and not intact(copy):
        damaged = target.rename(folder / f".damaged-{uuid.uuid4().hex}")
        shutil.rmtree(damaged, ignore_errors=True)
    if not target.is_dir():
        _copy(files, source, target)
    return copy


def intact(copy: Snapshot) -> bool:
    """Whether a copy is still what was copied."""
    root = Path(copy.path)
    return root.is_dir() and bootstrap.tree_digest(root, list(bootstrap.files(root))) == copy.digest


def _copy(files: Sequence[Path], source: Path, target: Path) -> None:
    """Make `target` whole at once, or find that somebody else has."""
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    try:
        for path in files:
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, temporary / path)
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _files(source: Path) -> Iterator[Path]:
    """Files of the rooms, relative to `source`, without what Python and editors make of them."""
    for room in ROOMS:
        for path in bootstrap.files(source / room):
            if "__pycache__" not in path.parts and not path.name.startswith("."):
                yield Path(room) / path
