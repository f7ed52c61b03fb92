"""Checkpoints: written in the background from a copy, checked by a checksum, the previous one kept.

A run has two files, and a new checkpoint replaces the older of them in one rename. A file is the SHA-256
of what follows, a sequence number of eight bytes, and the state as `torch.save` writes it.
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
_HEADER_BYTES = _DIGEST_BYTES + 8


def load(folder: Path) -> list[dict[str, Any]]:
    """The whole checkpoints of a run, the newest first; torn and bit-flipped ones are passed over."""
    found: list[tuple[int, dict[str, Any]]] = []
    for name in FILES:
        try:
            data = (folder / name).read_bytes()
        except FileNotFoundError:
            continue
        if hashlib.sha256(data[_DIGEST_BYTES:]).digest() == data[:_DIGEST_BYTES]:
            payload = io.BytesIO(data[_HEADER_BYTES:])
            found.append((_sequence(data), torch.load(payload, map_location="cpu", weights_only=True)))
    return [state for _, state in sorted(found, key=lambda entry: -entry[0])]


def remove(folder: Path) -> None:
    """Drop a run's checkpoints, once its record is there."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


class Writer:
    """Writes checkpoints one after the other while training goes on."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self.complaint = ""
        """Why the last checkpoint could not be written, empty if it was."""

    def save(self, states: Mapping[Attempt, Mapping[str, Any]]) -> None:
        """Copy the states now and write them later; waits for the write before this one.

        Raises:
            StaleAttempt: a newer attempt at the run has begun.
        """
        self.wait()
        copies = {attempt: _copy(state) for attempt, state in states.items()}
        self._pending = self._pool.submit(_write_all, copies)

    def wait(self) -> None:
        """Until nothing is left to write. A full disk is a complaint, not an error: training can go on.

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


def _write_all(states: Mapping[Attempt, Mapping[str, Any]]) -> None:
    for attempt, state in states.items():
        sequences = {name: _sequence(_header(attempt.folder / name)) for name in FILES}
        oldest = min(FILES, key=lambda name: sequences[name])
        payload = io.BytesIO()
        torch.save(dict(state), payload)
        content = (max(sequences.values()) + 1).to_bytes(8, "little") + payload.getvalue()
        attempt.write(oldest, hashlib.sha256(content).digest() + content)


def _header(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return b""


def _sequence(data: bytes) -> int:
    """The number in a file's header; 0 for what has none."""
    return int.from_bytes(data[_DIGEST_BYTES:_HEADER_BYTES], "little")


def _copy(value: Any) -> Any:
    """Tensors to the CPU and into memory of their own, everything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value
