"""One Job from its parents' records to its own: data, training, predictions, records.

`python -m harness.execute FOLDER` runs the Job described by FOLDER/job.json; exit code 0 when every run
has a record, 75 when it was told to stop and can go on from its checkpoint, 1 for a failure.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.exits import INTERRUPTED
from common.files import locked
from common.paths import JobFolder
from common.progress import ProgressWriter
from common.signals import JOB, Stopped, StopSignals
from harness import checkpoint, environment, jobfile, models
from harness.data import open_data
from harness.distributed import World, joined
from harness.engine import Cohort, Numerics, Position, Student, Teachers
from harness.evaluate import NotFinite, evaluate
from harness.failures import ParentMissing, failures_recorded, forget_last_attempt
from harness.plan import Job, Run
from methods import METHODS, Method
from results.predictions import Predictions
from results.store import Attempt, Record, Store

DONE = 0
STOP_POLL_STEPS = 20  # how often several processes agree on whether to stop, which waits for all
LONG_EPOCH_S = 600.0  # epochs longer than this are checkpointed in the middle too


def run_job(folder: Path) -> int:
    """Do the Job described in `folder`; runs that have a record already are left alone.

    Whatever goes wrong is written into the runs' folders as a Failure and then raised.
    """
    job, execution = jobfile.read(folder)
    torch.set_num_threads(max(1, job.resources.cpus))
    store = Store(execution.runs)
    cuda = execution.device != "cpu" and torch.cuda.is_available()
    with StopSignals(JOB) as stop, joined(cuda=cuda) as world, ExitStack() as held:
        progress = ProgressWriter(JobFolder(folder), speaks=world.first)
        if world.first:
            # The others wait at the next line, so none of them can have failed yet.
            forget_last_attempt(JobFolder(folder))
        if not world.from_first(not world.first or _lock(held, job, store, stop, progress)):
            return INTERRUPTED
        missing = world.from_first([run for run in job.runs if store.read(run.id) is None])
        if not missing:
            progress.say(state="done")
            return DONE
        attempts = {run.id: store.begin(run.id) for run in missing} if world.first else {}
        progress.say(state="starting", attempt=max((a.number for a in attempts.values()), default=0))
        finished = False
        with (
            contextlib.suppress(Stopped),
            failures_recorded(attempts, store, JobFolder(folder), progress, world),
        ):
            work = _Work(missing, attempts, execution, store, progress, world, stop, cpus=job.resources.cpus)
            finished = work.train(stop)
            if finished:
                work.publish()
        progress.say(state="done" if finished else "stopped")
        return DONE if finished else INTERRUPTED


def _lock(held: ExitStack, job: Job, store: Store, stop: StopSignals, progress: ProgressWriter) -> bool:
    """Take every run's lock, waiting for another process that has one; False when told to stop meanwhile."""

    def waiting() -> None:
        stop.check()
        progress.say(state="waiting", message="another process trains some of these runs")

    try:
        for run_id in sorted(run.id for run in job.runs):
            store.folder(run_id).mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(store.folder(run_id) / "lock", waiting))
    except Stopped:
        return False
    return not stop.asked


