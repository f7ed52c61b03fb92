"""Checkpoints: written in the background from a copy, with a checksum, the previous one kept.

A run has two files. The one that holds the newest point shared by all runs of the cohort is never touched: a
new checkpoint replaces the other, in one rename. A file is a SHA-256 of the rest, then the state as
`torch.save` writes it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from results.store import Attempt

FILES = ("checkpoint-a.pt", "checkpoint-b.pt")
_DIGEST_BYTES = hashlib.sha256().digest_size


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """The undamaged checkpoints of a run by file name; torn and bit-flipped ones are left out."""
    found: dict[str, dict[str, Any]] = {}
    for name in FILES:
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
            payload = io.BytesIO(data[_DIGEST_BYTES:])
            found[name] = torch.load(payload, map_location="cpu", weights_only=True)
    return found


def exists(folder: Path) -> bool:
    """Whether a run has a checkpoint, whole or not."""
    return any((folder / name).is_file() for name in FILES)


def remove(folder: Path) -> None:
    """Delete a run's checkpoints, once its record is there."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


class Writer:
    """Writes a cohort's checkpoints one after the other while training continues."""

    def __init__(self, kept: Mapping[Path, str]) -> None:
        """`kept` maps a run's folder to the file with the point from which the cohort continues, if any."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._kept = dict(kept)
        self.complaint = ""
        """Why the last checkpoint could not be written, empty if it was."""

    def save(self, states: Mapping[Attempt, Mapping[str, Any]]) -> None:
        """Copy the states now and write them later; waits for the write before this one.

        Raises:
            StaleAttempt: a newer attempt at the run has begun.
        """
        self.wait()
        copies = {attempt: copy_to_cpu(state) for attempt, state in states.items()}
        self._pending = self._pool.submit(self._write, copies)

    def wait(self) -> None:
        """Wait until nothing is left to write. A full disk is a complaint, not an error: training continues.

        Raises:
            StaleAttempt: a newer attempt at the run has begun.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        try:
            pending.result()
            self.complaint = ""
        except OSError as error:
            self.complaint = f"no checkpoint: {error}"

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        self._pool.shutdown()

    def _write(self, states: Mapping[Attempt, Mapping[str, Any]]) -> None:
        """Write all of them; only then do the new files become those that are kept."""
        written: dict[Path, str] = {}
        for attempt, state in states.items():
            name = FILES[self._kept.get(attempt.folder) == FILES[0]]
            payload = io.BytesIO()
            torch.save(dict(state), payload)
            attempt.write(name, hashlib.sha256(payload.getvalue()).digest() + payload.getvalue())
            written[attempt.folder] = name
        self._kept |= written


def copy_to_cpu(value: Any) -> Any:
    """A state with its tensors on the CPU and in memory of their own, everything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copy_to_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copy_to_cpu(item) for item in value)
    return value
