"""Trains the students of a Job: from their newest checkpoint on, with new ones along the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.progress import ProgressWriter
from common.signals import StopSignals
from harness import checkpoint
from harness.distributed import World
from harness.engine import Cohort, Position, Student
from harness.plan import Run
from results.store import Attempt

STOP_POLL_STEPS = 20  # how often several processes agree on whether to stop, which makes all of them wait
LONG_EPOCH_S = 600.0  # epochs longer than this are checkpointed in the middle too


@dataclass(frozen=True, kw_only=True)
class Member:
    """A run of the Job with its model in training."""

    run: Run
    student: Student
    folder: Path
    """Where the run's checkpoints are."""
    attempt: Attempt | None
    """The right to write; None in all processes but the first."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where training starts: at the newest point of which every member has a checkpoint."""

    position: Position
    train_s: float = 0.0
    """Seconds of training until there."""
    kept: Mapping[Path, str] = field(default_factory=dict)
    """The checkpoints of that point, by run folder; they are kept until all members have a newer one."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How training went so far."""

    train_s: float
    """Seconds, those before earlier interruptions included."""
    images_per_s: float | None


def resume(members: Sequence[Member], world: World) -> Start:
    """Load the newest point of which every member has a checkpoint; without one, start from the beginning."""
    found = []
    for member in members:
        files = checkpoint.load(member.folder)
        found.append({(state["epoch"], state["batch"]): (name, state) for name, state in files.items()})
    common = set.intersection(*(set(points) for points in found))
    newest = world.from_first(max(common, default=None))
    if newest is None:
        return Start(position=Position())
    epoch, batch = newest
    kept, train_s = {}, 0.0
    for member, points in zip(members, found, strict=True):
        name, state = points[epoch, batch]
        member.student.load(state["student"])
        kept[member.folder] = name
        train_s = state["train_s"]
    print(f"continues from epoch {epoch}, batch {batch}", flush=True)
    return Start(position=Position(epoch=epoch, batch=batch), train_s=train_s, kept=kept)


class Trainer:
    """Trains a cohort to its end, or until it is told to stop."""

    def __init__(
        self,
        members: Sequence[Member],
        cohort: Cohort,
        start: Start,
        *,
        batches: int,
        checkpoint_s: float,
        progress: ProgressWriter,
        world: World,
        after_epoch: Callable[[int], None] = lambda done: None,
    ) -> None:
        """`batches` is how many an epoch has, `checkpoint_s` the seconds between two checkpoints.

        `after_epoch` is told how many epochs are done; the time that it takes is not training time.
        """
        self._members = members
        self._cohort = cohort
        self._start = start
        self._batches = batches
        self._checkpoint_s = checkpoint_s
        self._progress = progress
        self._world = world
        self._after_epoch = after_epoch
        recipe = members[0].run.recipe
        assert recipe is not None
        self._recipe = recipe
        self._trained_s = 0.0
        self._images = 0
        self._out: set[str] = set()

    @property
    def trained(self) -> Trained:
        """How training went so far."""
        return Trained(
            train_s=self._start.train_s + self._trained_s,
            images_per_s=self._images / self._trained_s if self._trained_s else None,
        )

    def train(self, stop: StopSignals, when_out: Callable[[Member, Trained], None]) -> bool:
        """Train to the end; False when told to stop, with a checkpoint written.

        `when_out` is called once for every member that has diverged or failed.
        """
        began = saved = time.monotonic()
        writer = checkpoint.Writer(self._start.kept)
        try:
            for position in self._cohort.train():
                now = time.monotonic()
                self._trained_s = now - began
                self._images = self._cohort.images
                if self._progress.due():
                    self._say(position, writer.complaint)
                self._tell(when_out, writer)
                if position.batch == 0:
                    self._after_epoch(position.epoch)
                    began += time.monotonic() - now
                stopped = self._agreed(stop.asked, position)
                if stopped or self._checkpoint_is_due(position, now - saved):
                    if position.batch:  # a checkpoint must not hold weights that are not finite
                        self._cohort.look()
                        self._tell(when_out, writer)
                    writer.save(self._states(position))
                    saved = now
                if stopped:
                    return False
        finally:
            writer.close()
            if writer.complaint:
                self._progress.say(message=writer.complaint)
                print(writer.complaint, flush=True)
        return True

    def _checkpoint_is_due(self, position: Position, since_s: float) -> bool:
        if position.batch == 0:
            return since_s > self._checkpoint_s
        return self._agreed(since_s > LONG_EPOCH_S, position)

    def _agreed(self, flag: bool, position: Position) -> bool:
        """Whether any process wants it; several processes ask each other only now and then."""
        if self._world.size > 1 and position.batch % STOP_POLL_STEPS:
            return False
        return self._world.any(flag)

    def _tell(self, when_out: Callable[[Member, Trained], None], writer: checkpoint.Writer) -> None:
        for member in self._members:
            if not member.student.trains and member.run.id not in self._out:
                writer.wait()  # a checkpoint under way would come back after it was removed
                self._out.add(member.run.id)
                when_out(member, self.trained)

    def _states(self, position: Position) -> dict[Attempt, dict[str, Any]]:
        train_s = self.trained.train_s
        # Every process takes part in adding up the states; the first alone writes.
        states = [(member, member.student.state()) for member in _training(self._members)]
        return {
            member.attempt: {
                "epoch": position.epoch,
                "batch": position.batch,
                "train_s": train_s,
                "student": state,
            }
            for member, state in states
            if member.attempt is not None
        }

    def _say(self, position: Position, complaint: str) -> None:
        rate = self._images / self._trained_s
        left = (self._recipe.epochs - position.epoch) * self._batches - position.batch
        self._progress.say(
            state="training",
            epoch=position.epoch,
            epochs=self._recipe.epochs,
            step=position.epoch * self._batches + position.batch,
            images_per_s=round(rate, 1),
            eta_s=round(left * self._recipe.batch_size / rate, 1),
            message=complaint,
        )


def _training(members: Iterable[Member]) -> list[Member]:
    return [member for member in members if member.student.trains]
