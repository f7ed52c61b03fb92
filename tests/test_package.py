"""The package that others install: its contents, its metadata, and the light install without torch."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from common import extras
from common.code import ROOMS

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def files_of_rooms():
    """Every file of the rooms that git would commit, relative to the root."""
    return {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_every_room_and_subpackage_is_packaged():
    patterns = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    on_disk = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/__init__.py")}
    on_disk = {name.replace("/", ".") for name in on_disk if name.split("/")[0] in ROOMS}
    folders = {Path(file).parent.as_posix() for file in files_of_rooms() if file.endswith(".py")}

    assert {pattern.removesuffix(".*") for pattern in patterns} == set(ROOMS)
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in on_disk)
    assert {folder.replace("/", ".") for folder in folders} == on_disk, "a folder lacks its __init__.py"


def test_mypy_checks_every_room():
    assert set(ROOMS) <= set(PYPROJECT["tool"]["mypy"]["packages"])


def test_the_train_extra_is_known_to_the_message_that_names_it():
    train = {name_of(requirement) for requirement in PROJECT["optional-dependencies"]["train"]}

    assert train == extras.TRAIN.keys()
    assert not train & {name_of(requirement) for requirement in PROJECT["dependencies"]}
    extras.require_train()  # every package provides the module that stands there


def test_license_and_citation_agree_with_the_metadata():
    text = (ROOT / "LICENSE").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert "Apache License\n" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["title"] == PROJECT["name"]
    assert citation["authors"] == PROJECT["authors"]


def test_the_pre_commit_hooks_are_valid(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", ROOT / ".pre-commit-config.yaml"],
        env=os.environ | {"PRE_COMMIT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_the_workflow_calls_the_same_tests():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]

    assert "make test" in steps


def wheel_from(folder):
    """Build the wheel from a copy of the tree, which a build would litter."""
    source = folder / "source"
    for name in [*files_of_rooms(), "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_every_file_of_the_rooms(tmp_path):
    with zipfile.ZipFile(wheel_from(tmp_path)) as wheel:
        names = set(wheel.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        scripts = wheel.read(entry_points).decode()

    info = Path(entry_points).parent.as_posix()
    assert {name for name in names if not name.startswith(info)} == files_of_rooms()
    assert f"{info}/licenses/LICENSE" in names
    assert "flips = harness.flips:main" in scripts


def predictions(path, wrong):
    """A CSV file of 200 samples of two classes, of which those in `wrong` are misclassified."""
    rows = [f"{i},{i % 2},{i % 2 if i not in wrong else 1 - i % 2}" for i in range(200)]
    path.write_text("\n".join(["id,target,prediction", *rows]) + "\n")


@pytest.fixture(scope="module")
def light(tmp_path_factory, cannot):
    """`light(*words)` runs the `flips` of an environment that holds the wheel and its base dependencies."""
    folder = tmp_path_factory.mktemp("light")
    environment, python = folder / "environment", folder / "environment" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    installed = subprocess.run(
        [*install, wheel_from(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        cannot(f"the base dependencies cannot be installed here: {installed.stderr.strip()[-500:]}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    absent = f"import importlib.util as u; print(*filter(u.find_spec, {[*extras.TRAIN.values()]}))"
    found = subprocess.run(
        [python, "-P", "-c", absent], env=clean, cwd=folder, capture_output=True, text=True, check=True
    )
    assert not {"torch", "torchvision", "ffcv", "numba", "sklearn", "submitit"} & set(found.stdout.split())

    def run(*words, cwd):
        return subprocess.run(
            [environment / "bin" / "flips", *words],
            cwd=cwd,
            env=clean | {"PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("wrong", "verdict", "code"),
    [({0, 3}, "PASS", 0), ({*range(60)}, "FAIL", 1), ({*range(3, 15)}, "UNDECIDED", 3)],
)
def test_the_light_install_gates_a_release(light, tmp_path, wrong, verdict, code):
    predictions(tmp_path / "old.csv", wrong={0, 1, 2})
    predictions(tmp_path / "new.csv", wrong=wrong)

    done = light("compare", "old=old.csv", "new=new.csv", "max_nfr=5%", cwd=tmp_path)

    assert (done.returncode, done.stderr) == (code, "")
    assert f"\n{verdict:9} max_nfr: " in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("leaderboard", "export=table.tex,table.csv"), "pct-naive"),
        (("report",), "report.html"),
        (("figures",), ""),
        (("store", "verify"), "0 problems"),
        (("status",), "nothing was submitted"),
        (("sweep", "methods=none,pct-naive", "seeds=0", "epochs=1"), "pct-naive"),  # only its table is left
        (("sweep", "dataset=digits", "seeds=5", "plan=true"), "nothing was started"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None,
)
def test_the_light_install_shows_what_was_trained_elsewhere(light, trained, words, shown):
    done = light(*words, cwd=trained)

    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("schema", ["schema-1", "schema-2"])
def test_the_light_install_reads_records_of_earlier_versions(light, schema):
    runs = ROOT / "tests" / "results" / "golden" / schema

    done = light("store", "verify", f"runs={runs}", cwd=ROOT.parent)

    assert (done.returncode, done.stderr) == (0, "")
    assert "1 intact runs, 0 problems" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", [("sweep", "dataset=digits"), ("build", "dataset=digits")], ids=" ".join)
def test_the_light_install_says_in_one_line_how_to_train(light, tmp_path, words):
    done = light(*words, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this needs the [train] extra (")
    assert "pip install 'negative-flips[train]'" in line
