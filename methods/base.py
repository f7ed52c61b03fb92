"""What a method is: a frozen dataclass of hyperparameters, of one of three kinds.

- `Loss` trains the candidate: one step's logits to losses.
- `PostHoc` changes a model that is trained already, by one number that is chosen on held-out training data.
- `Ensemble` lets several trained models answer together.

Nothing here or in a method's file imports torch at run time: methods are written with tensors' own
methods, so that a plan is made and a help text printed in a fraction of a second.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, get_type_hints

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a loss sees of one training batch.

    Every tensor is fp32 but targets, indices and counts. Only `logits` and `features` carry gradients.
    """

    logits: Tensor
    """Student [B, C]."""
    targets: Tensor
    """Positions in the class order [B]; those below `old_classes` are old classes."""
    images: Tensor
    """What all models of the batch see, normalised [B, 3, H, W]; features [B, D] of a frozen backbone."""
    indices: Tensor
    """Sample numbers in the training set [B]."""
    epoch: int
    """Counted from 0."""
    epochs: int
    """How many there are in all."""
    old_classes: int
    """C_old: the student's first columns are the old model's classes."""
    class_counts: Tensor
    """How many images the student is trained on, by class [C]."""
    old_logits: Tensor | None = None
    """Old model [B, C_old]; None where no method of the job asked for it."""
    references: tuple[Tensor, ...] = ()
    """One [B, C] a reference, as many as the method asked for."""
    features: Tensor | None = None
    """Input of the student's last linear layer [B, D], where the method has `reads_features`."""
    old_features: Tensor | None = None
    """The same of the old model [B, D_old]."""
    reference_features: tuple[Tensor, ...] = ()
    """The same of each reference [B, D]."""
    old_classifier: Callable[[Tensor], Tensor] | None = None
    """The old model's last linear layer, frozen: [B, D_old] -> [B, C_old]; with `reads_features`."""
    augmented: Mapping[str, Tensor] = field(default_factory=dict)
    """What the method's own `augment` noted about this batch."""

    @property
    def old(self) -> Tensor:
        """The old model's logits [B, C_old]."""
        assert self.old_logits is not None, "a method that reads old logits has uses_old = True"
        return self.old_logits

    @property
    def logits_old(self) -> Tensor:
        """The student's logits on the old classes [B, C_old]."""
        return self.logits[:, : self.old_classes]


