"""Training on labels that the old model has changed: churn reduction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from methods.base import Loss, Range, Step
from methods.losses import cross_entropy, is_right, soft_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ChurnDistillation(Loss):
    """Labels mixed with the old model's probabilities (Jiang et al., ICLR 2022, Algorithm 1).

    The paper's models know the same classes; here the old model's probabilities of new classes are 0.
    """

    share: Annotated[float, Range(0.05, 0.95)] = 0.5
    """The old model's share of the target; the paper's lambda."""
    mask_new: bool = True
    """Leave the labels of new classes as they are; without it their targets are the mixture, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.share <= 1, "share", "in [0, 1]")

    def loss(self, step: Step) -> dict[str, Tensor]:
        mixed = (step.targets < step.old_classes).to(step.logits.dtype) if self.mask_new else 1.0
        share = self.share * mixed  # [B] or one for all
        ce = ((1 - share) * cross_entropy(step.logits, step.targets)).mean()
        old = (share * soft_cross_entropy(step.logits, step.old.softmax(dim=1))).mean()
        return {"loss": ce + old, "ce": ce, "old": old}


@dataclass(frozen=True, kw_only=True)
class Anchor(Loss):
    """Regress to corrected prediction (Milani Fard et al., NeurIPS 2016), for many classes.

    Where the old model is right, the target is a mixture of the label and its probabilities; elsewhere the
    label, times epsilon. It is never right on a new class.
    """

    share: Annotated[float, Range(0.05, 0.95)] = 0.5
    """The old model's share of the target where it is right; the paper's alpha."""
    epsilon: Annotated[float, Range(0.0, 1.0)] = 1.0
    """Weight of the label where the old model is wrong."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.share <= 1, "share", "in [0, 1]")
        self.require(0 <= self.epsilon <= 1, "epsilon", "in [0, 1]")

    def loss(self, step: Step) -> dict[str, Tensor]:
        right = is_right(step.old, step.targets)  # [B]
        weight = right * (1 - self.share) + (1 - right) * self.epsilon
        ce = (weight * cross_entropy(step.logits, step.targets)).mean()
        old = (self.share * right * soft_cross_entropy(step.logits, step.old.softmax(dim=1))).mean()
        return {"loss": ce + old, "ce": ce, "old": old}
