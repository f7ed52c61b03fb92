import pytest
from bench import TESTS, Bench
from cluster import Cluster, unavailable
from rich.console import Console
from sweeping import Sweeps


@pytest.fixture(scope="session")
def slurm_daemons(cannot):
    """One SLURM for all tests of a session."""
    if reason := unavailable():
        cannot(reason)
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm(slurm_daemons, monkeypatch):
    """A SLURM without jobs, to which this process's commands talk."""
    for name, value in slurm_daemons.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    slurm_daemons.clear()
    yield slurm_daemons
    slurm_daemons.clear()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "runs")


@pytest.fixture
def console(tmp_path):
    """A console that is no terminal; what it was told is in `console.file`."""
    with (tmp_path / "console.txt").open("w+") as file:
        yield Console(file=file, width=160)


@pytest.fixture
def sweeps(slurm, bench, console):
    started = Sweeps(bench, console)
    yield started
    started.end(slurm)
