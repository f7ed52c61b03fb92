"""What the next try of a Job must heed; without SLURM."""

from pathlib import Path

import pytest

from results.store import Store
from slurm.desk import Desk, Slip
from slurm.failures import record_failure
from slurm.reconcile import NEVER, Picture, Task
from slurm.scheduler import Entry
from slurm.states import RETRIES
from slurm.task import Report
from slurm.tries import LATE_LOOKS, Tries


@pytest.fixture
def tries(bench):
    return Tries(Desk(bench.runs), Store(bench.runs))


def end(tries, job, state, *, slurm_id="7", node="n1", reason=""):
    entry = Entry(slurm_id=slurm_id, index=0, state=state, node=node, reason=reason)
    task = Task(slip=Slip.of(job), entry=entry)
    tries.settle(Picture(states={}, ended=((job, task),)))


def test_timeouts_that_a_task_counted_itself_are_not_granted_anew(bench, tries):
    job = bench.job("job")
    record_failure(Store(bench.runs), [job.id], "timeout", "too long", Path("log.txt"))
    Report(slurm_id="7", node="n1", code=1, timeouts=RETRIES["timeout"] + 1).write(bench.folder(job))
    end(tries, job, "FAILED")
    assert tries.failed == {job.id: "timeout: too long"}


def test_a_second_failure_on_a_node_makes_it_a_bad_one(bench, tries):
    job = bench.job("job")
    end(tries, job, "NODE_FAIL", slurm_id="7")
    assert tries.bad_nodes(job) == ()
    end(tries, job, "NODE_FAIL", slurm_id="8", node="n2")
    assert tries.bad_nodes(job) == ()
    end(tries, job, "NODE_FAIL", slurm_id="9")
    assert tries.bad_nodes(job) == ("n1",)
    assert job.id not in tries.failed


def test_memory_doubles_and_the_last_cause_is_the_one_on_record(bench, tries):
    job = bench.job("job")
    record_failure(Store(bench.runs), [job.id], "node", "long ago", Path("log.txt"))
    end(tries, job, "OUT_OF_MEMORY", slurm_id="7")
    assert tries.memory_factor(job) == 2
    end(tries, job, "OUT_OF_MEMORY", slurm_id="8")
    assert tries.failed[job.id].startswith("memory: ")
    failure = Store(bench.runs).failure(job.id)
    assert failure is not None
    assert failure.cause == "memory"


def test_preemption_and_lost_dependencies_cost_nothing(bench, tries):
    job = bench.job("job")
    for number in range(20):
        end(tries, job, "PREEMPTED", slurm_id=f"{number}")
        end(tries, job, "CANCELLED", slurm_id=f"{number}", node="", reason=NEVER)
    assert not tries.failed


def test_a_completed_task_may_show_its_record_late(bench, tries):
    job = bench.job("job")
    for _ in range(LATE_LOOKS - 1):
        end(tries, job, "COMPLETED")
    assert not tries.settled
    end(tries, job, "COMPLETED")
    assert tries.settled == {"7"}


def test_a_first_try_that_is_refused_is_not_given_up_silently(bench, tries):
    job = bench.job("job")
    assert not tries.give_up([job], "sbatch: no")
    end(tries, job, "OUT_OF_MEMORY")
    assert tries.give_up([job], "sbatch: no")
    assert tries.failed[job.id].endswith("sbatch: no")
