"""The tutorial's files and commands, in its order, in one folder: what it shows is what is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
FILES = {"python", "toml", "yaml"}
EXIT_CODE = re.compile(r"  # exit code (\d)$")
GATE = re.compile(r"run: (flips compare .*)")


def blocks(*kinds):
    return [text for kind, text in BLOCK.findall(TUTORIAL) if kind in kinds]


def run(command, folder):
    """What a command of the tutorial prints.

    `flips` runs this checkout, and as an installed command does: without the current folder on Python's path.
    """
    expected = int(match[1]) if (match := EXIT_CODE.search(command)) else 0
    done = subprocess.run(
        ["bash", "-c", f'flips() {{ "{sys.executable}" -P -m harness.flips "$@"; }}; {command}'],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",  # the tutorial's own training would wait long for a busy second core
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def lines(text):
    """Its lines without what differs between machines: digits, stars and the widths of columns."""
    masked = re.sub(r"[\d.,*]+", "0", text)
    return [" ".join(re.sub(r"[─ ]+", " ", line).replace("-0", "0").replace("+0", "0").split())
            for line in masked.splitlines()]  # fmt: skip


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """The folder at the end, and (text of the tutorial, what its commands printed) for every output in it."""
    folder, outputs, said = tmp_path_factory.mktemp("tutorial"), [], ""
    for kind, text in BLOCK.findall(TUTORIAL):
        if kind in FILES:
            file = folder / text.partition("\n")[0].removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        elif kind == "bash":
            said = "".join(run(command, folder) for command in text.splitlines())
        else:
            outputs.append((text, said))
    return folder, outputs


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_shows_what_its_commands_print(walk):
    _, outputs = walk
    assert len(outputs) == len(blocks("text"))
    for shown, said in outputs:
        missing = [line for line in lines(shown) if line not in lines(said)]
        assert not missing, f"{missing}\n{said}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorials_gate_comes_to_a_verdict(walk):
    folder, _ = walk
    (workflow,) = blocks("yaml")
    (gate,) = GATE.findall(workflow)

    assert "FAIL" in run(f"{gate}  # exit code 1", folder)

    assert "FAIL" in (folder / "gate.md").read_text()
    assert (folder / "gate.xml").exists()
    assert (folder / "pictures.html").exists()


def test_every_section_is_in_the_list_at_the_top():
    headings = re.findall(r"^## (.*)$", TUTORIAL, re.MULTILINE)

    assert re.findall(r"^- \[(.*)\]\(#(.*)\)$", TUTORIAL, re.MULTILINE) == [
        (heading, heading.lower().replace(" ", "-")) for heading in headings
    ]


def test_the_tutorials_python_passes_ruff(tmp_path):
    for code in blocks("python"):
        (tmp_path / code.partition("\n")[0].removeprefix("# ")).write_text(code)
    for check in (["check", "--extend-ignore=D100"], ["format", "--check"]):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ruff", *check, tmp_path),
                *("--config", ROOT / "pyproject.toml", "--no-cache"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
