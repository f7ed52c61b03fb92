"""Content digests of a folder's files, made once: a second look at unchanged files takes seconds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from common.files import write_atomically

AT_A_TIME = 64  # files that one thread digests in one go
SAVED_EVERY_S = 60.0  # so that a long first look that was interrupted goes on where it was
SETTLED_NS = 2_000_000_000  # a younger file may change again without a change of its times
ANNOUNCED = 1 << 31  # bytes to read from which on a line says so


class Signature(NamedTuple):
    """What changes with a file's content."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Signature:
        """From what the file system says."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


class ImageFile(NamedTuple):
    """A file, by its path under the folder; a link whose target is missing has no signature."""

    path: str
    signature: Signature | None


Known = dict[bytes, tuple[Signature, bytes]]
"""SHA-256 by path, with the signature of the file that it was made of."""


def content_digests(data: Path, files: Sequence[ImageFile], cache: Path | None) -> list[bytes]:
    """SHA-256 of each file; empty for one that cannot be read.

    Args:
        data: the folder that the paths start from.
        files: what is asked for.
        cache: folder that keeps the digests, made if missing; without one, or where it cannot be written,
            all files are read every time.
    """
    store = (
        None if cache is None else cache / f"{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()}.bin"
    )
    before = {} if store is None else _load(store)
    known: Known = {}
    unknown = []
    for file in files:
        found = before.get(os.fsencode(file.path))
        if found is not None and found[0] == file.signature:
            known[os.fsencode(file.path)] = found
        else:
            unknown.append(file)
    _announce(data, unknown)
    fresh: dict[str, bytes] = {}
    saved = time.monotonic()
    for file, digest, settled in _digest_all(data, unknown):
        fresh[file.path] = digest
        if settled and file.signature is not None:
            known[os.fsencode(file.path)] = file.signature, digest
        if store is not None and time.monotonic() - saved > SAVED_EVERY_S:
            _save(store, known)
            saved = time.monotonic()
    if store is not None and known != before:
        _save(store, known)
    return [fresh[file.path] if file.path in fresh else known[os.fsencode(file.path)][1] for file in files]


def _digest_all(data: Path, files: Sequence[ImageFile]) -> Iterator[tuple[ImageFile, bytes, bool]]:
    """Each file with its digest and whether that may be kept; reading and hashing free the GIL."""

    def work(some: Sequence[ImageFile]) -> list[tuple[ImageFile, bytes, bool]]:
        return [(file, *_digest(data / file.path, file.signature)) for file in some]

    with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
        try:
            for done in pool.map(work, (files[i : i + AT_A_TIME] for i in range(0, len(files), AT_A_TIME))):
                yield from done
        finally:
            pool.shutdown(cancel_futures=True)


def _digest(path: Path, signature: Signature | None) -> tuple[bytes, bool]:
    if signature is None:
        return b"", False
    now = time.time_ns()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
            unchanged = Signature.of(os.fstat(file.fileno())) == signature
    except OSError:
        return b"", False
    settled = max(signature.mtime_ns, signature.ctime_ns) + SETTLED_NS < now
    return digest, unchanged and settled


def _announce(data: Path, files: Iterable[ImageFile]) -> None:
    sizes = [file.signature.size for file in files if file.signature is not None]
    if sum(sizes) >= ANNOUNCED:
        print(
            f"reading {len(sizes):,} files ({sum(sizes) / 1e9:,.0f} GB) in {data} once, for their digests",
            file=sys.stderr,
        )


def _place(cache: Path, data: Path) -> Path:
    return cache / f"{hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]}.bin"


def _load(path: Path) -> Known:
    """The digests that are kept at `path`: none where there are none, or where the file is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return {}
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.msgpack.decode(content[32:], type=Known)
    return {}


def _save(path: Path, known: Mapping[bytes, tuple[Signature, bytes]]) -> None:
    content = msgspec.msgpack.encode(known)
    with contextlib.suppress(OSError):  # a folder that others own: the files are read again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(content).digest() + content, durable=False)
