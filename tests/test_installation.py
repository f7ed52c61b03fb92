"""What `make` installs: FFCV where it can be compiled, and everything else anywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("bash", "env", "id", "dirname", "test", "touch", "sh", "printf", "make", "echo")


@pytest.fixture
def machine(tmp_path):
    """`machine(**commands)` is a PATH with Python, a shell and these commands, given by their scripts."""

    def make(**commands):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in NEEDED:
            if (found := shutil.which(name)) and name not in commands:
                (folder / name).symlink_to(found)
        (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for name, script in commands.items():
            (folder / name.replace("_", "-").replace("xx", "++")).write_text(f"#!/bin/sh\n{script}\n")
        for path in folder.iterdir():
            if not path.is_symlink():
                path.chmod(0o755)
        return str(folder)

    return make


def system_packages(path):
    return subprocess.run(
        [ROOT / "tools" / "system-packages"],
        env={"PATH": path, "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_where_ffcv_can_be_compiled_its_extra_is_chosen(machine):
    done = system_packages(machine(cxx="", pkg_config=""))

    assert (done.returncode, done.stdout, done.stderr) == (0, "ffcv\n", "")


@pytest.mark.parametrize(
    "commands",
    [{}, {"cxx": ""}, {"cxx": "", "pkg_config": "exit 1"}],
    ids=["nothing", "no pkg-config", "no headers"],
)
def test_without_root_what_ffcv_needs_is_named_in_one_line_and_not_required(machine, commands):
    done = system_packages(machine(id="echo 1000", **commands))

    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("without FFCV, which cannot be compiled here (missing: ")
    assert ("g++" in line) == ("cxx" not in commands)


def test_as_root_what_is_missing_is_installed(machine, tmp_path):
    said = tmp_path / "said"
    done = system_packages(machine(cxx="", pkg_config="exit 1", id="echo 0", apt_get=f'echo "$@" >> {said}'))

    assert done.returncode == 0
    assert "install" in said.read_text()
    assert "libopencv-dev" in said.read_text()
    assert "libturbojpeg0-dev" in said.read_text()


def test_apt_that_fails_stops_nothing(machine):
    done = system_packages(machine(id="echo 0", apt_get="echo no network >&2; exit 100"))

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1].startswith("without FFCV")


@pytest.mark.parametrize("ffcv", ["works", "fails", "impossible"])
def test_make_goes_on_without_ffcv(machine, tmp_path, ffcv):
    """Installing is stood in for by a Python that writes down what it is asked for."""
    asked = tmp_path / "asked"
    compiler = {} if ffcv == "impossible" else {"cxx": "", "pkg_config": ""}
    path = machine(id="echo 1000", **compiler)
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    fails = "case $* in *ffcv*) exit 1;; esac" if ffcv == "fails" else ""
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n{fails}\n')
    python.chmod(0o755)

    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path / 'venv'}"],
        env={"PATH": path, "HOME": os.environ["HOME"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    extras = [line.rpartition(" ")[2] for line in asked.read_text().splitlines()]
    assert extras == [".[train,dev]"] + [".[ffcv]"] * (ffcv != "impossible")
    assert (tmp_path / "venv" / "installed").exists()
