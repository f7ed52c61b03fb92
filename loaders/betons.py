"""Betons on disk: built once, whole or not at all, and checked against their manifest whenever read.

`<betons>/<fingerprint>/train.beton` lies beside `train.json`, its manifest, and `train.lock`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.files import locked, remove_leftovers, replacing, write_atomically
from common.signals import when_parent_ends
from loaders.datasets import RAW, Dataset, Encoding, Part, fingerprint
from loaders.encoding import Encoded, encode, largest_bytes
from loaders.layout import BetonWriter, read_index
from loaders.sources import Source, open_source

SCHEMA = 1
WHOLE_FILE_CHECK_BYTES = 1 << 28  # up to here the whole file is hashed on opening, beyond it its index alone
CHUNK = 64  # images that one process encodes in one go
MOST_REJECTED = 0.001  # share of unreadable images above which nothing is built
SERIAL_BELOW = 2048  # so few images are not worth starting processes

Report = Callable[[int, int], None]
"""Called with the images done and the images in all."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a beton holds, as `train.json` beside it."""

    schema: int
    dataset: str
    version: int
    fingerprint: str
    part: str
    encoding: str
    classes: tuple[str, ...]
    """In the order of the labels."""
    counts: tuple[int, ...]
    """Images per class."""
    bytes: int
    sha256: str
    index_sha256: str
    """Of all of the file but the images."""
    converted: Mapping[str, int]
    """How many images were of another kind than RGB, by kind."""
    rejected: tuple[str, ...]
    """The images that could not be read, which are left out: their paths, and why."""


@dataclass(frozen=True, kw_only=True)
class Beton:
    """A beton that was found to be what its manifest says."""

    path: Path
    manifest: Manifest


def ensure_beton(
    dataset: Dataset,
    part: Part,
    *,
    data: Path | None = None,
    betons: Path,
    encoding: Encoding | None = None,
    identity: str | None = None,
    download: bool = False,
    workers: int | None = None,
    report: Report | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Beton:
    """The beton of one part of a dataset, built where it is missing; of several builders one builds.

    Args:
        dataset: its entry.
        part: `train` or `test`.
        data: where the images are, for a dataset that needs them.
        betons: the folder of all betons.
        encoding: how to store the images, if not in the dataset's own way.
        identity: the fingerprint of the images under `encoding`, where it is known already.
        download: whether to load missing data from the network.
        workers: processes that encode; as many as there are cores by default.
        report: told of the progress.
        waiting: called now and then while another process builds it; this and `report` may raise to give up.

    Raises:
        ValueError: the data is not there or not as expected, or the beton that is there is damaged.
        OSError: no permission, no space left: nothing is left behind.
    """
    encoding = encoding or dataset.encoding()
    if dataset.augmentation.kind == "pad-crop" and encoding.label != RAW.label:
        raise ValueError(f"{dataset.name} is stored raw, in its own size, and not as {encoding.label}")
    identity = identity or fingerprint(dataset, data, encoding)
    path = betons / identity / f"{part}.beton"
    if not is_built(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), waiting):
            if not is_built(path):
                source = open_source(dataset, part, data, betons / "downloads" if download else None)
                _build(path, dataset, part, source, identity, encoding, workers, report)
    return open_beton(path, identity, part)


def is_built(path: Path) -> bool:
    """Whether beton and manifest are there; the manifest is written last."""
    return path.with_suffix(".json").is_file() and path.is_file()


def open_beton(path: Path, identity: str, part: Part) -> Beton:
    """Read a beton's manifest and check both against each other.

    Raises:
        ValueError: damaged, truncated, or the beton of other data; the message says how to mend it.
    """
    try:
        manifest = _read_manifest(path.with_suffix(".json"))
        if (manifest.fingerprint, manifest.part) != (identity, part):
            raise ValueError(
                f"{path} holds {manifest.fingerprint} ({manifest.part}), not {identity} ({part})"
            )
        _verify(path, manifest)
    except ValueError as error:
        raise ValueError(f"{error}: delete {path.with_suffix('.json')} to have it built again") from error
    return Beton(path=path, manifest=manifest)


def _read_manifest(path: Path) -> Manifest:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if content["schema"] > SCHEMA:
            raise ValueError(f"{path} was written by a newer version (schema {content['schema']})")
        content |= {name: tuple(content[name]) for name in ("classes", "counts", "rejected")}
        return Manifest(**content)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no manifest of a beton") from error


