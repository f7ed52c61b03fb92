"""Training on a part of the images, and numbers on what is held out from training."""

import numpy as np
import pytest

from harness import sweep
from harness.engine import Student
from results import leaderboard
from results.held_out import HeldOutStore
from results.metrics import compare
from results.predictions import Predictions
from results.store import Store

WORDS = ("methods=none,mpt-kl", "seeds=0", "epochs=1", "validation=0.2", "train_data=0.5")


@pytest.fixture
def trained_on(monkeypatch):
    """Numbers of the images that students learned from."""
    seen, learn = set(), Student.learn

    def watched(self, batch, **rest):
        seen.update(batch.indices.tolist())
        learn(self, batch, **rest)

    monkeypatch.setattr(Student, "learn", watched)
    return seen


def on_validation(store, run):
    return Predictions.from_bytes(store.content(store.read(run.id), "validation"))


def test_no_model_is_trained_on_what_is_held_out_and_all_are_tested_on_the_same_part(bench, trained_on):
    bench.run(*WORDS)

    tested = {run.role: on_validation(bench.store, run).index.tolist() for run in bench.plan(*WORDS)}
    held_out = set(tested["candidate"])
    assert len(held_out) == len(tested["candidate"]) == 61  # a fifth of each class of the 300
    assert tested["reference"] == tested["candidate"]
    assert set(tested["old"]) < held_out
    assert not trained_on & held_out
    assert 100 < len(trained_on) <= 120  # half of the others


def test_numbers_on_the_held_out_part_are_those_of_its_predictions(bench):
    records = bench.run(*WORDS)

    old, *_, candidate = bench.plan(*WORDS)
    record = HeldOutStore(bench.runs).read(candidate.id)
    of_both = [on_validation(bench.store, run) for run in (old, candidate)]
    assert record.metrics == compare(*of_both, old_classes=5)
    assert record.metrics["samples_all"] == 61
    assert record.right == of_both[1].packed_right
    assert records["mpt-kl", 0].metrics["samples_all"] == 1497, "the record itself is about the test set"


def test_numbers_on_the_held_out_part_need_nothing_of_the_test_set(bench):
    bench.run(*WORDS)
    run = bench.plan(*WORDS)[-1]
    before = HeldOutStore(bench.runs).read(run.id)
    for path in bench.runs.glob("*/predictions-*.npz"):
        path.write_bytes(b"")

    after = HeldOutStore(bench.runs)

    assert after.read(run.id) == before
    assert np.array_equal(after.predictions(before).prediction, on_validation(bench.store, run).prediction)
    assert {name.split("-")[0] for name in before.files} == {"validation", "weights", "history"}


def test_tables_say_which_images_they_are_about(tmp_path, betons, capsys):
    words = (*WORDS, f"runs={tmp_path}", f"betons={betons}", "cluster=inline", "device=cpu")

    assert sweep.main([*words, "metrics=validation"]) == 0
    table = capsys.readouterr().out
    assert "30 held-out training samples of old classes, 61 in all" in table
    assert "50% of the training data, 20% held out" in table

    assert leaderboard.main([f"runs={tmp_path}", "metrics=validation"]) == 0
    assert "30 held-out training samples of old classes, 61 in all" in capsys.readouterr().out
    assert leaderboard.main([f"runs={tmp_path}"]) == 0
    assert "755 test samples of old classes, 1,497 in all" in capsys.readouterr().out


def test_runs_that_hold_nothing_out_have_no_validation_numbers(tmp_path, betons, capsys):
    words = ("methods=none", "seeds=0", "epochs=1", f"runs={tmp_path}", f"betons={betons}", "device=cpu")
    assert sweep.main([*words, "cluster=inline"]) == 0
    capsys.readouterr()

    assert leaderboard.main([f"runs={tmp_path}", "metrics=validation"]) == 2
    assert "no finished candidate that holds out a part (validation=0.1)" in capsys.readouterr().err
    assert list(HeldOutStore(tmp_path).records()) == []
    assert len(list(Store(tmp_path).records())) == 2


def test_metrics_by_epoch_are_those_on_the_held_out_part(bench):
    bench.run(*WORDS, "evaluate_every=1")

    for run in bench.plan(*WORDS):
        (epoch,) = bench.store.history(bench.store.read(run.id))
        known = HeldOutStore(bench.runs).read(run.id).metrics
        found = {name: value for name, value in epoch.items() if "/" in name}
        expected = {name: known[name] for name in ("er_all", "er_old", "nfr") if name in known}
        assert found == {f"validation/{name}": value for name, value in expected.items()}


def test_ids_tell_what_is_held_out_or_left_out_and_otherwise_stay(bench):
    def ids(*words):
        return [run.id for run in bench.plan("methods=none", "seeds=0", *words)]

    assert ids("validation=0", "train_data=1") == ids()
    assert len({*ids(), *ids("validation=0.1"), *ids("train_data=0.5"), *ids("validation=0.2")}) == 8
    (old, _) = bench.plan("methods=none", "seeds=0")
    assert not {"validation", "train_data"} & old.content()["split"].keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["metrics=validation"],
            "metrics=validation: nothing is held out (validation=0.1 holds out a tenth)",
        ),
        (["validation=1"], "validation=1.0: must lie in [0, 1)"),
        (["train_data=0"], "train_data=0.0: must lie in (0, 1]"),
        (["train_data=0.1"], "batch_size=50: the old model is trained on about 15 images"),
    ],
)
def test_parts_that_make_no_sense_are_refused(words, message, tmp_path, capsys):
    assert sweep.main([*words, f"runs={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
