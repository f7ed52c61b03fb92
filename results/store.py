"""The folder of records: one folder a run, a record written last as the only proof that the run is done.

    <root>/<run id>/record.json                 see `Record`
                    predictions-0001.npz, ...   the files that the record names, each with its digest
                    history-0001.json           what each epoch said
                    attempts/0001               one folder an attempt: the newest alone may write
                    failure.json                see `Failure`

Nothing is shared between runs, so any number of writers on a network file system get by without a lock
or a database. A process that was given up and comes back finds a newer attempt and is refused.

python -m results.store verify|export|import runs=runs file=runs.tar
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from common.files import digest, remove_leftovers, replacing
from common.jobs import Cause
from results.predictions import Predictions

SCHEMA = 2
"""1: as now, without the digest of the record itself."""
_SEAL, _DIGEST_CHARACTERS = b'{\n "sha256": "', 64
_NOT_RUNS = {"jobs", "betons"}


class StaleAttempt(RuntimeError):  # noqa: N818 - a state, reported to its own writer
    """A newer attempt at the run has begun: this one may write no more."""


class BrokenRecord(ValueError):  # noqa: N818
    """A record is cut short, invalid, or a file that it names is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known about one finished run."""

    run: Mapping[str, Any]
    """Content of the Run, with its "id"."""
    state: Literal["done", "diverged"]
    reason: str | None = None
    """Why the run diverged."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """See `results.metrics`."""
    right: str | None = None
    """Which test samples the model got right (`Predictions.packed_right`): what paired statistics need,
    without a look into the predictions. Set by `Attempt.publish`."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by name: train_s, evaluate_s, ..."""
    images_per_s: float | None = None
    peak_memory_bytes: int | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Versions, device, host, git commit."""
    attempt: int
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file beside the record, by file name."""
    finished: str
    """ISO time in UTC."""
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """The run's id, also the name of its folder."""
        return str(self.run["id"])

    def file(self, kind: str) -> str | None:
        """Name of the file of a kind ("predictions", "weights", ...), None if the run left none."""
        return next((name for name in self.files if name.startswith(f"{kind}-")), None)

    def to_bytes(self) -> bytes:
        """The content of record.json: an object whose first field is the digest of all that follows it."""
        content = asdict(self) | {"schema": SCHEMA}
        rest = b'",' + json.dumps(content, indent=1, allow_nan=False).encode().removeprefix(b"{")
        return _SEAL + digest(rest).encode() + rest

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`, for this schema and all older ones.

        Raises BrokenRecord, or a plain ValueError for a schema that is newer than this code.
        """
        try:
            content = json.loads(data)
        except ValueError as error:
            raise BrokenRecord(f"not JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
            raise BrokenRecord("no record: it names no schema")
        if content["schema"] > SCHEMA:
            raise ValueError(
                f"its schema is {content['schema']}, this code knows up to {SCHEMA}: update the code"
            )
        if content["schema"] > 1:
            said, rest = content.pop("sha256", None), data[len(_SEAL) + _DIGEST_CHARACTERS :]
            if not data.startswith(_SEAL) or said != digest(rest):
                raise BrokenRecord("its content is not what its digest was made of")
        _check_fields(content)
        return cls(**content)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why the last attempt at a run failed."""

    attempt: int
    cause: Cause
    message: str
    log: str | None = None
    """Path of the log that tells more."""


class Store:
    """A folder of records. Reading never writes; a missing folder is an empty store."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def folder(self, run_id: str) -> Path:
        """Where a run's files lie; ValueError for an id that is no plain name."""
        if not run_id or run_id in _NOT_RUNS or run_id.startswith(".") or Path(run_id).name != run_id:
            raise ValueError(f"{run_id!r} cannot be the id of a run")
        return self.root / run_id

    def read(self, run_id: str) -> Record | None:
        """The run's record; None if there is none, or none that is whole with all its files.

        Raises ValueError, naming the file, for a record of a newer schema.
        """
        try:
            return _load(self.folder(run_id))
        except (FileNotFoundError, BrokenRecord):
            return None

    def scan(self) -> Iterator[Record | BrokenRecord]:
        """All records by run id, and in the place of each broken one the error that says why."""
        for folder in self._folders():
            try:
                yield _load(folder)
            except FileNotFoundError:
                continue
            except BrokenRecord as broken:
                yield broken

    def records(self) -> Iterator[Record]:
        """All whole records, by run id."""
        return (record for record in self.scan() if isinstance(record, Record))

    def failure(self, run_id: str) -> Failure | None:
        """Why the last attempt failed, None if it did not (or if the file that says so is unreadable)."""
        try:
            return Failure(**json.loads((self.folder(run_id) / "failure.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def missing(self, run_ids: Iterable[str]) -> list[str]:
        """Those of the runs that have no valid record."""
        return [run_id for run_id in run_ids if self.read(run_id) is None]

    def first_failure(self, run_ids: Iterable[str]) -> Failure | None:
        """The first failure that was written for any of the runs."""
        return next((found for run_id in run_ids if (found := self.failure(run_id)) is not None), None)

    def fail(self, run_ids: Iterable[str], cause: Cause, message: str, log: Path) -> None:
        """Say in the runs' folders why they have no record; whatever still works on them is fenced off."""
        for run_id in run_ids:
            attempt = self.begin(run_id)
            attempt.fail(Failure(attempt=attempt.number, cause=cause, message=message, log=str(log)))

    def content(self, record: Record, kind: str) -> bytes:
        """Content of the record's file of that kind; ValueError if there is none or its digest differs."""
        name = record.file(kind)
        if name is None:
            raise ValueError(f"run {record.id} has left no {kind}")
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

    def history(self, record: Record) -> list[dict[str, Any]]:
        """What each epoch said, in order: "epoch", named losses, training accuracy; None for a NaN."""
        if record.file("history") is None:
            return []
        history: list[dict[str, Any]] = json.loads(self.content(record, "history"))
        return history

    def begin(self, run_id: str) -> "Attempt":
        """A new attempt at a run; all earlier ones may write no more.

        The caller holds the run's lock, if it wants to keep two at once from doing the same work.
        """
        folder = self.folder(run_id)
        attempts = folder / "attempts"
        attempts.mkdir(parents=True, exist_ok=True)
        while True:
            number = _newest(attempts) + 1
            try:
                (attempts / f"{number:04d}").mkdir()
            except FileExistsError:
                continue
            remove_leftovers(folder)
            return Attempt(folder, number)

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self.root) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []
        return [self.root / name for name in sorted(names) if name not in _NOT_RUNS and name[0] != "."]


class Attempt:
    """The right to write into a run's folder, until a newer attempt begins."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number

    def name(self, file: str) -> str:
        """`file` with this attempt's number: "weights.pt" -> "weights-0001.pt"."""
        path = Path(file)
        return f"{path.stem}-{self.number:04d}{path.suffix}"

    def write(self, name: str, data: bytes) -> str:
        """Put a file into the run's folder; its digest. Raises StaleAttempt.

        What a record names is written under `self.name(...)`, so that no attempt touches another's files.
        """
        self._check()
        try:
            self._put(name, data)
        except FileNotFoundError:
            # Whoever begins an attempt clears temporary files away; if we are still the newest, it was late.
            self._put(name, data)
        return digest(data)

    def _put(self, name: str, data: bytes) -> None:
        with replacing(self.folder / name) as file:
            file.write(data)
            self._check()  # an attempt that begins after this clears the file away before it takes its place

    def publish(self, record: Record, *, history: Sequence[Mapping[str, Any]] = ()) -> Record:
        """Declare the run done: write the history, then the record, last of all. Raises StaleAttempt.

        Gives back the record as written, which also tells the right answers among its predictions, and
        clears away the failure and the files of earlier attempts.
        """
        assert record.attempt == self.number, "a record carries the number of the attempt that wrote it"
        files = dict(record.files)
        if history:
            name = self.name("history.json")
            epochs = json.dumps([_without_nan(epoch) for epoch in history], allow_nan=False)
            files[name] = self.write(name, epochs.encode())
        missing = [name for name in files if not (self.folder / name).is_file()]
        assert not missing, f"the record names files that were not written: {missing}"
        record = replace(record, files=files, right=self._right(record.file("predictions")))
        self.write("record.json", record.to_bytes())
        self._tidy(record)
        return record

    def fail(self, failure: Failure) -> None:
        """Say why this attempt failed. Raises StaleAttempt."""
        self.write("failure.json", json.dumps(asdict(failure), indent=1).encode())

    def _check(self) -> None:
        newest = _newest(self.folder / "attempts")
        if newest != self.number:
            raise StaleAttempt(f"{self.folder.name}: attempt {self.number} has given way to attempt {newest}")

    def _right(self, predictions: str | None) -> str | None:
        if predictions is None:
            return None
        return Predictions.from_bytes((self.folder / predictions).read_bytes()).packed_right

    def _tidy(self, record: Record) -> None:
        (self.folder / "failure.json").unlink(missing_ok=True)
        for number in range(1, self.number):
            for file in self.folder.glob(f"*-{number:04d}.*"):
                if file.name not in record.files:
                    file.unlink(missing_ok=True)


def _load(folder: Path) -> Record:
    path = os.path.join(folder, "record.json")  # noqa: PTH118 - ten thousand of these
    with open(path, "rb") as file:  # noqa: PTH123
        data = file.read()
    try:
        record = Record.from_bytes(data)
    except BrokenRecord as error:
        raise BrokenRecord(f"{path}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if record.run["id"] != folder.name:
        raise BrokenRecord(f"{path}: it is the record of {record.run['id']}")
    for name in record.files:
        if not os.path.isfile(os.path.join(folder, name)):  # noqa: PTH113, PTH118
            raise BrokenRecord(f"{path}: its file {name} is gone")
    return record


def _newest(attempts: Path) -> int:
    return max((int(name) for name in os.listdir(attempts) if name.isdigit()), default=0)  # noqa: PTH208


_Types = dict[str, type | tuple[type, ...]]
_TYPES: _Types = {
    "run": dict,
    "state": str,
    "reason": (str, type(None)),
    "metrics": dict,
    "right": (str, type(None)),
    "timings": dict,
    "images_per_s": (float, int, type(None)),
    "peak_memory_bytes": (int, type(None)),
    "environment": dict,
    "attempt": int,
    "files": dict,
    "finished": str,
    "schema": int,
}
assert _TYPES.keys() == {entry.name for entry in fields(Record)}
_RUN_TYPES: _Types = {
    "id": str,
    "label": str,
    "role": str,
    "seed": int,
    "dataset": str,
    "data": str,
    "split": dict,
    "model": dict,
    "recipe": dict,
    "method": str,
    "hyperparameters": dict,
    "method_version": int,
    "parents": list,
}
"""Of a run's content what tables are made of."""


def _check_fields(content: dict[str, Any]) -> None:
    if content.keys() != _TYPES.keys():
        raise BrokenRecord(f"missing or unknown field: {min(content.keys() ^ _TYPES.keys())}")
    _check_types(content, _TYPES)
    if content["state"] not in ("done", "diverged"):
        raise BrokenRecord(f"state {content['state']!r} is neither done nor diverged")
    check_run(content["run"])
    for kind in ("metrics", "timings"):
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in content[kind].values()):
            raise BrokenRecord(f"{kind} hold something that is no number")
    if any(os.path.basename(name) != name for name in content["files"]):  # noqa: PTH119
        raise BrokenRecord("a file lies outside its folder")


def check_run(run: Any) -> None:
    """Raise BrokenRecord for what is not a run's content."""
    if not isinstance(run, dict):
        raise BrokenRecord("a run's content is a table of fields")
    _check_types(run, _RUN_TYPES)


def _check_types(content: Mapping[str, Any], wanted: _Types) -> None:
    for name, types in wanted.items():
        if not isinstance(content.get(name, ...), types):
            raise BrokenRecord(f"{name} is missing or has the wrong type")


def _without_nan(epoch: Mapping[str, Any]) -> dict[str, Any]:
    def unsaid(value: Any) -> bool:
        return isinstance(value, float) and not math.isfinite(value)

    return {name: None if unsaid(value) else value for name, value in epoch.items()}


if __name__ == "__main__":
    from results.archive import main

    sys.exit(main(sys.argv[1:]))
