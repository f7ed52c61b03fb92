"""Kinds of update by words: what the old model and its update are trained on, and where the update starts."""

import pytest

from harness import config
from harness.experiments import SCENARIOS
from harness.plan import expand
from methods.plain import NoTreatment


def plan(*words):
    return expand(*config.read([*words, "dataset=digits", "seeds=0"]).settings)


def by_label(*words):
    return {run.label: run for run in plan(*words)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_can_be_planned(name):
    needed = [f"{word}=resnet8" for word in SCENARIOS[name].needs]
    arch = ["arch=resnet18", "stem=cifar"] if needed else []

    assert {"old", "none"} <= {run.label for run in plan(f"scenario={name}", "methods=none", *needed, *arch)}


def test_a_list_of_scenarios_makes_a_table_for_each():
    settings = config.read(["scenario=more-classes,more-data", "methods=none"]).settings

    assert [(s.split.old_classes, s.split.old_data) for s in settings] == [(5, 1.0), (10, 0.5)]


def test_ones_own_words_win_over_a_scenario():
    (setting,) = config.read(["scenario=more-data", "old_data=0.25"]).settings

    assert setting.split.old_data == 0.25


def test_a_rare_new_half_concerns_the_update_alone():
    runs = by_label("methods=mpt-kl", "scenario=shifted-prior")

    assert runs["mpt-kl"].split.new_data == runs["reference 0"].split.new_data == 0.1
    assert runs["old"].split.new_data == 1
    assert runs["old"].id == by_label("methods=none")["old"].id


def test_a_rare_new_half_has_a_tenth_of_its_images_in_training(bench, monkeypatch):
    counts, loss = [], NoTreatment.loss

    def counting(method, step):
        counts.append(step.class_counts.tolist())
        return loss(method, step)

    monkeypatch.setattr(NoTreatment, "loss", counting)
    bench.run("methods=none", "seeds=0", "epochs=1")
    *_, whole = counts
    bench.run("methods=none", "seeds=0", "epochs=1", "new_data=0.1")
    *_, rare = counts

    assert sum(whole) == 300
    assert rare == [*whole[:5], *(max(1, round(0.1 * count)) for count in whole[5:])]


def test_more_data_leaves_the_candidates_as_they_are_but_for_their_old_model():
    runs = by_label("methods=none", "scenario=more-data")

    assert (runs["old"].split.old_data, runs["old"].trained_classes) == (0.5, 10)
    assert runs["none"].split.old_data == 1


def test_fine_tuning_concerns_candidates_alone():
    runs = by_label("methods=mpt-kl", "scenario=fine-tuning")

    assert {label: run.init for label, run in runs.items()} == {
        "old": "scratch",
        "reference 0": "scratch",
        "mpt-kl": "old",
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["scenario=more-dat"], "unknown scenario 'more-dat' (did you mean 'more-data'?)"),
        (["scenario=architecture"], "scenario=architecture: say old_arch=, the network of the old model"),
        (["new_data=0"], "new_data=0.0: must lie in (0, 1]"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_one_line(words, complaint):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared in full
        plan(*words)

    assert str(error.value) == complaint
