"""One attempt at a run: the right to write into the run's folder until a newer attempt begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.files import digest, remove_leftovers, replacing
from common.paths import RunFolder
from results.predictions import Predictions
from results.store.records import Epoch, Failure, Record, history_to_bytes


class StaleAttempt(RuntimeError):  # noqa: N818 - a state, reported to its own writer
    """A newer attempt at the run has begun: this one may not write any more."""


class Attempt:
    """The right to write into a run's folder, until a newer attempt begins."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self._paths = RunFolder(folder)

    @classmethod
    def begin(cls, folder: Path) -> Attempt:
        """A new attempt in a run's folder, which ends all earlier ones."""
        attempts = RunFolder(folder).attempts
        attempts.mkdir(parents=True, exist_ok=True)
        while True:
            number = _newest(attempts) + 1
            try:
                (attempts / f"{number:04d}").mkdir()
            except FileExistsError:
                continue
            remove_leftovers(folder)
            return cls(folder, number)

    def name(self, file: str) -> str:
        """`file` with this attempt's number: "weights.pt" -> "weights-0001.pt"."""
        path = Path(file)
        return f"{path.stem}-{self.number:04d}{path.suffix}"

    def write(self, name: str, data: bytes) -> str:
        """Put a file into the run's folder; its digest.

        Files that a record names are written under `self.name(...)`, so that no attempt touches another's
        files.

        Raises:
            StaleAttempt: a newer attempt has begun.
        """
        self._check()
        try:
            self._put(name, data)
        except FileNotFoundError:
            # A new attempt removes temporary files. If we are still the newest, an older one did so late.
            self._put(name, data)
        return digest(data)

    def publish(self, record: Record, *, history: Sequence[Epoch] = ()) -> Record:
        """Declare the run done: write the history, then the record, last of all.

        Returns the record as written, with the right answers among its predictions, and removes the
        failure and the files of earlier attempts.

        Raises:
            StaleAttempt: a newer attempt has begun.
        """
        assert record.attempt == self.number, "a record carries the number of the attempt that wrote it"
        files = dict(record.files)
        if history:
            name = self.name("history.json")
            files[name] = self.write(name, history_to_bytes(history))
        missing = [name for name in files if not (self.folder / name).is_file()]
        assert not missing, f"the record names files that were not written: {missing}"
        record = replace(record, files=files, right=self._right(record.file("predictions")))
        self.write(self._paths.record.name, record.to_bytes())
        self._tidy(record)
        return record

    def fail(self, failure: Failure) -> None:
        """Write down why this attempt failed.

        Raises:
            StaleAttempt: a newer attempt has begun.
        """
        self.write(self._paths.failure.name, failure.to_bytes())

    def _put(self, name: str, data: bytes) -> None:
        with replacing(self.folder / name) as file:
            file.write(data)
            self._check()  # an attempt that begins after this removes the file before it takes its place

    def _check(self) -> None:
        newest = _newest(self._paths.attempts)
        if newest != self.number:
            raise StaleAttempt(f"{self.folder.name}: attempt {self.number} has given way to attempt {newest}")

    def _right(self, predictions: str | None) -> str | None:
        if predictions is None:
            return None
        return Predictions.from_bytes((self.folder / predictions).read_bytes()).packed_right

    def _tidy(self, record: Record) -> None:
        self._paths.failure.unlink(missing_ok=True)
        for number in range(1, self.number):
            for file in self.folder.glob(f"*-{number:04d}.*"):
                if file.name not in record.files:
                    file.unlink(missing_ok=True)


def _newest(attempts: Path) -> int:
    return max((int(name) for name in os.listdir(attempts) if name.isdigit()), default=0)  # noqa: PTH208