_verified: set[tuple[Path, int, str]] = set()


def _verify(path: Path, manifest: Manifest) -> None:
    stat = path.stat()
    key = (path.absolute(), stat.st_mtime_ns, manifest.sha256)
    if key in _verified:
        return
    if stat.st_size != manifest.bytes:
        raise ValueError(f"{path} is damaged: {stat.st_size} bytes instead of {manifest.bytes}")
    whole = stat.st_size <= WHOLE_FILE_CHECK_BYTES
    index = read_index(path)
    counts = np.bincount(index.labels, minlength=len(manifest.classes))
    same = index.digest == manifest.index_sha256 and tuple(counts.tolist()) == manifest.counts
    if not same or (whole and file_digest(path) != manifest.sha256):
        raise ValueError(f"{path} is damaged: its content is not what {path.stem}.json says")
    _verified.add(key)


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(
    path: Path,
    dataset: Dataset,
    part: Part,
    source: Source,
    identity: str,
    encoding: Encoding,
    workers: int | None,
    report: Report | None,
) -> None:
    """Write beton and manifest; the caller holds the lock."""
    remove_leftovers(path.parent, f"{path.stem}.*")
    total, converted, rejected = len(source.labels), Counter[str](), list[str]()
    known = dataset.train_samples if part == "train" else dataset.test_samples
    if known not in (None, total):
        raise ValueError(
            f"{dataset.name} has {known:,} {part} images, and here are {total:,} "
            "(dataset=folder takes any number)"
        )
    with replacing(path) as file:
        writer = BetonWriter(file, most=total, largest=largest_bytes(source, encoding))
        with contextlib.closing(_encoded(source, encoding, workers)) as samples:
            for number, sample in enumerate(samples):
                if sample.converted:
                    converted[sample.converted] += 1
                if sample.image is None:
                    rejected.append(sample.problem)
                    _refuse_too_many(rejected, total)
                else:
                    writer.add(sample.image, int(source.labels[number]))
                if report is not None:
                    report(number + 1, total)
        writer.finish()
        counts = np.bincount(writer.labels, minlength=len(source.classes))
    manifest = Manifest(
        schema=SCHEMA,
        dataset=dataset.name,
        version=dataset.version,
        fingerprint=identity,
        part=part,
        encoding=encoding.label,
        classes=source.classes,
        counts=tuple(counts.tolist()),
        bytes=path.stat().st_size,
        sha256=file_digest(path),
        index_sha256=read_index(path).digest,
        converted=dict(sorted(converted.items())),
        rejected=tuple(rejected),
    )
    write_atomically(path.with_suffix(".json"), json.dumps(asdict(manifest), indent=1).encode())


def _refuse_too_many(rejected: list[str], total: int) -> None:
    most = max(1, int(MOST_REJECTED * total))
    if len(rejected) > most:
        raise ValueError(
            f"more than {most} of {total} images cannot be read, the first: {'; '.join(rejected[:3])}"
        )


def _encoded(source: Source, encoding: Encoding, workers: int | None) -> Generator[Encoded]:
    """All samples in order, encoded by this process or by several."""
    total = len(source.labels)
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1 or not source.parallel or total < SERIAL_BELOW:
        for index in range(total):
            yield encode(source, encoding, index)
        return
    # Never forked: this process may have threads (torch, numba), and a fork copies their locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_encoding, initargs=(source, encoding))
    try:
        pending: deque[Future[list[Encoded]]] = deque()
        for start in range(0, total, CHUNK):
            chunk = range(start, min(start + CHUNK, total))
            pending.append(pool.submit(_encode_chunk, chunk))
            if len(pending) > 4 * workers:  # not all at once: the results would fill the memory
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise OSError("a process that encodes images died, perhaps of memory: try workers=1") from error
    finally:
        pool.shutdown(cancel_futures=True)


_work: tuple[Source, Encoding]  # of a process that encodes: sent once, not with every chunk


def _begin_encoding(source: Source, encoding: Encoding) -> None:
    global _work
    _work = source, encoding
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    when_parent_ends(lambda: os._exit(1))  # nobody would tell a process that waits for work


def _encode_chunk(indices: range) -> list[Encoded]:
    return [encode(*_work, index) for index in indices]
