"""One Job from its parents' records to its own: data, training, predictions, records.

`python -m harness.execute FOLDER` runs the Job described by FOLDER/job.json. The exit code is 0 when every
run has a record, 75 when it was told to stop and can continue from its checkpoint, 1 for a failure.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from common.exits import INTERRUPTED
from common.files import locked
from common.paths import JobFolder, RecordsFolder
from common.progress import ProgressWriter
from common.signals import JOB, Stopped, StopSignals
from harness import checkpoint, jobfile, models, old_model_file
from harness.compute import ComputeConfig, set_up
from harness.curves import Curves
from harness.data import Data, open_data
from harness.distributed import World, joined
from harness.engine import Cohort, Student
from harness.failures import ParentMissing, RunsFailed, failures_recorded, forget_last_attempt
from harness.grouping import Job
from harness.made import Maker
from harness.method_errors import MethodFailed
from harness.parents import Parents, make_method
from harness.plan import Model, Run
from harness.publisher import Publisher, Recorder
from harness.settings import Runtime
from harness.teachers import Teachers
from harness.trainer import Member, Trainer, resume
from loaders.datasets import Encoding
from methods import Loss
from results.store import Attempt, Failure, Store

DONE = 0


def run_job(folder: Path) -> int:
    """Do the Job described in `folder`; runs that already have a record are left alone.

    Whatever goes wrong is written into the runs' folders as a Failure and then raised.
    """
    job, runtime, encoding = jobfile.read(folder)
    torch.set_num_threads(max(1, job.resources.cpus))
    store = Store(runtime.runs)
    cuda = runtime.device != "cpu" and torch.cuda.is_available()
    with StopSignals(JOB) as stop, joined(cuda=cuda) as world, ExitStack() as held:
        progress = ProgressWriter(JobFolder(folder), speaks=world.first)
        if world.first:
            # The others wait at the next line, so none of them can have failed yet.
            forget_last_attempt(JobFolder(folder))
        if not world.from_first(not world.first or _lock(held, job, store, stop, progress)):
            return INTERRUPTED
        missing = world.from_first([run for run in job.runs if store.read(run.id) is None])
        failed = world.from_first(_failed_before(missing, store))
        if not missing:
            progress.say(state="done")
            return DONE
        missing = [run for run in missing if run not in failed]
        attempts = {run.id: store.begin(run.id) for run in missing} if world.first else {}
        progress.say(state="starting", attempt=max((a.number for a in attempts.values()), default=0))
        finished = False
        with (
            contextlib.suppress(Stopped),
            failures_recorded(attempts, store, JobFolder(folder), progress, world),
        ):
            runner = _JobRunner(
                missing,
                attempts,
                runtime,
                encoding,
                store,
                progress,
                world,
                job.resources.cpus,
                JobFolder(folder).log(),
            )
            finished = runner.run(stop)
            if finished and failed:
                labels = ", ".join(run.label for run in failed)
                raise RunsFailed(f"{labels} failed before; the next sweep starts from the beginning")
        progress.say(state="done" if finished else "stopped")
        return DONE if finished else INTERRUPTED


def _lock(held: ExitStack, job: Job, store: Store, stop: StopSignals, progress: ProgressWriter) -> bool:
    """Take every run's lock, waiting for any process that has one; False when told to stop meanwhile."""

    def waiting() -> None:
        stop.check()
        progress.say(state="waiting", message="another process is training some of these runs")

    try:
        for run_id in sorted(run.id for run in job.runs):
            store.folder(run_id).mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(RecordsFolder(store.root).run(run_id).lock, waiting))
    except Stopped:
        return False
    return not stop.asked


def _failed_before(runs: Sequence[Run], store: Store) -> list[Run]:
    """Runs that failed by a bug while their siblings continued: they must not start again together."""
    kept = {run.id for run in runs if checkpoint.exists(store.folder(run.id))}
    if not kept:
        return []
    failures = {run.id: store.failure(run.id) for run in runs if run.id not in kept}
    return [run for run in runs if (found := failures.get(run.id)) is not None and found.cause == "bug"]