class _Work:
    """The runs of a Job that are to be trained, from data to records."""

    def __init__(
        self,
        runs: Sequence[Run],
        attempts: Mapping[str, Attempt],
        execution: jobfile.Execution,
        store: Store,
        progress: ProgressWriter,
        world: World,
        stop: StopSignals,
        *,
        cpus: int,
    ) -> None:
        self._world = world
        self._attempts = attempts
        self._execution = execution
        self._store = store
        self._progress = progress
        self._orphans: dict[str, ParentMissing] = {}
        self._runs = [run for run in runs if self._has_parents(run)]
        if not self._runs:
            raise next(iter(self._orphans.values()))
        first = self._runs[0]
        self._numerics = _numerics(execution)
        self._data = open_data(first, execution, self._numerics, cpus, progress, stop.check, world)
        self._students = [self._student(run) for run in self._runs]
        self._earlier_s = 0.0
        self._kept: dict[Path, str] = {}
        self._cohort = Cohort(
            self._students,
            self._teachers(),
            self._data.train,
            key=first.stream_key,
            recipe=first.recipe,
            normalise=self._data.normalise,
            position=self._resume(),
        )
        self._trained_s = 0.0
        self._images = 0
        self._diverged: set[str] = set()

    def train(self, stop: StopSignals) -> bool:
        """Train to the end; False when told to stop, with a checkpoint written."""
        began = saved = time.monotonic()
        writer = checkpoint.Writer(self._kept)
        try:
            for position in self._cohort.train():
                now = time.monotonic()
                self._trained_s = now - began
                self._images += self._runs[0].recipe.batch_size
                if self._progress.due():
                    self._say(position, writer.complaint)
                limit = self._execution.checkpoint_s if position.batch == 0 else LONG_EPOCH_S
                self._publish_diverged()
                stopped = self._agreed(stop.asked, position)
                due = now - saved > limit
                if stopped or (due if position.batch == 0 else self._agreed(due, position)):
                    if position.batch:  # weights that are no numbers make no checkpoint
                        self._cohort.look()
                        self._publish_diverged()
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

    def _agreed(self, flag: bool, position: Position) -> bool:
        """Whether any process wants it; several processes ask each other now and then only."""
        if self._world.size > 1 and position.batch % STOP_POLL_STEPS:
            return False
        return self._world.any(flag)

    def publish(self) -> None:
        """Evaluate every student that has not diverged, and write its record.

        Raises:
            ParentMissing: runs of the Job were left out for want of a parent; all others have their records.
        """
        self._progress.say(state="evaluating", message="")
        for run, student in zip(self._runs, self._students, strict=True):
            if student.diverged_at is None:
                self._publish_trained(run, student)
        if self._orphans:
            raise next(iter(self._orphans.values()))

    def _publish_diverged(self) -> None:
        """Write the records of students that have just diverged, which keep their checkpoints."""
        for run, student in zip(self._runs, self._students, strict=True):
            if student.diverged_at is not None and run.id not in self._diverged:
                self._diverged.add(run.id)
                reason = f"the loss was not finite at step {student.diverged_at}"
                if self._world.first:
                    self._publish(run, student, self._attempts[run.id], state="diverged", reason=reason)

    def _publish_trained(self, run: Run, student: Student) -> None:
        began = time.monotonic()
        old = self._old_predictions(run)
        self._world.align(student.network)
        try:
            answers = evaluate(run, student.network, self._data, self._numerics, old, self._world)
        except NotFinite as error:
            if self._world.first:
                self._publish(run, student, self._attempts[run.id], state="diverged", reason=str(error))
            return
        if not self._world.first:
            return
        attempt = self._attempts[run.id]
        files = {attempt.name(name): content for name, content in answers.files.items()}
        self._publish(
            run,
            student,
            attempt,
            state="done",
            metrics=answers.metrics,
            files={name: attempt.write(name, content) for name, content in files.items()},
            evaluate_s=time.monotonic() - began,
        )
        checkpoint.remove(attempt.folder)

    def _publish(
        self, run: Run, student: Student, attempt: Attempt, *, evaluate_s: float = 0.0, **fields: Any
    ) -> None:
        train_s = self._earlier_s + self._trained_s
        record = Record(
            run=run.document(),
            timings={
                "train_s": train_s,
                "train_share_s": train_s / len(self._runs),
                "evaluate_s": evaluate_s,
            },
            images_per_s=self._images / self._trained_s if self._trained_s else None,
            peak_memory_bytes=_peak_memory(self._numerics.device),
            environment=environment.describe(self._numerics.device)
            | {
                "precision": self._numerics.precision,
                "compile": self._numerics.compile,
                "sync_batchnorm": self._numerics.sync_batchnorm,
                "cohort": len(self._runs),
                "processes": self._world.size,
            }
            | ({"class_names": list(self._data.class_names)} if run.role == "old" else {}),
            attempt=attempt.number,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            **fields,
        )
        attempt.publish(record, history=student.history)

    def _old_predictions(self, run: Run) -> Predictions | None:
        """Those of the old model that a candidate is compared with."""
        if run.role != "candidate":
            return None
        return self._store.predictions(self._parent(run.parents[0]))

    def _student(self, run: Run) -> Student:
        network, method = models.build(run.model, run.trained_classes, run.stream_key), _method(run)
        if self._world.size > 1 and not method.divisible:
            raise ValueError(f"{run.label}: its loss cannot be divided among processes: train it on one GPU")
        return Student(network, method, run.recipe, run.split.old_classes, self._numerics, self._world)

    def _teachers(self) -> Teachers:
        """Those that any student's loss reads; the first references serve all."""
        methods = [student.method for student in self._students]
        assert len({run.parents[:1] for run in self._runs}) == 1, "one stream, one old model"
        old = [run for run, method in zip(self._runs, methods, strict=True) if method.uses_old]
        most = max(self._runs, key=lambda run: len(run.parents))
        count = max(method.references for method in methods)
        return Teachers(
            self._load(old[0].parents[0]) if old else None,
            [self._load(parent) for parent in most.parents[1 : 1 + count]],
            self._numerics,
        )

    def _has_parents(self, run: Run) -> bool:
        """Whether the run's parents have records; where one has none, that is this run's failure alone."""
        try:
            for parent in run.parents:
                self._parent(parent)
        except ParentMissing as error:
            self._orphans[run.id] = error
            return False
        return True

    def _load(self, run_id: str) -> nn.Module:
        record = self._parent(run_id)
        run = Run.from_content(record.run)
        network = models.build(run.model, run.trained_classes, run.stream_key)
        weights = io.BytesIO(self._store.content(record, "weights"))
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return network

    def _parent(self, run_id: str) -> Record:
        record = self._store.read(run_id)
        if record is None or record.state != "done":
            what = "has no record" if record is None else f"{record.state}: {record.reason}"
            raise ParentMissing(f"{run_id} {what}")
        return record

    def _states(self, position: Position) -> dict[Attempt, dict[str, Any]]:
        train_s = self._earlier_s + self._trained_s
        pairs = zip(self._runs, self._students, strict=True)
        states = {run: student.state() for run, student in pairs if student.diverged_at is None}
        if not self._world.first:  # it took part in adding up, and writes nothing
            return {}
        return {
            self._attempts[run.id]: {
                "epoch": position.epoch,
                "batch": position.batch,
                "train_s": train_s,
                "student": state,
            }
            for run, state in states.items()
        }

    def _resume(self) -> Position:
        """Load the newest point that all students have a checkpoint of; the beginning if there is none."""
        found = []
        for run in self._runs:
            files = checkpoint.load(self._store.folder(run.id))
            found.append({(state["epoch"], state["batch"]): (name, state) for name, state in files.items()})
        common = set.intersection(*(set(points) for points in found))
        newest = self._world.from_first(max(common, default=None))
        if newest is None:
            return Position()
        epoch, batch = newest
        for run, student, points in zip(self._runs, self._students, found, strict=True):
            name, state = points[epoch, batch]
            student.load(state["student"])
            self._kept[self._store.folder(run.id)] = name
            self._earlier_s = state["train_s"]
        print(f"goes on from epoch {epoch}, batch {batch}", flush=True)
        return Position(epoch=epoch, batch=batch)

    def _say(self, position: Position, complaint: str) -> None:
        recipe, batches = self._runs[0].recipe, self._data.train.batches
        rate = self._images / self._trained_s
        left = (recipe.epochs - position.epoch) * batches - position.batch
        self._progress.say(
            state="training",
            epoch=position.epoch,
            epochs=recipe.epochs,
            step=position.epoch * batches + position.batch,
            images_per_s=round(rate, 1),
            eta_s=round(left * recipe.batch_size / rate, 1),
            message=complaint,
        )


def _method(run: Run) -> Method:
    return METHODS[run.method].load()(**dict(run.hyperparameters))


def _numerics(execution: jobfile.Execution) -> Numerics:
    cuda = execution.device == "cuda" or (execution.device == "auto" and torch.cuda.is_available())
    if cuda and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch finds no GPU here (say device=cpu)")
    precision = execution.precision
    if precision == "auto":
        precision = "bf16" if cuda else "fp32"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.backends.cudnn.benchmark = not execution.deterministic
        torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32; who wants it faster has bf16
    if cuda and execution.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return Numerics(
        device=torch.device("cuda" if cuda else "cpu"),
        precision=precision,
        compile=execution.compile,
        sync_batchnorm=cuda and execution.sync_batchnorm,
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the Job in the folder named on the command line."""
    folders = sys.argv[1:] if argv is None else argv
    if len(folders) != 1 or not JobFolder(Path(folders[0])).description.is_file():
        print("usage: python -m harness.execute FOLDER   (a folder with job.json)", file=sys.stderr)
        return 2
    return run_job(Path(folders[0]))


if __name__ == "__main__":
    sys.exit(main())
