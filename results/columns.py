"""What is known about a run, by name: the columns of tables, of exports and of filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.metrics import METRICS, Metric
from results.store import Record, RunContent

COSTS: dict[str, Metric] = {
    "train_hours_alone": Metric(
        title="Train h alone",
        meaning="device hours to train it with its old model and references, as if nothing else were made",
        unit="",
        digits=4,
    ),
    "train_hours": Metric(
        title="Train h",
        meaning="device hours of its own training here, its share where runs trained together",
        unit="",
        digits=4,
    ),
    "networks": Metric(
        title="Networks", meaning="networks that classify a sample", better=None, unit="", digits=0
    ),
    "gmacs": Metric(
        title="GMACs", meaning="1e9 multiply-adds to classify a sample", better=None, unit="", digits=4
    ),
    "images_per_s": Metric(title="Images/s", meaning="training throughput", better="high", unit=""),
    "peak_memory_gb": Metric(title="Memory GB", meaning="peak memory", unit=""),
}
KNOWN_COLUMNS = METRICS | COSTS

HYPERPARAMETERS = "hyperparameters."
"""Prefix of the columns of a method's hyperparameters."""
OLD = "old."
"""Prefix of the columns that describe a candidate's old model."""
_RENAMED = {
    ("recipe", "version"): "recipe_version",
    ("given", "kind"): "given",
    ("given", "sha256"): "given_sha256",
}


def value_of(record: Record, metric: str, parents: Sequence[Record] | None = None) -> float | None:
    """A metric, or a cost that the records tell (`COSTS`).

    Args:
        record: of the run.
        metric: name of the metric or cost.
        parents: the records of the models that it needed; None where they are not all there.
    """
    if metric == "train_hours":
        return _hours(training_seconds(record))
    if metric == "train_hours_alone":
        return _hours(training_seconds_alone(record, parents))
    if metric == "networks":
        return record.networks
    if metric == "gmacs":
        return record.gmacs
    if metric == "images_per_s":
        return record.images_per_s
    if metric == "peak_memory_gb":
        return None if record.peak_memory_bytes is None else record.peak_memory_bytes / 1e9
    return record.metrics.get(metric)


def training_seconds(record: Record) -> float | None:
    """Device seconds that a run took: its share, where it trained with others on one stream."""
    seconds = record.timings.get("train_share_s", record.timings.get("train_s"))
    return None if seconds is None else seconds * record.processes


def training_seconds_alone(record: Record, parents: Sequence[Record] | None) -> float | None:
    """Device seconds to make a run and all that it needs, as if nothing else were made.

    Old records do not tell what the run would have taken alone: for them it is the share that it took.
    """
    if parents is None:
        return None
    own = record.timings.get("train_alone_s")
    seconds = [training_seconds(record) if own is None else own * record.processes]
    # What a post-hoc candidate is made from is part of its own time; a given old model is there already.
    taught = [parent for i, parent in enumerate(parents) if i == 0 or parent.run["role"] == "reference"]
    taught = [parent for parent in taught if "given" not in parent.run]
    seconds += [training_seconds_alone(parent, ()) for parent in taught]
    known = [value for value in seconds if value is not None]
    return math.fsum(known) if len(known) == len(seconds) else None


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def run_columns(run: RunContent, old: RunContent | None = None) -> dict[str, Any]:
    """What was asked for: method, hyperparameters, data, split, architecture, recipe, seed and old model."""
    columns = dict(_flat(run))
    if old is not None:
        columns |= {
            f"{OLD}{name}": value
            for part in ("split", "model", "recipe", "given")
            if part in old
            for name, value in _flat({part: old[part]})
        }
    return columns


def record_columns(record: Record) -> dict[str, Any]:
    """What came out: state, all metrics and costs, and the machine."""
    costs = {name: value_of(record, name) for name in COSTS}
    environment: dict[str, Any] = {}
    for name, value in record.environment.items():
        if isinstance(value, dict):
            environment |= {f"{name}.{key}": inner for key, inner in value.items()}
        elif not isinstance(value, list):
            environment[name] = value
    return {
        "state": record.state,
        "reason": record.reason,
        **record.metrics,
        **costs,
        **record.timings,
        **environment,
        "attempt": record.attempt,
        "finished": record.finished,
    }


def _flat(run: RunContent) -> Iterator[tuple[str, Any]]:
    for name, value in run.items():
        if name == "hyperparameters":
            yield from ((f"{HYPERPARAMETERS}{key}", inner) for key, inner in value.items())
        elif name == "parents":
            yield "old_model", value[0] if value else None
        elif name == "tuned":
            yield "tuned", value is not None
        elif isinstance(value, Mapping):
            yield from ((_RENAMED.get((name, key), str(key)), inner) for key, inner in value.items())
        elif name != "shown":
            yield name, value
