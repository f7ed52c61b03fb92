"""Methods that change a trained model, on tensors alone."""

import pytest
import torch

from methods import Trial
from tests.methods.by_hand import make


def trial(strength, er_all):
    return Trial(strength=strength, er_all=er_all, er_old=0.0)


def test_the_bias_takes_k_from_the_logits_of_new_classes():
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0]])

    changed = make("posthoc-bias").logits(logits, 2, 1.5)

    assert changed.tolist() == [[1.0, 2.0, 1.5, 2.5]]
    assert logits.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_bcwi_lies_between_the_start_of_training_and_its_end():
    start = {"fc.weight": torch.tensor([0.0, 4.0]), "bn.running_mean": torch.tensor([1.0])}
    trained = {"fc.weight": torch.tensor([2.0, 0.0]), "bn.running_mean": torch.tensor([3.0])}

    mixed = make("bcwi").weights(start, trained, 0.25)

    assert mixed["fc.weight"].tolist() == [1.5, 1.0]
    assert mixed["bn.running_mean"].tolist() == [2.5]


def test_bcwi_keeps_counters_of_the_trained_model_and_leaves_both_models_as_they_are():
    start = {"seen": torch.tensor(0), "weight": torch.tensor([0.0])}
    trained = {"seen": torch.tensor(90), "weight": torch.tensor([2.0])}

    mixed = make("bcwi").weights(start, trained, 0.5)

    assert mixed["seen"].item() == 90
    assert (start["weight"].item(), mixed["weight"].item(), trained["weight"].item()) == (0.0, 1.0, 2.0)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, "trained"), (1.0, "start")])
def test_the_ends_of_bcwi_are_the_models_themselves_to_the_bit(strength, expected):
    models = {"start": {"w": torch.tensor([0.1, -3.7])}, "trained": {"w": torch.tensor([0.3, 1.9])}}

    mixed = make("bcwi").weights(models["start"], models["trained"], strength)

    assert torch.equal(mixed["w"], models[expected]["w"])


def test_bcwi_needs_one_architecture_and_a_start_from_the_old_model():
    assert make("bcwi").same_model
    assert make("bcwi").starts_from_old


@pytest.mark.parametrize(
    ("name", "changes", "strengths"),
    [
        ("posthoc-bias", {"largest": 2.0, "steps": 4}, [0.0, 0.5, 1.0, 1.5, 2.0]),
        ("bcwi", {"steps": 4}, [0.0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_strengths_ascend_from_0(name, changes, strengths):
    assert list(make(name, **changes).strengths) == strengths


@pytest.mark.parametrize("name", ["posthoc-bias", "bcwi"])
def test_the_greatest_strength_that_costs_no_more_errors_is_chosen(name):
    trials = [trial(0.0, 0.10), trial(0.5, 0.09), trial(1.0, 0.10), trial(1.5, 0.12)]

    assert make(name).choose(trials) == 1.0
    assert make(name, slack=0.02).choose(trials) == 1.5
    assert make(name).choose([trial(0.0, 0.10), trial(0.5, 0.11)]) == 0.0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("posthoc-bias", {"largest": 0.0}),
        ("posthoc-bias", {"steps": 0}),
        ("posthoc-bias", {"holdout": 0.0}),
        ("posthoc-bias", {"slack": -0.1}),
        ("bcwi", {"steps": 0}),
        ("bcwi", {"holdout": 0.6}),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused_by_name(name, changes):
    (parameter,) = changes
    with pytest.raises(ValueError, match=f"^{parameter}="):
        make(name, **changes)
