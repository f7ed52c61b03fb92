"""What the README and the docs say works: commands, code, and the files they point to."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import config, sweep
from methods import METHODS, Entry, Step

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(module):
    """Words of every call of `python -m module` in the documents' shell blocks."""
    lines = [
        line.partition(" #")[0]
        for document in DOCUMENTS
        for block in blocks("bash", document.read_text())
        for line in block.replace("\\\n", " ").splitlines()
    ]
    called = [shlex.split(line) for line in lines if f"python -m {module}" in line]
    return [words[words.index(module) + 1 :] for words in called]


@pytest.mark.parametrize("words", commands("harness.sweep"), ids=" ".join)
def test_every_sweep_in_the_documents_can_be_planned(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "docs" / "profiles", tmp_path / "profiles")
    if any(word.startswith("smoothed.") for word in words):
        register_the_example(monkeypatch, tmp_path)
    asked = [word for word in words if not word.startswith(("plan=", "runs="))]

    assert sweep.main([*asked, "plan=true", "runs=runs"]) == 0, capsys.readouterr().err
    assert "to do" in capsys.readouterr().out


def register_the_example(monkeypatch, folder):
    code, line = (block for block in blocks("python"))
    (folder / "smoothed_example.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    entry = eval(f"{{{line}}}", {"Entry": Entry})["smoothed"]
    assert entry.path == "methods.smoothed:Smoothed"
    monkeypatch.setitem(METHODS, "smoothed", Entry(path="smoothed_example:Smoothed", summary=entry.summary))


def test_the_readmes_method_works(monkeypatch, tmp_path):
    register_the_example(monkeypatch, tmp_path)
    (setting,) = config.read(["methods=smoothed", "smoothed.epsilon=0.2"]).settings
    (variant,) = setting.variants
    method = METHODS["smoothed"].load()(**dict(variant.hyperparameters))
    logits = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True)

    terms = method.loss(
        Step(logits=logits, targets=torch.tensor([1]), epoch=0, old_classes=2, old_logits=torch.zeros(1, 2))
    )
    terms["loss"].backward()

    plain = torch.nn.functional.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.2)
    torch.testing.assert_close(terms["ce"], plain)
    assert logits.grad is not None


@pytest.mark.parametrize("target", ["sweep", "test", "setup"])
def test_the_readmes_make_targets_exist(target):
    made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)

    assert made.returncode == 0, made.stderr


def test_files_that_documents_point_to_exist():
    for document in DOCUMENTS:
        for path in re.findall(
            r"`((?:harness|methods|loaders|slurm|results|tests|docs|benchmarks)/[\w./-]*)`",
            document.read_text(),
        ):
            if path != "methods/smoothed.py":
                assert (ROOT / path).exists(), f"{document.name} points to {path}"


def test_every_method_and_hyperparameter_default_is_in_the_documents():
    text = (ROOT / "docs" / "methods.md").read_text()
    for name in METHODS:
        assert f"`{name}`" in text, name


def test_importing_a_room_prints_nothing():
    modules = ("harness.config", "results.leaderboard", "harness.dispatch.dispatcher", "loaders.stream")
    code = f"import {', '.join(modules)}, harness.execute"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
