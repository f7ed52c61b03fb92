"""Reading a folder of records, and beginning attempts in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.files import digest, write_atomically
from common.jobs import Cause
from common.paths import RecordsFolder, RunFolder
from results.predictions import Predictions
from results.store.attempts import Attempt
from results.store.records import BrokenRecord, Epoch, Failure, Record, RunContent, history_from_bytes

RECORD = RunFolder(Path()).record.name


class Store:
    """A folder of records. Reading never writes; a missing folder is an empty store."""

    samples_name = "test samples"
    """What its numbers are about."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._reserved = RecordsFolder(self.root).reserved

    def folder(self, run_id: str) -> Path:
        """Where a run's files lie.

        Raises:
            ValueError: the id is not a plain name.
        """
        if not run_id or not self._may_be_run(run_id) or Path(run_id).name != run_id:
            raise ValueError(f"{run_id!r} cannot be the id of a run")
        return self.root / run_id

    def read(self, run_id: str) -> Record | None:
        """The run's record; None if there is none, or none that is intact with all its files.

        Raises:
            ValueError: the record has a newer schema; the message names the file.
        """
        try:
            return _load(self.folder(run_id))
        except (FileNotFoundError, BrokenRecord):
            return None

    def scan(self) -> Iterator[Record | BrokenRecord]:
        """All records by run id; in the place of each broken one, the error that says why."""
        for folder in self._folders():
            try:
                yield _load(folder)
            except FileNotFoundError:
                continue
            except BrokenRecord as broken:
                yield broken

    def records(self) -> Iterator[Record]:
        """All intact records, by run id."""
        return (record for record in self.scan() if isinstance(record, Record))

    def is_about(self, run: RunContent) -> bool:
        """Whether such a run has numbers here once it is done."""
        return True

    def missing(self, run_ids: Iterable[str]) -> list[str]:
        """Those of the runs that have no valid record."""
        return [run_id for run_id in run_ids if self.read(run_id) is None]

    def failure(self, run_id: str) -> Failure | None:
        """Why the last attempt failed; None if it did not, or if the file that says so is unreadable."""
        try:
            return Failure.from_bytes(RunFolder(self.folder(run_id)).failure.read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def first_failure(self, run_ids: Iterable[str]) -> Failure | None:
        """The first failure that was written for any of the runs."""
        return next((found for run_id in run_ids if (found := self.failure(run_id)) is not None), None)

    def fail(self, run_ids: Iterable[str], cause: Cause, message: str, log: Path) -> None:
        """Write into the runs' folders why they have no record; processes still at work on them lose them."""
        for run_id in run_ids:
            attempt = self.begin(run_id)
            attempt.fail(Failure(attempt=attempt.number, cause=cause, message=message, log=str(log)))

    def content(self, record: Record, kind: str) -> bytes:
        """Content of the record's file of a kind.

        Raises:
            ValueError: there is none, or its digest differs.
        """
        name = record.file(kind)
        if name is None:
            raise ValueError(f"run {record.id} has no {kind}")
        path = self.folder(record.id) / name
        data = path.read_bytes()
        if digest(data) != record.files[name]:
            raise ValueError(
                f"{path}: its digest is not the one in record.json; remove {path.parent} to run it again"
            )
        return data

    def predictions(self, record: Record) -> Predictions:
        """The per-sample predictions of a done run."""
        return Predictions.from_bytes(self.content(record, "predictions"))

    def history(self, record: Record) -> Sequence[Epoch]:
        """What each epoch reported, in order; empty where the run kept no history."""
        if record.file("history") is None:
            return []
        return history_from_bytes(self.content(record, "history"))

    def begin(self, run_id: str) -> Attempt:
        """A new attempt at a run; all earlier ones may not write any more.

        The caller holds the run's lock, if it wants to keep two processes from doing the same work.
        """
        return Attempt.begin(self.folder(run_id))

    def withdraw(self, run_id: str) -> None:
        """Take back a run's record: the run counts as not done. Its files stay until it is done again.

        The caller holds the run's lock.
        """
        self.paths(run_id).record.unlink(missing_ok=True)

    def add_tuning(self, record: Record, run: RunContent) -> None:
        """Write into the record of a run that was there before how its hyperparameters were chosen.

        The caller holds the run's lock.
        """
        described = replace(record, run={**record.run, "tuned": run["tuned"]})
        write_atomically(self.paths(record.id).record, described.to_bytes())

    def paths(self, run_id: str) -> RunFolder:
        """What lies where in a run's folder."""
        return RunFolder(self.folder(run_id))

    def _folders(self) -> list[str]:
        try:
            with os.scandir(self.root) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []
        return [f"{self.root}/{name}" for name in sorted(names) if self._may_be_run(name)]

    def _may_be_run(self, name: str) -> bool:
        return name not in self._reserved and not name.startswith(".")


def _load(folder: Path | str) -> Record:
    """The record in a folder. It uses no pathlib: a store may hold ten thousand records."""
    folder = os.fspath(folder)
    path = f"{folder}/{RECORD}"
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        data = file.read()
    try:
        record = Record.from_bytes(data)
    except BrokenRecord as error:
        raise BrokenRecord(f"{path}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if record.id != os.path.basename(folder):  # noqa: PTH119
        raise BrokenRecord(f"{path}: it is the record of {record.id}")
    for name in record.files:
        if not os.path.isfile(f"{folder}/{name}"):  # noqa: PTH113
            raise BrokenRecord(f"{path}: its file {name} is gone")
    return record
