"""Plain distillation: from the old model (Li and Hoiem), and from a model of the student's own kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from methods.base import Loss, Range, Step
from methods.losses import cross_entropy, kl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Lwf(Loss):
    """Learning without Forgetting (Li and Hoiem, TPAMI 2018, Section 3): distillation without a focus.

    The paper has no images of old classes; here the cross-entropy sees all classes. Its cross-entropy between
    softened outputs has the gradient of this KL divergence.
    """

    lambda_: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of the distillation."""
    tau: Annotated[float, Range(1.0, 20.0, log=True)] = 2.0
    """Temperature."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.lambda_ >= 0, "lambda_", "0 or more")
        self.require(self.tau > 0, "tau", "above 0")

    def loss(self, step: Step) -> dict[str, Tensor]:
        ce = cross_entropy(step.logits, step.targets).mean()
        old = self.lambda_ * kl(step.logits_old, step.old, tau=self.tau).mean()
        return {"loss": ce + old, "ce": ce, "old": old}


@dataclass(frozen=True, kw_only=True)
class SelfDistillation(Loss):
    """Born-again network (Furlanello et al., ICML 2018): a plain model of the same network is the teacher.

    It never sees the old model, so it shows what any teacher brings.
    """

    uses_old: ClassVar[bool] = False

    ce_weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0
    """Weight of the cross-entropy: 1 is the paper's BAN+L, 0 its BAN."""
    tau: Annotated[float, Range(1.0, 20.0, log=True)] = 1.0
    """Temperature."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.ce_weight >= 0, "ce_weight", "0 or more")
        self.require(self.tau > 0, "tau", "above 0")

    @property
    def references(self) -> int:
        """The teacher."""
        return 1

    def loss(self, step: Step) -> dict[str, Tensor]:
        ce = self.ce_weight * cross_entropy(step.logits, step.targets).mean()
        new = kl(step.logits, step.references[0], tau=self.tau).mean()
        return {"loss": ce + new, "ce": ce, "new": new}
