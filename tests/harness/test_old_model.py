"""An old model of one's own: read from a file instead of trained here."""

import csv
import io
import json
import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness import models, sweep
from harness.architectures import ARCHITECTURES, RESNET8
from harness.execute import run_job
from harness.parents import Parents
from harness.plan import Model
from loaders.selection import class_ranks
from results.columns import value_of
from results.comparisons import comparisons
from results.store.verify import problems

WORDS = ("dataset=digits", "epochs=1", "seeds=0")
MODEL = Model(arch="resnet8", stem="cifar")
CLASSES, TESTED = 5, 755


@pytest.fixture(scope="module")
def state():
    """Weights of a network that was never trained: enough to be somebody's old model."""
    return {name: value.contiguous() for name, value in models.build(MODEL, CLASSES, 1).state_dict().items()}


@pytest.fixture
def file(state, tmp_path):
    path = tmp_path / "old.pt"
    torch.save(state, path)
    return path


def old_record(bench, *words):
    (old,) = (run for run in bench.plan(*words) if run.role == "old")
    return bench.store.read(old.id)


def write(path, rows, header=("id", "target", "prediction")):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def answers(bench, file):
    """Rows (image, class, predicted class) of the model in `file`."""
    words = ("methods=none", f"old_weights={file}", *WORDS)
    (_, folder), *_ = bench.jobs(*words)
    assert run_job(folder) == 0
    made = bench.store.predictions(old_record(bench, *words))
    return list(zip(made.index.tolist(), made.target.tolist(), made.prediction.tolist(), strict=True))


def test_a_given_old_model_stands_for_the_one_that_was_trained(bench, other_bench, tmp_path):
    """Candidates learn bit for bit the same from the file that a trained old model left."""
    words = ("methods=none,pct-kl", *WORDS)
    expected, trained = bench.run(*words), old_record(bench, *words)
    path = tmp_path / "mine.pt"
    path.write_bytes(bench.store.content(trained, "weights"))

    found = other_bench.run(f"old_weights={path}", *words)

    given = old_record(other_bench, f"old_weights={path}", *words)
    assert given.metrics == trained.metrics
    assert given.class_names == trained.class_names
    for key, record in found.items():
        assert record.metrics == expected[key].metrics
        weights, others = bench.weights(expected[key]), other_bench.weights(record)
        assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_one_given_model_is_paired_with_the_candidates_of_every_seed(bench, file):
    words = ("dataset=digits", "epochs=1", "methods=none", "seeds=0..2", f"old_weights={file}")
    bench.run(*words)
    runs = bench.plan(*words)
    (comparison,) = comparisons(bench.store, [run.document() for run in runs])

    assert [run.role for run in runs] == ["old", "candidate", "candidate", "candidate"]
    assert list(comparison.old.records) == [0, 1, 2]
    assert comparison.old.summary("er_old").std is None  # one model, not three
    assert comparison.title.startswith("digits: given resnet8 (cifar stem) -> resnet8 (cifar stem), 5 of 10")
    assert "old model: weights of sha256" in comparison.recipe
    assert list(problems(bench.store)) == []


def test_its_training_is_unknown_and_no_part_of_what_candidates_cost(bench, file):
    words = ("methods=none", f"old_weights={file}", *WORDS)
    (none,) = bench.run(*words).values()
    old = old_record(bench, *words)

    assert value_of(old, "train_hours") is None
    assert value_of(old, "train_hours_alone", ()) is None
    assert value_of(none, "train_hours_alone", (old,)) == value_of(none, "train_hours")
    assert (old.networks, old.gmacs) == (none.networks, none.gmacs)


def test_its_identity_is_the_content_of_the_file(bench, file, state, tmp_path):
    def ids(path, *words):
        return {run.role: run.id for run in bench.plan("methods=none", f"old_weights={path}", *WORDS, *words)}

    renamed = file.rename(tmp_path / "renamed.pt")
    before = ids(renamed)
    other = tmp_path / "other.pt"
    torch.save(state | {"fc.bias": state["fc.bias"] + 1}, other)

    assert ids(renamed.rename(tmp_path / "again.pt")) == before
    assert ids(other).keys() == before.keys()
    assert not set(ids(other).values()) & set(before.values())
    assert ids(tmp_path / "again.pt", "lr=0.2", "train_data=0.5")["old"] == before["old"]
    assert ids(tmp_path / "again.pt", "old_classes=0.5", "class_order=1")["old"] != before["old"]


