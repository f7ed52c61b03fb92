"""Teachers: the frozen models whose logits and features methods read, and how features are read at all.

They say the same to every student of a cohort, so they are forwarded once for each batch (`harness.engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.compute import ComputeConfig
from harness.inference import frozen


@dataclass(frozen=True, kw_only=True)
class TeacherAnswers:
    """What the teachers say about a batch; features are the inputs of their last linear layers."""

    old: Tensor | None = None
    """[B, C_old]"""
    references: tuple[Tensor, ...] = ()
    """One [B, C] each."""
    old_features: Tensor | None = None
    """[B, D_old]"""
    reference_features: tuple[Tensor, ...] = ()
    """One [B, D] each."""
    old_classifier: nn.Module | None = None
    """The old model's last linear layer in fp32, frozen."""


class Teachers:
    """The frozen models whose logits methods read: the old model and the references, one after the other.

    A loop over folded networks: on the one thread that a CPU job has, eight ResNet-18 stacked with
    `torch.vmap` were half as fast, the small net's eight 1.4 times as fast (docs/performance.md). Not
    measured on a GPU.
    """

    def __init__(
        self,
        old: nn.Module | None,
        references: Sequence[nn.Module],
        compute: ComputeConfig,
        *,
        old_classifier: str | None = None,
        classifier: str | None = None,
    ) -> None:
        """Where a method reads features, the paths of the last linear layer: the old model's, references'."""
        self._compute = compute
        self._old = None if old is None else self._frozen(old, old_classifier)
        self._references = [self._frozen(reference, classifier) for reference in references]
        self._old_classifier = None
        if old is not None and old_classifier is not None:
            self._old_classifier = compute.place(frozen(old.get_submodule(old_classifier)))

    def __call__(self, images: Tensor) -> TeacherAnswers:
        """[B, 3, H, W] -> what each says."""
        images = images.to(self._compute.dtype)
        with torch.inference_mode():
            old = None if self._old is None else self._old(images)
            references = [reference(images) for reference in self._references]
        # Outside of inference mode a copy is an ordinary tensor, which a method's loss may save for backward.
        old_logits, old_features = (None, None) if old is None else map(_copy, old)
        copies = [tuple(map(_copy, answer)) for answer in references]
        return TeacherAnswers(
            old=old_logits,
            references=tuple(logits for logits, _ in copies if logits is not None),
            old_features=old_features,
            reference_features=tuple(features for _, features in copies if features is not None),
            old_classifier=self._old_classifier,
        )

    def _frozen(self, network: nn.Module, classifier: str | None) -> Forward:
        """In the precision of the forward passes once and for all: autocast would cast at every call."""
        placed = self._compute.place(frozen(network), self._compute.dtype)
        layer = None if classifier is None else placed.get_submodule(classifier)
        return forward_of(placed, self._compute, features_of=layer)


Forward = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Images [B, 3, H, W] -> logits [B, C], and features [B, D] where they are asked for."""


class WithFeatures(nn.Module):
    """A network that gives the input of one of its layers beside its logits."""

    def __init__(self, network: nn.Module, layer: nn.Module) -> None:
        """`layer` is a part of `network`."""
        super().__init__()
        self.network = network
        self._seen: list[Tensor] = []
        # The hook is there before the network is compiled: compiled code knows no later one.
        layer.register_forward_pre_hook(lambda _, inputs: self._seen.append(inputs[0]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] -> logits [B, C] and features [B, D]."""
        logits = self.network(images)
        return logits, self._seen.pop()


def forward_of(
    network: nn.Module, compute: ComputeConfig, *, features_of: nn.Module | None = None
) -> Forward:
    """How to call `network`; where a layer of it is given, with the input of that layer as features."""
    if features_of is not None:
        answer: Forward = compute.callable(WithFeatures(network, features_of))  # type: ignore[assignment]
        return answer
    forward = compute.callable(network)
    return lambda images: (forward(images), None)


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float().clone()
