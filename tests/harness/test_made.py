"""Candidates that are made from trained models: what they are made of, and what their records tell."""

import numpy as np
import pytest
import torch

from harness import execute
from harness.parents import Parents
from methods import METHODS, Entry
from results.columns import value_of
from results.comparisons import comparisons
from results.held_out import predictions_on

WORDS = ("seeds=0", "epochs=2", "dataset=digits")


def logits_of(bench, record, images):
    network = Parents(bench.store).network(record.id).eval()
    with torch.no_grad():
        return network(images)


@pytest.fixture
def images():
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_an_ensemble_answers_with_the_mean_of_its_members(bench, images):
    records = bench.run("methods=none,ensemble-old-new", *WORDS)
    none, both = records["none", 0], records["ensemble-old-new", 0]
    old = bench.store.read(both.run["parents"][0])

    new, before = (logits_of(bench, record, images).softmax(1) for record in (none, old))
    padded = torch.nn.functional.pad(before, (0, new.shape[1] - before.shape[1]))

    torch.testing.assert_close(logits_of(bench, both, images).softmax(1), (new + padded) / 2)
    assert bench.weights(both) == {}, "its members keep their own"
    assert both.networks == 2
    assert both.gmacs == pytest.approx(2 * none.gmacs)


def test_an_ensemble_of_references_needs_no_candidate(bench):
    records = bench.run("methods=ensemble-new", "ensemble-new.members=2", *WORDS)

    assert set(records) == {("ensemble-new[members=2]", 0)}
    assert records["ensemble-new[members=2]", 0].networks == 2


def test_a_post_hoc_method_changes_no_treatments_candidate_by_what_it_chose(bench, images):
    records = bench.run("methods=none,posthoc-bias", *WORDS)
    none, biased = records["none", 0], records["posthoc-bias", 0]
    k = biased.chosen["k"]

    expected = logits_of(bench, none, images)
    expected[:, 5:] -= k

    torch.testing.assert_close(logits_of(bench, biased, images), expected)
    assert biased.metrics["nfr"] <= none.metrics["nfr"]
    assert biased.networks == 1


def test_a_post_hoc_method_brings_the_candidate_that_it_changes(bench):
    assert set(bench.run("methods=posthoc-bias", *WORDS)) == {("none", 0), ("posthoc-bias", 0)}


def test_the_strength_is_chosen_with_a_model_that_has_not_seen_the_data(bench):
    runs = {run.label: run for run in bench.plan("methods=posthoc-bias", *WORDS)}

    assert runs["holdout none"].split.validation == 0.3
    assert runs["none"].split.validation == 0
    assert runs["posthoc-bias"].parents[-1] == runs["holdout none"].id


def test_where_a_part_is_held_out_already_no_second_model_is_trained(bench):
    runs = bench.plan("methods=none,posthoc-bias", "validation=0.2", *WORDS)

    assert [run.label for run in runs] == ["old", "none", "posthoc-bias"]


def test_what_a_post_hoc_candidate_costs_includes_both_models_that_it_is_made_of(bench):
    bench.run("methods=none,posthoc-bias", *WORDS)
    by_label = {run.label: bench.store.read(run.id) for run in bench.plan("methods=posthoc-bias", *WORDS)}
    made = by_label["posthoc-bias"].timings
    needed = sum(by_label[label].timings["train_alone_s"] for label in ("none", "holdout none"))

    assert made["train_alone_s"] == pytest.approx(made["train_s"] + needed)
    parents = [bench.store.read(run_id) for run_id in by_label["posthoc-bias"].run["parents"]]
    with_old = made["train_alone_s"] + by_label["old"].timings["train_share_s"]
    hours = value_of(by_label["posthoc-bias"], "train_hours_alone", parents)
    assert hours == pytest.approx(with_old / 3600)


def test_fine_tuning_starts_at_the_old_models_weights(bench):
    *_, candidate = bench.plan("methods=none", "init=old", *WORDS)
    bench.run("methods=none", "init=old", *WORDS)
    parents = Parents(bench.store)
    start, old = parents.start(candidate).state_dict(), parents.network(candidate.parents[0]).state_dict()

    assert start.keys() == old.keys()
    assert all(
        torch.equal(start[name][: len(value)] if value.dim() else start[name], value)
        for name, value in old.items()
    )
    assert len(start["fc.weight"]) == 10


def test_fine_tuning_and_training_from_scratch_are_two_tables(bench):
    runs = [*bench.plan("methods=none", *WORDS), *bench.plan("methods=none", "init=old", *WORDS)]

    scratch, old = comparisons(bench.store, [run.document() for run in runs])

    assert old.title == f"{scratch.title}, candidates start from the old model"


