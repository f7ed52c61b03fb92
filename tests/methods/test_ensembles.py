"""What several models say together, by hand."""

import math

import pytest
import torch

from methods import Answers
from tests.methods.by_hand import OLD_CLASSES, make, mean

OLD = [math.log(3.0), 0.0]  # 3/4, 1/4
NEW = [0.0, 0.0, math.log(2.0), 0.0]  # 1/5, 1/5, 2/5, 1/5


def answers(*, old=None, new=None, references=()):
    def batch(logits):
        return None if logits is None else torch.tensor([logits])

    return Answers(
        old_classes=OLD_CLASSES, old=batch(old), new=batch(new), references=tuple(map(batch, references))
    )


def probabilities(combined):
    return combined.exp().tolist()[0]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_old_and_new_is_a_mean_of_probabilities_in_which_new_classes_have_none_of_the_old_model(share):
    old, new = [0.75, 0.25, 0.0, 0.0], [0.2, 0.2, 0.4, 0.2]

    combined = make("ensemble-old-new", share=share).combine(answers(old=OLD, new=NEW))

    expected = [share * a + (1 - share) * b for a, b in zip(old, new, strict=True)]
    assert probabilities(combined) == pytest.approx(expected)


def test_new_models_average_their_probabilities():
    references = [NEW, [0.0, math.log(2.0), 0.0, 0.0]]

    combined = make("ensemble-new", members=2).combine(answers(references=references))

    assert probabilities(combined) == pytest.approx([0.2, 0.3, 0.3, 0.2])


def test_new_models_may_average_their_logits():
    references = [[1.0, 0.0, 2.0, 0.0], [0.0, 4.0, 1.0, 1.0]]

    combined = make("ensemble-new", members=2, mean_of="logits").combine(answers(references=references))

    assert combined.tolist()[0] == [mean(pair) for pair in zip(*references, strict=True)]


@pytest.mark.parametrize("name", ["ensemble-old-new", "ensemble-new"])
def test_models_that_are_sure_give_finite_logits(name):
    sure = [300.0, 0.0, 0.0, 0.0]

    combined = make(name).combine(answers(old=sure[:2], new=sure, references=[sure] * 8))

    assert combined.isfinite().all()
    assert combined.argmax().item() == 0


def test_members_are_left_as_they_are():
    made = answers(old=OLD, new=NEW)
    make("ensemble-old-new").combine(made)

    assert made.new.tolist()[0] == pytest.approx(NEW)


def test_an_ensembles_networks_are_counted():
    assert make("ensemble-old-new").networks == 2
    assert make("ensemble-new").networks == 8
    assert make("ensemble-new", members=3).references == 3


@pytest.mark.parametrize(
    ("name", "changes"), [("ensemble-old-new", {"share": 1.5}), ("ensemble-new", {"members": 0})]
)
def test_a_hyperparameter_out_of_range_is_refused_by_name(name, changes):
    (parameter,) = changes
    with pytest.raises(ValueError, match=f"^{parameter}="):
        make(name, **changes)
