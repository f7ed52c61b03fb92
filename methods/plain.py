"""No Treatment: the update as it is usually shipped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import Loss, Step
from methods.losses import cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NoTreatment(Loss):
    """Cross-entropy on the true classes, nothing else."""

    uses_old: ClassVar[bool] = False

    def loss(self, step: Step) -> dict[str, Tensor]:
        return {"loss": cross_entropy(step.logits, step.targets).mean()}