def test_interpolation_goes_from_the_old_weights_to_the_new(bench):
    records = bench.run("methods=none,bcwi", "init=old", *WORDS)
    made = records["bcwi", 0]
    candidate = next(run for run in bench.plan("methods=none", "init=old", *WORDS) if run.label == "none")
    start = Parents(bench.store).start(candidate).state_dict()
    end, mixed = bench.weights(records["none", 0]), bench.weights(made)
    alpha = made.chosen["alpha"]

    expected = alpha * start["fc.weight"] + (1 - alpha) * end["fc.weight"]
    expected[5:] = end["fc.weight"][5:]  # the old model has none for new classes
    torch.testing.assert_close(mixed["fc.weight"], expected)


def test_methods_that_do_not_fit_are_left_out_of_groups_and_refused_by_name(bench):
    labels = {run.method for run in bench.plan("methods=none,rivals", *WORDS)}

    assert "bcwi" not in labels
    with pytest.raises(
        ValueError, match="methods=bcwi: candidates must start from the old model: add init=old"
    ):
        bench.plan("methods=bcwi", *WORDS)
    with pytest.raises(ValueError, match="init=old"):
        bench.plan("methods=none", "init=old", "arch=resnet18", "old_arch=resnet8", *WORDS)


def test_a_made_candidates_own_error_ends_its_run_alone(bench, tmp_path, monkeypatch):
    (tmp_path / "faulty.py").write_text(
        "from dataclasses import dataclass\n"
        "from methods import Ensemble\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Faulty(Ensemble):\n"
        "    def combine(self, answers):\n"
        "        return answers.nothing\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(METHODS, "faulty", Entry(path="faulty:Faulty", summary="a test's"))
    words = ("methods=none,ensemble-old-new,faulty", *WORDS)
    *before, (job, folder) = bench.jobs(*words)
    for _, other in before:
        bench.do(other)

    with pytest.raises(RuntimeError, match="faulty: AttributeError"):
        bench.do(folder)

    by_label = {run.label: run.id for run in job.runs}
    assert bench.store.read(by_label["ensemble-old-new"]).state == "done"
    failure = bench.store.failure(by_label["faulty"])
    assert failure.cause == "bug"
    assert "faulty.py, line 6: return answers.nothing" in failure.message


def test_made_candidates_can_be_compared_sample_by_sample(bench):
    records = bench.run("methods=none,ensemble-old-new", *WORDS)
    one, other = (bench.store.predictions(record) for record in records.values())

    assert np.array_equal(one.index, other.index)


def test_the_images_are_opened_once_for_all_made_candidates_and_once_for_their_holdout(bench, monkeypatch):
    *before, (job, folder) = bench.jobs("methods=none,ensemble-old-new,posthoc-bias,bcwi", "init=old", *WORDS)
    for _, other in before:
        bench.do(other)
    opened = []
    original = execute.open_data

    def counted(run, *rest, **more):
        opened.append(run.label)
        return original(run, *rest, **more)

    monkeypatch.setattr(execute, "open_data", counted)
    assert bench.do(folder) == 0

    assert len(job.runs) == 3
    assert opened == [job.runs[0].label, "holdout none"]


def test_trials_are_on_the_images_that_the_holdout_has_not_seen(bench, tmp_path, monkeypatch):
    (tmp_path / "telling.py").write_text(
        "from dataclasses import dataclass\n"
        "from methods import PostHoc\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Telling(PostHoc):\n"
        "    'Its strength is the error of a trial: of the model as it is, or of one that says class 0.'\n"
        "    which: int = 0\n"
        "    strengths = (0.0, 1.0)\n"
        "    def logits(self, logits, old_classes, strength):\n"
        "        return logits * (1 - strength)\n"
        "    def choose(self, trials):\n"
        "        return trials[self.which].er_all\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(METHODS, "telling", Entry(path="telling:Telling", summary="a test's"))
    words = ("methods=telling", "telling.which=0,1", "telling.holdout=0.3", *WORDS)
    records = bench.run(*words)
    (holdout,) = (run for run in bench.plan(*words) if run.role == "holdout")
    held_out = predictions_on(bench.store, bench.store.read(holdout.id), "validation")
    as_it_is, class_0 = (record.chosen["strength"] for record in records.values() if record.chosen)

    assert len(held_out) in range(85, 96)  # three tenths of 300 images, class by class
    assert as_it_is == pytest.approx(np.mean(~held_out.right))
    assert class_0 == pytest.approx(np.mean(held_out.target != 0))
