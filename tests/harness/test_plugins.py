"""Methods, datasets and architectures from somebody's own package or module."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.registry import Registry, load_plugins
from harness import config, jobfile, sweep
from harness.plan import expand
from loaders.datasets import DATASETS, Dataset
from methods import METHODS, Entry
from results.store import Store

ROOT = Path(__file__).parents[2]
ENTRIES = '''
"""What is added: light to import, so that a plan and the help need no torch."""
from harness.architectures import Architecture
from loaders.datasets import RAW, Augmentation, Dataset, Training
from methods import Entry

SCALED = Entry(path="{package}.parts:Scaled", summary="a constant times the cross-entropy")
BLOBS = Dataset(
    name="blobs", summary="coloured squares", version=1, source="{package}.parts:blobs", classes=4,
    image_size=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25),
    augmentation=Augmentation(kind="pad-crop", pad=1), stored=RAW, arch="tiny",
    training=Training(epochs=1, batch_size=8, lr=0.1, weight_decay=0.0), hyperparameters={{"factor": 3.0}},
    embedding={{}}, needs_data=False, train_samples=40, test_samples=20,
)
TINY = Architecture(
    summary="one convolution", network="{package}.parts:tiny", head="1.2", stems=("plain",), recipe={{}},
    gflops=0.001, size=8, megabytes=0.1, smallest=4, fixed_size=False, backbone=None,
)
'''
PARTS = '''
from dataclasses import dataclass

import numpy as np
from torch import nn

from loaders.sources import ArraySource
from methods.base import Loss
from methods.losses import cross_entropy

@dataclass(frozen=True, kw_only=True)
class Scaled(Loss):
    """A constant times the cross-entropy."""

    factor: float = 2.0
    """The constant."""

    def loss(self, step):
        return {"loss": self.factor * cross_entropy(step.logits, step.targets).mean()}

def blobs(dataset, part, data, download):
    count = dataset.train_samples if part == "train" else dataset.test_samples
    labels = np.arange(count) % dataset.classes
    images = np.repeat(60 * labels, 8 * 8 * 3).reshape(count, 8, 8, 3).astype(np.uint8)
    return ArraySource(images, labels.astype(np.int64), ("a", "b", "c", "d"))

def tiny(name, stem):
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(body, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)))
'''
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "flips-example"
version = "1.0"

[project.entry-points."negative_flips.methods"]
scaled = "flips_example.entries:SCALED"

[project.entry-points."negative_flips.datasets"]
blobs = "flips_example.entries:BLOBS"

[project.entry-points."negative_flips.architectures"]
tiny = "flips_example.entries:TINY"

[tool.setuptools]
packages = ["flips_example"]
"""
WORDS = ("methods=none,scaled", "dataset=blobs", "old_classes=2", "seeds=0", "device=cpu")


def write_package(folder, name, entries=ENTRIES):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")
    (folder / name / "entries.py").write_text(entries.format(package=name))
    (folder / name / "parts.py").write_text(PARTS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder for sys.path into which pip has installed a package with one entry of each kind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    (source / "pyproject.toml").write_text(PROJECT)
    write_package(source, "flips_example")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(source)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return target


@pytest.fixture
def module(tmp_path):
    """A folder with a module that adds the same by `plugins=`."""
    write_package(tmp_path, "my_parts")
    (tmp_path / "my_flips.py").write_text(
        "from my_parts.entries import BLOBS, SCALED, TINY\n"
        "METHODS, DATASETS, ARCHITECTURES = {'scaled': SCALED}, {'blobs': BLOBS}, {'tiny': TINY}\n"
    )
    return tmp_path


@pytest.fixture
def forgotten():
    """Registries and modules are as they were when the test is over."""
    names, modules, path = set(METHODS), set(sys.modules), list(sys.path)
    yield
    for registry in (METHODS, DATASETS, config.ARCHITECTURES):
        for name in {"scaled", "blobs", "tiny", "broken"} & set(registry):
            del registry[name]
    for name in set(sys.modules) - modules:
        if name.startswith(("my_", "broken")):
            del sys.modules[name]
    sys.path[:] = path
    assert set(METHODS) == names


def python(*arguments, path, cwd):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_packages_entries_train_in_worker_processes(installed, tmp_path):
    words = (*WORDS, "scaled.factor=1,4", "cluster=local", f"runs={tmp_path / 'runs'}")

    done = python("-m", "harness.sweep", *words, path=(ROOT, installed), cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(none|scaled\[factor=[14]\])", done.stdout, re.MULTILINE) == [
        "none", "scaled[factor=1]", "scaled[factor=4]"
    ]  # fmt: skip
    assert "blobs: tiny" in done.stdout
    assert {
        record.environment["versions"]["flips-example"] for record in Store(tmp_path / "runs").records()
    } == {"1.0"}


def test_the_help_lists_an_installed_packages_entries_and_all_stays_the_papers_eight(installed, tmp_path):
    shown = python("-m", "harness.sweep", "--help", "all", path=(ROOT, installed), cwd=tmp_path).stdout
    code = "from harness import config; print(len(config.read(['methods=all']).settings[0].variants))"
    counted = python("-c", code, path=(ROOT, installed), cwd=tmp_path)

    for expected in ("a constant times the cross-entropy", "coloured squares", "one convolution"):
        assert expected in shown
    assert counted.stdout == "8\n", counted.stderr


def test_a_datasets_own_hyperparameters_reach_a_plugins_method(module, monkeypatch, forgotten):
    monkeypatch.syspath_prepend(str(module))

    (setting,) = config.read([*WORDS, "plugins=my_flips"]).settings

    assert {v.method: dict(v.hyperparameters) for v in setting.variants}["scaled"] == {"factor": 3.0}


def test_a_module_named_by_plugins_trains_in_worker_processes(module):
    words = (*WORDS, "plugins=my_flips", "cluster=local", "runs=runs")

    done = python("-m", "harness.sweep", *words, path=(ROOT,), cwd=module)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "words", [("sweep", *WORDS, "plan=true"), ("build", "dataset=blobs", "betons=betons")], ids=lambda w: w[0]
)
def test_the_installed_command_finds_a_module_in_the_current_folder(words, module):
    """With -P, as in an installed command, Python does not look there by itself."""
    done = python("-P", "-m", "harness.flips", *words, "plugins=my_flips", path=(ROOT,), cwd=module)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_flisp", "no such module (neither my_flisp.py in this folder nor one installed)"),
        ("my_flips.py", "leave .py out (plugins=my_flips)"),
    ],
)
def test_a_misspelt_module_is_told_in_one_line(name, message, module, monkeypatch, capsys, forgotten):
    monkeypatch.chdir(module)

    assert sweep.main([f"plugins={name}", "plan=true"]) == 2
    assert capsys.readouterr().err == f"error: plugins={name}: {message}\n"