def test_a_run_that_was_given_comes_back_from_its_document(bench, file):
    old, _ = bench.plan("methods=none", f"old_weights={file}", *WORDS)

    again = type(old).from_content(json.loads(json.dumps(old.document())))

    assert again == old
    assert again.id == old.id
    assert old.document()["recipe"] == {}


def test_candidates_can_start_from_it(bench, file, state):
    words = ("methods=none", "init=old", f"old_weights={file}", *WORDS)
    (_, folder), *_ = bench.jobs(*words)
    assert run_job(folder) == 0
    *_, candidate = bench.plan(*words)

    start = Parents(bench.store).start(candidate).state_dict()

    assert torch.equal(start["fc.weight"][:CLASSES], state["fc.weight"])
    assert torch.equal(start["stem.0.weight"], state["stem.0.weight"])


def test_it_is_tested_on_held_out_images_too(bench, file):
    words = ("methods=none", "validation=0.2", f"old_weights={file}", *WORDS)
    bench.run(*words)

    assert old_record(bench, *words).file("validation")


def test_a_chain_of_updates_can_begin_with_it(bench, file):
    words = ("dataset=digits", "epochs=1", "seeds=0", "methods=none", "chain=5,7,10", f"old_weights={file}")
    bench.run(*words)

    runs = bench.plan(*words)
    assert [(run.role, run.split.classes) for run in runs] == [
        ("old", 7),
        ("candidate", 7),
        ("candidate", 10),
    ]
    assert runs[2].parents == (runs[1].id,)


def save_as_safetensors(state, folder):
    save_file(state, folder / "old.safetensors")
    return folder / "old.safetensors"


def save_of_data_parallel(state, folder):
    torch.save({f"module.{name}": value for name, value in state.items()}, folder / "parallel.pt")
    return folder / "parallel.pt"


def save_without_counts(state, folder):
    """As versions of torch wrote it that counted no batches."""
    kept = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(kept, folder / "ancient.pt")
    return folder / "ancient.pt"


@pytest.mark.parametrize("save", [save_as_safetensors, save_of_data_parallel, save_without_counts])
def test_weights_may_be_written_in_other_ways(bench, state, tmp_path, save):
    words = ("methods=none", f"old_weights={save(state, tmp_path)}", *WORDS)
    (_, folder), *_ = bench.jobs(*words)

    assert run_job(folder) == 0

    kept = bench.weights(old_record(bench, *words))
    assert all(torch.equal(kept[name], value) for name, value in state.items())


def test_a_network_that_we_resize_for_takes_weights_under_its_own_names(bench, file, state, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "fixed8", replace(RESNET8, fixed_size=True))
    words = ("methods=none", "arch=fixed8", f"old_weights={file}", *WORDS)
    (_, folder), *_ = bench.jobs(*words)

    assert run_job(folder) == 0

    kept = bench.weights(old_record(bench, *words))
    assert all(torch.equal(kept[f"network.{name}"], value) for name, value in state.items())


