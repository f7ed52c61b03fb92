"""Numbers on the part of the training images that `validation=` holds out, in place of those on the test set.

Recipes and hyperparameters are chosen on them, so whoever reads them never sees a test number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from results.metrics import alone, compare
from results.predictions import Predictions
from results.store import BrokenRecord, Record, RunContent, Store

Metrics = Literal["test", "validation"]
"""Which images numbers are about: those of the test set, or those held out from training."""

_ABOUT_TEST = ("predictions", "gallery", "embeddings")


def open_store(runs: Path, metrics: Metrics) -> Store:
    """The records in a folder, with the numbers that `metrics` asks for."""
    return HeldOutStore(runs) if metrics == "validation" else Store(runs)


def predictions_on(store: Store, record: Record, metrics: Metrics) -> Predictions:
    """What a done run predicted on the images that `metrics` asks for.

    Raises:
        ValueError: the run holds nothing out, or the file is damaged.
    """
    if metrics == "test":
        return store.predictions(record)
    return Predictions.from_bytes(store.content(record, "validation"))


class HeldOutStore(Store):
    """A folder of records whose numbers are those on held-out training images.

    Runs that hold nothing out have no record here.
    """

    samples_name = "held-out training samples"

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._old: dict[str, Predictions | None] = {}

    def read(self, run_id: str) -> Record | None:
        """The run's record; None if there is none that is intact, or if it holds nothing out."""
        record = super().read(run_id)
        return None if record is None else self._on_held_out(record)

    def scan(self) -> Iterator[Record | BrokenRecord]:
        """All records of runs that hold something out; in the place of each broken one, its error."""
        for record in super().scan():
            if isinstance(record, BrokenRecord):
                yield record
            elif (changed := self._on_held_out(record)) is not None:
                yield changed

    def is_about(self, run: RunContent) -> bool:
        """Whether such a run holds something out."""
        return bool(run["split"].get("validation"))

    def predictions(self, record: Record) -> Predictions:
        """The predictions of a done run on the held-out images."""
        return predictions_on(self, record, "validation")

    def _on_held_out(self, record: Record) -> Record | None:
        if not self.is_about(record.run):
            return None
        if record.state != "done":
            return record
        made = self.predictions(record)
        files = {
            name: digest for name, digest in record.files.items() if name.split("-")[0] not in _ABOUT_TEST
        }
        return replace(record, files=files, metrics=self._metrics(record, made), right=made.packed_right)

    def _metrics(self, record: Record, made: Predictions) -> dict[str, float]:
        if record.run["role"] == "old":
            return alone(made, on="old")
        old = self._predictions_of(record.run["parents"][0]) if record.run["role"] == "candidate" else None
        if old is None:
            return alone(made, on="all")
        return compare(old, made, old_classes=record.run["split"]["old_classes"])

    def _predictions_of(self, run_id: str) -> Predictions | None:
        if run_id not in self._old:
            record = super().read(run_id)
            done = record is not None and record.state == "done"
            self._old[run_id] = self.predictions(record) if record is not None and done else None
        return self._old[run_id]
