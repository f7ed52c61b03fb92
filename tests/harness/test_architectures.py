"""Networks by name: torchvision's classifiers without an entry each, timm's as an extra."""

import copy
import subprocess
import sys

import pytest
import torch
import torchvision
from torch import nn

from harness import architectures, config, models
from harness.architectures import ARCHITECTURES
from harness.inference import frozen
from harness.plan import Model
from harness.torchvision_table import TORCHVISION

SMALL = ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "regnet_y_400mf", "mnasnet0_5"]
FAMILIES = [*SMALL, "densenet121", "efficientnet_b0", "resnet34", "convnext_tiny", "googlenet"]


def smallest_images(arch, count=2):
    """Images of a size that the network takes, and that is quick."""
    entry = ARCHITECTURES[arch]
    side = entry.size if entry.fixed_size else max(64, entry.smallest)
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_the_table_holds_all_that_torchvision_can_classify_with():
    there = set(torchvision.models.list_models(module=torchvision.models))

    assert there == set(TORCHVISION)
    assert there <= set(ARCHITECTURES)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_says_what_torchvision_says(name):
    figures, weights = TORCHVISION[name], list(torchvision.models.get_model_weights(name))
    network = models.torchvision_network(name, "imagenet")

    assert figures.gflops == min(entry.meta["_ops"] for entry in weights)
    assert figures.smallest == weights[0].meta.get("min_size", (1, 1))[0]
    assert isinstance(network.get_submodule(figures.head), nn.Linear | nn.Conv2d)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_of_torchvision_gets_the_logits_asked_for(name):
    model = Model(arch=name, stem="imagenet")
    network = models.build(model, 7, 3).eval()
    again = models.build(model, 7, 3)

    with torch.inference_mode():
        assert network(smallest_images(name)).shape == (2, 7)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    if not name.startswith("squeezenet"):  # its classifier is a convolution
        assert models.classifier(network, model).out_features == 7


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "densenet121", "efficientnet_b0", "googlenet"])
def test_folding_norms_changes_no_logit_of_any_family(name):
    network = models.build(Model(arch=name, stem="imagenet"), 7, 0)
    images = smallest_images(name, 4)
    for _ in range(2):
        network(images * 3 + 1)  # running statistics of its own

    with torch.inference_mode():
        expected = copy.deepcopy(network).eval()(images)
        torch.testing.assert_close(
            frozen(network)(images), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()
        )


def test_a_norm_before_its_convolution_is_not_folded():
    """A pre-activation block has the names of torchvision's blocks, and the opposite order."""

    class PreActivation(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)

        def forward(self, images):
            return self.conv1(self.bn1(images).relu())

    network, images = PreActivation(), torch.randn(4, 3, 8, 8)
    network(images * 2 + 1)

    with torch.inference_mode():
        torch.testing.assert_close(frozen(network)(images), copy.deepcopy(network).eval()(images))


@pytest.mark.parametrize("embedding", [None, 2])
def test_a_transformer_of_one_size_takes_small_images_too(embedding):
    model = Model(arch="vit_b_16", stem="imagenet", embedding=embedding)
    network = models.build(model, 5, 0).eval()

    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert models.classifier(network, model).in_features == (embedding or 768)


def test_an_embedding_before_a_convolution_is_refused():
    with pytest.raises(ValueError, match="embedding=2: the classifier of squeezenet1_1 is a convolution"):
        models.build(Model(arch="squeezenet1_1", stem="imagenet", embedding=2), 5, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["arch=mobilnet_v3_small"], "unknown architecture 'mobilnet_v3_small' (did you mean 'mobilenet_v3_"),
        (["arch=alexnet"], "arch=alexnet: it takes images of 63 pixels or more, digits has 8"),
        (["dataset=cifar100", "arch=convnext_tiny", "stem=cifar"], "stem=cifar: convnext_tiny has imagenet"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_starts(words, message):
    with pytest.raises(ValueError, match=r".") as error:
        config.read(words)

    assert str(error.value).startswith(message)


def test_a_residual_net_by_name_has_both_stems():
    (setting,) = config.read(["dataset=cifar100", "arch=resnet34", "stem=cifar"]).settings

    assert setting.model.label == "resnet34-cifar"


def test_planning_with_any_of_torchvisions_networks_imports_no_torch():
    code = (
        "import sys; from harness import config; config.read(['dataset=cifar100', 'arch=efficientnet_b0']);"
        "assert 'torch' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "vit_b_16"])
def test_costs_of_a_step_grow_with_the_images_unless_they_are_resized(arch):
    entry = ARCHITECTURES[arch]

    assert (entry.gflops_at("imagenet", 448) > entry.gflops_at("imagenet", 224)) != entry.fixed_size


def test_a_network_with_dropout_goes_on_as_if_never_stopped(bench, other_bench, stop_after):
    """And a cohort is what its members are alone: dropout is drawn from the step, not from a generator."""
    words = ("arch=mobilenet_v3_small", "seeds=0", "epochs=2", "methods=none,pct-kl")
    together, (*parents, (_, folder)) = other_bench.run(*words), bench.jobs(*words, "cohort=1")
    for _, parent in parents:
        assert bench.do(parent) == 0
    with stop_after(3):
        bench.do(folder)

    for key, record in bench.run(*words, "cohort=1").items():
        weights, others = bench.weights(record), other_bench.weights(together[key])
        assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_timm_that_is_not_installed_is_one_line_with_the_way_out(monkeypatch):
    monkeypatch.setattr(architectures, "find_spec", lambda name: None)

    with pytest.raises(ValueError, match=r"arch=timm:lcnet_035: timm is not installed \(pip install timm\)"):
        config.read(["arch=timm:lcnet_035"])


class TestTimm:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("timm", reason="timm is an optional extra")

    def test_one_of_timms_networks_trains(self, bench):
        words = ("arch=timm:test_resnet", "seeds=0", "epochs=1", "methods=none,mpt-kl")
        records = bench.run(*words)

        assert all(record.state == "done" for record in records.values())
        assert all(":" not in run.id for run in bench.plan(*words))

    def test_its_costs_are_counted_without_weights(self):
        entry = ARCHITECTURES.find("timm:resnet18")

        assert entry.gflops == pytest.approx(1.8, rel=0.05)
        assert entry.megabytes == pytest.approx(46.8, rel=0.01)
        assert entry.head == "fc"

    def test_folding_leaves_norms_with_an_activation_alone(self):
        network = models.build(Model(arch="timm:test_efficientnet", stem="imagenet"), 7, 0)
        images = torch.randn(4, 3, 64, 64)
        network(images * 3 + 1)

        with torch.inference_mode():
            torch.testing.assert_close(frozen(network)(images), copy.deepcopy(network).eval()(images))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("timm:resnet19", r"unknown architecture 'timm:resnet19' \(did you mean 'resnet18'\?\)"),
            ("timm:resnet18.a1_in1k", "leave out the tag after the dot"),
        ],
    )
    def test_a_name_that_it_does_not_have_is_one_line(self, name, message):
        with pytest.raises(ValueError, match=message):
            config.read([f"arch={name}"])
