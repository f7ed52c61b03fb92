"""The arithmetic of losses, against values worked out by hand and plain-Python loops."""

import math

import pytest
import torch

from methods import losses

# Two samples, three classes.
STUDENT = [[1.0, 2.0, 0.0], [0.0, -1.0, 3.0]]
TEACHER = [[2.0, 0.0, 0.0], [1.0, 1.0, 2.0]]


def softmax(logits, tau=1.0):
    exponentials = [math.exp(value / tau) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def test_cross_entropy_is_minus_the_log_of_the_targets_probability():
    # softmax([0, ln 3]) = [1/4, 3/4]
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])

    each = losses.cross_entropy(logits, torch.tensor([0, 1]))

    torch.testing.assert_close(each, torch.tensor([math.log(4.0), math.log(4.0 / 3.0)]))


@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_kl_runs_from_teacher_to_student_without_a_factor_of_tau_squared(tau):
    each = losses.kl(torch.tensor(STUDENT), torch.tensor(TEACHER), tau=tau)

    for sample in range(2):
        p, q = softmax(TEACHER[sample], tau), softmax(STUDENT[sample], tau)
        expected = sum(p[c] * (math.log(p[c]) - math.log(q[c])) for c in range(3))
        assert each[sample].item() == pytest.approx(expected, rel=1e-5)


def test_kl_has_the_direction_of_the_public_code():
    student, teacher = torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])

    one_way = losses.kl(student, teacher, tau=1.0)
    other_way = losses.kl(teacher, student, tau=1.0)

    # KL(uniform || q) = -ln 3 - mean(ln q), with q = softmax([4, 0, 0]): the mean-seeking, larger one here.
    log_q = [math.log(value) for value in softmax([4.0, 0.0, 0.0])]
    assert one_way.item() == pytest.approx(-math.log(3.0) - sum(log_q) / 3, rel=1e-5)
    assert one_way.item() > other_way.item()


def test_squared_distance_is_half_the_mean_over_classes():
    each = losses.squared_distance(torch.tensor(STUDENT), torch.tensor(TEACHER))

    # (1 + 4 + 0) / 3 / 2 and (1 + 4 + 1) / 3 / 2
    torch.testing.assert_close(each, torch.tensor([5 / 6, 1.0]))


def test_top_k_takes_each_samples_own_highest_teacher_logits_and_divides_by_all_classes():
    student = torch.zeros(2, 4)
    teacher = torch.tensor([[5.0, 1.0, 3.0, 0.0], [0.0, 2.0, -4.0, 1.0]])

    each = losses.squared_distance_top_k(student, teacher, k=2)

    # (25 + 9) / 4 / 2 and (4 + 1) / 4 / 2. Over the batch instead of the classes, the second would be 0.
    torch.testing.assert_close(each, torch.tensor([34 / 8, 5 / 8]))


def test_top_k_of_more_than_all_classes_is_all_classes():
    student, teacher = torch.tensor(STUDENT), torch.tensor(TEACHER)

    torch.testing.assert_close(
        losses.squared_distance_top_k(student, teacher, k=10), losses.squared_distance(student, teacher)
    )


def test_focus_adds_beta_where_the_teacher_is_right():
    weight = losses.focus(torch.tensor(TEACHER), torch.tensor([0, 1]), alpha=1.0, beta=5.0)

    assert weight.tolist() == [6.0, 1.0]
