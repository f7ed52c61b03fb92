"""timm's networks, an optional extra: what the planner must know of one, and how to build it."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.text import nearest
from harness.architectures import TIMM, Architecture


def describe(name: str) -> Architecture:
    """The entry of `timm:NAME`, with costs counted on a network without weights.

    Raises:
        ValueError: timm has no such network, or one without a classifier.
    """
    plain = name.removeprefix(TIMM)
    if "." in plain:
        raise ValueError(f"arch={name}: leave out the tag after the dot, as no pretrained weights are used")
    if not timm.is_model(plain):
        raise ValueError(f"unknown architecture '{name}'{nearest(plain, timm.list_models())}")
    with torch.device("meta"):
        made: Any = timm.create_model(plain, pretrained=False)
    configuration = made.default_cfg
    size = configuration["input_size"][-1]
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        made.eval()(torch.empty(1, 3, size, size, device="meta"))
    return Architecture(
        summary=f"timm's {plain}",
        network="harness.timm_networks:network",
        head=_head(made, name),
        stems=("imagenet",),
        recipe={},
        gflops=counter.get_total_flops() / 2e9,
        size=size,
        megabytes=sum(weight.numel() for weight in made.parameters()) * 4 / 1e6,
        smallest=(configuration.get("min_input_size") or (3, 1, 1))[-1],
        fixed_size=bool(configuration.get("fixed_input_size")),
        backbone=None,
    )


def network(name: str, stem: str) -> nn.Module:
    """timm's network with freshly drawn weights."""
    made: nn.Module = timm.create_model(name.removeprefix(TIMM), pretrained=False)
    return made


def _head(made: Any, name: str) -> str:
    classifier = made.default_cfg.get("classifier")
    if not isinstance(classifier, str) or not isinstance(made.get_submodule(classifier), nn.Linear):
        raise ValueError(f"arch={name}: it has no single linear layer at its end")
    return classifier
