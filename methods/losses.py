"""The arithmetic that methods share. Every function returns one value a sample, [B]; methods take the mean.

Sources and where they disagree: `docs/methods.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(logits)[target]; [B, C], [B] -> [B]."""
    return -logits.log_softmax(dim=1).gather(1, targets[:, None]).squeeze(1)


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """-sum of p * log softmax(logits) over the first K columns, those that p has; [B, C], [B, K] -> [B]."""
    return -(probabilities * logits.log_softmax(dim=1)[:, : probabilities.shape[1]]).sum(dim=1)


def kl(student: Tensor, teacher: Tensor, *, tau: float) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student / tau)); [B, C], [B, C] -> [B].

    The direction of all public code; Eq. 5 of the MPT paper reads the other way round.
    """
    log_p = (teacher / tau).log_softmax(dim=1)
    log_q = (student / tau).log_softmax(dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean over classes of squared logit differences; [B, C], [B, C] -> [B].

    A mean as in the public code (Eq. 6 of the MPT paper is a sum: multiply by C for that).
    """
    return 0.5 * (student - teacher).square().mean(dim=1)


def squared_distance_top_k(student: Tensor, teacher: Tensor, *, k: int) -> Tensor:
    """`squared_distance` restricted to each sample's k highest teacher logits, still divided by C; -> [B]."""
    highest = teacher.topk(min(k, teacher.shape[1]), dim=1).indices
    difference = student.gather(1, highest) - teacher.gather(1, highest)
    return 0.5 * difference.square().sum(dim=1) / teacher.shape[1]


def focus(teacher: Tensor, targets: Tensor, *, alpha: float, beta: float) -> Tensor:
    """PCT's focal weight alpha + beta * 1[the teacher is right]; [B, C], [B] -> [B]."""
    return alpha + beta * is_right(teacher, targets)


def is_right(teacher: Tensor, targets: Tensor) -> Tensor:
    """1.0 where the highest logit is the target's, else 0.0; [B, C], [B] -> [B]."""
    return (teacher.argmax(dim=1) == targets).to(teacher.dtype)
