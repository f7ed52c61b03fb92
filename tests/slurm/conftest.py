import pytest

from tests.slurm.cluster import Cluster, unavailable
from tests.slurm.sweeping import Sweeps
from tests.standin_jobs import ROOT


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
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    slurm_daemons.clear()
    yield slurm_daemons
    slurm_daemons.clear()


@pytest.fixture
def bench(standin_jobs):
    return standin_jobs


@pytest.fixture
def sweeps(slurm, bench, console):
    started = Sweeps(bench, console)
    yield started
    started.end(slurm)
