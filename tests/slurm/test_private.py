"""Where only the owner can write, and what is checked before it is run; without SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm import bootstrap, commands, snapshot
from slurm.ledger import Ledger
from slurm.private import exposed, private_folder


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "negative-flips"


def test_a_folder_that_nobody_else_can_reach_lies_beside_the_ledger(tmp_path, state):
    folder = private_folder(tmp_path / ".slurm", "flips-1")
    assert folder == tmp_path / ".slurm" / f"private-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("shared", ["", ".slurm"])
def test_where_a_group_may_write_the_owners_home_is_taken(tmp_path, state, shared):
    place = tmp_path / "runs" / shared
    place.mkdir(parents=True)
    place.chmod(0o775)
    folder = private_folder(tmp_path / "runs" / ".slurm", "flips-1")
    assert folder == state / "flips-1"
    assert not exposed(folder)


def test_a_link_that_somebody_put_there_is_followed_before_it_is_trusted(tmp_path, state):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    (tmp_path / ".slurm").mkdir()
    (tmp_path / ".slurm" / f"private-{os.getuid()}").symlink_to(elsewhere)
    assert private_folder(tmp_path / ".slurm", "flips-1") == state / "flips-1"


def test_a_sticky_folder_is_no_danger_and_a_strangers_is(tmp_path):
    sticky = tmp_path / "sticky"
    (sticky / "mine").mkdir(parents=True)
    sticky.chmod(0o1777)
    assert not exposed(sticky / "mine")
    if os.geteuid() == 0:
        os.chown(sticky, 12345, -1)
        assert "belongs to somebody else" in exposed(sticky / "mine")


def test_without_any_such_place_one_line_says_why(tmp_path, state):
    for place in (tmp_path / "runs", tmp_path / "state"):
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(ValueError, match=r"others may write to .*runs; others may write to .*XDG_STATE_HOME"):
        private_folder(tmp_path / "runs" / ".slurm", "flips-1")


# --- the check before the first import


@pytest.fixture
def code(tmp_path):
    """A copy of a small tree whose module says that it ran."""
    source = tmp_path / "source"
    for room in ("common", "harness", "methods", "loaders", "slurm", "results"):
        (source / room).mkdir(parents=True)
        (source / room / "__init__.py").touch()
    (source / "slurm" / "task.py").write_text(
        "def main(arguments):\n    print('ran', *arguments)\n    return 7\n"
    )
    return snapshot.take(tmp_path / "code", source=source)


def start(code):
    text = Path(bootstrap.__file__).read_text()
    command = [sys.executable, "-P", "-c", text, code.path, code.digest, "slurm.task", "a", "b c"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_code_that_was_submitted_runs_and_leaves_nothing_behind(code):
    for _ in range(2):
        done = start(code)
        assert (done.returncode, done.stdout, done.stderr) == (7, "ran a b c\n", "")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "slurm" / "task.py").write_text("def main(arguments):\n    return 0\n"),
        lambda root: (root / "slurm" / "more.py").touch(),
        lambda root: (root / "common" / "__init__.py").unlink(),
        lambda root: (root / "sitecustomize.py").write_text("print('owned')"),
    ],
    ids=["changed", "added", "removed", "sitecustomize"],
)
def test_any_other_code_is_refused_in_one_line(code, change):
    change(Path(code.path))
    done = start(code)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {code.path}: this is not the code that was submitted\n"


def test_code_that_is_gone_is_said(code):
    Path(code.path).rename(Path(code.path).with_name("away"))
    assert start(code).stderr.endswith("the code that was submitted is gone\n")


def test_a_copy_that_was_changed_is_made_again(code, tmp_path):
    (Path(code.path) / "slurm" / "task.py").write_text("x")
    assert snapshot.take(tmp_path / "code", source=tmp_path / "source") == code
    assert start(code).returncode == 7


# --- the environment of SLURM's commands


def test_of_slurms_variables_only_those_that_say_where_it_is_are_left():
    given = {
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JWT": "token",
        "SBATCH_EXPORT": "NONE",
        "SQUEUE_USERS": "x",
        "SLURM_JOB_ID": "7",
        "SLURM_CLUSTERS": "x",
        "HOME": "/home/ada",
        "SLURMY": "mine",
    }
    kept = commands.environment(given)
    assert kept == {name: given[name] for name in ("SLURM_CONF", "SLURM_JWT", "HOME", "SLURMY")}


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (
            "echo \"squeue: unrecognized option '--x'\" >&2; exit 1",
            commands.WrongQuestion,
            "squeue: unrecognized",
        ),
        (
            'echo "slurm_load_jobs error: Socket timed out" >&2; exit 1',
            commands.NoAnswer,
            "squeue: slurm_load_jobs",
        ),
        ("exit 3", commands.NoAnswer, "squeue: exit code 3"),
        ("sleep 9", commands.NoAnswer, "squeue: no answer within 0 s"),
    ],
)
def test_how_a_command_fails_is_told_in_its_own_words(tmp_path, monkeypatch, script, error, message):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(error, match=message):
        commands.ask("squeue", timeout_s=0.3 if "sleep" in script else 10)


def test_a_ledger_knows_its_own_by_comment_by_batch_file_and_by_number(bench):
    from slurm.scheduler import Entry

    ledger = Ledger(bench.runs)
    (ledger.root / "arrays").mkdir(parents=True)
    (ledger.root / "arrays" / "abc123.json").touch()
    ledger.note_id("9", "abc123", "2026-01-02T00:00:00")

    def known(**fields):
        entry = Entry(
            index=0, state="RUNNING", **{"slurm_id": "7", "submitted": "2026-01-03T00:00:00", **fields}
        )
        return [found.comment for found in ledger.ours([entry])]

    assert known(comment="abc123") == ["abc123"]
    assert known(comment="(null)", command="/somewhere/abc123.sh") == ["abc123"]
    assert known(slurm_id="9_4") == ["abc123"]
    assert known(slurm_id="9", submitted="2026-01-01T00:00:00") == [], "the number of an older job"
    assert known(comment="abc", command="/somewhere/abc.sh") == []
