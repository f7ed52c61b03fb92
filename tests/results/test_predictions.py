import numpy as np
import pytest

from results.predictions import Predictions, unpack_bits

LOGITS = [[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]]


def test_logits_become_predictions_probabilities_and_margins():
    made = Predictions.from_logits(index=[7, 9], target=[0, 1], logits=LOGITS)
    e = np.exp
    assert made.prediction.tolist() == [0, 2]
    assert made.right.tolist() == [True, False]
    assert made.margin.tolist() == [2.0, -2.0]
    assert made.confidence == pytest.approx([e(2) / (e(2) + 1 + e(-1)), e(3) / (1 + e(1) + e(3))])
    assert made.target_confidence == pytest.approx([e(2) / (e(2) + 1 + e(-1)), e(1) / (1 + e(1) + e(3))])


def test_huge_logits_do_not_overflow():
    made = Predictions.from_logits(index=[0], target=[0], logits=[[1e4, -1e4]])
    assert (made.confidence[0], made.margin[0]) == (1.0, 2e4)


def test_bytes_hold_everything_and_are_always_the_same():
    made = Predictions.from_logits(index=[7, 9], target=[0, 1], logits=LOGITS)
    again = Predictions.from_bytes(made.to_bytes())
    for name in ("index", "target", "prediction", "confidence", "target_confidence", "margin"):
        assert getattr(again, name).tolist() == getattr(made, name).tolist()
    assert again.to_bytes() == made.to_bytes()


def test_right_answers_pack_into_text_with_the_old_classes_first():
    # by (target, index): sample 7 of class 0 (wrong), 2 and 9 of class 1 (right, wrong), 1 of class 2
    made = Predictions(
        index=np.array([9, 1, 7, 2]), target=np.array([1, 2, 0, 1]), prediction=np.array([0, 2, 1, 1])
    )
    assert unpack_bits(made.packed_right, 4).tolist() == [False, True, False, True]
    old = made.take(made.target < 2)
    assert unpack_bits(made.packed_right, 3).tolist() == unpack_bits(old.packed_right, 3).tolist()
    with pytest.raises(ValueError, match="do not hold 9 bits"):
        unpack_bits(made.packed_right, 9)


def test_confidences_may_be_unknown():
    made = Predictions(index=np.array([1]), target=np.array([0]), prediction=np.array([0]))
    assert Predictions.from_bytes(made.to_bytes()).margin is None
    assert made.take(np.array([True])).margin is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"index": [0, 0]}, "sample 0 comes more than once"),
        ({"index": [0]}, "has shape"),
        ({"target": [0, -1]}, "target holds -1, classes count from 0"),
        ({"prediction": [0.5, 1.0]}, "must hold integers"),
        ({"margin": [0.0, float("nan")]}, "margin holds a NaN"),
    ],
)
def test_impossible_predictions_are_refused(arrays, message):
    good = {"index": [0, 1], "target": [0, 1], "prediction": [0, 1]}
    with pytest.raises(ValueError, match=message):
        Predictions(**{name: np.array(values) for name, values in (good | arrays).items()})


@pytest.mark.parametrize(
    ("target", "logits", "message"),
    [
        ([0, 1], [[0.0, float("nan")], [0.0, 1.0]], "a NaN"),
        ([0, 2], [[0.0, 1.0], [0.0, 1.0]], "outside the 2 classes"),
        ([0], [[0.0, 1.0], [0.0, 1.0]], "have shape"),
    ],
)
def test_impossible_logits_are_refused(target, logits, message):
    with pytest.raises(ValueError, match=message):
        Predictions.from_logits(index=range(len(target)), target=target, logits=logits)


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"no zip", lambda b: b[:-30], lambda b: b[:100]])
def test_a_damaged_file_is_refused_in_one_line(damage):
    data = Predictions.from_logits(index=[7, 9], target=[0, 1], logits=LOGITS).to_bytes()
    with pytest.raises(ValueError, match="not an NPZ file of plain arrays"):
        Predictions.from_bytes(damage(data))
