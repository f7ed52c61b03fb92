"""What is told after every epoch: metrics into the history, and the history to a tracker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from common.paths import RecordsFolder
from harness.settings import Runtime
from harness.tracking import open_tracker
from harness.trainer import Member

SHOWN = ("er_all", "er_old", "nfr")
"""Metrics of an epoch, where the model has them."""


class Curves:
    """Keeps the curves of a Job's members; of several processes the first alone tells a tracker."""

    def __init__(
        self,
        members: Sequence[Member],
        runtime: Runtime,
        evaluate: Callable[[Member], Mapping[str, float]],
        *,
        start: int,
    ) -> None:
        """`evaluate` gives a member's metrics; `start` is the epoch from which training continues.

        Raises:
            ValueError: the tracker's library is not installed, or its server does not answer.
        """
        self._members = members
        self._every = runtime.evaluate_every
        self._evaluate = evaluate
        self._trackers = {
            member.run.id: open_tracker(
                runtime.track, member.run.document(), RecordsFolder(runtime.runs), start=start
            )
            for member in members
            if member.attempt is not None
        }

    def after_epoch(self, done: int) -> None:
        """Tell of the epoch that has just ended; `done` epochs lie behind. Every process must call it."""
        for member in self._members:
            if not member.student.trains:
                continue
            entry, recipe = member.student.history[-1], member.run.recipe
            assert recipe is not None
            if self._every is not None and (done % self._every == 0 or done == recipe.epochs):
                found = self._evaluate(member)
                part = "validation" if member.run.split.validation else "test"
                entry |= {f"{part}/{name}": found[name] for name in SHOWN if name in found}
            if tracker := self._trackers.get(member.run.id):
                tracker.log(done - 1, {name: value for name, value in entry.items() if name != "epoch"})

    def close(self) -> None:
        """Let the trackers write what is left."""
        for tracker in self._trackers.values():
            tracker.close()
