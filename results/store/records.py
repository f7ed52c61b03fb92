"""What is known about a run that has ended: its record, or why its last attempt failed.

record.json is one JSON object. Its first field is the digest of all bytes that follow it, so that every
change is noticed.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from common.files import digest
from common.identity import content_hash, possible_ids, run_label
from common.jobs import Cause
from results.tuned import Tuned

SCHEMA = 2
"""Version of record.json. Records of version 1 have no digest of their own."""
_SURROGATE = rb"\ud"
SEAL_START, DIGEST_LENGTH = b'{\n "sha256": "', 64

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Annotated[float, Meta(ge=-1e100, le=1e100)]
"""A number whose square is finite too. Whole numbers stay whole."""
Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar] | dict[str, Scalar]

RunContent = Mapping[str, Any]
"""All that decides a run's weights, with its "id" and "label" (`harness.plan.Run.document`)."""


class BrokenRecord(ValueError):  # noqa: N818
    """A record is cut short or invalid, or a file that it names is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known about one finished run."""

    run: RunContent
    state: Literal["done", "diverged"]
    reason: str | None = None
    """Why the run diverged."""
    metrics: Mapping[str, Number] = field(default_factory=dict)
    """See `results.metrics`."""
    right: str | None = None
    """Which test samples the model classified correctly (`Predictions.packed_right`): what paired statistics
    need without reading the predictions. Set by `Attempt.publish`."""
    timings: Mapping[str, Number] = field(default_factory=dict)
    """Seconds, by name: train_s, evaluate_s, ..."""
    images_per_s: Number | None = None
    peak_memory_bytes: Count | None = None
    environment: Mapping[str, Value] = field(default_factory=dict)
    """Versions, device, host, git commit; values, or lists or dicts of values."""
    attempt: Count
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file beside the record, by file name."""
    finished: str
    """ISO time in UTC."""
    schema: Annotated[int, Meta(ge=1, le=SCHEMA)] = SCHEMA

    @property
    def id(self) -> str:
        """The run's id, which is also the name of its folder."""
        return str(self.run["id"])

    @property
    def networks(self) -> int | None:
        """How many networks classify a sample; None where the record does not say."""
        return msgspec.convert(self.environment, _KnownEnvironment).networks

    @property
    def gmacs(self) -> float | None:
        """Multiply-adds to classify a sample, in units of 1e9; None where the record does not say."""
        return msgspec.convert(self.environment, _KnownEnvironment).gmacs

    @property
    def chosen(self) -> Mapping[str, float]:
        """What was chosen on held-out training data, by name."""
        return msgspec.convert(self.environment, _KnownEnvironment).chosen

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes, by position in the class order; None where the record has none."""
        return msgspec.convert(self.environment, _KnownEnvironment).class_names

    @property
    def tuned(self) -> Tuned | None:
        """How the run's hyperparameters were chosen, where `tune=` did so."""
        return tuned_of(self.run)

    @property
    def method_code(self) -> str:
        """Digest of the code of the run's method when it was made; empty where the record does not say."""
        return str(self.run.get("method_code", ""))

    @property
    def precision(self) -> str:
        """What the run was trained in; older records tell it with their environment alone."""
        made = msgspec.convert(self.environment, _KnownEnvironment).precision
        return str(self.run.get("precision", made))

    @property
    def processes(self) -> int:
        """How many processes trained the run together."""
        return msgspec.convert(self.environment, _KnownEnvironment).processes

    def file(self, kind: str) -> str | None:
        """Name of the file of a kind ("predictions", "weights", ...); None if the run has none."""
        return next((name for name in self.files if name.startswith(f"{kind}-")), None)

    def to_bytes(self) -> bytes:
        """The content of record.json.

        Raises:
            BrokenRecord: a value that cannot be read back, such as a metric that is not finite.
        """
        content = _encode(asdict(self) | {"schema": SCHEMA})
        rest = b'",' + content.removeprefix(b"{")
        data = SEAL_START + digest(rest).encode() + rest
        type(self).from_bytes(data)
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The inverse of `to_bytes`, for this schema and all older ones.

        Raises:
            BrokenRecord: not an intact record.
            ValueError: its schema is newer than this code.
        """
        try:
            content = msgspec.structs.asdict(_decode(data, _RECORD))
            check_run(content["run"])
            msgspec.convert(content["environment"], _KnownEnvironment)
        except msgspec.DecodeError as error:
            _check_schema(data)
            raise BrokenRecord(f"not a record: {error}") from error
        _check_digest(data, content["schema"], content.pop("sha256"))
        if any("/" in name or name in ("", ".", "..") for name in content["files"]):
            raise BrokenRecord("a file lies outside its folder")
        if content["right"] is not None:
            _check_base64(content["right"])
        return cls(**content)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why the last attempt at a run failed."""

    attempt: int
    cause: Cause
    message: str
    log: str | None = None
    """Path of the log that tells more."""

    def to_bytes(self) -> bytes:
        """The content of failure.json."""
        return _encode(asdict(self))

    @staticmethod
    def from_bytes(data: bytes) -> Failure:
        """The inverse of `to_bytes`.

        Raises:
            ValueError: not a failure.
        """
        return _decode(data, _FAILURE)


