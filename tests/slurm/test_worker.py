"""What runs on a node, with SLURM's commands and the program replaced."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.jobs import RETRIES
from common.paths import JobFolder
from results.store import Store
from slurm import scheduler, worker
from slurm.worker import Worker, WorkerReport
from tests.standin_jobs import ROOT


@pytest.fixture
def node(monkeypatch):
    """Runs a Job's program as SLURM would; collects the requeues."""
    requeued = []
    monkeypatch.setattr(scheduler, "requeue", lambda raw_id: requeued.append(raw_id) or True)
    monkeypatch.setattr(scheduler, "state_of", lambda raw_id: "RUNNING")
    monkeypatch.setattr(worker, "LINGER_S", 0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, worker.WARNING)}

    def run(folder, *, seconds_to_warning=600, slurm_id="7"):
        one = Worker(JobFolder(folder), {"SLURM_JOB_ID": slurm_id, "SLURMD_NODENAME": "n1"})
        return one.run("tests.standin", seconds_to_warning=seconds_to_warning), list(requeued)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def find_standin(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_the_program_s_exit_code_is_the_job_s_and_the_report_tells_it(bench, node):
    good, bad = bench.job("good"), bench.job("bad", "exit 3")
    assert node(bench.folder(good)) == (0, [])
    assert node(bench.folder(bad)) == (3, [])
    report = WorkerReport.read(bench.job_folder(bad))
    assert report is not None
    assert (report.code, report.starts, report.node) == (3, 1, "n1")


def test_a_job_that_was_told_to_stop_goes_back_into_the_queue_uncharged(bench, node):
    job = bench.job("job", "exit 75")
    for start in range(1, 9):
        assert node(bench.folder(job)) == (75, ["7"] * start)
    report = WorkerReport.read(bench.job_folder(job))
    assert report is not None
    assert (report.starts, report.timeouts) == (8, 0)


def run_and_signal(bench, job, node, number, **kwargs):
    """Run a job of `late` tries, and signal the worker as soon as this try of the program has begun."""
    before = len(bench.lines(job, "late.txt"))

    def tell():
        while len(bench.lines(job, "late.txt")) == before:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    with ThreadPoolExecutor() as pool:
        pool.submit(tell)
        return node(bench.folder(job), **kwargs)


def test_a_job_that_is_told_to_stop_while_it_starts_goes_back_too(bench, node):
    job = bench.job("job", "late 30")
    assert run_and_signal(bench, job, node, signal.SIGTERM) == (75, ["7"])


def test_a_cancelled_job_stays_cancelled(bench, node, monkeypatch):
    monkeypatch.setattr(scheduler, "state_of", lambda raw_id: "COMPLETING")
    assert node(bench.folder(bench.job("job", "exit 75"))) == (75, [])


def test_a_controller_that_is_being_restarted_is_asked_again(bench, node, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(worker, "REQUEUE_PAUSES_S", (0, 0, 0))
    monkeypatch.setattr(scheduler, "state_of", lambda raw_id: None)
    monkeypatch.setattr(scheduler, "requeue", lambda raw_id: next(answers))
    assert node(bench.folder(bench.job("job", "exit 75")))[0] == 75
    assert next(answers, "all asked") == "all asked"


def test_a_job_that_never_fits_its_time_limit_ends_as_a_timeout(bench, node):
    job = bench.job("job", "late 30")
    for _ in range(RETRIES["timeout"]):
        assert run_and_signal(bench, job, node, worker.WARNING, seconds_to_warning=0)[0] == 75
    code, requeued = run_and_signal(bench, job, node, worker.WARNING, seconds_to_warning=0)
    assert code == 1
    assert len(requeued) == RETRIES["timeout"]
    failure = Store(bench.runs).failure(job.id)
    assert failure is not None
    assert failure.cause == "timeout"
    assert "slurm.time=" in failure.message


def test_a_new_submission_counts_its_starts_anew(bench, node):
    job = bench.job("job", "exit 75")
    node(bench.folder(job), slurm_id="7")
    node(bench.folder(job), slurm_id="8")
    report = WorkerReport.read(bench.job_folder(job))
    assert report is not None
    assert report.starts == 1


def test_a_report_that_is_torn_is_no_report(bench):
    job = bench.job("job")
    (bench.folder(job) / "task.json").write_text('{"slurm_id": "7", "no')
    assert WorkerReport.read(bench.job_folder(job)) is None
