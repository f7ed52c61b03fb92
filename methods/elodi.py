"""ELODI: distillation from an ensemble (Zhao et al.), as the MPT paper sets it up for a baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from methods.base import Loss, Step
from methods.losses import cross_entropy, squared_distance, squared_distance_top_k

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Elodi(Loss):
    """Logit matching to the old model and to the mean logits of an ensemble, after some plain epochs."""

    members: int = 8
    """Reference models in the ensemble."""
    warmup_epochs: int = 6
    """Epochs of plain cross-entropy at the start."""
    old_weight: float = 0.6
    """Weight of the term against the old model."""
    ensemble_weight: float = 0.4
    """Weight of the term against the ensemble."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.members >= 1, "members", "1 or more")
        for name in ("warmup_epochs", "old_weight", "ensemble_weight"):
            self.require(getattr(self, name) >= 0, name, "0 or more")

    @property
    def references(self) -> int:
        """The ensemble's members."""
        return self.members

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[B, C], [B, C] -> [B]."""
        return squared_distance(student, teacher)

    def loss(self, step: Step) -> dict[str, Tensor]:
        ce = cross_entropy(step.logits, step.targets).mean()
        if step.epoch < self.warmup_epochs:
            return {"loss": ce, "ce": ce}
        ensemble = sum(step.references[1:], start=step.references[0]) / len(step.references)  # [B, C]
        old = self.old_weight * self.distance(step.logits_old, step.old).mean()
        new = self.ensemble_weight * self.distance(step.logits, ensemble).mean()
        return {"loss": ce + old + new, "ce": ce, "old": old, "new": new}


@dataclass(frozen=True, kw_only=True)
class ElodiTopK(Elodi):
    """ELODI on each teacher's own highest logits."""

    top_k: int = 10
    """How many of a teacher's highest logits are matched."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.top_k >= 1, "top_k", "1 or more")

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return squared_distance_top_k(student, teacher, k=self.top_k)
