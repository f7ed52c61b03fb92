"""Evaluates trained students and writes their records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import checkpoint, environment
from harness.compute import ComputeConfig
from harness.data import Data
from harness.distributed import World
from harness.evaluate import NotFinite, current_metrics, evaluate
from harness.parents import Parents
from harness.plan import Run
from harness.resources import StepCost, gmacs, shares_alone
from harness.trainer import Member, Trained
from results.predictions import Predictions
from results.store import Failure, Record


class Publisher:
    """Writes the record of every member of a Job; of several processes the first alone writes."""

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
                self._evaluate(member, trained)

    def current_metrics(self, member: Member) -> Mapping[str, float]:
        """The test metrics of a member as it is now; all processes take part."""
        self._world.align(member.student.network)
        old = self._old_predictions(member.run)
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
        self._write(member, trained, state="diverged", reason=reason)

    def _write_failure(self, member: Member) -> None:
        attempt = member.attempt
        if attempt is None:
            return
        message = f"{member.run.label}: {member.student.failure}"
        attempt.fail(Failure(attempt=attempt.number, cause="bug", message=message, log=str(self._log)))
        checkpoint.remove(attempt.folder)

    def _evaluate(self, member: Member, trained: Trained) -> None:
        began = time.monotonic()
        run, network = member.run, member.student.network
        old = self._old_predictions(run)
        self._world.align(network)
        try:
            evaluation = evaluate(run, network, self._data, self._compute, old, self._world)
        except NotFinite as error:
            self._write(member, trained, state="diverged", reason=str(error))
            return
        attempt = member.attempt
        if attempt is None:
            return
        files = {attempt.name(name): content for name, content in evaluation.files.items()}
        self._write(
            member,
            trained,
            state="done",
            metrics=evaluation.metrics,
            files={name: attempt.write(name, content) for name, content in files.items()},
            evaluate_s=time.monotonic() - began,
        )
        checkpoint.remove(attempt.folder)

    def _write(self, member: Member, trained: Trained, *, evaluate_s: float = 0.0, **fields: Any) -> None:
        if member.attempt is None:
            return
        compute, size, image_size = self._compute, len(self._members), self._data.dataset.image_size
        how = {
            "precision": compute.precision,
            "compile": compute.compile,
            "sync_batchnorm": compute.sync_batchnorm,
            "cohort": size,
            "processes": self._world.size,
            "networks": 1,
            "gmacs": gmacs(member.run.model, image_size),
        }
        names = {"class_names": list(self._data.class_names)} if member.run.role == "old" else {}
        record = Record(
            run=member.run.document(),
            timings={
                "train_s": trained.train_s,
                "train_share_s": trained.train_s / size,
                "train_alone_s": trained.train_s * self._share_alone(member),
                "evaluate_s": evaluate_s,
            },
            images_per_s=trained.images_per_s,
            peak_memory_bytes=compute.peak_memory,
            environment=environment.describe(compute.device) | how | names,
            attempt=member.attempt.number,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            **fields,
        )
        member.attempt.publish(record, history=member.student.history)

    def _old_predictions(self, run: Run) -> Predictions | None:
        return self._parents.predictions(run.parents[0]) if run.role == "candidate" else None

    def _share_alone(self, member: Member) -> float:
        """What the member's training would have taken alone, as a share of the cohort's."""
        return shares_alone([self._step_cost(one) for one in self._members])[self._members.index(member)]

    def _step_cost(self, member: Member) -> StepCost:
        run, method = member.run, member.student.method
        old = None
        if method.uses_old and run.parents:
            old = Run.from_content(self._parents.record(run.parents[0]).run).model
        return StepCost.of(run, old, method.references, self._data.dataset.image_size)
