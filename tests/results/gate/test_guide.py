"""The guide's files to copy, commands, outputs and CI examples are what happens."""

import contextlib
import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from results.gate.command import main

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "compare.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
DRAWN = re.compile(r"(Rel-NFR.*)\[.*\]")  # from numpy's random stream, which may change
COMMAND = re.compile(r"python -m results\.compare (.*?)(?:  # exit code (\d))?$")


def blocks():
    return [(kind, text) for kind, text in BLOCK.findall(GUIDE.read_text())]


def run(words):
    """(exit code, output) of the command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(words.split())
    return code, out.getvalue()


def walked(folder):
    """(text of the guide, what happens) for every output in it, each command run in `folder`."""
    said = ""
    for kind, text in blocks():
        if kind == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            Path(folder, name).write_text(text)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, name, "exec"), {})
            said = out.getvalue()
        elif kind == "bash" and "pytest" not in text:
            for line in text.splitlines():
                if match := COMMAND.search(line):
                    code, out = run(match[1])
                    assert code == int(match[2]), line
                    said += out
        elif kind == "text":
            yield text, said
            said = ""
        elif kind == "toml":
            Path(folder, "gate.toml").write_text(text)


def lines(text):
    return [DRAWN.sub(r"\1", line).rstrip() for line in text.strip().splitlines()]


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    with contextlib.chdir(folder):
        return folder, list(walked(folder))


def test_every_output_in_the_guide_is_what_happens(walk):
    _, outputs = walk
    assert len(outputs) == 6
    for wanted, said in outputs:
        assert lines(said) == lines(wanted)


@pytest.mark.parametrize("name", [".github/workflows/gate.yml", ".gitlab-ci.yml"])
def test_the_examples_for_ci_systems_run(walk, name):
    folder, _ = walk
    (example,) = (text for kind, text in blocks() if kind == "yaml" and name in text)
    (words,) = re.findall(r"python -m results\.compare (.*)", example)
    with contextlib.chdir(folder):
        code, _ = run(words)
    assert code == 1
    assert (folder / "gate.md").read_text().startswith("## ❌ FAIL")
    assert ET.parse(folder / "gate.xml").getroot().tag == "testsuite"
    assert "searchable" not in (folder / "gate.html").read_text()
    assert "gate.md" in example
    assert "\t" not in example


def test_the_script_before_a_merge_stops_it(walk):
    folder, _ = walk
    (script,) = (text for kind, text in blocks() if kind == "sh")
    (folder / "pre-merge.sh").write_text(script)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "pre-merge.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "gate: refused, see gate.md\n"), done.stderr


def test_links_within_the_guide_lead_somewhere():
    text = GUIDE.read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#(.*?)\)", text)) <= headings
