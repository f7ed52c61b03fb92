import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from rich.console import Console

from tests.standin_jobs import Bench

# The same examples every time; and no deadline: the first call of a kernel may compile it.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

OPT_IN = ("slow", "slurm")


def pytest_configure(config: pytest.Config) -> None:
    """Heed Ctrl-C where a shell started us in the background: sweeps inherit being deaf, and respect it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help=f"run the tests marked {' and '.join(OPT_IN)} too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for by --all or by a marker expression.

    A real SLURM has time limits of its own, and the machine may be busy: its tests get a second chance, which
    the output shows as R.
    """
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    if config.getoption("--all") or config.getoption("-m"):
        return
    chosen = [item for item in items if not any(item.get_closest_marker(name) for name in OPT_IN)]
    left_out = [item for item in items if item not in set(chosen)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


@pytest.fixture(scope="session")
def cannot():
    """Leaves a test out for the reason given; in CI, which sets everything up, fails for it."""
    return pytest.fail if os.environ.get("CI") else pytest.skip


@pytest.fixture
def standin_jobs(tmp_path):
    """A folder of records with jobs for the stand-in program."""
    return Bench(tmp_path / "runs")


@pytest.fixture
def console(tmp_path):
    """A console that is not a terminal; what it was told is in `console.file`."""
    with (tmp_path / "console.txt").open("w+") as file:
        yield Console(file=file, width=160)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with `runs/`: one seed of two methods on the digits, trained for an epoch."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["dataset=digits", "methods=none,pct-naive", "seeds=0", "epochs=1", f"runs={folder / 'runs'}"]
    done = subprocess.run(
        [sys.executable, "-m", "harness.flips", "sweep", *words],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder
