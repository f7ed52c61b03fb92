"""One job from parents to records: what it leaves behind, how it resumes, and how it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch

from common.exits import INTERRUPTED
from common.signals import Stopped
from harness import checkpoint, execute, publisher
from harness.execute import ParentMissing, RunsFailed, run_job
from loaders import build
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from methods import METHODS, Entry
from results.store import Record
from tests.picture_folders import make_folder

WORDS = ("seeds=0", "epochs=2", "methods=none,mpt-kl")


def finish_parents(bench, *words):
    """Do every job but the last one (the candidates'), whose job and folder are given back."""
    *parents, last = bench.jobs(*words)
    for _, folder in parents:
        assert run_job(folder) == 0
    return last


def stopped_while_it_waits(folder):
    """Exit code of a job that is told to stop once it says that it waits for another process."""
    child, progress = (
        subprocess.Popen([sys.executable, "-m", "harness.execute", str(folder)]),
        folder / "progress.json",
    )
    while not (progress.exists() and "another process" in progress.read_text()):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    return child.wait(timeout=20)


def same_predictions(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("index", "target", "prediction", "confidence", "margin")
    )


def test_a_job_leaves_a_record_with_predictions_weights_and_history(bench):
    record = bench.run(*WORDS)["mpt-kl", 0]

    assert record.state == "done"
    assert record.run["method"] == "mpt-kl"
    assert {name.split("-")[0] for name in record.files} >= {"predictions", "weights", "history"}
    assert [entry["epoch"] for entry in bench.store.history(record)] == [0, 1]
    assert record.metrics["samples_all"] == 1497
    assert 0 <= record.metrics["nfr"] <= record.metrics["er_old"] <= 1
    assert record.images_per_s > 0
    assert record.timings["train_s"] > 0
    assert record.environment["versions"]["torch"] == torch.__version__
    assert {"git_sha", "git_dirty", "device", "host", "threads", "precision"} <= record.environment.keys()
    assert not checkpoint.load(bench.store.folder(record.id))


def test_a_record_tells_what_training_and_inference_cost(bench):
    records = bench.run("methods=none,mpt-kl", "seeds=0", "epochs=1")
    none, mpt = (records[method, 0] for method in ("none", "mpt-kl"))

    took = mpt.timings["train_s"]  # together: two students, one old model and one reference
    assert mpt.timings["train_share_s"] == took / 2
    assert none.timings["train_alone_s"] == pytest.approx(none.timings["train_s"] * 3 / 8)
    assert mpt.timings["train_alone_s"] == pytest.approx(took * 5 / 8)
    assert (mpt.networks, mpt.gmacs) == (1, pytest.approx(0.0008))


def test_the_old_model_is_tested_on_old_classes_and_the_others_on_all(bench):
    bench.run(*WORDS)

    for run in bench.plan(*WORDS):
        predictions = bench.store.predictions(bench.store.read(run.id))
        assert len(predictions) == (755 if run.role == "old" else 1497)
        assert (predictions.target < 5).all() == (run.role == "old")
        assert predictions.prediction.max() < run.trained_classes


def test_a_finished_plan_has_no_job_left(bench):
    bench.run(*WORDS)

    assert bench.jobs(*WORDS) == []


def test_a_job_that_is_done_does_nothing_again(bench):
    jobs = bench.jobs(*WORDS)
    for _, folder in jobs:
        run_job(folder)
    records = [bench.store.read(run.id) for run in bench.plan(*WORDS)]

    for _, folder in jobs:
        assert run_job(folder) == 0

    assert [bench.store.read(run.id) for run in bench.plan(*WORDS)] == records


def test_the_same_sweep_twice_gives_the_same_weights_and_predictions(bench, other_bench):
    one, other = bench.run(*WORDS), other_bench.run(*WORDS)

    for key, record in one.items():
        weights, others = bench.weights(record), other_bench.weights(other[key])
        assert all(torch.equal(value, others[name]) for name, value in weights.items())
        assert same_predictions(bench.store.predictions(record), other_bench.store.predictions(other[key]))


def test_a_cohort_gives_what_jobs_of_one_give(bench, other_bench):
    together, alone = bench.run(*WORDS), other_bench.run(*WORDS, "cohort=1")

    for key, record in together.items():
        weights, others = bench.weights(record), other_bench.weights(alone[key])
        assert all(torch.equal(value, others[name]) for name, value in weights.items())


@pytest.mark.parametrize("steps", [1, 6, 9])
def test_a_signal_leaves_a_checkpoint_and_the_next_call_ends_as_if_never_stopped(
    bench, other_bench, stop_after, steps
):
    expected = other_bench.run(*WORDS)
    _, folder = finish_parents(bench, *WORDS)
    with stop_after(steps):
        assert run_job(folder) == INTERRUPTED

    stopped = [run for run in bench.plan(*WORDS) if run.role == "candidate"]
    assert all(bench.store.read(run.id) is None for run in stopped)
    assert all(checkpoint.load(bench.store.folder(run.id)) for run in stopped)

    for key, record in bench.run(*WORDS).items():
        assert record.attempt == 2
        weights, others = bench.weights(record), other_bench.weights(expected[key])
        assert all(torch.equal(value, others[name]) for name, value in weights.items())
        assert bench.store.history(record) == other_bench.store.history(expected[key])


def test_a_member_without_the_others_checkpoint_sends_the_cohort_back_to_the_start(bench, stop_after):
    job, folder = finish_parents(bench, *WORDS)
    with stop_after(7):
        run_job(folder)
    checkpoint.remove(bench.store.folder(job.runs[0].id))

    assert run_job(folder) == 0
    assert len(bench.store.history(bench.store.read(job.runs[1].id))) == 2


def test_a_killed_job_goes_on_from_its_checkpoint(bench, other_bench):
    """kill -9 in the middle leaves nothing like a record; the next call ends with the same numbers."""
    words = ("seeds=0", "epochs=40", "methods=none")
    job, folder = finish_parents(bench, *words)
    child = subprocess.Popen(
        [sys.executable, "-m", "harness.execute", str(folder)], stderr=subprocess.DEVNULL
    )
    run_folder = bench.store.folder(job.runs[0].id)
    while not checkpoint.load(run_folder):
        assert child.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert bench.store.read(job.runs[0].id) is None

    (killed,), (undisturbed,) = bench.run(*words).values(), other_bench.run(*words).values()

    assert same_predictions(bench.store.predictions(killed), other_bench.store.predictions(undisturbed))
    assert killed.metrics == undisturbed.metrics


def test_a_missing_parent_is_named(bench):
    *_, (job, folder) = bench.jobs(*WORDS)

    with pytest.raises(ParentMissing, match=job.runs[0].parents[0]):
        run_job(folder)

    failure = bench.store.failure(job.runs[0].id)
    assert failure.cause == "parent"
    assert failure.log.endswith("log.txt")


def test_a_method_with_a_bug_fails_with_its_words_and_is_tried_again_by_the_next_call(bench, monkeypatch):
    _, folder = finish_parents(bench, *WORDS)

    def broken(self, step):
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr("methods.plain.NoTreatment.loss", broken)
        with pytest.raises(RuntimeError):
            run_job(folder)

    failures = [found for run in bench.plan(*WORDS) if (found := bench.store.failure(run.id)) is not None]
    assert [failure.cause for failure in failures] == ["bug"], "the sibling's loss is whole"
    assert "none: RuntimeError: no such thing" in failures[0].message
    assert bench.run(*WORDS)["none", 0].state == "done"
    assert all(bench.store.failure(run.id) is None for run in bench.plan(*WORDS))


def test_a_sibling_that_was_whole_before_the_failure_has_none(bench, monkeypatch):
    job, folder = finish_parents(bench, *WORDS)
    original = publisher.evaluate

    def fails_for_the_second(run, *args):
        if run.id == job.runs[1].id:
            raise RuntimeError("no such thing")
        return original(run, *args)

    monkeypatch.setattr(publisher, "evaluate", fails_for_the_second)
    with pytest.raises(RuntimeError):
        run_job(folder)

    assert bench.store.read(job.runs[0].id).state == "done"
    assert bench.store.failure(job.runs[0].id) is None
    assert bench.store.failure(job.runs[1].id).cause == "bug"


def test_running_out_of_memory_is_told_from_a_bug(bench, monkeypatch):
    job, folder = finish_parents(bench, *WORDS)

    def hungry(self, step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("methods.plain.NoTreatment.loss", hungry)
    with pytest.raises(torch.OutOfMemoryError):
        run_job(folder)

    assert bench.store.failure(job.runs[0].id).cause == "memory"


def test_one_students_nan_is_a_diverged_record_and_the_siblings_finish(bench, monkeypatch):
    words = ("seeds=0", "epochs=2", "methods=none,pct-kl")
    _, folder = finish_parents(bench, *words)

    def poisoned(self, step):
        terms = original(self, step)
        return {name: value * float("nan") for name, value in terms.items()} if step.epoch == 1 else terms

    original = METHODS["pct-kl"].load().loss
    with monkeypatch.context() as patch:
        patch.setattr("methods.pct.Pct.loss", poisoned)
        assert run_job(folder) == 0

    records = bench.run(*words)  # nothing is tried again
    assert records["none", 0].state == "done"
    assert records["pct-kl", 0].state == "diverged"
    assert records["pct-kl", 0].reason == "the loss was not finite at step 6"
    assert checkpoint.load(bench.store.folder(records["pct-kl", 0].id)), "the last checkpoint is kept"


def with_a_typo(self, step):
    """A loss that fails in its second epoch."""
    return {"loss": step.logits.sum()} if step.epoch == 0 else {"loss": step.logit.sum()}


def test_a_methods_own_error_ends_its_student_alone_and_says_where_it_is(bench, other_bench, monkeypatch):
    words = ("seeds=0", "epochs=2", "methods=none,pct-kl")
    job, folder = finish_parents(bench, *words)
    with monkeypatch.context() as patch:
        patch.setattr("methods.pct.Pct.loss", with_a_typo)
        with pytest.raises(RunsFailed, match=r"pct-kl: AttributeError: 'Step' object has no attr"):
            run_job(folder)

    plain, typo = job.runs
    failure = bench.store.failure(typo.id)
    assert bench.store.read(plain.id).state == "done"
    assert failure.cause == "bug"
    assert "test_execute.py, line " in failure.message
    assert "step.logit.sum()" in failure.message
    alone = other_bench.run("seeds=0", "epochs=2", "methods=none")["none", 0]
    assert bench.store.read(plain.id).metrics == alone.metrics, "its sibling is what it is alone"
    assert bench.run(*words)["pct-kl", 0].state == "done", "once mended, it is trained"


def slowly(save):
    def saved(*state):
        time.sleep(0.2)
        save(*state)

    return saved


def test_a_failed_student_does_not_hold_its_siblings_back_when_the_job_resumes(bench, monkeypatch, capfd):
    words = ("seeds=0", "epochs=4", "methods=none,pct-kl")
    job, folder = finish_parents(bench, *words)
    plain, typo = job.runs
    monkeypatch.setattr("methods.pct.Pct.loss", with_a_typo)
    monkeypatch.setattr(torch, "save", slowly(torch.save))  # the last checkpoint is under way as it fails
    saved, save = [], checkpoint.Writer.save

    def stopped_in_the_third_epoch(writer, states):
        save(writer, states)
        saved.append(len(states))
        if len(saved) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Writer, "save", stopped_in_the_third_epoch)
        assert run_job(folder) == INTERRUPTED
    assert saved[0] == 2
    assert saved[-1] == 1, "the failed one writes no more"
    assert bench.store.failure(typo.id).cause == "bug"

    capfd.readouterr()
    with pytest.raises(RunsFailed, match="pct-kl failed before"):
        run_job(folder)

    assert "continues from epoch" in capfd.readouterr().out
    assert bench.store.read(plain.id).state == "done"
    assert bench.store.failure(typo.id) is not None


def test_two_processes_train_a_run_once(bench):
    (job, folder), *_ = bench.jobs(*WORDS)
    lock = filelock.FileLock(bench.store.folder(job.runs[0].id) / "lock")
    bench.store.folder(job.runs[0].id).mkdir(parents=True)
    with lock:
        assert stopped_while_it_waits(folder) == INTERRUPTED
    assert not (bench.store.folder(job.runs[0].id) / "attempts").exists()


def test_candidates_of_two_old_models_learn_each_from_its_own(bench, other_bench):
    """Asked for in one sweep they are in one plan, and each must be what it is when asked for alone."""
    words = ("methods=pct-kl", "seeds=0", "epochs=2")
    bench.run(*words, "old_data=0.5,1")
    other_bench.run(*words, "old_data=0.5")
    other_bench.run(*words, "old_data=1")

    runs = [run for run in bench.plan(*words, "old_data=0.5,1") if run.role == "candidate"]
    assert len(runs) == 2
    for run in runs:
        together, alone = bench.store.read(run.id), other_bench.store.read(run.id)
        assert together.metrics == alone.metrics
        assert all(
            torch.equal(value, other_bench.weights(alone)[name])
            for name, value in bench.weights(together).items()
        )


def test_answers_that_are_no_numbers_end_their_student_alone(bench, monkeypatch):
    """The last step may spoil the weights when every loss was still finite."""
    trained = publisher.evaluate

    def spoilt(run, network, *arguments):
        if run.method == "mpt-kl":
            network.fc.weight.data.fill_(float("nan"))
        return trained(run, network, *arguments)

    monkeypatch.setattr(publisher, "evaluate", spoilt)
    records = bench.run(*WORDS)

    assert records["none", 0].state == "done"
    assert records["mpt-kl", 0].state == "diverged"
    assert "not finite after training" in records["mpt-kl", 0].reason
    assert bench.jobs(*WORDS) == []


def test_a_diverged_reference_costs_those_alone_who_learn_from_it(bench):
    *parents, (job, folder) = bench.jobs(*WORDS)
    for parent, place in parents:
        (run,) = parent.runs
        if run.role != "reference":
            assert run_job(place) == 0
            continue
        attempt = bench.store.begin(run.id)
        attempt.publish(
            Record(run=run.document(), state="diverged", reason="NaN", attempt=attempt.number, finished="")
        )

    with pytest.raises(ParentMissing, match="reference0"):
        run_job(folder)

    plain, learner = job.runs
    assert bench.store.read(plain.id).state == "done"
    assert bench.store.read(learner.id) is None
    assert bench.store.failure(learner.id).cause == "parent"


def test_a_stop_while_images_are_built_is_heeded(bench, tmp_path, monkeypatch):
    (job, folder), *_ = bench.jobs(*WORDS)
    started = []

    def slow_build(*arguments, report, **more):
        started.append(True)
        os.kill(os.getpid(), signal.SIGTERM)
        for done in range(100):
            report(done, 100)
        raise AssertionError("it went on building")

    monkeypatch.setattr("harness.data.ensure_beton", slow_build)
    assert run_job(folder) == INTERRUPTED
    assert started
    assert bench.store.failure(job.runs[0].id) is None


def test_a_stop_while_another_process_builds_the_images_is_heeded(bench, tmp_path):
    bench.betons = tmp_path / "betons"  # nothing is built there
    (job, folder), *_ = bench.jobs(*WORDS)
    lock = bench.betons / job.runs[0].data / "train.lock"
    lock.parent.mkdir(parents=True)
    with filelock.FileLock(lock):
        assert stopped_while_it_waits(folder) == INTERRUPTED
    assert bench.store.failure(job.runs[0].id) is None


def test_a_stop_because_another_process_failed_is_that_ones_failure(bench, monkeypatch):
    (job, folder), *_ = bench.jobs(*WORDS)

    def stopped_by_torchrun(*arguments, **more):
        said = {"cause": "data", "message": "image 7 is damaged", "log": "log.rank1.txt"}
        (folder / "error.json").write_text(json.dumps(said))
        raise Stopped

    monkeypatch.setattr(execute, "open_data", stopped_by_torchrun)
    with pytest.raises(RuntimeError, match="image 7 is damaged"):
        run_job(folder)
    assert bench.store.failure(job.runs[0].id).message == "image 7 is damaged"


def test_photographs_go_from_their_files_through_a_beton_built_ahead_to_a_record(bench, tmp_path):
    data, how = f"data={make_folder(tmp_path / 'pictures')}", ("write_mode=jpg", "jpeg_quality=80")
    assert build.main(["dataset=folder", data, *how, f"betons={bench.betons}"]) == 0
    built = {path: path.stat().st_mtime_ns for path in bench.betons.rglob("*.beton")}

    small = ("methods=none", "seeds=0", "epochs=1", "batch_size=4", "old_classes=2")
    records = bench.run("dataset=folder", data, *how, *small)

    assert records["none", 0].metrics["samples_all"] == 5
    assert {path: path.stat().st_mtime_ns for path in bench.betons.rglob("*.beton")} == built
    run, *_ = bench.plan("dataset=folder", data, *small)
    assert run.data not in {path.parent.name for path in built}, "another encoding is other data"


@pytest.fixture
def walks(monkeypatch):
    """How often each class folder of images was walked through."""
    seen, walk = Counter(), os.scandir

    def counted(folder="."):
        if Path(folder).parent.name in ("train", "val"):
            seen[str(folder)] += 1
        return walk(folder)

    monkeypatch.setattr(os, "scandir", counted)
    return seen


def test_a_folder_of_images_is_walked_once_by_the_plan_and_once_by_a_job(bench, tmp_path, walks):
    words = ("dataset=folder", f"data={make_folder(tmp_path / 'pictures')}", "methods=none", "seeds=0")
    (old, folder), _ = bench.jobs(*words, "lr=0.1,0.05", "batch_size=4", "epochs=1", "old_classes=2")[:2]
    assert set(walks.values()) == {1}
    run = old.runs[0]
    for part in ("train", "test"):
        ensure_beton(
            DATASETS["folder"], part, data=tmp_path / "pictures", betons=bench.betons, identity=run.data
        )
    walks.clear()

    assert run_job(folder) == 0

    assert set(walks.values()) == {1}


def test_images_that_have_changed_since_the_plan_are_refused(bench, tmp_path):
    pictures = make_folder(tmp_path / "pictures")
    small = ("methods=none", "seeds=0", "batch_size=4", "epochs=1", "old_classes=2")
    (job, folder), *_ = bench.jobs("dataset=folder", f"data={pictures}", *small)
    image = next(pictures.rglob("*.png"))
    image.with_name("another.png").write_bytes(image.read_bytes())

    with pytest.raises(ValueError, match=f"have changed since {job.runs[0].data} was planned"):
        run_job(folder)

    assert bench.store.failure(job.runs[0].id).cause == "data"


def test_a_new_method_is_one_file_and_one_registry_line(bench, tmp_path, monkeypatch):
    """The README's example."""
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from methods.base import Loss\n"
        "from methods.losses import cross_entropy\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Scaled(Loss):\n"
        "    factor: float = 2.0\n"
        "    def loss(self, step):\n"
        "        return {'loss': self.factor * cross_entropy(step.logits, step.targets).mean()}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(METHODS, "scaled", Entry(path="mine:Scaled", summary="a test's"))

    records = bench.run("methods=none,scaled", "scaled.factor=1,3", "seeds=0", "epochs=1")

    assert set(records) == {("none", 0), ("scaled[factor=1]", 0), ("scaled[factor=3]", 0)}
    assert records["scaled[factor=1]", 0].metrics == records["none", 0].metrics
