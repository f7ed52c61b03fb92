"""Backward-compatible training: new features that the old classifier understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from methods.base import Loss, Range, Step
from methods.losses import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Bct(Loss):
    """The old classifier's cross-entropy on the student's features (BCT, Shen et al., CVPR 2020).

    As in the authors' public code (openBCT), the mean is over the samples of old classes.
    """

    reads_features: ClassVar[bool] = True
    same_model: ClassVar[bool] = True  # so that the old classifier takes the student's features

    lambda_: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of the old classifier's loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.lambda_ >= 0, "lambda_", "0 or more")

    @property
    def divisible(self) -> bool:
        """No: a mean is over as many samples as a batch happens to have of old classes."""
        return False

    def loss(self, step: Step) -> dict[str, Tensor]:
        assert step.features is not None
        assert step.old_classifier is not None
        ce = cross_entropy(step.logits, step.targets).mean()
        kept = (step.targets < step.old_classes).to(step.logits.dtype)  # [B]
        theirs = step.old_classifier(step.features)  # [B, C_old]
        each = kept * cross_entropy(theirs, step.targets.clamp(max=step.old_classes - 1))
        old = self.lambda_ * each.sum() / kept.sum().clamp(min=1)
        return {"loss": ce + old, "ce": ce, "old": old}
