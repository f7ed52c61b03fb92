"""On a GPU: the same batches, exactness with deterministic algorithms, and precision by rounding alone."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from harness import checkpoint, models
from harness.compute import ComputeConfig
from harness.engine import Cohort, Normalise, Position, Student
from harness.plan import Model
from harness.recipes import Recipe
from harness.teachers import Teachers
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from loaders.feeds import open_feed
from methods import METHODS
from results.store import Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DIGITS = DATASETS["digits"]
MODEL = Model(arch="resnet8", stem="cifar")
RECIPE = Recipe(epochs=2, batch_size=50, lr=0.1, weight_decay=5e-4)
NAMES = ("none", "pct-kl", "mpt-lm")
CUDA = ComputeConfig(device=torch.device("cuda"))


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def feed(betons, device, kind="auto"):
    beton = ensure_beton(DIGITS, "train", betons=betons)
    return open_feed(beton, DIGITS, train=True, batch_size=RECIPE.batch_size, device=device, kind=kind)


def cohort(betons, names=NAMES, compute=CUDA, position=Position()):  # noqa: B008
    students = [
        Student(models.build(MODEL, 10, 3), METHODS[name].load()(), RECIPE, 5, compute) for name in names
    ]
    teachers = Teachers(models.build(MODEL, 5, 100), [models.build(MODEL, 10, 101)], compute)
    return Cohort(
        students,
        teachers,
        feed(betons, compute.device),
        key=3,
        recipe=RECIPE,
        normalise=Normalise(DIGITS.mean, DIGITS.std, compute),
        position=position,
    )


def trained(betons, names=NAMES, compute=CUDA):
    made = cohort(betons, names, compute)
    for _ in made.train():
        pass
    return dict(zip(names, made.students, strict=True))


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


def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(betons, deterministic):
    whole = trained(betons, ["pct-kl"])["pct-kl"]
    first = cohort(betons, ["pct-kl"])
    for position in first.train():
        if position == Position(epoch=1, batch=3):
            break
    second = cohort(betons, ["pct-kl"], position=first.position)
    second.students[0].load(checkpoint.copy_to_cpu(first.students[0].state()))
    for _ in second.train():
        pass
    assert torch.equal(weights(second.students[0]), weights(whole))


def test_a_checkpoint_of_the_cpu_goes_on_on_a_gpu_in_any_precision(betons):
    first = cohort(betons, ["none"], compute=replace(CUDA, device=torch.device("cpu")))
    next(first.train())
    for precision in ("fp32", "bf16", "fp16"):
        second = cohort(betons, ["none"], compute=replace(CUDA, precision=precision), position=first.position)
        second.students[0].load(checkpoint.copy_to_cpu(first.students[0].state()))
        for _ in second.train():
            pass
        assert second.students[0].diverged_at is None
        assert weights(second.students[0]).isfinite().all()


def test_a_diverged_student_drops_out_and_the_other_goes_on(betons):
    made = cohort(betons, ["none", "pct-kl"])
    made.students[0].network.fc.weight.data.fill_(float("nan"))
    for _ in made.train():
        pass
    bad, good = made.students
    assert bad.diverged_at == 0
    assert good.diverged_at is None


def test_a_sweep_trains_on_the_gpu_in_processes_of_its_own(betons, tmp_path):
    words = ["methods=none,mpt-kl", "dataset=digits", "seeds=0", "epochs=2", "device=cuda", "cluster=local"]
    command = [sys.executable, "-m", "harness.sweep", *words, f"runs={tmp_path}", f"betons={betons}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {record.environment["precision"] for record in Store(tmp_path).records()} == {"bf16"}


def test_a_gpu_trains_what_the_cpu_trains_up_to_rounding(betons):
    """Rounding grows over twelve steps at lr 0.1: the losses of the first epoch are compared, not weights."""
    there, here = trained(betons), trained(betons, compute=replace(CUDA, device=torch.device("cpu")))
    bf16, fp16 = (trained(betons, compute=replace(CUDA, precision=p)) for p in ("bf16", "fp16"))
    compiled = trained(betons, compute=replace(CUDA, compile=True))
    for name in NAMES:
        wanted = here[name].history[0]["loss"]
        assert there[name].history[0]["loss"] == pytest.approx(wanted, rel=5e-3), name
        assert compiled[name].history[0]["loss"] == pytest.approx(wanted, rel=5e-3), name
        for half in (bf16[name], fp16[name]):
            assert half.diverged_at is None
            assert half.history[0]["loss"] == pytest.approx(wanted, rel=5e-2), name
