"""A real SLURM, and all that goes wrong on one. After any fault: each run one record, nothing twice."""

import signal
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from common.jobs import Phase
from results.store import Store
from slurm import scheduler
from tests.slurm.sweeping import Sweeps, arrays, once, phases, training
from tests.standin_jobs import Bench

pytestmark = pytest.mark.slurm


def test_a_preempted_job_writes_a_checkpoint_and_goes_on(slurm, sweeps, bench):
    job = bench.job("job", "train 80 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    slurm.run("sbatch", "-p", "high", "-N3", "-o", "/dev/null", "--wrap", "sleep 3")
    slurm.wait_until(lambda: bench.tries(job) == 2)
    assert sweep.result(120).complete
    assert once(bench, job, 80)


def test_a_requeued_job_goes_on_from_its_checkpoint(slurm, sweeps, bench):
    job = bench.job("job", "train 60 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    slurm.run("scontrol", "requeue", *slurm.queue())
    assert sweep.result(120).complete
    assert once(bench, job, 60)
    assert bench.tries(job) == 2


def test_a_job_at_its_time_limit_queues_again(slurm, sweeps, bench):
    job = bench.job("job", "train 55 1")
    outcome = sweeps.run(job, time=1, warning_s=15)
    assert outcome.complete
    assert once(bench, job, 55)
    assert bench.tries(job) >= 2


def test_a_node_whose_daemons_and_tasks_die_is_replaced(slurm, sweeps, bench):
    job = bench.job("job", "train 100 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    node = slurm.run("squeue", "-h", "-o", "%N").strip()
    slurm.kill_node(node)
    slurm.end_strays(node)
    assert sweep.result(180).complete
    assert once(bench, job, 100)
    assert bench.tries(job) == 2


def test_a_task_that_outlives_its_lost_node_does_no_harm(slurm, sweeps, bench):
    job = bench.job("job", "train 300 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    node = slurm.run("squeue", "-h", "-o", "%N").strip()
    slurm.kill_node(node)
    assert sweep.result(180).complete
    record = Store(bench.runs).read(job.id)
    assert record is not None
    attempts = sorted((bench.runs / job.id / "attempts").iterdir())
    assert record.attempt == len(attempts), "the newest attempt's result counts"


def test_a_failed_reference_costs_those_alone_who_learn_from_it(sweeps, bench):
    old, bad = bench.job("old"), bench.job("bad", "fail bug")
    cohort = bench.job("cohort", "learn", after=[old, bad], size=2, learning=1)
    outcome = sweeps.run(old, bad, cohort)
    learner, plain = (Store(bench.runs).read(run.id) for run in cohort.runs)
    assert learner is None
    assert plain is not None
    assert outcome.states[cohort.id].phase is Phase.BLOCKED, "by the reference that failed"
    assert bad.title in outcome.states[cohort.id].note


def test_a_suspended_job_waits_and_goes_on(slurm, sweeps, bench, console):
    job = bench.job("job", "train 60 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    (slurm_id,) = slurm.queue()
    slurm.run("scontrol", "suspend", slurm_id)
    slurm.wait_until(lambda: "suspended" in Path(console.file.name).read_text())
    slurm.run("scontrol", "resume", slurm_id)
    assert sweep.result(120).complete
    assert once(bench, job, 60)
    assert bench.tries(job) == 1


def test_a_program_that_is_killed_is_tried_again(slurm, sweeps, bench):
    job = bench.job("job", f"die {int(signal.SIGKILL)}", "train 1 0")
    torn = bench.runs / job.id / ".record.json.torn.tmp"
    torn.parent.mkdir()
    torn.write_text('{"schema": 1, "ru')
    assert sweeps.run(job).complete
    assert bench.tries(job) == 2
    assert not torn.exists()


def test_a_controller_that_goes_and_comes_back_costs_nothing(slurm, sweeps, bench, console):
    jobs = [bench.job("a", "train 80 0.1"), bench.job("b", "train 80 0.1")]
    child = bench.job("child", after=jobs)
    sweep = sweeps.start(*jobs, child)
    slurm.wait_until(training(bench, *jobs))
    slurm.stop_controller()
    slurm.wait_until(lambda: "SLURM does not answer" in Path(console.file.name).read_text())
    assert not sweep.done()
    slurm.start_controller()
    assert sweep.result(120).complete
    assert "failed" not in Path(console.file.name).read_text()
    assert all(bench.tries(job) == 1 for job in (*jobs, child))


def test_a_queue_that_forgets_ended_jobs_and_no_accounting_suffice(sweeps, bench, monkeypatch):
    queue = scheduler.queue

    def forgetful(users):
        return [entry for entry in queue(users) if entry.live]

    monkeypatch.setattr(scheduler, "queue", forgetful)
    assert scheduler.final_states(["1"]) == {}, "this SLURM has no accounting"
    job = bench.job("job", "fail memory", "train 1 0")
    assert sweeps.run(job).complete
    assert bench.tries(job) == 2


def test_memory_is_doubled_once(sweeps, bench):
    job = bench.job("job", "hog 150")
    assert sweeps.run(job, memory_gb=0.15).complete
    assert bench.tries(job) == 2


def test_a_job_that_never_has_enough_memory_fails_and_says_so(sweeps, bench):
    job = bench.job("job", "hog 900")
    outcome = sweeps.run(job, memory_gb=0.1)
    assert phases(outcome) == [Phase.FAILED]
    assert bench.tries(job) == 2
    failure = Store(bench.runs).failure(job.id)
    assert failure is not None
    assert failure.cause == "memory"


def test_a_second_try_that_sbatch_refuses_ends_its_job_alone(sweeps, bench):
    greedy, sibling = bench.job("greedy", "fail memory"), bench.job("sibling", "train 60 0.1")
    outcome = sweeps.run(greedy, sibling, memory_gb=2.5)
    assert phases(outcome) == [Phase.FAILED, Phase.DONE], "a node has 4000 MB"
    assert "sbatch" in outcome.states[greedy.id].note


def test_a_bad_node_is_avoided_and_named(slurm, sweeps, bench, tmp_path):
    job = bench.job("job")
    outcome = sweeps.run(job, setup='[ "$SLURMD_NODENAME" = n1 ] && exit 3')
    assert outcome.complete
    excluded = {array.request.exclude for array in arrays(bench)}
    assert excluded == {(), ("n1",)}


@pytest.fixture
def small_disk(tmp_path, cannot):
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=False).returncode:
        cannot("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_waited_for(slurm, small_disk, tmp_path):
    bench = Bench(small_disk / "runs")
    job = bench.job("job", "train 40 0.1")
    with (tmp_path / "said.txt").open("w+") as file:
        sweep = Sweeps(bench, Console(file=file, width=160)).start(job)
        slurm.wait_until(training(bench, job))
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(60 * 2**20))
        slurm.wait_until(lambda: "no room on the disk" in Path(file.name).read_text())
        assert not list((bench.runs / job.id).glob("record.json"))
        ballast.unlink()
        assert sweep.result(120).complete
    assert Store(bench.runs).read(job.id) is not None
