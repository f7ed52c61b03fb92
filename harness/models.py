"""Networks: built for a number of classes, or pretrained without their classifier."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from common.registry import load_object
from harness.architectures import ARCHITECTURES, Architecture
from harness.plan import Model

WRAPPED = "network."
"""What the names of weights begin with in a network that resizes its images first."""


def build(model: Model, classes: int, seed: int) -> nn.Module:
    """A freshly initialised network with `classes` logits; the weights are a function of `seed` alone.

    For an architecture with a pretrained backbone it is the classifier, which takes features.

    Raises:
        ValueError: an embedding asked of a network whose classifier is a convolution.
    """
    architecture = ARCHITECTURES[model.arch]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed & (2**63 - 1))
        network = _without_classes(model, architecture)
        path = _head_path(architecture)
        old = network.get_submodule(path)
        if isinstance(old, nn.Linear):
            head = _head(old.in_features, classes, model.embedding)
        else:
            head = _convolution(old, classes, model)
        network.set_submodule(path, head)
    return Resized(network, architecture.size) if _is_resized(architecture) else network


def last_layer_path(network: nn.Module, model: Model) -> str:
    """Path of the layer of a network made by `build` that gives the logits: linear, or a 1x1 convolution."""
    architecture = ARCHITECTURES[model.arch]
    path = _head_path(architecture)
    if _is_resized(architecture):
        path = f"{WRAPPED}{path}"
    head = network.get_submodule(path)
    return f"{path}.{len(head) - 1}" if isinstance(head, nn.Sequential) else path


def classifier_path(network: nn.Module, model: Model) -> str:
    """Path of the last linear layer of a network made by `build`.

    Raises:
        ValueError: its classifier is a convolution.
    """
    path = last_layer_path(network, model)
    if not isinstance(network.get_submodule(path), nn.Linear):
        raise ValueError(f"arch={model.arch}: its classifier is not a linear layer, so it has no features")
    return path


def classifier(network: nn.Module, model: Model) -> nn.Linear:
    """The last linear layer of a network made by `build`.

    Raises:
        ValueError: its classifier is a convolution.
    """
    last = network.get_submodule(classifier_path(network, model))
    assert isinstance(last, nn.Linear)
    return last


def start_from(network: nn.Module, old: nn.Module) -> None:
    """Give `network` the weights of `old`, of the same architecture and as many classes or fewer.

    The old classes' rows of the classifier are the old model's, those of new classes stay as they are.
    """
    mine, theirs = network.state_dict(), old.state_dict()
    assert mine.keys() == theirs.keys(), "one architecture"
    for name, value in theirs.items():
        if value.dim():
            mine[name][: len(value)] = value  # only the classifier's may be longer
        else:
            mine[name].copy_(value)


def _without_classes(model: Model, architecture: Architecture) -> nn.Module:
    if architecture.backbone is not None:
        return Head(architecture.backbone.width)
    network: nn.Module = load_object(architecture.network)(model.arch, model.stem)
    return network


def _head_path(architecture: Architecture) -> str:
    return architecture.head if architecture.backbone is None else "fc"


def _is_resized(architecture: Architecture) -> bool:
    return architecture.fixed_size and architecture.backbone is None


def _head(width: int, classes: int, embedding: int | None) -> nn.Module:
    if embedding is None:
        return nn.Linear(width, classes)
    return nn.Sequential(nn.Linear(width, embedding), nn.Linear(embedding, classes))


def _convolution(old: nn.Module, classes: int, model: Model) -> nn.Module:
    """SqueezeNet's classifier, a convolution of 1x1 before the pooling."""
    assert isinstance(old, nn.Conv2d), "a head is a linear layer or a convolution of 1x1"
    assert old.kernel_size == (1, 1)
    if model.embedding is not None:
        raise ValueError(f"embedding={model.embedding}: the classifier of {model.arch} is a convolution")
    return nn.Conv2d(old.in_channels, classes, kernel_size=1)


def backbone(model: Model, weights: Path | None) -> nn.Module:
    """A pretrained network without its classifier, images [B, 3, H, W] -> features [B, D].

    Args:
        model: an architecture whose backbone stays as it is.
        weights: a file with a state dict; None for torchvision's, downloaded where they are not cached.

    Raises:
        ValueError: the weights cannot be read or downloaded, or are another network's, in one line.
    """
    architecture = ARCHITECTURES[model.arch]
    assert architecture.backbone is not None
    entry = torchvision.models.get_model_weights(model.arch)[architecture.backbone.weights]
    state = _from_file(weights, model) if weights is not None else _downloaded(model.arch, entry)
    network = torchvision_network(model.arch, model.stem)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"weights={weights}: not a state dict of torchvision's {model.arch}") from error
    network.set_submodule(architecture.head, nn.Identity())
    return Resized(network, architecture.size)


def _from_file(path: Path, model: Model) -> Any:
    data = path.read_bytes()
    if model.weights != f"sha256-{hashlib.sha256(data).hexdigest()}":
        raise ValueError(f"weights={path}: the file has changed since the run was planned")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"weights={path}: not a file of weights written by torch.save") from error


def _downloaded(arch: str, entry: Any) -> Any:
    try:
        return entry.get_state_dict(check_hash=True, progress=False)
    except OSError as error:
        raise ValueError(
            f"the weights of {arch} cannot be downloaded here ({error}): bring {Path(entry.url).name} "
            f"(torchvision's {entry}) and give weights=PATH"
        ) from error


class Resized(nn.Module):
    """A network behind a bilinear, antialiased resize to the side that it was trained at."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> what the network gives."""
        if images.shape[-1] != self.size:
            size = (self.size, self.size)
            images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
        answer: Tensor = self.network(images)
        return answer


class Head(nn.Module):
    """What is trained on a frozen backbone's features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc: nn.Module = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, C]."""
        logits: Tensor = self.fc(features)
        return logits


class SmallResNet(nn.Module):
    """Residual net for tiny images: 3x3 stem, then one basic block each of 16, 32 and 64 channels.

    The arrangement of He et al. (2016, section 4.2) with n = 1, shortcuts by 1x1 convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        block = torchvision.models.resnet.BasicBlock
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(block(16, 16), _strided(block, 16, 32), _strided(block, 32, 64))
        self.fc: nn.Module = nn.Linear(64, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C]."""
        logits: Tensor = self.fc(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


def _strided(block: type[nn.Module], inputs: int, outputs: int) -> nn.Module:
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    return block(inputs, outputs, stride=2, downsample=shortcut)


def small_resnet(name: str, stem: str) -> nn.Module:
    """The network of `resnet8`."""
    return SmallResNet()


def torchvision_network(name: str, stem: str) -> nn.Module:
    """A classifier of torchvision without weights; residual nets can have a stem for small images."""
    plain = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: Any = torchvision.models.get_model(name, weights=None, **plain)
    if stem == "cifar":  # 3x3 and no pooling, for images of 32 pixels
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    built: nn.Module = network
    return built
