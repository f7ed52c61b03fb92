"""`job.json`: a Job and what it runs under, as one process gives it to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from common.files import write_atomically
from common.paths import JobFolder, RecordsFolder
from common.registry import plugin_folders
from harness import plugins
from harness.grouping import Job
from harness.settings import Runtime
from loaders.datasets import RAW, Encoding


@dataclass(frozen=True, kw_only=True)
class _JobFile:
    job: dict[str, Any]
    runtime: Runtime
    encoding: Encoding
    plugin_folders: tuple[str, ...]


def write(job: Job, runtime: Runtime, encoding: Encoding = RAW) -> Path:
    """Write `job.json` into the Job's folder, which is made if needed; returns the folder.

    `encoding` is the one under which the images have the fingerprint that the Job's runs name.
    """
    runtime = runtime.absolute()
    place = RecordsFolder(runtime.runs).job(job.id)
    place.root.mkdir(parents=True, exist_ok=True)
    content = _JobFile(
        job=job.document(),
        runtime=runtime,
        encoding=encoding,
        plugin_folders=plugin_folders(runtime.plugins),
    )
    encoded = msgspec.json.encode(content, enc_hook=str)  # paths
    write_atomically(place.description, msgspec.json.format(encoded, indent=1))
    return place.root


def read(folder: Path) -> tuple[Job, Runtime, Encoding]:
    """The inverse of `write`; loads the plugins that the Job needs.

    Raises:
        ValueError: not a job file of this version, or a plugin that cannot be imported.
    """
    path = JobFolder(folder).description
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_JobFile, dec_hook=_decode_path)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not a job file of this version ({error})") from error
    plugins.load(content.runtime.plugins, content.plugin_folders)
    try:
        return Job.from_document(content.job), content.runtime, content.encoding
    except (msgspec.ValidationError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a job file of this version ({error})") from error


def _decode_path(kind: type[Path], text: str) -> Path:
    return kind(text)
