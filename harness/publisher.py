"""Evaluates finished networks and writes their records; of several processes the first alone writes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from harness import checkpoint, environment
from harness.compute import ComputeConfig
from harness.data import Data
from harness.distributed import World
from harness.evaluate import NotFinite, current_metrics, evaluate
from harness.parents import Parents
from harness.plan import Run
from harness.resources import StepCost, gmacs, shares_alone
from harness.trainer import Member, Trained
from results.held_out import Metrics
from results.predictions import Predictions
from results.store import Attempt, Failure, Record
from results.store.records import Epoch


@dataclass(frozen=True, kw_only=True)
class Account:
    """How a network came about: what its record tells besides the test."""

    timings: Mapping[str, float]
    """Seconds, by name."""
    environment: Mapping[str, Any]
    images_per_s: float | None = None
    history: Sequence[Epoch] = ()


class Recorder:
    """Writes the records of the runs of one Job."""

    def __init__(self, data: Data, compute: ComputeConfig, parents: Parents, world: World) -> None:
        self._data = data
        self._compute = compute
        self._parents = parents
        self._world = world

    def test(self, run: Run, network: nn.Module, attempt: Attempt | None, account: Account) -> bool:
        """Evaluate `network` and write its record; all processes take part. False if it has diverged."""
        began = time.monotonic()
        old = self.old_predictions(run)
        self._world.align(network)
        try:
            evaluation = evaluate(run, network, self._data, self._compute, old, self._world)
        except NotFinite as error:
            self.write(run, attempt, account, state="diverged", reason=str(error))
            return False
        if attempt is None:
            return True
        files = {attempt.name(name): content for name, content in evaluation.files.items()}
        self.write(
            run,
            attempt,
            account,
            state="done",
            metrics=evaluation.metrics,
            files={name: attempt.write(name, content) for name, content in files.items()},
            evaluate_s=time.monotonic() - began,
        )
        return True

    def write(
        self, run: Run, attempt: Attempt | None, account: Account, *, evaluate_s: float = 0.0, **fields: Any
    ) -> None:
        """Write a record with these fields."""
        if attempt is None:
            return
        compute = self._compute
        how = {"precision": compute.precision, "compile": compute.compile, "processes": self._world.size}
        names: dict[str, Any] = {}
        if run.role == "old":
            names["class_names"] = list(self._data.class_names)
        record = Record(
            run=run.document(),
            timings={**account.timings, "evaluate_s": evaluate_s},
            images_per_s=account.images_per_s,
            peak_memory_bytes=compute.peak_memory,
            environment={**environment.describe(compute.device), **how, **account.environment, **names},
            attempt=attempt.number,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            **fields,
        )
        attempt.publish(record, history=account.history)

    def old_predictions(self, run: Run, on: Metrics = "test") -> Predictions | None:
        """What the old model of a candidate predicted."""
        return self._parents.predictions(run.parents[0], on) if run.role == "candidate" else None


class Publisher:
    """Publishes the members of a Job that trains."""

    def __init__(
        self,
        members: Sequence[Member],
        data: Data,
        compute: ComputeConfig,
        parents: Parents,
        world: World,
        *,
        log: Path,
    ) -> None:
        """`log` is where the job's output goes: failures point to it."""
        self._recorder = Recorder(data, compute, parents, world)
        self._log = log
        self._members = members
        self._data = data
        self._compute = compute
        self._parents = parents
        self._world = world

    def publish(self, trained: Trained) -> None:
        """Evaluate every member that has trained to the end, and write its record."""
        for member in self._members:
            if member.student.trains:
                account = self._account(member, trained)
                done = self._recorder.test(member.run, member.student.network, member.attempt, account)
                if done and member.attempt is not None:
                    checkpoint.remove(member.attempt.folder)

    def current_metrics(self, member: Member) -> Mapping[str, float]:
        """The metrics of a member as it is now (`evaluate.current_metrics`); all processes take part."""
        self._world.align(member.student.network)
        old = self._recorder.old_predictions(
            member.run, "test" if self._data.validation is None else "validation"
        )
        return current_metrics(
            member.run, member.student.network, self._data, self._compute, old, self._world
        )

    def publish_out(self, member: Member, trained: Trained) -> None:
        """Write the record of a member that has just diverged, or why it has failed.

        A failed member leaves no checkpoint: it must not hold its siblings back when the job resumes.
        """
        if member.student.failure:
            self._write_failure(member)
            return
        reason = f"the loss was not finite at step {member.student.diverged_at}"
        account = self._account(member, trained)
        self._recorder.write(member.run, member.attempt, account, state="diverged", reason=reason)

    def _write_failure(self, member: Member) -> None:
        attempt = member.attempt
        if attempt is None:
            return
        message = f"{member.run.label}: {member.student.failure}"
        attempt.fail(Failure(attempt=attempt.number, cause="bug", message=message, log=str(self._log)))
        checkpoint.remove(attempt.folder)

    def _account(self, member: Member, trained: Trained) -> Account:
        size = len(self._members)
        return Account(
            timings={
                "train_s": trained.train_s,
                "train_share_s": trained.train_s / size,
                "train_alone_s": trained.train_s * self._share_alone(member),
            },
            environment={
                "sync_batchnorm": self._compute.sync_batchnorm,
                "cohort": size,
                "networks": 1,
                "gmacs": gmacs(member.run.model, self._data.dataset.image_size),
            },
            images_per_s=trained.images_per_s,
            history=member.student.history,
        )

    def _share_alone(self, member: Member) -> float:
        """What the member's training would have taken alone, as a share of the cohort's."""
        return shares_alone([self._step_cost(one) for one in self._members])[self._members.index(member)]

    def _step_cost(self, member: Member) -> StepCost:
        run, method = member.run, member.student.method
        old = self._parents.run(run.parents[0]).model if method.uses_old and run.parents else None
        return StepCost.of(run, old, method.references, self._data.dataset.image_size)
