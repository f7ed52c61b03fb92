"""Frozen backbones: features computed once, heads trained on them, and weights that say what they are."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from common.signals import Stopped
from harness import backbones, config, models
from harness.plan import Model, expand
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS

VIT = Model(arch="vit_b_32", stem="imagenet", weights="sha256-0")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """ViT-B/32 with random weights, as a file."""
    import torchvision

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(torchvision.models.vit_b_32(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Four classes of plain colours, six training and two test images each."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for label, colour in enumerate(((250, 0, 0), (0, 250, 0), (0, 0, 250), (200, 200, 0))):
            (folder / part / f"class{label}").mkdir(parents=True)
            for number in range(count):
                noise = random.integers(-40, 40, (40, 48, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / f"class{label}" / f"{number}.png")
    return folder


@pytest.mark.slow
def test_heads_are_trained_on_features_that_are_computed_once(bench, weights, pictures, monkeypatch):
    source = ("dataset=folder", f"data={pictures}", "arch=vit_b_32", f"weights={weights}")
    words = (*source, "seeds=0", "epochs=3", "batch_size=8", "methods=none,mpt-lm")
    computed = []
    original = backbones.backbone
    monkeypatch.setattr(backbones, "backbone", lambda *args: computed.append(args) or original(*args))

    records = bench.run(*words)

    assert len(computed) == 2, "once for the training and once for the test images"
    assert records["none", 0].metrics["er_all"] <= 0.25  # colours are easy, even for a random network
    assert set(bench.weights(records["mpt-lm", 0])) == {"fc.weight", "fc.bias"}


@pytest.fixture
def flattened(betons, tmp_path, monkeypatch):
    """A function that makes features of the digits by flattening them, and the models it was asked for."""
    computed = []

    def backbone(model, weights):
        computed.append(model)
        return torch.nn.Flatten()

    def compute(report=lambda message: None):
        return backbones.features(
            VIT,
            ensure_beton(DATASETS["digits"], "test", betons=betons),
            DATASETS["digits"],
            weights=None,
            folder=tmp_path,
            device=torch.device("cpu"),
            workers=1,
            report=report,
        )

    monkeypatch.setattr(backbones, "backbone", backbone)
    return compute, computed


def test_a_damaged_cache_is_computed_again(flattened, tmp_path):
    compute, computed = flattened
    first, again = compute(), compute()
    assert len(computed) == 1
    assert np.array_equal(first, again)
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(path.read_bytes()[:-1])

    assert np.array_equal(compute(), first)
    assert len(computed) == 2


def test_computing_features_tells_how_far_it_is_and_may_be_ended(flattened, tmp_path):
    compute, _ = flattened
    said = []

    def report(message):
        said.append(message)
        if "256 of" in message:
            raise Stopped

    with pytest.raises(Stopped):
        compute(report)

    assert said[0] == "features of test images by vit_b_32: 0 of 1497"
    assert not list(tmp_path.glob("*.npy"))


def test_weights_that_have_changed_since_the_plan_are_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"no weights")
    digest = hashlib.sha256(b"no weights").hexdigest()
    with pytest.raises(ValueError, match=r"weights\.pt: not a file of weights"):
        models.backbone(replace(VIT, weights=f"sha256-{digest}"), path)
    with pytest.raises(ValueError, match="has changed since the run was planned"):
        models.backbone(replace(VIT, weights="sha256-" + "0" * 64), path)


def test_weights_that_are_another_networks_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(ValueError, match=r"other\.pth: not a state dict of torchvision's vit_b_32"):
        models.backbone(replace(VIT, weights=f"sha256-{digest}"), path)


def test_weights_that_cannot_be_downloaded_are_named_with_the_way_out(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)

    with pytest.raises(
        ValueError, match=r"cannot be downloaded here \(no network\): bring \S+\.pth .* weights=PATH"
    ):
        models.backbone(VIT, None)


def test_the_weights_are_part_of_a_runs_identity(tmp_path):
    ids = []
    for content in (b"one", b"other"):
        (tmp_path / "w.pth").write_bytes(content)
        (setting,) = config.read(["arch=vit_b_32", f"weights={tmp_path / 'w.pth'}", "seeds=0"]).settings
        ids.append({run.id for run in expand(setting)})

    assert not ids[0] & ids[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["arch=vit_b_32", "weights=/no/such.pth"], "weights=/no/such.pth: No such file or directory"),
        (["arch=resnet18", "weights=/no/such.pth"], "weights=/no/such.pth: resnet18 is trained from scratch"),
        (
            ["arch=vit_b_32", "old_arch=resnet18"],
            "arch=vit_b_32 old_arch=resnet18: a frozen backbone's features",
        ),
        (["arch=vit_b_32", "loader=torch"], "loader=torch: vit_b_32 learns from features"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ValueError, match=r".") as error:
        config.read(words)

    assert str(error.value).startswith(message)
