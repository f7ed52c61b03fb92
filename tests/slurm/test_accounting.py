"""A real SLURM with its accounting database: limits that it enforces, and states that only sacct knows."""

import pytest

from common.jobs import Phase
from slurm import scheduler
from slurm.ledger import Ledger
from tests.slurm.cluster import Cluster, unavailable
from tests.slurm.sweeping import arrays, phases, training

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def slurm_daemons(cannot):
    """A SLURM of this module's own, in the place of the one that the other tests share."""
    if reason := unavailable(accounting=True):
        cannot(reason)
    cluster = Cluster(accounting=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def test_a_limit_on_submitted_jobs_is_met_by_smaller_arrays_and_patience(slurm, sweeps, bench, monkeypatch):
    monkeypatch.setattr("harness.dispatch.cluster.HOLD_S", 1)
    slurm.limit(MaxSubmitJobs=3)
    try:
        jobs = [bench.job(f"j{i}") for i in range(7)]
        child = bench.job("child", "learn", after=jobs)
        assert sweeps.run(*jobs, child).complete
    finally:
        slurm.limit(MaxSubmitJobs=-1)
    assert [bench.tries(job) for job in (*jobs, child)] == [1] * 8
    known = arrays(bench)
    assert max(len(array.jobs) for array in known) <= 3
    assert sum(len(array.jobs) for array in known) == 8, "what was not taken leaves no file"
    assert len(list(Ledger(bench.runs).batch_file("any").parent.iterdir())) == len(known)


def test_what_the_queue_has_forgotten_sacct_remembers(slurm, sweeps, bench, monkeypatch):
    queue = scheduler.queue
    monkeypatch.setattr(scheduler, "queue", lambda users: [e for e in queue(users) if e.live])
    cancelled, slow = bench.job("cancelled", "train 300 0.1"), bench.job("slow", "deaf 600", "train 1 0")
    sweep = sweeps.start(cancelled, slow, time=1)
    slurm.wait_until(lambda: training(bench, cancelled)() and bench.lines(slow, "deaf.txt"))
    task = next(e for e in Ledger(bench.runs).ours(queue([0])) if _job(bench, e) == cancelled.id)
    slurm.run("scancel", task.slurm_id)
    outcome = sweep.result(290)
    assert phases(outcome) == [Phase.FAILED, Phase.DONE]
    assert "it was cancelled" in outcome.states[cancelled.id].note
    assert bench.tries(slow) == 2, "sacct knows that it ran into its time limit"


def _job(bench, entry):
    array = Ledger(bench.runs).read(entry.comment)
    assert array is not None
    return array.jobs[entry.index].id
