"""The retry policy, wherever jobs run."""

from pathlib import Path

import pytest

from common.jobs import RETRIES
from harness.dispatch.retries import Retries
from results.store import Store


@pytest.fixture
def retries(bench):
    bench.runs.mkdir(exist_ok=True)
    return Retries(Store(bench.runs))


def test_timeouts_that_a_worker_counted_itself_are_not_granted_anew(bench, retries):
    job = bench.job("job").ref
    retries.count_timeouts(job, RETRIES["timeout"])
    assert not retries.charge(job, "timeout", "too long")
    assert retries.failed == {job.id: "timeout: too long"}


def test_a_second_failure_on_a_node_makes_it_a_bad_one(bench, retries):
    job = bench.job("job").ref
    retries.charge(job, "node", "it failed", node="n1")
    retries.charge(job, "node", "it failed", node="n2")
    assert retries.bad_nodes(job) == ()
    retries.charge(job, "node", "it failed", node="n1")
    assert retries.bad_nodes(job) == ("n1",)
    assert not retries.failed


def test_memory_doubles_and_the_last_cause_is_the_one_on_record(bench, retries):
    job, store = bench.job("job", size=2).ref, Store(bench.runs)
    store.fail(job.run_ids, "node", "long ago", Path("log.txt"))
    assert retries.charge(job, "memory", "too much")
    assert retries.memory_factor(job) == 2
    assert not retries.charge(job, "memory", "too much")
    for run_id in job.run_ids:
        failure = store.failure(run_id)
        assert failure is not None
        assert (failure.cause, failure.message) == ("memory", "too much")


def test_preemption_costs_nothing(bench, retries):
    job = bench.job("job").ref
    assert all(retries.charge(job, "preempted", "it was told to stop") for _ in range(20))
    assert not retries.failed


def test_bugs_and_bad_data_are_not_tried_again(bench, retries):
    for cause in ("bug", "data", "parent"):
        assert not retries.charge(bench.job(cause).ref, cause, "no", explained=True)


def test_a_job_whose_parent_failed_has_not_failed_itself(bench, retries):
    parent = bench.job("parent")
    child, orphan = bench.job("child", after=[parent]).ref, bench.job("orphan", after=[parent]).ref
    assert not retries.charge(orphan, "parent", "it diverged", explained=True)
    assert retries.failed == {orphan.id: "parent: it diverged"}, "no failed job explains it"
    retries.charge(parent.ref, "bug", "no", explained=True)
    assert not retries.charge(child, "parent", "it has no record", explained=True)
    assert child.id not in retries.failed


def test_a_failure_that_the_program_explained_keeps_its_own_words(bench, retries):
    job, store = bench.job("job").ref, Store(bench.runs)
    store.fail(job.run_ids, "bug", "as the program said", Path("log.txt"))
    assert not retries.charge(job, "bug", "as the program said", explained=True)
    assert len(list((bench.runs / job.runs[0].id / "attempts").iterdir())) == 1, "no attempt was added"


def test_a_job_that_is_given_up_says_what_came_before(bench, retries):
    job = bench.job("job").ref
    retries.charge(job, "memory", "too much")
    retries.give_up(job, "sbatch: no node has so much")
    assert retries.failed[job.id] == "again after memory: too much; sbatch: no node has so much"


def test_an_unexplained_end_on_a_full_disk_is_the_disks(bench, retries, monkeypatch):
    job = bench.job("job").ref
    monkeypatch.setattr("harness.dispatch.disk.trouble_of", lambda folder: "no room on the disk")
    assert retries.charge(job, "bug", "it ended with exit code 3")
    assert retries.notes[job.id] == "no room on the disk"
    assert retries.disk.waits(job.id)
