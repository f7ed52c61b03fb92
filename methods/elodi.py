"""ELODI: distillation from an ensemble (Zhao et al.), as MPT's baseline and as its authors publish it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from methods.base import Loss, Range, Step
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
    old_weight: Annotated[float, Range(0.06, 6.0, log=True)] = 0.6
    """Weight of the term against the old model."""
    ensemble_weight: Annotated[float, Range(0.04, 4.0, log=True)] = 0.4
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


@dataclass(frozen=True, kw_only=True)
class ElodiAuthors(Loss):
    """ELODI as its authors publish it (TPAMI 2024; code shared with PCT): the ensemble alone is the teacher.

    Logit difference inhibition with p = 2 and no margin: the mean of the squared differences of K logits.
    """

    uses_old: ClassVar[bool] = False

    members: int = 8
    """Reference models in the ensemble."""
    share: Annotated[float, Range(0.05, 0.95)] = 0.8
    """Of the distillation in the loss; the cross-entropy has the rest."""
    top_k: int = 10
    """How many of the highest logits are matched."""
    highest_of: Literal["student", "teacher"] = "student"
    """Whose highest logits."""
    exclude_target: bool = False
    """Leave the target's own logit unmatched, as their code does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.members >= 1, "members", "1 or more")
        self.require(0 <= self.share <= 1, "share", "in [0, 1]")
        self.require(self.top_k >= 1, "top_k", "1 or more")

    @property
    def references(self) -> int:
        """The ensemble's members."""
        return self.members

    def loss(self, step: Step) -> dict[str, Tensor]:
        teacher = sum(step.references[1:], start=step.references[0]) / len(step.references)  # [B, C]
        ranked = step.logits.detach() if self.highest_of == "student" else teacher
        highest = ranked.topk(min(self.top_k, teacher.shape[1]), dim=1).indices  # [B, K]
        squares = (step.logits - teacher).square().gather(1, highest)
        if self.exclude_target:
            squares = squares * (highest != step.targets[:, None])
        ce = (1 - self.share) * cross_entropy(step.logits, step.targets).mean()
        new = self.share * squares.mean(dim=1).mean()
        return {"loss": ce + new, "ce": ce, "new": new}