def test_a_job_finds_its_plugin_wherever_it_starts(module, tmp_path_factory, monkeypatch, forgotten):
    """As on a node: another folder, and nothing about the module in the environment."""
    monkeypatch.syspath_prepend(str(module))
    asked = config.read([*WORDS, "plugins=my_flips", f"runs={module / 'runs'}"])
    runs = list(expand(*asked.settings))
    job, *_ = sweep.make_jobs(runs, asked)
    folder = jobfile.write(job, asked.config.runtime)

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = python("-m", "harness.execute", str(folder), path=(ROOT,), cwd=elsewhere)

    assert done.returncode == 0, done.stderr
    assert (module / "runs" / job.id / "record.json").exists()


def test_betons_of_a_plugins_dataset_can_be_built_ahead(module):
    words = ("dataset=blobs", "plugins=my_flips", "betons=betons")

    built = python("-m", "loaders.build", *words, path=(ROOT,), cwd=module)

    assert "blobs train: 40 images of 4 classes" in built.stdout, built.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import no_such_thing",
            "plugins=broken: could not be imported (ModuleNotFoundError: No module named",
        ),
        ("1 / 0", "plugins=broken: could not be imported (ZeroDivisionError: division by zero)"),
        ("", "plugins=broken: it has no mapping named METHODS, DATASETS, ARCHITECTURES"),
        ("METHODS = {'x': 1}", "plugins=broken: method 'x' is not a methods.Entry"),
        (
            "from methods import Entry\nMETHODS = {'none': Entry(path='a:B', summary='')}",
            "plugins=broken: the method 'none' exists already",
        ),
    ],
)
def test_a_module_that_cannot_be_used_is_one_line(code, message, tmp_path, monkeypatch, capsys, forgotten):
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))

    assert sweep.main(["plugins=broken", "plan=true"]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_a_package_whose_entry_cannot_be_imported_is_one_line_and_harms_nobody_else(installed, tmp_path):
    broken = tmp_path / "broken"
    metadata = broken / "flips_broken-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: flips-broken\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[negative_flips.methods]\nbroken = no_such_module:ENTRY\n")

    asked = ("plan=true", "seeds=0")
    refused, fine = (
        python("-m", "harness.sweep", f"methods={name}", *asked, path=(ROOT, broken), cwd=tmp_path)
        for name in ("broken", "none")
    )

    assert refused.returncode == 2
    assert re.fullmatch(
        r"error: plugin flips-broken: method 'broken' could not be imported \([^\n]+\)\n", refused.stderr
    )
    assert fine.returncode == 0, fine.stderr


def test_an_entry_that_lacks_a_part_cannot_be_made():
    with pytest.raises(TypeError, match="training"):
        Dataset(name="half", summary="no recipe")


def test_modules_are_loaded_into_the_registries_that_are_given(module, monkeypatch, forgotten):
    monkeypatch.syspath_prepend(str(module))
    methods = Registry(Entry, "method", attribute="METHODS", builtin={})

    load_plugins(["my_flips"], (methods,))

    assert list(methods) == ["scaled"]
    assert "scaled" not in METHODS
