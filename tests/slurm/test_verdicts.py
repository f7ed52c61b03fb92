"""Why tasks ended, told from hints; without SLURM."""

import signal

import pytest

from common.progress import ProgressWriter
from results.store import Failure, Store
from slurm import scheduler
from slurm.ledger import Ledger
from slurm.reconcile import Reconciliation, Task
from slurm.scheduler import Entry
from slurm.verdicts import LATE_LOOKS, NEVER, TaskVerdicts, judge, lost_parent
from slurm.worker import WorkerReport
from tests.slurm.test_reconcile import entry, ids, picture, task


def report(code, *, oom=False, why=""):
    return WorkerReport(slurm_id="7", node="n1", code=code, oom=oom, why=why)


DATA = Failure(attempt=1, cause="data", message="no such image")


@pytest.mark.parametrize(
    ("state", "told", "failure", "log", "verdict"),
    [
        ("TIMEOUT", report(75), None, "", "timeout"),
        ("OUT_OF_MEMORY", report(-9), None, "", "memory"),
        ("NODE_FAIL", report(None), None, "", "node"),
        ("PREEMPTED", None, None, "", "preempted"),
        ("CANCELLED", report(75), None, "", "cancelled"),
        ("FAILED", report(1), DATA, "", "data"),
        ("FAILED", report(1), None, "", "bug"),
        ("FAILED", report(75), DATA, "", "preempted"),
        ("FAILED", report(-signal.SIGKILL, oom=True), None, "", "memory"),
        ("FAILED", report(-signal.SIGKILL), DATA, "", "node"),
        ("FAILED", report(-signal.SIGSEGV), None, "", "bug"),
        ("FAILED", report(None), None, "slurmstepd: error: exceeded memory limit (2 > 1)", "memory"),
        ("FAILED", report(None), None, "", "node"),
        ("FAILED", None, DATA, "", "node"),
        ("COMPLETED", report(0), None, "", "bug"),
        ("", report(1), DATA, "", "data"),
        ("", None, None, "", "node"),
    ],
)
def test_the_cause_of_an_end(state, told, failure, log, verdict):
    cause, message = judge(entry(state), told, failure, log)
    assert cause == verdict
    assert message


def test_a_lost_dependency_is_no_failure_of_the_job():
    assert judge(entry("CANCELLED", reason=NEVER, node=""), None, None, "")[0] == "dependency"


def test_a_cancelled_task_is_an_orphan_only_where_a_parent_has_gone(bench):
    parent = bench.job("parent")
    child = bench.job("child", after=[parent])
    waiting = task(child, "CANCELLED", slurm_id="7", node="")

    def orphaned(*tasks, done=()):
        seen = picture([parent, child], tasks=[*tasks, waiting], done=done)
        assert [job for job, _ in seen.ended if job == child.ref] == [child.ref]
        return lost_parent(child.ref, waiting, seen)

    assert orphaned(task(parent, "FAILED", slurm_id="6"))
    assert orphaned(), "the parent was never seen, or is to be submitted"
    assert orphaned(task(parent, "PENDING", slurm_id="8")), "submitted anew after the child"
    assert not orphaned(task(parent, "RUNNING", slurm_id="6"))
    assert not orphaned(done=ids(parent))


def test_cancelling_what_waits_is_heeded_whoever_does_it():
    waiting = entry("CANCELLED", node="")
    assert judge(waiting, None, None, "", orphan=True)[0] == "dependency"
    assert judge(waiting, None, None, "")[0] == "cancelled"
    assert judge(waiting, None, None, "", orphan=True, unwanted=True)[0] == "cancelled"
    assert judge(entry(""), None, None, "", unwanted=True)[0] == "cancelled", "and the queue forgot it"


def test_what_kept_a_program_from_starting_is_said():
    said = "/spool/slurm_script: line 9: module: command not found\n"
    assert judge(entry("FAILED"), None, None, said)[1].endswith("on n1: " + said.strip())


