"""What a running Job says of itself in `progress.json`: a hint for people, never a proof."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from harness.jobfile import job_folder


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One look at a Job that trains."""

    state: str = "starting"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    images_per_s: float = 0.0
    eta_s: float | None = None
    attempt: int = 0
    host: str = ""
    pid: int = 0
    time: float = 0.0
    """Unix time of writing."""
    message: str = ""


def read(folder: Path) -> Progress | None:
    """The Progress of the Job in `folder`; None while there is none that can be read."""
    try:
        content = json.loads((folder / "progress.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    known = {f.name for f in fields(Progress)}
    return Progress(**{key: value for key, value in content.items() if key in known and value is not None})


def log_path(runs: Path, job_id: str) -> Path:
    """What a Job printed, all its tries in one file."""
    return job_folder(runs, job_id) / "log.txt"