class _JobRunner:
    """Brings together what trains and publishes those runs of a Job that have no record yet."""

    def __init__(
        self,
        runs: Sequence[Run],
        attempts: Mapping[str, Attempt],
        runtime: Runtime,
        encoding: Encoding,
        store: Store,
        progress: ProgressWriter,
        world: World,
        cpus: int,
        log: Path,
    ) -> None:
        self._attempts = attempts
        self._log = log
        self._runtime = runtime
        self._encoding = encoding
        self._store = store
        self._progress = progress
        self._world = world
        self._cpus = cpus
        self._parents = Parents(store)
        self._orphans: list[ParentMissing] = []
        self._runs = [run for run in runs if self._has_parents(run)]

    def run(self, stop: StopSignals) -> bool:
        """Train and publish; False when told to stop.

        Raises:
            ParentMissing: a run was left out because a parent has no record; all others have theirs.
            RunsFailed: a method raised an error; all runs of other methods have their records.
        """
        if self._runs and not self._do(stop):
            return False
        if self._orphans:
            raise self._orphans[0]
        return True

    def _do(self, stop: StopSignals) -> bool:
        first = self._runs[0]  # a job's runs are all of one kind
        if first.given:
            return self._take_over(first, stop)
        return self._train(stop) if first.is_trained else self._make(stop)

    def _take_over(self, run: Run, stop: StopSignals) -> bool:
        """Test the old model that was given in a file."""
        compute = set_up(self._runtime, run.precision)
        data = self._open_data(run, compute, stop)
        self._progress.say(state="evaluating", message="")
        recorder = Recorder(data, compute, self._parents, self._world)
        old_model_file.publish(run, self._runtime, data, compute, recorder, self._attempts.get(run.id))
        return True

    def _train(self, stop: StopSignals) -> bool:
        first, world = self._runs[0], self._world
        assert first.recipe is not None
        compute = set_up(self._runtime, first.precision)
        data = self._open_data(first, compute, stop)
        assert data.train is not None
        members = [self._member(run, compute) for run in self._runs]
        teachers = self._teachers([member.student.method for member in members], compute)
        start = resume(members, world)
        cohort = Cohort(
            [member.student for member in members],
            teachers,
            data.train,
            key=first.stream_key,
            recipe=first.recipe,
            normalise=data.normalise,
            position=start.position,
            rank=world.rank,
        )
        publisher = Publisher(members, data, compute, self._parents, world, log=self._log)
        curves = Curves(members, self._runtime, publisher.current_metrics, start=start.position.epoch)
        trainer = Trainer(
            members,
            cohort,
            start,
            batches=data.train.batches,
            checkpoint_s=self._runtime.checkpoint_s,
            progress=self._progress,
            world=world,
            after_epoch=curves.after_epoch,
        )
        with contextlib.closing(curves):
            if not trainer.train(stop, publisher.publish_out):
                return False
        self._progress.say(state="evaluating", message="")
        publisher.publish(trainer.trained)
        if failed := [member for member in members if member.student.failure]:
            raise RunsFailed("; ".join(f"{member.run.label}: {member.student.failure}" for member in failed))
        return True

    def _make(self, stop: StopSignals) -> bool:
        """Make the candidates that nothing is trained for, one after the other."""
        first = self._runs[0]
        compute = set_up(self._runtime, first.precision)
        data = self._open_data(first, compute, stop)
        maker = Maker(
            data, self._parents, compute, self._world, lambda run: self._open_data(run, compute, stop)
        )
        failed = []
        for number, run in enumerate(self._runs):
            stop.check()
            self._progress.say(state="evaluating", message=f"{number + 1} of {len(self._runs)}: {run.label}")
            try:
                maker.publish(run, self._attempts.get(run.id))
            except MethodFailed as error:
                failed.append(f"{run.label}: {error}")
                if attempt := self._attempts.get(run.id):
                    attempt.fail(
                        Failure(attempt=attempt.number, cause="bug", message=failed[-1], log=str(self._log))
                    )
        if failed:
            raise RunsFailed("; ".join(failed))
        return True

    def _open_data(self, run: Run, compute: ComputeConfig, stop: StopSignals) -> Data:
        return open_data(
            run,
            self._runtime,
            self._encoding,
            compute,
            cpus=self._cpus,
            progress=self._progress,
            check=stop.check,
            world=self._world,
        )

    def _member(self, run: Run, compute: ComputeConfig) -> Member:
        network = self._parents.start(run)
        method = make_method(run)
        assert isinstance(method, Loss)
        assert run.recipe is not None
        if self._world.size > 1 and not method.divisible:
            raise ValueError(f"{run.label}: its loss cannot be divided among processes: train it on one GPU")
        classifier = models.classifier_path(network, run.model) if method.reads_features else None
        student = Student(
            network, method, run.recipe, run.split.old_classes, compute, self._world, classifier=classifier
        )
        folder = self._store.folder(run.id)
        return Member(run=run, student=student, folder=folder, attempt=self._attempts.get(run.id))

    def _teachers(self, methods: Sequence[Loss], compute: ComputeConfig) -> Teachers:
        """Those that any student's loss reads; the first references serve all."""
        assert len({run.parents[:1] for run in self._runs}) == 1, "one stream, one old model"
        uses_old = any(method.uses_old for method in methods)
        most = max(self._runs, key=lambda run: len(run.parents))
        count = max(method.references for method in methods)
        old = self._parents.network(most.parents[0]) if uses_old else None
        references = [self._parents.network(parent) for parent in most.parents[1 : 1 + count]]
        if not any(method.reads_features for method in methods):
            return Teachers(old, references, compute)
        return Teachers(
            old,
            references,
            compute,
            old_classifier=None if old is None else models.classifier_path(old, self._old_model(most)),
            classifier=models.classifier_path(references[0], most.model) if references else None,
        )

    def _old_model(self, run: Run) -> Model:
        return self._parents.run(run.parents[0]).model

    def _has_parents(self, run: Run) -> bool:
        """Whether the run's parents have records; where one has none, that is this run's failure alone."""
        try:
            for parent in run.parents:
                self._parents.record(parent)
        except ParentMissing as error:
            self._orphans.append(error)
            return False
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run the Job in the folder named on the command line."""
    folders = sys.argv[1:] if argv is None else argv
    if len(folders) != 1 or not JobFolder(Path(folders[0])).description.is_file():
        print("usage: python -m harness.execute FOLDER   (a folder with job.json)", file=sys.stderr)
        return 2
    return run_job(Path(folders[0]))


if __name__ == "__main__":
    sys.exit(main())
