"""Which training samples are held out, and which of the others are trained on."""

import numpy as np
import pytest

from loaders.selection import class_ranks, held_out, samples_below, to_train_on

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [40, 40, 30, 20, 2]))


def counts(samples, labels=LABELS):
    return np.bincount(labels[samples], minlength=5).tolist()


@pytest.mark.parametrize("validation", [0.1, 0.5, 0.99])
def test_what_is_held_out_and_what_is_trained_on_are_two_parts_of_everything(validation):
    held = held_out(LABELS, 5, validation)
    trained = to_train_on(LABELS, [1.0] * 5, validation=validation)

    assert np.array_equal(np.sort(np.concatenate([held, trained])), samples_below(LABELS, 5))
    assert 0 not in counts(trained)


def test_every_class_gives_the_same_share_and_at_least_one_sample():
    assert counts(held_out(LABELS, 5, 0.1)) == [4, 4, 3, 2, 1]
    assert counts(to_train_on(LABELS, [0.1] * 5, validation=0.1)) == [4, 4, 3, 2, 1]
    assert counts(to_train_on(LABELS, [0.5] * 3)) == [20, 20, 15, 0, 0]


def test_classes_may_have_shares_of_their_own():
    assert counts(to_train_on(LABELS, [1.0, 1.0, 1.0, 0.5, 0.5]))[3:] == [
        count / 2 for count in counts(to_train_on(LABELS, [1.0] * 5))[3:]
    ]


def test_a_class_of_one_sample_keeps_it_to_train_on():
    labels = np.array([0, 1, 1])

    assert held_out(labels, 2, 0.5).tolist() in ([1], [2])
    assert 0 in to_train_on(labels, [1.0] * 2, validation=0.5)


def test_nothing_is_held_out_unless_it_is_asked_for():
    assert len(held_out(LABELS, 5, 0.0)) == 0
    assert np.array_equal(to_train_on(LABELS, [1.0] * 5), samples_below(LABELS, 5))


def test_a_smaller_part_lies_in_a_larger_one():
    assert set(held_out(LABELS, 5, 0.1)) < set(held_out(LABELS, 5, 0.2))
    assert set(to_train_on(LABELS, [0.1] * 5)) < set(to_train_on(LABELS, [0.2] * 5))


def test_the_held_out_samples_do_not_depend_on_the_class_order_or_on_who_is_trained():
    reordered = class_ranks(5, 7)[LABELS]

    assert np.array_equal(held_out(LABELS, 5, 0.2), held_out(reordered, 5, 0.2))
    of_old_classes = held_out(LABELS, 2, 0.2)
    assert set(of_old_classes) == {sample for sample in held_out(LABELS, 5, 0.2) if LABELS[sample] < 2}
