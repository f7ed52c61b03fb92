"""`job.json`: a Job and the settings it runs under, as one process hands them to another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.files import write_atomically
from common.paths import JobFolder, RecordsFolder
from harness.plan import Job
from loaders.datasets import Encoding


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a Job runs: none of this decides what is trained. Paths are absolute."""

    runs: str
    betons: str
    encodings: tuple[Encoding, ...] = ()
    """How images are kept: one of them has the fingerprint that a Run names."""
    data: str | None = None
    download: bool = False
    weights: str | None = None
    device: str = "auto"
    loader: Literal["auto", "stream", "resident"] = "auto"
    """Of runs whose recipe does not ask for torchvision's."""
    workers: int | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    deterministic: bool = False
    sync_batchnorm: bool = True
    checkpoint_s: float = 10.0
    """Seconds of training between checkpoints, which are written at the end of an epoch."""


def write(job: Job, execution: Execution) -> Path:
    """Put `job.json` into the Job's folder, which is made; gives back the folder."""
    place = RecordsFolder(Path(execution.runs)).job(job.id)
    place.root.mkdir(parents=True, exist_ok=True)
    document = {"job": job.document(), "execution": asdict(execution)}
    write_atomically(place.description, json.dumps(document, indent=1).encode())
    return place.root


def read(place: Path) -> tuple[Job, Execution]:
    """The inverse of `write`.

    Raises:
        ValueError: not a job file of this version.
    """
    path = JobFolder(place).description
    try:
        document = json.loads(path.read_bytes())
        execution = document["execution"]
        execution["encodings"] = tuple(Encoding(**encoding) for encoding in execution["encodings"])
        return Job.from_document(document["job"]), Execution(**execution)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a job file of this version ({error})") from error
