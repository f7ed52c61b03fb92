"""Candidates that are made from trained models: changed after training, or several that answer together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from harness.combined import Adjusted
from harness.compute import ComputeConfig
from harness.data import Data
from harness.distributed import World
from harness.engine import predict
from harness.method_errors import blamed_on
from harness.parents import Parents, make_method
from harness.plan import Run
from harness.publisher import Account, Recorder
from harness.resources import gmacs
from methods import Ensemble, PostHoc, Trial
from results.columns import training_seconds_alone
from results.store import Attempt


@dataclass(frozen=True, kw_only=True)
class Made:
    """A candidate that was made from others."""

    network: nn.Module
    networks: int
    """How many networks classify a sample."""
    gmacs: float
    """1e9 multiply-adds for that."""
    chosen: Mapping[str, float]
    """What was chosen on held-out training data, by name."""


class Maker:
    """Makes the candidates of a Job and writes their records; of several processes the first alone writes."""

    def __init__(
        self,
        data: Data,
        parents: Parents,
        compute: ComputeConfig,
        world: World,
        open_data: Callable[[Run], Data],
    ) -> None:
        """`data` is that of the Job, and `open_data` gives that of a holdout, which methods share."""
        self._data = data
        self._parents = parents
        self._compute = compute
        self._world = world
        self._open_data = cache(open_data)

    def publish(self, run: Run, attempt: Attempt | None) -> None:
        """Make the candidate, test it, and write its record."""
        began = time.monotonic()
        made = self.make(run)
        seconds = time.monotonic() - began
        account = Account(
            timings={
                "train_s": seconds,
                "train_share_s": seconds,
                "train_alone_s": seconds + self._trained_for(run),
            },
            environment={
                "cohort": 1,
                "networks": made.networks,
                "gmacs": made.gmacs,
                **({"chosen": dict(made.chosen)} if made.chosen else {}),
            },
        )
        network = self._compute.place(made.network)
        Recorder(self._data, self._compute, self._parents, self._world).test(run, network, attempt, account)

    def make(self, run: Run) -> Made:
        """The candidate of a run whose method trains nothing."""
        method = make_method(run)
        new = gmacs(run.model, self._data.dataset.image_size)
        if isinstance(method, Ensemble):
            old = self._parents.record(run.parents[0])  # of a chain it may be an ensemble itself
            plain = method.networks - method.uses_old
            return Made(
                network=self._parents.ensemble(run, method),
                networks=plain + (old.networks or 1) * method.uses_old,
                gmacs=plain * new + (old.gmacs or 0.0) * method.uses_old,
                chosen={},
            )
        assert isinstance(method, PostHoc)
        trained, holdout = self._parents.made_from(run)
        strength = self._choose(method, holdout)
        network = self._parents.network(trained.id)
        start = self._start(trained, network.state_dict())
        with blamed_on(method):
            weights = method.weights(start, network.state_dict(), strength)
        network.load_state_dict(dict(weights))
        return Made(
            network=Adjusted(network, method, run.split.old_classes, strength),
            networks=1,
            gmacs=new,
            chosen={method.strength_name: strength},
        )

    def _choose(self, method: PostHoc, holdout: Run) -> float:
        """The strength, by trials on the training data that `holdout` has not seen."""
        data = self._open_data(holdout)
        assert data.validation is not None, "a holdout leaves out a part of the training data"
        network = self._compute.place(self._parents.network(holdout.id))
        trained = {name: value.clone() for name, value in network.state_dict().items()}
        start = self._start(holdout, trained)
        old_classes = holdout.split.old_classes
        changes_weights = type(method).weights is not PostHoc.weights
        answer: tuple[Tensor, Tensor, Tensor] | None = None
        trials = []
        for strength in method.strengths:
            if changes_weights or answer is None:
                with blamed_on(method):
                    weights = method.weights(start, trained, strength)
                network.load_state_dict(dict(weights))
                answer = predict(network, data.validation, data.normalise, self._compute, self._world)
            logits, targets, _ = answer
            with blamed_on(method):
                changed = method.logits(logits, old_classes, strength)
            trials.append(_trial(strength, changed, targets, old_classes))
        with blamed_on(method):
            return method.choose(trials)

    def _start(self, run: Run, trained: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights before training; where they are the old model's, new classes have the trained ones."""
        start: dict[str, Tensor] = self._parents.start(run).state_dict()
        if run.init == "old":
            for name, value in self._parents.network(run.parents[0]).state_dict().items():
                if value.dim():  # only the classifier's are longer than the old model's
                    start[name][len(value) :] = trained[name][len(value) :]
        return start

    def _trained_for(self, run: Run) -> float:
        """Seconds of training that the candidate needs besides the old model and references."""
        seconds = 0.0
        for parent in dict.fromkeys(run.parents[1:]):
            record = self._parents.record(parent)
            if record.run["role"] != "reference":
                grandparents = [self._parents.record(one) for one in record.run["parents"]]
                own = grandparents if record.run["role"] == "holdout" else []
                seconds += training_seconds_alone(record, own) or 0.0
        return seconds


def _trial(strength: float, logits: Tensor, targets: Tensor, old_classes: int) -> Trial:
    wrong = logits.argmax(dim=1) != targets
    old = targets < old_classes
    return Trial(
        strength=strength,
        er_all=float(wrong.double().mean()),
        er_old=float(wrong[old].double().mean()) if old.any() else 0.0,
    )
