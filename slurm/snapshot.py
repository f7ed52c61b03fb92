"""The code as it is now, kept for jobs that start later: a queued job must not run tomorrow's edit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("harness", "methods", "loaders", "slurm", "results")
VARIABLE = "NEGATIVE_FLIPS_COMMIT"
"""Environment variable that tells a copied program the commit it was copied from."""
SOURCE = Path(__file__).resolve().parent.parent


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


def commit(source: Path = SOURCE) -> str:
    """`<sha>`, or `<sha>+dirty` where tracked files differ from it; `unknown` without git."""
    if given := os.environ.get(VARIABLE):
        return given
    git = ["git", "-C", str(source)]
    try:
        sha = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *ROOMS], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return sha.stdout.strip() + ("+dirty" if changed.returncode else "")