class Executed:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def wrong_weights(state):
    """Name -> (content, words, what is said about it)."""
    whole = pickled(state)
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 255
    lacking = {name: value for name, value in state.items() if name != "fc.bias"}
    return {
        "classes": (whole, ["old_classes=4"], "the file has 5 classes, asked for are old_classes=4"),
        "architecture": (
            whole, ["old_arch=resnet18"], r"not the weights of resnet18, because it lacks conv1.weight \(and",
        ),
        "embedding": (whole, ["embedding=2"], "not the weights of resnet8-e2, because it lacks fc.0.weight"),
        "lacking": (pickled(lacking), [], "because it lacks fc.bias"),
        "shape": (
            pickled(state | {"stem.0.weight": torch.zeros(8, 3, 3, 3)}), [],
            r"has stem.0.weight of shape \[8, 3, 3, 3\] instead of \[16, 3, 3, 3\]",
        ),
        "cut": (whole[: len(whole) // 2], [], "or it is damaged"),
        "damaged": (bytes(damaged), [], "or it is damaged"),
        "empty": (b"", [], "or it is damaged"),
        "text": (b"no weights\n", [], "or it is damaged"),
        "code": (pickled({"fc.weight": Executed()}), [], "or holds more than tensors"),
        "plain pickle": (pickle.dumps(Executed()), [], "or holds more than tensors"),
        "checkpoint": (
            pickled({"epoch": 3, "state_dict": state}), [],
            "a dict of epoch, state_dict: save model.state_dict",
        ),
        "list": (pickled([1.0]), [], "not a state dict"),
        "not finite": (pickled(state | {"fc.bias": torch.full((5,), torch.nan)}), [], "fc.bias holds a NaN"),
    }  # fmt: skip


@pytest.mark.parametrize("what", wrong_weights({"fc.bias": torch.zeros(5)}))
def test_a_file_of_other_weights_is_refused_in_one_line_before_anything_starts(
    state, tmp_path, monkeypatch, capsys, what
):
    content, words, said = wrong_weights(state)[what]
    (tmp_path / "mine.pt").write_bytes(content)
    monkeypatch.chdir(tmp_path)

    code = sweep.main(["methods=none", "old_weights=mine.pt", "device=cpu", *WORDS, *words])

    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert error.startswith("error: old_weights=mine.pt: ")
    assert re.search(said, error), error
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "runs" / "jobs").exists()


def test_a_damaged_file_of_safetensors_is_refused(bench, state, tmp_path):
    path = save_as_safetensors(state, tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    (_, folder), *_ = bench.jobs("methods=none", f"old_weights={path}", *WORDS)

    with pytest.raises(ValueError, match="not a file of safetensors, or it is damaged"):
        run_job(folder)


def test_a_file_that_changes_after_the_plan_is_refused(bench, file, state):
    (job, folder), *_ = bench.jobs("methods=none", f"old_weights={file}", *WORDS)
    torch.save(state | {"fc.bias": state["fc.bias"] + 1}, file)

    with pytest.raises(ValueError, match="the file has changed since the run was planned"):
        run_job(folder)

    assert bench.store.failure(job.runs[0].id).cause == "data"


def test_jobs_are_told_the_absolute_path(bench, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    (_, folder), *_ = bench.jobs("methods=none", f"old_weights={file.name}", *WORDS)

    assert json.loads((folder / "job.json").read_text())["runtime"]["old_weights"] == str(file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["old_weights=gone.pt"], "old_weights=gone.pt: No such file"),
        (["old_weights=mine.pt", "old_predictions=mine.pt"], "both the old model"),
        (["old_weights=mine.pt", "old_data=0.5"], "old_data=0.5: the old model is not trained here"),
        (
            ["old_weights=mine.pt", "init=old", "methods=bcwi"],
            "methods=bcwi: its strength would be chosen on",
        ),
        (["old_predictions=mine.pt", "methods=pct-kl"], "methods=pct-kl: it needs the old model itself"),
        (["old_predictions=mine.pt", "methods=ensemble-old-new"], "it needs the old model itself"),
        (["old_predictions=mine.pt", "old_arch=resnet18"], "old_arch=resnet18: old_predictions= needs no"),
        (["old_predictions=mine.pt", "init=old"], "init=old: candidates need the old model's weights"),
        (["old_predictions=mine.pt", "validation=0.1"], "validation=0.1: old_predictions= has none"),
    ],
)
def test_what_makes_no_sense_with_a_given_model_is_refused(bench, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_bytes(b"")

    with pytest.raises(ValueError, match=said):
        bench.plan("methods=none", *WORDS, *words) if "methods" not in words[-1] else bench.plan(
            *WORDS, *words
        )


def test_groups_leave_out_what_reads_the_old_model_where_there_are_predictions_alone(bench, tmp_path):
    path = write(tmp_path / "old.csv", [])

    runs = bench.plan("methods=everything", f"old_predictions={path}", *WORDS)

    methods = {run.method for run in runs if run.role == "candidate"}
    assert methods == {
        "none", "elodi-authors", "self-distill", "logit-adjust", "balanced", "posthoc-bias", "ensemble-new",
    }  # fmt: skip


def test_predictions_alone_give_the_flips_of_the_model_that_made_them(bench, file, answers, tmp_path):
    with_weights = bench.run("methods=none", f"old_weights={file}", *WORDS)["none", 0]
    path = write(tmp_path / "old.csv", answers)

    words = ("methods=none", f"old_predictions={path}", *WORDS)
    record = bench.run(*words)["none", 0]

    assert record.id != with_weights.id
    shared = {name: value for name, value in with_weights.metrics.items() if not name.startswith("margin")}
    assert {name: record.metrics[name] for name in shared} == shared
    old = old_record(bench, *words)
    assert old.file("weights") is None
    assert (old.networks, old.run["model"]["arch"]) == (None, "unknown")
    (comparison,) = comparisons(bench.store, [run.document() for run in bench.plan(*words)])
    assert comparison.title.startswith("digits: given predictions -> resnet8 (cifar stem)")
    assert list(problems(bench.store)) == []


@pytest.mark.parametrize("writes", ["labels", "positions"])
def test_classes_may_be_written_as_labels_or_in_the_class_order(bench, answers, tmp_path, writes):
    """The targets tell which: under a class order a label is not a position."""
    rank_of = class_ranks(10, 3).tolist()
    words = ("methods=none", "class_order=3", *WORDS)
    given = [rank_of.index(position) for position in range(CLASSES)]  # labels of the old classes
    (_, folder), *_ = bench.jobs(*words)
    assert run_job(folder) == 0
    trained = bench.store.predictions(old_record(bench, *words))
    rows = zip(trained.index.tolist(), trained.target.tolist(), trained.prediction.tolist(), strict=True)
    if writes == "labels":
        rows = [(index, given[target], given[prediction]) for index, target, prediction in rows]
    path = write(tmp_path / "old.csv", rows)

    words = (f"old_predictions={path}", *words)
    (_, folder), *_ = bench.jobs(*words)
    assert run_job(folder) == 0

    made = bench.store.predictions(old_record(bench, *words))
    assert np.array_equal(made.index, trained.index)
    assert np.array_equal(made.prediction, trained.prediction)


def wrong_predictions(answers):
    """Name -> (rows, what is said about them)."""
    (first, target, _), *others = answers
    return {
        "lacks an image": (others, f"lacks sample {first} of an old class \\(1 such of {TESTED}\\)"),
        "unknown image": (
            [*answers, (5000, 0, 0)],
            "sample '5000': the samples are numbered from 0 to 1,496",
        ),
        "another target": (
            [(first, other := (target + 1) % CLASSES, 0), *others],
            f"sample {first}: its target is '{other}' in the file and '{target}' in the test set",
        ),
        "new class": (
            [(first, target, 9), *others],
            f"sample {first}: its prediction '9' is none of the 5 old",
        ),
        "twice": ([*answers, answers[0]], f"id '{first}' comes 2 times"),
        "no answer": ([(first, target, ""), *others], "row 1"),
    }


@pytest.mark.parametrize("what", wrong_predictions([(0, 0, 0)]))
def test_predictions_that_contradict_the_test_set_are_refused_in_one_line(bench, answers, tmp_path, what):
    rows, said = wrong_predictions(answers)[what]
    path = write(tmp_path / "old.csv", rows)
    (job, folder), *_ = bench.jobs("methods=none", f"old_predictions={path}", *WORDS)

    with pytest.raises(ValueError, match=said) as caught:
        run_job(folder)

    assert str(caught.value).startswith(f"old_predictions={path}: ")
    assert "\n" not in str(caught.value)
    assert bench.store.failure(job.runs[0].id).cause == "data"


def test_scores_of_other_classes_are_refused_before_anything_starts(answers, tmp_path, monkeypatch, capsys):
    index, target, _ = zip(*answers, strict=True)
    monkeypatch.chdir(tmp_path)
    np.savez("old.npz", id=index, target=target, logits=np.zeros((len(index), 10)) + np.arange(10))

    code = sweep.main(["methods=none", "old_predictions=old.npz", "device=cpu", *WORDS])

    assert code == 2
    assert "the file has 10 classes, asked for are old_classes=5" in capsys.readouterr().err


def test_scores_of_the_old_classes_bring_confidences(bench, answers, tmp_path):
    index, target, prediction = (np.array(column) for column in zip(*answers, strict=True))
    path = tmp_path / "old.npz"
    np.savez(path, id=index, target=target, logits=4.0 * np.eye(CLASSES)[prediction])
    words = ("methods=none", f"old_predictions={path}", *WORDS)
    (_, folder), *_ = bench.jobs(*words)
    assert run_job(folder) == 0

    made = bench.store.predictions(old_record(bench, *words))

    assert np.array_equal(made.prediction, prediction)
    assert made.confidence == pytest.approx(np.full(TESTED, np.exp(4) / (np.exp(4) + 4)))


def test_a_file_that_says_only_right_or_wrong_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "old.csv", [(0, 1)], header=("id", "right"))

    assert sweep.main(["methods=none", "old_predictions=old.csv", "device=cpu", *WORDS]) == 2
    assert "needs an id (a sample's number, from 0), a target and a prediction" in capsys.readouterr().err
