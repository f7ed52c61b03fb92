"""Folding a BatchNorm changes no logit beyond rounding, and leaves the network itself alone."""

import copy

import pytest
import torch
from torch import nn

from harness import models
from harness.inference import frozen
from harness.plan import Model


def trained_a_little(model, pixels):
    """A network whose running means and variances are not the initial ones."""
    network = models.build(model, 7, 0)
    for _ in range(2):
        network(torch.randn(4, 3, pixels, pixels, generator=torch.Generator().manual_seed(0)) * 3 + 1)
    return network


@pytest.mark.parametrize(
    ("model", "pixels"),
    [
        (Model(arch="resnet8", stem="cifar"), 8),
        (Model(arch="resnet18", stem="imagenet"), 64),
        (Model(arch="resnet18", stem="cifar"), 16),
        (Model(arch="resnet50", stem="imagenet", embedding=4), 64),
    ],
)
def test_a_folded_network_has_no_norm_left_and_gives_the_same_logits(model, pixels):
    network = trained_a_little(model, pixels)
    before = copy.deepcopy(network.state_dict())
    images = torch.randn(3, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))

    folded = frozen(network)

    with torch.inference_mode():
        expected = network.eval()(images)
        torch.testing.assert_close(
            folded(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
        )
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_norm_that_follows_no_convolution_stays():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)).eval()

    assert sum(isinstance(module, nn.BatchNorm2d) for module in frozen(network)) == 2
