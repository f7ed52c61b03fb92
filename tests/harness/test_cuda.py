"""On a GPU: the same batches, exactness with deterministic algorithms, and precision by rounding alone."""

from dataclasses import replace

import pytest
import torch

from harness import models
from harness.engine import Cohort, Normalise, Numerics, Position, Student, Teachers
from harness.plan import Model
from harness.recipes import Recipe
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from loaders.feeds import open_feed
from methods import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DIGITS = DATASETS["digits"]
MODEL = Model(arch="resnet8", stem="cifar")
RECIPE = Recipe(epochs=2, batch_size=50, lr=0.1, weight_decay=5e-4)
NAMES = ("none", "pct-kl", "mpt-lm")
CUDA = Numerics(device=torch.device("cuda"))


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def feed(betons, device, kind="auto"):
    beton = ensure_beton(DIGITS, "train", betons=betons)
    return open_feed(beton, DIGITS, train=True, batch_size=RECIPE.batch_size, device=device, kind=kind)


def trained(betons, names=NAMES, numerics=CUDA):
    students = [
        Student(models.build(MODEL, 10, 3), METHODS[name].load()(), RECIPE, 5, numerics) for name in names
    ]
    teachers = Teachers(models.build(MODEL, 5, 100), [models.build(MODEL, 10, 101)], numerics)
    cohort = Cohort(
        students,
        teachers,
        feed(betons, numerics.device),
        key=3,
        recipe=RECIPE,
        normalise=Normalise(DIGITS.mean, DIGITS.std, numerics),
        position=Position(),
    )
    for _ in cohort.train():
        pass
    return dict(zip(names, students, strict=True))


def weights(student):
    return torch.cat([value.flatten().float().cpu() for value in student.network.state_dict().values()])


@pytest.mark.parametrize("kind", ["stream", "resident", "torch"])
def test_every_feed_gives_a_gpu_the_batches_that_the_cpu_gets(betons, kind):
    with feed(betons, "cpu").epoch(1, 2) as here, feed(betons, "cuda", kind).epoch(1, 2) as there:
        for one, other in zip(here, there, strict=True):
            assert other.images.device.type == "cuda"
            assert torch.equal(one.indices, other.indices.cpu())
            assert torch.equal(one.targets, other.targets.cpu())
            if kind != "torch":  # whose augmentation is torchvision's
                assert torch.equal(one.images, other.images.cpu())


def test_training_alone_and_together_gives_the_same_bits_with_deterministic_algorithms(betons, deterministic):
    together = trained(betons)
    for name in NAMES:
        assert torch.equal(weights(trained(betons, [name])[name]), weights(together[name])), name


def test_a_gpu_trains_what_the_cpu_trains_up_to_rounding(betons):
    """Rounding grows over twelve steps at lr 0.1: the losses of the first epoch are compared, not weights."""
    there, here = trained(betons), trained(betons, numerics=replace(CUDA, device=torch.device("cpu")))
    half = trained(betons, numerics=replace(CUDA, precision="bf16"))
    for name in NAMES:
        wanted = here[name].history[0]["loss"]
        assert there[name].history[0]["loss"] == pytest.approx(wanted, rel=5e-3), name
        assert half[name].history[0]["loss"] == pytest.approx(wanted, rel=5e-2), name