@dataclass(frozen=True)
class Range:
    """Where `tune=` looks for a hyperparameter, both ends included.

    It stands in the field's type: `k: Annotated[float, Range(0.0, 8.0)] = 4.0`.
    """

    low: float
    high: float
    log: bool = field(default=False, kw_only=True)
    """Whether factors count and not differences, as for most weights."""

    def __post_init__(self) -> None:
        assert self.low < self.high
        assert self.low > 0 or not self.log

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, kw_only=True)
class Method(ABC):  # noqa: B024 - its kinds have the abstract methods
    """A way to make the candidate; derive from one of the three kinds below.

    Fields are its hyperparameters; a trailing `_` is not part of their name on the command line. Those that
    `tune=` may choose have a `Range` in their type.
    """

    version: ClassVar[int] = 1
    """Raise it when the results change: it is part of a run's identity."""
    uses_old: ClassVar[bool] = True
    """Whether it reads what the old model answers."""
    same_model: ClassVar[bool] = False
    """Whether old and new model must be of one architecture."""
    starts_from_old: ClassVar[bool] = False
    """Whether it only makes sense where candidates start from the old model's weights (`init=old`)."""

    @property
    def references(self) -> int:
        """How many reference models ("new models" in the paper) it reads."""
        return 0

    @classmethod
    def ranges(cls) -> dict[str, Range]:
        """The ranges of those fields that have one, by the field's name."""
        hints = get_type_hints(cls, include_extras=True)
        return {
            entry.name: range_
            for entry in fields(cls)
            for range_ in getattr(hints[entry.name], "__metadata__", ())
            if isinstance(range_, Range)
        }

    def __post_init__(self) -> None:
        """Refuse what no method can use; a method adds its own limits with `require`."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{entry.name.rstrip('_')}={value}: must be a finite number")

    def require(self, holds: bool, name: str, wanted: str) -> None:
        """Raise the one-line ValueError about hyperparameter `name` unless `holds`."""
        if not holds:
            raise ValueError(f"{name.rstrip('_')}={getattr(self, name)}: must be {wanted}")


@dataclass(frozen=True, kw_only=True)
class Loss(Method):
    """A candidate trained with a loss of its own."""

    reads_features: ClassVar[bool] = False
    """Whether it reads the inputs of the models' last linear layers."""

    @property
    def divisible(self) -> bool:
        """Whether a batch's loss is the mean of its equal parts' losses: then processes may share it."""
        return True

    def augment(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Augmentation of its own: what the student sees instead of `images`, and notes for `Step.augmented`.

        Batches stay shared: teachers and other students see `images` [B, 3, H, W] as they are. Draw from
        torch's default generator (`images.new_empty(1).uniform_()`): it is seeded for every step, so that a
        resumed run draws what an uninterrupted one does.
        """
        return images, {}

    @abstractmethod
    def loss(self, step: Step) -> dict[str, Tensor]:
        """Named scalar losses; `loss` is the one to differentiate, the others are its terms."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a post-hoc method is like at one strength, on held-out training data."""

    strength: float
    er_all: float
    """Error rate on all held-out samples, in [0, 1]."""
    er_old: float
    """Error rate on those of old classes."""


@dataclass(frozen=True, kw_only=True)
class PostHoc(Method):
    """No Treatment's candidate, changed after training by a strength.

    The strength is chosen with a second model, trained like the candidate but without a part of the training
    data, on which it is then tested. A setting that holds out a part already (`validation=`) needs none.
    """

    uses_old: ClassVar[bool] = False
    strength_name: ClassVar[str] = "strength"
    """What the strength is called in records and tables."""

    holdout: float = 0.1
    """Part of the training data that the second model is not trained on."""
    slack: float = 0.0
    """By how much the held-out error rate on all classes may rise, as a fraction of the samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0 < self.holdout <= 0.5, "holdout", "in (0, 0.5]")
        self.require(self.slack >= 0, "slack", "0 or more")

    @property
    @abstractmethod
    def strengths(self) -> tuple[float, ...]:
        """Those to choose from, ascending; the first is 0, which leaves the model as it is."""

    def weights(
        self, start: Mapping[str, Tensor], trained: Mapping[str, Tensor], strength: float
    ) -> Mapping[str, Tensor]:
        """The changed weights, from those at the start of training and those at its end.

        Where training starts from the old model, `start` has the trained weights of classes new to it.
        """
        return trained

    def logits(self, logits: Tensor, old_classes: int, strength: float) -> Tensor:
        """The changed logits; [B, C] -> [B, C]."""
        return logits

    def choose(self, trials: Sequence[Trial]) -> float:
        """The strength to use, from a trial of each: the greatest that costs no more errors than `slack`."""
        most = trials[0].er_all + self.slack
        return max(trial.strength for trial in trials if trial.er_all <= most)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the members of an ensemble say about a batch; fp32 logits."""

    old_classes: int
    old: Tensor | None
    """Old model [B, C_old], where `uses_old`."""
    new: Tensor | None
    """No Treatment's candidate [B, C], where `uses_new`."""
    references: tuple[Tensor, ...]
    """One [B, C] a reference."""


@dataclass(frozen=True, kw_only=True)
class Ensemble(Method):
    """Several trained models that classify together: all of them run at inference."""

    uses_new: ClassVar[bool] = True
    """Whether No Treatment's candidate is a member."""

    @property
    def networks(self) -> int:
        """How many models classify a sample."""
        return self.uses_old + self.uses_new + self.references

    @abstractmethod
    def combine(self, answers: Answers) -> Tensor:
        """The ensemble's logits [B, C]: log probabilities serve."""
