"""Margin-preserving training (AAAI 2026, arXiv 2511.08322)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from methods.base import Range, Step
from methods.losses import cross_entropy
from methods.pct import FocalDistillation, KlDistance, LmDistance

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Mpt(FocalDistillation):
    """A margin for the old classes in the cross-entropy; old model and one reference as teachers.

    The cross-entropy alone sees `z + Delta`, Delta = k on the new classes' columns: to be right on an
    old class, the student must beat every new class by k more. Both distillation terms, and inference,
    use the plain logits.
    """

    k: Annotated[float, Range(0.0, 8.0)] = 4.0
    """Margin added to new classes' logits; 4 on CIFAR, 1.5 on ImageNet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.k >= 0, "k", "0 or more")

    @property
    def references(self) -> int:
        """One, unless lambda = 0 leaves nothing to distil."""
        return 1 if self.lambda_ > 0 else 0

    def loss(self, step: Step) -> dict[str, Tensor]:
        biased = step.logits.clone()  # z + Delta, [B, C]
        biased[:, step.old_classes :] += self.k
        ce = cross_entropy(biased, step.targets).mean()
        if self.lambda_ == 0:
            return {"loss": ce, "ce": ce}
        old = self.pull_old(step)
        new = self.pull(step.logits, step.references[0], step.targets)
        return {"loss": ce + old + new, "ce": ce, "old": old, "new": new}


@dataclass(frozen=True, kw_only=True)
class MptKl(KlDistance, Mpt):
    """Margin-preserving training with KL divergence."""


@dataclass(frozen=True, kw_only=True)
class MptLm(LmDistance, Mpt):
    """Margin-preserving training with logit matching."""
