"""Networks for inference alone: in eval mode, their BatchNorms folded into the convolutions before them."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def frozen(network: nn.Module) -> nn.Module:
    """A copy of `network` for inference alone.

    A BatchNorm in eval mode is an affine map of its convolution's output, so convolution and norm are one
    convolution; the logits are the same up to rounding. In a `Sequential` the norm is the next child; in
    torchvision's own modules `bn1` follows `conv1`. Other modules may use their children in any order
    (pre-activation networks have `bn1` first), so their norms stay as they are.
    """
    inference = copy.deepcopy(network).eval().requires_grad_(False)
    for module in list(inference.modules()):
        children = dict(module.named_children())
        for name, child in children.items():
            follower = _norm_after(module, name, list(children))
            norm = children.get(follower)
            # A subclass may do more than normalise: timm's applies the activation too.
            if isinstance(child, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, follower, nn.Identity())
    return inference


def _norm_after(module: nn.Module, name: str, names: list[str]) -> str:
    """Name of the child that would be the norm of convolution `name`; empty for none."""
    if type(module).forward is nn.Sequential.forward:
        place = names.index(name) + 1
        return names[place] if place < len(names) else ""
    known = type(module).__module__.startswith("torchvision.")
    return name.replace("conv", "bn") if known and "conv" in name else ""
