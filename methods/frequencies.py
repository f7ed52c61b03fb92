"""A margin for each class from how often it occurs: MPT's margin as long-tailed learning has it.

With as many images of every class, all of these are No Treatment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from methods.base import Loss, Range, Step
from methods.losses import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LogitAdjustment(Loss):
    """Cross-entropy on z + tau * log(frequency) (logit-adjusted loss, Menon et al., ICLR 2021)."""

    uses_old: ClassVar[bool] = False

    tau: Annotated[float, Range(0.0, 3.0)] = 1.0
    """Strength of the adjustment; 0 is No Treatment."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.tau >= 0, "tau", "0 or more")

    def loss(self, step: Step) -> dict[str, Tensor]:
        return {"loss": cross_entropy(adjusted(step, tau=self.tau), step.targets).mean()}


@dataclass(frozen=True, kw_only=True)
class BalancedSoftmax(Loss):
    """Cross-entropy of a softmax weighted by class counts (Balanced Softmax, Ren et al., NeurIPS 2020)."""

    uses_old: ClassVar[bool] = False

    def loss(self, step: Step) -> dict[str, Tensor]:
        return {"loss": cross_entropy(adjusted(step, tau=1.0), step.targets).mean()}


def adjusted(step: Step, *, tau: float) -> Tensor:
    """The student's logits plus tau * log(training images of the class); [B, C]."""
    counts = step.class_counts.clamp(min=1).to(step.logits.dtype)  # [C]
    return step.logits + tau * counts.log()
