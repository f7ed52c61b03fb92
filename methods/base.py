"""What a method is: a frozen dataclass of hyperparameters that turns one step's logits into losses.

Nothing here or in a method's file imports torch at run time: losses are written with tensors' own
methods, so that a plan is made and a help text printed in a fraction of a second.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a method sees of one training batch. Every tensor is fp32; only `logits` carries gradients."""

    logits: Tensor
    """Student [B, C]."""
    targets: Tensor
    """Positions in the class order [B]; those below `old_classes` are old classes."""
    epoch: int
    """Counted from 0."""
    old_classes: int
    """C_old: the student's first columns are the old model's classes."""
    old_logits: Tensor | None = None
    """Old model [B, C_old]; None where no method of the job asked for it."""
    references: tuple[Tensor, ...] = ()
    """One [B, C] a reference, as many as the method asked for."""

    @property
    def old(self) -> Tensor:
        """The old model's logits [B, C_old]."""
        assert self.old_logits is not None, "a method that reads old logits has uses_old = True"
        return self.old_logits

    @property
    def logits_old(self) -> Tensor:
        """The student's logits on the old classes [B, C_old]."""
        return self.logits[:, : self.old_classes]


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to train the candidate.

    Fields are its hyperparameters; a trailing `_` is not part of their name on the command line.
    """

    version: ClassVar[int] = 1
    """Raise it when the loss changes: it is part of a run's identity."""
    uses_old: ClassVar[bool] = True
    """Whether the loss reads the old model's logits."""

    @property
    def divisible(self) -> bool:
        """Whether a batch's loss is the mean of its equal parts' losses: then processes may share it."""
        return True

    @property
    def references(self) -> int:
        """How many reference models ("new models" in the paper) the loss reads."""
        return 0

    @abstractmethod
    def loss(self, step: Step) -> dict[str, Tensor]:
        """Named scalar losses; `loss` is the one to differentiate, the others are its terms."""

    def __post_init__(self) -> None:
        """Refuse what no method can use; a method adds its own limits with `require`."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name.rstrip('_')}={value}: must be a finite number")

    def require(self, holds: bool, name: str, wanted: str) -> None:
        """Raise the one-line ValueError about hyperparameter `name` unless `holds`."""
        if not holds:
            raise ValueError(f"{name.rstrip('_')}={getattr(self, name)}: must be {wanted}")