Epoch = Mapping[str, Number | None]
"""What one epoch reported: "epoch", named losses, "train_accuracy", "lr"; None for a NaN."""


def history_to_bytes(history: Sequence[Epoch]) -> bytes:
    """The content of history.json; a NaN or an infinity becomes null."""
    return msgspec.json.encode(history)


def history_from_bytes(data: bytes) -> Sequence[Epoch]:
    """The inverse of `history_to_bytes`.

    Raises:
        ValueError: not a history.
    """
    return _decode(data, _HISTORY)


class _Split(msgspec.Struct):
    classes: Count
    old_classes: Count
    class_order: Count | list[Count] | None
    old_data: float


class _Model(msgspec.Struct):
    arch: str
    stem: str
    embedding: Count | None = None
    weights: str | None = None


class _Given(msgspec.Struct):
    kind: Literal["weights", "predictions"]
    sha256: str


class _KnownRun(msgspec.Struct):
    """The part of a run's content that tables are made of."""

    id: str
    label: str
    role: str
    seed: Count
    dataset: str
    data: str
    split: _Split
    model: _Model
    recipe: dict[str, Value]
    method: str
    hyperparameters: dict[str, Value]
    method_version: Count
    parents: list[str]
    given: _Given | None = None
    precision: str = "fp32"
    method_code: str = ""
    trial: bool = False
    tuned: Tuned | None = None


class _KnownEnvironment(msgspec.Struct):
    """The part of an environment that tables and figures are made of."""

    processes: Count = 1
    class_names: list[str] | None = None
    networks: Count | None = None
    gmacs: float | None = None
    chosen: dict[str, float] = {}
    precision: str = "fp32"


def tuned_of(run: RunContent) -> Tuned | None:
    """How the hyperparameters of a run were chosen, where `tune=` did so."""
    return msgspec.convert(run.get("tuned"), Tuned | None)


def check_run(run: RunContent) -> None:
    """Check a run's content against its id.

    Raises:
        BrokenRecord: a field that tables need is missing or has the wrong type, or the id is not that of
            the content.
    """
    try:
        msgspec.convert(run, _KnownRun)
        found = content_hash(run)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BrokenRecord(f"not a run: {error}") from error
    if not run["id"].endswith(f"-{found}"):
        raise BrokenRecord(f"the content of run {run['id']} does not match its id")


def check_names(run: RunContent) -> None:
    """Check the readable part of a run's id, and its label, which the hash does not cover.

    Raises:
        BrokenRecord: they do not follow from the run's content.
    """
    try:
        shown = msgspec.convert(run["shown"], list[tuple[str, Value]])
        names = run["id"] in possible_ids(run) and run["label"] == run_label(run)
    except (KeyError, msgspec.ValidationError) as error:
        raise BrokenRecord(f"not a run: {error}") from error
    if not names or any(run["hyperparameters"].get(name, ...) != value for name, value in shown):
        raise BrokenRecord(f"the id or the label of run {run['id']} does not match its content")


class _Header(msgspec.Struct):
    schema: int


def _check_schema(data: bytes) -> None:
    """Refuse a record that was not understood because it is of a newer schema."""
    try:
        schema = _decode(data, _HEADER).schema
    except msgspec.DecodeError:
        return
    if schema > SCHEMA:
        raise ValueError(f"its schema is {schema}, this code knows up to {SCHEMA}: update the code")


def _check_digest(data: bytes, schema: int, sha256: str) -> None:
    if schema == 1:
        return
    rest = data[len(SEAL_START) + DIGEST_LENGTH :]
    if not data.startswith(SEAL_START) or sha256 != digest(rest):
        raise BrokenRecord("its content does not match its digest")


Decoded = TypeVar("Decoded")


def _decode(data: bytes, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
    """`decoder.decode`, which fails with a DecodeError whatever the bytes are.

    msgspec refuses the escapes of lone surrogates, which stand for file names that are not UTF-8.
    """
    try:
        if _SURROGATE not in data:
            return decoder.decode(data)
        return msgspec.convert(json.loads(data, parse_constant=_refuse), decoder.type)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _encode(value: object) -> bytes:
    """JSON with one field per line; a NaN or an infinity becomes null."""
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=1)
    except UnicodeEncodeError:  # a lone surrogate: written as an escape, for `_decode`
        return json.dumps(value, indent=1, allow_nan=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _check_base64(text: str) -> None:
    try:
        binascii.a2b_base64(text.encode(), strict_mode=True)
    except ValueError as error:
        raise BrokenRecord(f"its right answers are not base64: {error}") from error


def _strict_struct(cls: type[Any], **more: Any) -> type[msgspec.Struct]:
    """The fields of a dataclass as a struct that needs every field and allows no other."""
    hints = get_type_hints(cls, include_extras=True)
    required = [(entry.name, hints[entry.name]) for entry in fields(cls)]
    optional = [(name, type(default), default) for name, default in more.items()]
    return msgspec.defstruct(
        cls.__name__, [*required, *optional], kw_only=True, forbid_unknown_fields=True, gc=False
    )


_HEADER = msgspec.json.Decoder(_Header)
_RECORD = msgspec.json.Decoder(_strict_struct(Record, sha256=""))
_FAILURE = msgspec.json.Decoder(Failure)
_HISTORY = msgspec.json.Decoder(list[dict[str, Number | None]])
