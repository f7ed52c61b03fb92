"""Trained models that classify together: what may be reached where inference may cost more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from methods.base import Answers, Ensemble, Range

if TYPE_CHECKING:
    from torch import Tensor

FLOOR = 1e-30
"""Below any probability that matters; keeps logarithms finite in fp32."""


@dataclass(frozen=True, kw_only=True)
class OldAndNew(Ensemble):
    """Mean probabilities of the old model, 0 for new classes, and of No Treatment.

    As a comparison in the public code of BCWI (Schumann et al., EACL 2024).
    """

    share: Annotated[float, Range(0.05, 0.95)] = 0.5
    """The old model's share."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 <= self.share <= 1, "share", "in [0, 1]")

    def combine(self, answers: Answers) -> Tensor:
        assert answers.old is not None
        assert answers.new is not None
        together = (1 - self.share) * answers.new.softmax(dim=1)  # [B, C]
        together[:, : answers.old_classes] += self.share * answers.old.softmax(dim=1)
        return together.clamp(min=FLOOR).log()


@dataclass(frozen=True, kw_only=True)
class NewModels(Ensemble):
    """Plain models of the new generation: the ensemble of Yan et al. (CVPR 2021), which ELODI distils."""

    uses_old: ClassVar[bool] = False
    uses_new: ClassVar[bool] = False

    members: int = 8
    """Reference models that answer together."""
    mean_of: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.members >= 1, "members", "1 or more")

    @property
    def references(self) -> int:
        """The members."""
        return self.members

    def combine(self, answers: Answers) -> Tensor:
        if self.mean_of == "logits":
            return mean(answers.references)
        return mean([logits.softmax(dim=1) for logits in answers.references]).clamp(min=FLOOR).log()


def mean(tensors: Sequence[Tensor]) -> Tensor:
    """Of tensors of one shape."""
    return sum(tensors[1:], start=tensors[0]) / len(tensors)
