"""The models that a run learns from, is made from or is compared with, read from their records."""

from __future__ import annotations

import io

import torch
from torch import nn

from harness import models
from harness.combined import Adjusted, Combined
from harness.failures import ParentMissing
from harness.plan import Run
from methods import METHODS, Ensemble, Method, PostHoc
from results.held_out import Metrics, predictions_on
from results.predictions import Predictions
from results.store import Record, Store


def make_method(run: Run) -> Method:
    """The method of a run, with its hyperparameters."""
    return METHODS.find(run.method).load()(**dict(run.hyperparameters))


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

    def start(self, run: Run) -> nn.Module:
        """The network of a run that is trained, with the weights that training starts from.

        Raises:
            ParentMissing: it starts from an old model that has no record, or has diverged.
        """
        network = models.build(run.model, run.trained_classes, run.stream_key)
        if run.init == "old":
            models.start_from(network, self.network(run.parents[0]))
        return network

    def network(self, run_id: str) -> nn.Module:
        """The finished network of a run.

        Raises:
            ParentMissing: it has no record, or has diverged.
        """
        record, run = self.record(run_id), self.run(run_id)
        method = make_method(run)
        if isinstance(method, Ensemble):
            return self.ensemble(run, method)
        network = models.build(run.model, run.trained_classes, run.stream_key)
        weights = io.BytesIO(self._store.content(record, "weights"))
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        if isinstance(method, PostHoc):
            strength = record.chosen[method.strength_name]
            return Adjusted(network, method, run.split.old_classes, strength)
        return network

    def ensemble(self, run: Run, method: Ensemble) -> nn.Module:
        """The members of an ensemble, and how they answer together.

        Raises:
            ParentMissing: one has no record, or has diverged.
        """
        first_new = 1 + method.references
        return Combined(
            method,
            run.split.old_classes,
            old=self.network(run.parents[0]) if method.uses_old else None,
            new=self.network(run.parents[first_new]) if method.uses_new else None,
            references=[self.network(parent) for parent in run.parents[1:first_new]],
        )

    def made_from(self, run: Run) -> tuple[Run, Run]:
        """No Treatment's candidate that a post-hoc run changes, and the model on which it is chosen how.

        Raises:
            ParentMissing: one has no record, or has diverged.
        """
        trained, holdout = run.parents[-2:]
        return self.run(trained), self.run(holdout)

    def predictions(self, run_id: str, on: Metrics = "test") -> Predictions:
        """What a run predicted on the test images, or on those that are held out from training.

        Raises:
            ParentMissing: it has no record, or has diverged.
        """
        return predictions_on(self._store, self.record(run_id), on)