def test_a_node_that_fails_is_named():
    assert judge(entry("FAILED", node="n7"), None, None, "")[1].endswith("on n7")


def verdicts(bench, job, state, *, known=None, slurm_id="7"):
    """The verdicts on one ended task of `job`."""
    known = known or TaskVerdicts(Ledger(bench.runs), Store(bench.runs))
    ended = Task(job=job.ref, entry=Entry(slurm_id=slurm_id, index=0, state=state, node="n1"))
    return list(known.of(Reconciliation(states={}, ended=((job.ref, ended),))))


def test_a_completed_task_may_show_its_record_late(bench):
    job, known = bench.job("job"), TaskVerdicts(Ledger(bench.runs), Store(bench.runs))
    for _ in range(LATE_LOOKS - 1):
        assert not verdicts(bench, job, "COMPLETED", known=known)
    assert not known.settled
    assert [ended.verdict for ended in verdicts(bench, job, "COMPLETED", known=known)] == ["node"]
    assert known.settled == {"7"}


def test_timeouts_that_a_worker_bridged_by_itself_are_told(bench):
    job = bench.job("job")
    WorkerReport(slurm_id="7", node="n1", code=1, timeouts=6).write(bench.job_folder(job))
    assert [ended.timeouts for ended in verdicts(bench, job, "FAILED")] == [6]
    assert [ended.timeouts for ended in verdicts(bench, job, "FAILED", slurm_id="8")] == [0], "another task's"


def forgotten(bench, job, known, *, silent=False):
    """One look at a queue that does not show the job's task, or no answer at all."""
    if silent:
        known.silence()
        return []
    return verdicts(bench, job, "", known=known)


def test_looks_that_do_not_follow_each_other_never_make_a_job_disappear(bench):
    job, known = bench.job("job"), TaskVerdicts(Ledger(bench.runs), Store(bench.runs))
    for _ in range(5):
        for _ in range(LATE_LOOKS - 1):
            assert not forgotten(bench, job, known)
        assert not list(known.of(Reconciliation(states={}))), "the queue shows it again"
    for _ in range(5):
        for _ in range(LATE_LOOKS - 1):
            assert not forgotten(bench, job, known)
        forgotten(bench, job, known, silent=True)
    for _ in range(LATE_LOOKS - 1):
        assert not forgotten(bench, job, known)
    assert [ended.verdict for ended in forgotten(bench, job, known)] == ["node"]


def test_a_job_that_still_tells_of_its_progress_has_not_disappeared(bench):
    job, known = bench.job("job"), TaskVerdicts(Ledger(bench.runs), Store(bench.runs))
    progress = ProgressWriter(bench.job_folder(job))
    for epoch in range(3 * LATE_LOOKS):
        progress.say(state="training", epoch=epoch)
        assert not forgotten(bench, job, known)


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "DREAMING"])
def test_what_sacct_calls_living_is_not_over(bench, monkeypatch, state):
    monkeypatch.setattr(scheduler, "final_states", lambda ids: dict.fromkeys(ids, state))
    job, known = bench.job("job"), TaskVerdicts(Ledger(bench.runs), Store(bench.runs))
    assert not any(forgotten(bench, job, known) for _ in range(3 * LATE_LOOKS))


def test_what_the_worker_itself_explains_is_the_cause():
    told = WorkerReport(slurm_id="7", node="n1", code=1, cause="disk", why="its log cannot be written: x")
    assert judge(entry("FAILED"), told, None, "") == ("disk", "its log cannot be written: x")


def test_what_the_program_said_last_is_told_and_not_that_srun_saw_it_end():
    said = "error: /code: not the code that was submitted\nsrun: error: n1: task 0: Exited with exit code 1\n"
    assert judge(entry("FAILED"), None, None, said)[1].endswith(": not the code that was submitted")
