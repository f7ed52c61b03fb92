"""Betons on disk: built once, complete or not at all, and checked against their manifest when opened.

`Beton` is FFCV's word for its file format. One beton holds one part of a dataset, train or test:
`<betons>/<fingerprint>/train.beton` lies beside its manifest `train.json` and `train.lock`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from common.files import digest, locked, remove_leftovers, replacing, write_atomically
from loaders.datasets import RAW, Dataset, Encoding, Part, fingerprint
from loaders.encoding import encode_all
from loaders.layout import BetonWriter, read_index
from loaders.sources import Source, open_source

SCHEMA = 2
FULL_CHECK_BYTES = 1 << 28  # on opening, files up to this size are hashed in full, larger ones without images
MOST_REJECTED = 0.001  # share of unreadable images above which nothing is built

Report = Callable[[int, int], None]
"""Called with the number of images done and the number of all images."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a beton holds; stored as JSON beside it."""

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
    """Of everything in the file but the images."""
    converted: dict[str, int]
    """Number of images by what they were converted from."""
    rejected: tuple[str, ...]
    """Images that could not be read and are left out: their paths, and why."""
    seal: str = ""
    """SHA-256 of all other fields, so that an edit is noticed; manifests of schema 1 have none."""

    def sealed(self) -> Manifest:
        """This manifest with its seal."""
        content = msgspec.json.encode(replace(self, seal=""), order="deterministic")
        return replace(self, seal=digest(content))


@dataclass(frozen=True, kw_only=True)
class Beton:
    """A beton that matches its manifest."""

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
    """Open the beton of one part of a dataset, and build it first if it is missing.

    Of several processes that miss the same beton, one builds it and the others wait.

    Args:
        dataset: its entry.
        part: `train` or `test`.
        data: where the images are, for a dataset that needs them.
        betons: the folder of all betons.
        encoding: how to store the images; by default as the dataset says.
        identity: the fingerprint of the images under `encoding`, where it is already known.
        download: whether missing data may be downloaded.
        workers: processes that encode; by default one per core.
        report: called after every image.
        waiting: called now and then while another process builds. This and `report` may raise to give up.

    Raises:
        ValueError: the data is missing or not as expected, or the existing beton is damaged.
        OSError: no permission or no space left; no partial file stays behind.
    """
    encoding = encoding or dataset.encoding()
    if dataset.augmentation.kind == "pad-crop" and encoding.label != RAW.label:
        raise ValueError(f"{dataset.name} is stored raw, in its own size, and not as {encoding.label}")
    identity = identity or fingerprint(dataset, data, encoding, betons=betons)
    path = betons / identity / f"{part}.beton"
    if not is_built(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_suffix(".lock"), waiting):
            if not is_built(path):
                source = open_source(dataset, part, data, betons / "downloads" if download else None)
                manifest = _build(path, dataset, part, source, identity, encoding, workers, report)
                if dataset.of_folders and fingerprint(dataset, data, encoding, betons=betons) != identity:
                    raise ValueError(f"the images in {data} are not, or no longer, those of {identity}")
                _write_manifest(path, manifest)
    return open_beton(path, identity, part)


def is_built(path: Path) -> bool:
    """Whether a beton and its manifest exist; the manifest is written last."""
    return path.with_suffix(".json").is_file() and path.is_file()


def open_beton(path: Path, identity: str, part: Part) -> Beton:
    """Read a beton's manifest and check that the two match.

    Raises:
        ValueError: damaged, truncated, or the beton of other data; the message says how to repair it.
    """
    try:
        manifest = _read_manifest(path.with_suffix(".json"))
        if (manifest.fingerprint, manifest.part) != (identity, part):
            raise ValueError(
                f"{path} holds {manifest.fingerprint} ({manifest.part}), not {identity} ({part})"
            )
        stat = path.stat()
        if stat.st_size != manifest.bytes:
            raise ValueError(f"{path} is damaged: {stat.st_size} bytes instead of {manifest.bytes}")
        digests = manifest.sha256, manifest.index_sha256
        if not _matches(path.absolute(), stat.st_mtime_ns, stat.st_size, *digests, manifest.counts):
            raise ValueError(f"{path} is damaged: its content does not match {path.stem}.json")
    except ValueError as error:
        raise ValueError(f"{error}: delete {path.with_suffix('.json')} to have it built again") from error
    return Beton(path=path, manifest=manifest)


def _read_manifest(path: Path) -> Manifest:
    content = path.read_bytes()
    try:
        schema = msgspec.json.decode(content, type=dict[str, object]).get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ValueError(f"{path} was written by a newer version (schema {schema})")
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not the manifest of a beton") from error
    if (manifest.schema > 1 or manifest.seal) and manifest.seal != manifest.sealed().seal:
        raise ValueError(f"{path} was changed after it was written")
    return manifest


@cache
def _matches(
    path: Path, mtime_ns: int, size: int, sha256: str, index_sha256: str, counts: tuple[int, ...]
) -> bool:
    """Whether the file has this content; remembered while its size and modification time stay the same."""
    index = read_index(path)
    found = tuple(np.bincount(index.labels, minlength=len(counts)).tolist())
    if index.digest != index_sha256 or found != counts:
        return False
    return size > FULL_CHECK_BYTES or file_digest(path) == sha256


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits."""
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
) -> Manifest:
    """Write the beton, not its manifest; the caller holds the lock."""
    remove_leftovers(path.parent, f"{path.stem}.*")
    total, converted, rejected = len(source.labels), Counter[str](), list[str]()
    known = dataset.train_samples if part == "train" else dataset.test_samples
    if known not in (None, total):
        raise ValueError(
            f"{dataset.name} has {known:,} {part} images, but {total:,} were found "
            "(dataset=folder takes any number)"
        )
    with replacing(path) as file:
        writer = BetonWriter(file, most=total)
        with contextlib.closing(encode_all(source, encoding, workers)) as samples:
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
    return Manifest(
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
    ).sealed()


def _write_manifest(path: Path, manifest: Manifest) -> None:
    write_atomically(path.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def _refuse_too_many(rejected: list[str], total: int) -> None:
    most = max(1, int(MOST_REJECTED * total))
    if len(rejected) > most:
        first = "; ".join(rejected[:3])
        raise ValueError(f"more than {most} of {total} images cannot be read, the first: {first}")
