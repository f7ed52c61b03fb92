"""The runs that a run learns from or is compared with, read from their records."""

from __future__ import annotations

import io

import torch
from torch import nn

from harness import models
from harness.failures import ParentMissing
from harness.plan import Run
from results.predictions import Predictions
from results.store import Record, Store


class Parents:
    """Reads what runs left behind that are done."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def record(self, run_id: str) -> Record:
        """The record of a run.

        Raises:
            ParentMissing: it has none, or has diverged.
        """
        record = self._store.read(run_id)
        if record is None or record.state != "done":
            what = "has no record" if record is None else f"{record.state}: {record.reason}"
            raise ParentMissing(f"{run_id} {what}")
        return record

    def run(self, run_id: str) -> Run:
        """The run itself, from its record.

        Raises:
            ParentMissing: it has no record, or has diverged.
        """
        return Run.from_content(self.record(run_id).run)

    def network(self, run_id: str) -> nn.Module:
        """The trained network of a run.

        Raises:
            ParentMissing: it has no record, or has diverged.
        """
        record, run = self.record(run_id), self.run(run_id)
        network = models.build(run.model, run.trained_classes, run.stream_key)
        weights = io.BytesIO(self._store.content(record, "weights"))
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network

    def predictions(self, run_id: str) -> Predictions:
        """What a run predicted on the test images.

        Raises:
            ParentMissing: it has no record, or has diverged.
        """
        return self._store.predictions(self.record(run_id))
