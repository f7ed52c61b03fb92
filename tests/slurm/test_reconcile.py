"""What is made of SLURM's hints; without SLURM."""

import signal
from pathlib import Path

import pytest

from results.store import Failure
from slurm.desk import Array, Slip
from slurm.profile import Profile
from slurm.reconcile import NEVER, Task, judge, lost_parent, reconcile, tasks_of
from slurm.scheduler import Entry, parse_queue
from slurm.snapshot import Snapshot
from slurm.states import Phase
from slurm.task import Report

RUNS = Path("runs")


def task(job, state="RUNNING", *, slurm_id="7", reason="", node="n1"):
    return Task(slip=Slip.of(job), entry=entry(state, slurm_id=slurm_id, reason=reason, node=node))


def entry(state, *, slurm_id="7", reason="", node="n1"):
    return Entry(slurm_id=slurm_id, index=0, state=state, reason=reason, node=node)


def picture(jobs, *, done=(), tasks=(), tracked=None, settled=(), failed=None):
    return reconcile(
        jobs,
        runs=RUNS,
        done=done,
        tasks=tasks,
        tracked=tracked or {},
        settled=settled,
        failed=failed or {},
    )


def ids(*jobs):
    return {run.id for job in jobs for run in job.runs}


def test_a_record_is_the_only_proof_whatever_the_queue_says(bench):
    job = bench.job("job", size=2)
    for state in ("FAILED", "CANCELLED", "RUNNING", "NODE_FAIL"):
        assert picture([job], done=ids(job), tasks=[task(job, state)]).states[job.id].phase is Phase.DONE
    half = {job.runs[0].id}
    assert picture([job], done=half, tasks=[task(job, "COMPLETED")]).ended[0][0] is job


@pytest.mark.parametrize(
    ("state", "reason", "phase", "note"),
    [
        ("PENDING", "Resources", Phase.PENDING, "Resources"),
        ("PENDING", "Dependency", Phase.WAITING, "for its parents"),
        ("SUSPENDED", "", Phase.PENDING, "suspended"),
        ("REQUEUE_HOLD", "", Phase.PENDING, "requeue_hold"),
        ("RUNNING", "", Phase.RUNNING, ""),
        ("COMPLETING", "", Phase.RUNNING, ""),
    ],
)
def test_living_tasks_are_left_alone(bench, state, reason, phase, note):
    job = bench.job("job")
    seen = picture([job], tasks=[task(job, state, reason=reason)])
    assert not seen.submit
    assert not seen.ended
    assert (seen.states[job.id].phase, seen.states[job.id].note) == (phase, note)


def test_runs_under_another_name_are_adopted_by_their_ids(bench):
    wide = bench.job("sweep", size=3)
    narrow = bench.job("sweep", size=2)
    seen = picture([narrow], tasks=[task(wide)])
    assert seen.states[narrow.id].phase is Phase.RUNNING
    seen = picture([wide], tasks=[task(narrow)])
    assert seen.submit == (wide,)
    assert [t.entry.slurm_id for t in seen.live[wide.id]] == ["7"], "it must wait for the other's runs"


def test_an_ended_task_is_looked_into_once_and_a_newer_one_hides_it(bench):
    job = bench.job("job")
    old, new = task(job, "FAILED", slurm_id="7_0"), task(job, "PENDING", slurm_id="12_0")
    assert picture([job], tasks=[old]).ended == ((job, old),)
    assert picture([job], tasks=[old], settled={"7_0"}).submit == (job,)
    assert picture([job], tasks=[new, old]).states[job.id].phase is Phase.PENDING


def test_a_task_that_the_queue_has_forgotten_is_over(bench):
    job = bench.job("job")
    ((_, forgotten),) = picture([job], tracked={job.id: task(job, "RUNNING")}).ended
    assert forgotten.entry.state == ""
    assert forgotten.entry.node == "n1"


def test_failures_block_all_that_descends_from_them(bench):
    bad = bench.job("bad")
    child = bench.job("child", after=[bad])
    grandchild = bench.job("grandchild", after=[child])
    free = bench.job("free")
    seen = picture([bad, child, grandchild, free], failed={bad.id: "bug: x"})
    assert [state.phase for state in seen.states.values()] == [
        Phase.FAILED,
        Phase.BLOCKED,
        Phase.BLOCKED,
        Phase.WAITING,
    ]
    assert str(RUNS / "jobs" / bad.id / "log.txt") in seen.states[child.id].note
    assert seen.submit == (free,)


def test_a_failure_leaves_those_alone_who_do_not_learn_from_it(bench):
    old, bad = bench.job("old"), bench.job("bad")
    cohort = bench.job("cohort", after=[old, bad], size=2, learning=1)
    learner = bench.job("learner", after=[old, bad])
    seen = picture([old, bad, cohort, learner], done=ids(old), failed={bad.id: "bug: x"})
    assert seen.states[learner.id].phase is Phase.BLOCKED
    assert seen.submit == (cohort,), "its plain run can be trained"
    seen = picture([old, bad, cohort], done=ids(old) | {cohort.runs[1].id}, failed={bad.id: "bug: x"})
    assert seen.states[cohort.id].phase is Phase.BLOCKED, "what is left of it learns from what failed"


def test_a_plan_of_thousands_with_a_task_each(bench):
    jobs = [bench.job(f"j{i}") for i in range(50)]
    tasks = [task(job, "PENDING", slurm_id=f"{i // 10}_{i % 10}") for i, job in enumerate(jobs[10:40])]
    seen = picture(jobs, done=ids(*jobs[:10]), tasks=tasks)
    assert [state.phase for state in seen.states.values()] == (
        [Phase.DONE] * 10 + [Phase.PENDING] * 30 + [Phase.WAITING] * 10
    )
    assert seen.submit == tuple(jobs[40:])


def report(code, *, oom=False, why=""):
    return Report(slurm_id="7", node="n1", code=code, oom=oom, why=why)


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
        assert [job for job, _ in seen.ended if job is child] == [child]
        return lost_parent(child, waiting, seen)

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


def test_what_sbatch_refused_is_no_task(bench):
    job = bench.job("job")
    array = Array.new([job], Profile().request(job), program="p", code=Snapshot(path="", commit=""))
    refused = Entry(slurm_id="7", index=0, state="FAILED", reason="BadConstraints", comment=array.token)
    ran = Entry(slurm_id="8", index=0, state="FAILED", node="n1", comment=array.token)
    strange = Entry(slurm_id="9", index=3, state="RUNNING", node="n1", comment="abc")
    assert [t.entry for t in tasks_of([refused, ran, strange], {array.token: array})] == [ran]


def test_squeue_s_lines_are_read_whatever_a_comment_holds():
    lines = [
        "7_3|3|PENDING|Resources||ada|tok|en",
        "8|N/A|RUNNING|None|n[1-2]|ada|abc",
        "slurm_load_jobs error: nonsense",
    ]
    first, second = parse_queue(lines)
    assert (first.slurm_id, first.index, first.comment, first.live) == ("7_3", 3, "tok|en", True)
    assert (second.index, second.reason, second.node) == (0, "", "n[1-2]")
