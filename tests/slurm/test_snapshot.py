"""The copy of the code that queued jobs run."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common import code
from slurm import snapshot


@pytest.fixture
def source(tmp_path):
    """A small tree with every room."""
    for room in code.ROOMS:
        (tmp_path / "source" / room / "__pycache__").mkdir(parents=True)
        (tmp_path / "source" / room / "__init__.py").write_text(f"# {room}\n")
        (tmp_path / "source" / room / "__pycache__" / "x.pyc").write_text("made")
    return tmp_path / "source"


def test_a_copy_keeps_the_code_as_it_was(source, tmp_path):
    before = Path(snapshot.take(tmp_path / "code", source=source).path)
    (source / "harness" / "__init__.py").write_text("# edited\n")
    after = Path(snapshot.take(tmp_path / "code", source=source).path)
    assert (before / "harness" / "__init__.py").read_text() == "# harness\n"
    assert (after / "harness" / "__init__.py").read_text() == "# edited\n"
    assert not list(before.rglob("*.pyc"))


def test_equal_code_is_copied_once_by_many_at_once(source, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        copies = list(pool.map(lambda _: snapshot.take(tmp_path / "code", source=source), range(8)))
    assert len(set(copies)) == 1
    assert [path.name for path in (tmp_path / "code").iterdir()] == [Path(copies[0].path).name]


def git(source, *words):
    command = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_copy_knows_the_commit_it_was_taken_from_and_whether_it_was_edited(source, tmp_path):
    assert snapshot.take(tmp_path / "code", source=source).commit == "unknown"
    for words in (("init",), ("add", "."), ("commit", "-m", "x")):
        git(source, *words)
    sha = git(source, "rev-parse", "HEAD")
    assert snapshot.take(tmp_path / "code", source=source).commit == sha
    (source / "methods" / "__init__.py").write_text("# edited\n")
    assert snapshot.take(tmp_path / "code", source=source).commit == f"{sha}+dirty"


def test_a_copy_of_a_copy_keeps_the_commit(source, tmp_path, monkeypatch):
    monkeypatch.setenv(code.VARIABLE, "abc+dirty")
    assert snapshot.take(tmp_path / "code", source=source).commit == "abc+dirty"
