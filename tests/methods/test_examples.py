"""The examples of CONTRIBUTING.md, as they are printed there."""

import importlib
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.compute import ComputeConfig
from harness.engine import Student, plain_batch
from harness.recipes import Recipe
from methods import Answers, Entry, Trial

ROOT = Path(__file__).parents[2]
FILES = {"mixup": "Mixup", "spread_bias": "SpreadBias", "surer": "Surer"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Each example in a file of its own, in the order of the document."""
    folder = tmp_path_factory.mktemp("examples")
    text = (ROOT / "CONTRIBUTING.md").read_text()
    codes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for name, code in zip(FILES, codes, strict=True):
        (folder / f"{name}_example.py").write_text(code)
    return folder


@pytest.fixture
def example(folder, monkeypatch):
    """Gives an example's method by the name of its file, through an entry of the registry."""
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    return lambda name: Entry(path=f"{name}_example:{FILES[name]}", summary="an example").load()()


def test_the_examples_pass_mypy_and_ruff(folder):
    settings = ("--config", ROOT / "pyproject.toml", "--no-cache")
    checks = (
        ["mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"],
        ["ruff", "check", "--quiet", *settings],
        ["ruff", "format", "--check", *settings],
    )
    for check in checks:
        done = subprocess.run(
            [sys.executable, "-m", *check, *sorted(folder.glob("*_example.py"))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_mixup_trains_a_student_on_mixed_images_and_labels(example):
    method = example("mixup")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    images = torch.eye(4, 12).reshape(4, 3, 2, 2)
    batch = plain_batch(images, torch.tensor([0, 1, 2, 2]))
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    student = Student(
        network,
        method,
        Recipe(epochs=1, batch_size=4, lr=0.1, weight_decay=0.0),
        2,
        ComputeConfig(device=torch.device("cpu")),
    )
    before = network[1].weight.clone()
    torch.manual_seed(0)

    student.learn(batch, lr=0.1)

    assert not student.failure
    assert not torch.equal(network[1].weight, before)
    assert not torch.equal(seen[0], images)
    torch.testing.assert_close(seen[0].sum(dim=(1, 2, 3)), torch.ones(4))  # weights of a pair add up to 1
    torch.testing.assert_close(
        batch.images, torch.eye(4, 12).reshape(4, 3, 2, 2)
    )  # others see them as they are


def test_mixup_weighs_labels_as_it_weighs_pixels(example):
    method = example("mixup")
    images, targets = torch.eye(3, 12).reshape(3, 3, 2, 2), torch.tensor([0, 1, 2])

    mixed, noted = method.augment(images, targets)

    labels = torch.eye(3)
    weight = noted["weight"]
    expected = weight * labels[targets] + (1 - weight) * labels[noted["targets"]]
    torch.testing.assert_close(mixed.reshape(3, 12)[:, :3], expected)


def test_the_spread_bias_is_in_units_of_each_samples_own_deviation(example):
    method = example("spread_bias")
    logits = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 20.0, 20.0]])
    deviation = 2 / math.sqrt(3)  # of [0, 0, 2, 2], with three degrees of freedom

    changed = method.logits(logits, 2, 0.5)

    expected = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 20.0, 20.0]])
    expected[0, 2:] -= 0.5 * deviation
    expected[1, 2:] -= 5 * deviation
    torch.testing.assert_close(changed, expected)
    assert (method.strengths[0], method.strengths[-1], len(method.strengths)) == (0.0, 2.0, 21)
    assert method.choose([Trial(strength=k, er_all=0.1, er_old=0.0) for k in method.strengths]) == 2.0


def test_the_surer_of_two_models_answers(example):
    old = torch.tensor([[3.0, 0.0], [0.1, 0.0]])
    new = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 5.0]])

    combined = example("surer").combine(Answers(old_classes=2, old=old, new=new, references=()))

    torch.testing.assert_close(combined[0, :2], old[0].log_softmax(dim=0))
    torch.testing.assert_close(combined[1], new[1].log_softmax(dim=0))
    assert combined.isfinite().all()
