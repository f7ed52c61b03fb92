"""Positive-congruent training (Yan et al., CVPR 2021), as the MPT paper uses it for baselines."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from methods.base import Loss, Range, Step
from methods.losses import cross_entropy, focus, is_right, kl, squared_distance

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PctNaive(Loss):
    """Cross-entropy counted twice on the samples that the old model got right."""

    def loss(self, step: Step) -> dict[str, Tensor]:
        each = cross_entropy(step.logits, step.targets)  # [B]
        old = (is_right(step.old, step.targets) * each).mean()
        return {"loss": each.mean() + old, "ce": each.mean(), "old": old}


@dataclass(frozen=True, kw_only=True)
class FocalDistillation(Loss):
    """Base of PCT and MPT: a distance to a teacher, weighted up where the teacher is right."""

    lambda_: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of the distillation."""
    alpha: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of every sample."""
    beta: Annotated[float, Range(0.5, 50.0, log=True)] = 5.0
    """Further weight of samples that the teacher gets right."""
    mask_new: bool = False
    """Leave samples of new classes out of the term against the old model (the PCT authors' reading)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lambda_", "alpha", "beta"):
            self.require(getattr(self, name) >= 0, name, "0 or more")

    @property
    def divisible(self) -> bool:
        """Not where a mean is over as many samples as a batch happens to have of old classes."""
        return not self.mask_new

    @abstractmethod
    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[B, C], [B, C] -> [B]."""

    def pull(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        """lambda * mean over the batch of focus * distance; scalar."""
        return self.lambda_ * self._focused(student, teacher, targets).mean()

    def pull_old(self, step: Step) -> Tensor:
        """`pull` towards the old model on the old columns; scalar.

        Under `mask_new` the mean is over the samples of old classes, and 0 where a batch has none.
        """
        if not self.mask_new:
            return self.pull(step.logits_old, step.old, step.targets)
        kept = (step.targets < step.old_classes).to(step.logits.dtype)
        each = kept * self._focused(step.logits_old, step.old, step.targets)
        return self.lambda_ * each.sum() / kept.sum().clamp(min=1)

    def _focused(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        return focus(teacher, targets, alpha=self.alpha, beta=self.beta) * self.distance(student, teacher)


@dataclass(frozen=True, kw_only=True)
class KlDistance(FocalDistillation):
    """Distance: KL(teacher || student) of softened outputs (MPT paper, Eq. 5)."""

    tau: Annotated[float, Range(1.0, 20.0, log=True)] = 5.0
    """Temperature."""
    tau_squared: bool = False
    """Multiply by tau squared, as the PCT authors do (with tau 100)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.tau > 0, "tau", "above 0")

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return kl(student, teacher, tau=self.tau) * (self.tau**2 if self.tau_squared else 1.0)


@dataclass(frozen=True, kw_only=True)
class LmDistance(FocalDistillation):
    """Distance: half the squared difference of logits (logit matching; MPT paper, Eq. 6)."""

    lambda_: Annotated[float, Range(0.04, 4.0, log=True)] = 0.4
    """Weight of the distillation; 0.4 goes with the mean."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over classes: `mean` as in all code, `sum` as the paper's Eq. 6 reads."""

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        return squared_distance(student, teacher) * (teacher.shape[1] if self.reduction == "sum" else 1)


class Pct(FocalDistillation):
    """Cross-entropy and the pull towards the old model (MPT paper, Eq. 4)."""

    def loss(self, step: Step) -> dict[str, Tensor]:
        ce = cross_entropy(step.logits, step.targets).mean()
        old = self.pull_old(step)
        return {"loss": ce + old, "ce": ce, "old": old}


@dataclass(frozen=True, kw_only=True)
class PctKl(KlDistance, Pct):
    """Focal distillation by KL divergence."""


@dataclass(frozen=True, kw_only=True)
class PctLm(LmDistance, Pct):
    """Focal distillation by logit matching."""


@dataclass(frozen=True, kw_only=True)
class PctAuthors(KlDistance):
    """Focal distillation as the authors of PCT publish it: the paper's sum with their code's temperature.

    An example in their code weighs the terms by 0.1 and 0.9; its teacher knows all classes.
    """

    tau: Annotated[float, Range(5.0, 200.0, log=True)] = 100.0
    """Temperature."""
    tau_squared: bool = True
    """Multiply by tau squared."""
    mask_new: bool = True
    """Leave samples of new classes out of the distillation."""
    ce_weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of the cross-entropy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.ce_weight >= 0, "ce_weight", "0 or more")

    def loss(self, step: Step) -> dict[str, Tensor]:
        ce = self.ce_weight * cross_entropy(step.logits, step.targets).mean()
        old = self.pull_old(step)
        return {"loss": ce + old, "ce": ce, "old": old}
