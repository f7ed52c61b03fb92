"""Changes to a trained model without further training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from methods.base import PostHoc

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PosthocBias(PostHoc):
    """No Treatment with k taken from new classes' logits at inference: MPT's margin without its training.

    After post-hoc logit adjustment (Menon et al., ICLR 2021, Section 4), with one number for all new classes.
    """

    strength_name: ClassVar[str] = "k"

    largest: float = 8.0
    """The greatest k that is tried."""
    steps: int = 32
    """How many are tried, evenly spaced up to that one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.largest > 0, "largest", "above 0")
        self.require(self.steps >= 1, "steps", "1 or more")

    @property
    def strengths(self) -> tuple[float, ...]:
        """0 and `steps` more."""
        return evenly(self.largest, self.steps)

    def logits(self, logits: Tensor, old_classes: int, strength: float) -> Tensor:
        """z - k on the new classes' columns; [B, C] -> [B, C]."""
        changed = logits.clone()
        changed[:, old_classes:] -= strength
        return changed


@dataclass(frozen=True, kw_only=True)
class Bcwi(PostHoc):
    """Weights alpha * old + (1 - alpha) * new (BCWI, Schumann et al., EACL 2024).

    The new model is fine-tuned from the old one, so that what lies between them is a good model, too.
    """

    strength_name: ClassVar[str] = "alpha"
    same_model: ClassVar[bool] = True
    starts_from_old: ClassVar[bool] = True

    steps: int = 10
    """How many alphas are tried, evenly spaced up to 1, which is the old model."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.steps >= 1, "steps", "1 or more")

    @property
    def strengths(self) -> tuple[float, ...]:
        """0 and `steps` more."""
        return evenly(1.0, self.steps)

    def weights(
        self, start: Mapping[str, Tensor], trained: Mapping[str, Tensor], strength: float
    ) -> Mapping[str, Tensor]:
        """Between `start` and `trained`, running statistics included; counters are the trained model's."""
        return {
            name: start[name].to(value.device).lerp(value, 1 - strength)
            if value.is_floating_point()
            else value
            for name, value in trained.items()
        }


def evenly(largest: float, steps: int) -> tuple[float, ...]:
    """`steps` + 1 numbers from 0 to `largest`."""
    return tuple(largest * i / steps for i in range(steps + 1))
