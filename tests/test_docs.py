"""What the README and the docs say works: commands, code, and the files they point to."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common import cli
from harness import config, flips, sweep
from loaders.build import BuildConfig
from methods import METHODS, Entry, Step

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# The tutorial's commands build on each other: tests/test_tutorial.py runs them.
SINGLE_COMMANDS = [document for document in DOCUMENTS if document.name != "tutorial.md"]


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shell_lines(document):
    """Every command of a document's shell blocks, as words."""
    lines = [
        line.partition(" #")[0]
        for block in blocks("bash", document.read_text())
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line))]


def calls(name, documents=SINGLE_COMMANDS):
    """Words of every call of a subcommand in the documents, as `flips NAME` or as `python -m MODULE`."""
    starts = (["flips", name], ["python", "-m", flips.SUBCOMMANDS[name].module])
    return [
        words[len(start) :]
        for document in documents
        for words in shell_lines(document)
        for start in starts
        if words[: len(start)] == start
    ]


def test_every_command_of_the_readme_is_one_that_is_tested_here():
    tested = {"sweep", "build", "compare", "leaderboard", "figures", "report"}
    for words in shell_lines(ROOT / "README.md"):
        known = (
            (words[0] == "flips" and words[1] in tested)
            or (words[0] == "make" and words[1:] in (["sweep"], ["test"]))
            or words in (["pip", "install", "."], ["source", ".venv/bin/activate"])
        )
        assert known, " ".join(words)


@pytest.mark.parametrize("words", calls("sweep"), ids=" ".join)
def test_every_sweep_in_the_documents_can_be_planned(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "docs" / "profiles", tmp_path / "profiles")
    if any(word.startswith("smoothed.") for word in words):
        register_the_example(monkeypatch, tmp_path)
    for word in words:
        if word.startswith(("old_weights=", "old_predictions=")):
            (tmp_path / word.partition("=")[2]).write_bytes(b"a plan looks at nothing but the digest")
    asked = [word for word in words if not word.startswith(("plan=", "runs=", "data="))]

    assert sweep.main([*asked, "plan=true", "runs=runs"]) == 0, capsys.readouterr().err
    assert "to do" in capsys.readouterr().out


@pytest.mark.parametrize("words", calls("build"), ids=" ".join)
def test_every_build_in_the_documents_is_understood(words):
    assert cli.build(BuildConfig, cli.split(words)).entry.name


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """A folder with the example files of docs/compare.md, made by the script that stands there."""
    folder = tmp_path_factory.mktemp("predictions")
    script = next(code for code in blocks("python", (ROOT / "docs" / "compare.md").read_text()))
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    (folder / "ids.txt").write_text("1\n")
    return folder


# Those of docs/compare.md have files and outputs of their own: tests/results/gate/test_guide.py.
@pytest.mark.parametrize("words", calls("compare", [ROOT / "README.md"]), ids=" ".join)
def test_every_comparison_in_the_readme_comes_to_a_verdict(words, predictions, monkeypatch, capsys):
    monkeypatch.chdir(predictions)

    code = flips.main(["compare", *words])

    shown = capsys.readouterr()
    assert code in {0, 1, 3}, shown.err
    assert re.search(r"^(PASS|FAIL|UNDECIDED) ", shown.out, re.MULTILINE)


def test_the_readme_shows_what_its_gate_prints(predictions, monkeypatch, capsys):
    monkeypatch.chdir(predictions)
    (words, *_) = (line[2:] for line in shell_lines(ROOT / "README.md") if line[:2] == ["flips", "compare"])
    _, _, following = README.partition(" ".join(["flips", "compare", *words]))

    code = flips.main(["compare", *words])

    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == blocks("", following.partition("```")[2])[0].splitlines()
    assert f"the exit code is {code}." in README


@pytest.mark.parametrize(
    "words",
    [["leaderboard", *words] for words in calls("leaderboard")]
    + [["figures", *words] for words in calls("figures")]
    + [["report", *words] for words in calls("report")],
    ids=" ".join,
)
def test_every_way_to_show_results_in_the_documents_works(words, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(trained / "runs")

    assert flips.main(words) == 0, capsys.readouterr().err


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
        Step(
            logits=logits,
            targets=torch.tensor([1]),
            images=torch.zeros(1, 3, 8, 8),
            indices=torch.tensor([0]),
            epoch=0,
            epochs=1,
            old_classes=2,
            class_counts=torch.ones(3, dtype=torch.int64),
            old_logits=torch.zeros(1, 2),
        )
    )
    terms["loss"].backward()

    plain = torch.nn.functional.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.2)
    torch.testing.assert_close(terms["ce"], plain)
    assert logits.grad is not None


def test_the_readmes_method_passes_mypy_and_ruff_as_printed(tmp_path):
    example = tmp_path / "smoothed.py"
    example.write_text(blocks("python")[0])
    checks = (
        ["mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"],
        ["ruff", "check", "--quiet", "--no-cache", "--config", ROOT / "pyproject.toml"],
        ["ruff", "format", "--check", "--no-cache", "--config", ROOT / "pyproject.toml"],
    )
    for check in checks:
        done = subprocess.run(
            [sys.executable, "-m", *check, example], cwd=ROOT, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["sweep", "test", "setup"])
def test_the_readmes_make_targets_exist(target):
    made = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)

    assert made.returncode == 0, made.stderr


def test_files_that_documents_point_to_exist():
    for document in DOCUMENTS:
        for path in re.findall(
            r"`((?:common|harness|methods|loaders|slurm|results|tests|docs|benchmarks|tools)/[\w./-]*)`",
            document.read_text(),
        ):
            if path != "methods/smoothed.py":  # the reader's own
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
