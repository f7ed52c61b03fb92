"""Networks that only answer: in eval mode, their BatchNorms folded into the convolutions before them."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def frozen(network: nn.Module) -> nn.Module:
    """A copy of `network` for inference alone.

    A BatchNorm in eval mode is an affine map of its convolution's output, so convolution and norm are one
    convolution; the logits are the same up to rounding. In torchvision's networks a norm `bn1` follows
    the convolution `conv1` of the same module, or stands behind it in a `Sequential`.
    """
    inference = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(inference.modules()):
        children = dict(module.named_children())
        for name, child in children.items():
            follower = _norm_after(module, name, list(children))
            norm = children.get(follower)
            if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, follower, nn.Identity())
    return inference


def _norm_after(module: nn.Module, name: str, names: list[str]) -> str:
    """Name of the child that would be the norm of convolution `name`; empty for none."""
    if isinstance(module, nn.Sequential):
        place = names.index(name) + 1
        return names[place] if place < len(names) else ""
    return name.replace("conv", "bn") if "conv" in name else ""
