"""Checking a folder of records byte by byte, and their metrics against their predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from common.files import digest
from common.paths import RunFolder
from results.metrics import alone, compare
from results.store.folder import Store
from results.store.records import BrokenRecord, Record

TOLERANCE = 1e-6
"""Relative difference of a metric that another version of numpy may make."""


def problems(store: Store) -> Iterator[str]:
    """What is wrong with the store's records and their files, one line each; reads every byte."""
    for record in store.scan():
        if isinstance(record, BrokenRecord):
            yield str(record)
            continue
        damaged = list(_damaged_files(store, record))
        yield from damaged
        if not damaged and record.file("predictions"):
            yield from (
                f"{RunFolder(store.folder(record.id)).record}: {problem}"
                for problem in _wrong_numbers(store, record)
            )


def _damaged_files(store: Store, record: Record) -> Iterator[str]:
    for name, expected in record.files.items():
        path = store.folder(record.id) / name
        if digest(path.read_bytes()) != expected:
            yield f"{path}: its digest is not the one in record.json"


def _wrong_numbers(store: Store, record: Record) -> Iterator[str]:
    try:
        if store.predictions(record).packed_right != record.right:
            yield "its right answers are not those of the predictions"
        computed = recomputed_metrics(store, record)
    except ValueError as error:
        yield f"its metrics cannot be recomputed: {error}"
        return
    for name, value in computed.items():
        written = record.metrics.get(name)
        if written is not None and not math.isclose(written, value, rel_tol=TOLERANCE, abs_tol=1e-12):
            yield f"its {name} is {written:.6g}, that of the predictions {value:.6g}"


def recomputed_metrics(store: Store, record: Record) -> Mapping[str, float]:
    """The metrics of a done run from its predictions; empty for a candidate whose old model is not here.

    Raises:
        ValueError: predictions are damaged, or do not belong together.
    """
    predictions = store.predictions(record)
    role = record.run["role"]
    if role != "candidate":
        return alone(predictions, on="old" if role == "old" else "all")
    old = store.read(record.run["parents"][0]) if record.run["parents"] else None
    if old is None or old.file("predictions") is None:
        return {}
    old_classes = record.run["split"]["old_classes"]
    return compare(store.predictions(old), predictions, old_classes=old_classes)
