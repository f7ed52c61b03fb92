"""Networks made of trained networks: what post-hoc methods and ensembles give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from harness.method_errors import blamed_on
from methods import Answers, Ensemble, PostHoc


class Adjusted(nn.Module):
    """A network whose logits a post-hoc method changes."""

    def __init__(self, network: nn.Module, method: PostHoc, old_classes: int, strength: float) -> None:
        super().__init__()
        self.network = network
        self._method, self._old_classes, self._strength = method, old_classes, strength

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C]."""
        logits = self.network(images).float()
        with blamed_on(self._method):
            return self._method.logits(logits, self._old_classes, self._strength)


class Combined(nn.Module):
    """Networks that an ensemble lets answer together."""

    def __init__(
        self,
        method: Ensemble,
        old_classes: int,
        *,
        old: nn.Module | None,
        new: nn.Module | None,
        references: Sequence[nn.Module],
    ) -> None:
        super().__init__()
        self.old, self.new = old, new
        self.references = nn.ModuleList(references)
        self._method, self._old_classes = method, old_classes

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C]."""
        answers = Answers(
            old_classes=self._old_classes,
            old=None if self.old is None else self.old(images).float(),
            new=None if self.new is None else self.new(images).float(),
            references=tuple(reference(images).float() for reference in self.references),
        )
        with blamed_on(self._method):
            return self._method.combine(answers)


def weights_to_keep(network: nn.Module) -> Mapping[str, Tensor]:
    """What a record keeps of a network: an ensemble's members have records of their own."""
    if isinstance(network, Combined):
        return {}
    kept: Mapping[str, Tensor] = (network.network if isinstance(network, Adjusted) else network).state_dict()
    return kept
