"""The architectures by name, one entry each: the network, its head, its costs. Imports no torch.

Every classifier of torchvision is here by its name there, timm's as `timm:NAME`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from common.registry import Registry, load_object
from harness.torchvision_table import TORCHVISION, Figures

TIMM = "timm:"
BOTH_STEMS = ("imagenet", "cifar")
CIFAR_STEM_FACTOR = 15  # the 3x3 stem without pooling, against the 7x7 stem with it, on the same image


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A pretrained network that stays as it is; what is trained is a classifier on its features."""

    weights: str
    """torchvision's name of the weights."""
    width: int
    """Features per image."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network by name. It is complete: an entry that lacks something cannot be made."""

    summary: str
    network: str
    """A function (name, stem) -> nn.Module with freshly drawn weights, as `module:name`."""
    head: str
    """The layer that gives the logits, as a path of attributes: `fc`, `classifier.3`."""
    stems: tuple[str, ...]
    """The first layers that it can have, the default first."""
    recipe: Mapping[str, Any] = field(hash=False)
    """What it changes about a dataset's recipe."""
    gflops: float
    """Multiply-adds of one forward pass at `size` pixels, in units of 1e9."""
    size: int
    megabytes: float
    """Parameters in fp32."""
    smallest: int
    """The smallest images that it takes, by their side in pixels."""
    fixed_size: bool
    """Whether it takes images of `size` alone, to which others are resized."""
    backbone: Backbone | None

    def gflops_at(self, stem: str, image_size: int) -> float:
        """Operations of one image's forward pass, in units of 1e9; additions count too."""
        side = self.size if self.fixed_size else image_size
        factor = CIFAR_STEM_FACTOR if stem == "cifar" and "imagenet" in self.stems else 1
        return 2 * self.gflops * factor * (side / self.size) ** 2


def _of_torchvision(name: str, figures: Figures) -> Architecture:
    residual = name.startswith(("resnet", "resnext", "wide_resnet"))
    return Architecture(
        summary=f"torchvision's {name}",
        network="harness.models:torchvision_network",
        head=figures.head,
        stems=BOTH_STEMS if residual else ("imagenet",),
        recipe={},
        gflops=figures.gflops,
        size=figures.size,
        megabytes=figures.megabytes,
        smallest=figures.smallest,
        fixed_size=figures.smallest == figures.size,
        backbone=None,
    )


RESNET8 = Architecture(
    summary="residual net for tiny images: three blocks of 16, 32 and 64 channels (He et al. 2016, n=1)",
    network="harness.models:small_resnet",
    head="fc",
    stems=("cifar",),
    recipe={},
    gflops=0.0008,
    size=8,
    megabytes=0.3,
    smallest=1,
    fixed_size=False,
    backbone=None,
)
VIT_B_32 = Architecture(
    summary="torchvision's ViT-B/32 pretrained on ImageNet-1k, only the classifier trained",
    network="harness.models:torchvision_network",
    head="heads.head",
    stems=("imagenet",),
    recipe={},
    gflops=4.41,
    size=224,
    megabytes=337,
    smallest=224,
    fixed_size=True,
    backbone=Backbone(weights="IMAGENET1K_V1", width=768),
)


def _of_timm(name: str) -> Architecture | None:
    """The entry of `timm:NAME`; None for other names.

    Raises:
        ValueError: timm is not installed, or has no such network.
    """
    if not name.startswith(TIMM):
        return None
    if find_spec("timm") is None:
        raise ValueError(f"arch={name}: timm is not installed (pip install timm)")
    described: Architecture = load_object("harness.timm_networks:describe")(name)
    return described


_LISTED = {
    "resnet8": RESNET8,
    "resnet18": _of_torchvision("resnet18", TORCHVISION["resnet18"]),
    "resnet50": _of_torchvision("resnet50", TORCHVISION["resnet50"]),
    "vit_b_32": VIT_B_32,
}
FURTHER_TORCHVISION = {
    name: _of_torchvision(name, figures) for name, figures in TORCHVISION.items() if name not in _LISTED
}
"""Those that have no entry of their own above."""

ARCHITECTURES: Registry[Architecture] = Registry(
    Architecture,
    "architecture",
    attribute="ARCHITECTURES",
    builtin=_LISTED | FURTHER_TORCHVISION,
    resolve=_of_timm,
)
