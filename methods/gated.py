"""Distillation from the old model on some samples; both methods come from language models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from methods.base import Loss, Range, Step
from methods.losses import cross_entropy, is_right, kl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RegretGated(Loss):
    """Distil only where the old model's loss is no higher than the student's (Xie et al., ACL 2021).

    After the variant `better` in the public code of Xie's co-authors. Nothing is distilled on samples of
    new classes, on which the old model has no loss.
    """

    share: Annotated[float, Range(0.05, 0.95)] = 0.5
    """Of the distillation in the loss of a sample that is distilled; the cross-entropy has the rest."""
    tau: Annotated[float, Range(1.0, 20.0, log=True)] = 2.0
    """Temperature."""
    tau_squared: bool = True
    """Multiply the divergence by tau squared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.share <= 1, "share", "in [0, 1]")
        self.require(self.tau > 0, "tau", "above 0")

    def loss(self, step: Step) -> dict[str, Tensor]:
        each = cross_entropy(step.logits, step.targets)  # [B]
        known = step.targets < step.old_classes
        theirs = cross_entropy(step.old, step.targets.clamp(max=step.old_classes - 1))
        share = self.share * (known & (theirs <= each)).to(each.dtype)  # [B]
        scale = self.tau**2 if self.tau_squared else 1.0
        ce = ((1 - share) * each).mean()
        old = (share * scale * kl(step.logits_old, step.old, tau=self.tau)).mean()
        return {"loss": ce + old, "ce": ce, "old": old}


@dataclass(frozen=True, kw_only=True)
class Muscle(Loss):
    """Match the old model where the student errs, else a new one (MUSCLE, Echterhoff et al., EMNLP 2024).

    The paper does so for every token, with an adapter that starts from the new model; here a sample is what a
    token is there, and the student is trained from scratch, so that it needs the cross-entropy.
    """

    ce_weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of the cross-entropy; 0 leaves the paper's two divergences."""
    tau: Annotated[float, Range(1.0, 20.0, log=True)] = 1.0
    """Temperature."""
    mask_new: bool = True
    """Match the new model on all samples of new classes, which the old model does not know."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.ce_weight >= 0, "ce_weight", "0 or more")
        self.require(self.tau > 0, "tau", "above 0")

    @property
    def references(self) -> int:
        """The new model."""
        return 1

    def loss(self, step: Step) -> dict[str, Tensor]:
        errs = 1 - is_right(step.logits.detach(), step.targets)  # [B]
        if self.mask_new:
            errs = errs * (step.targets < step.old_classes)
        ce = self.ce_weight * cross_entropy(step.logits, step.targets).mean()
        old = (errs * kl(step.logits_old, step.old, tau=self.tau)).mean()
        new = ((1 - errs) * kl(step.logits, step.references[0], tau=self.tau)).mean()
        return {"loss": ce + old + new, "ce": ce, "old": old, "new": new}
