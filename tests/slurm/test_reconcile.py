"""What is made of SLURM's hints; without SLURM."""

from pathlib import Path

import pytest

from common.jobs import Phase
from common.paths import RecordsFolder
from slurm.ledger import Array
from slurm.profile import Profile
from slurm.reconcile import Task, reconcile, tasks_of
from slurm.scheduler import SEPARATOR, Entry, parse_queue
from slurm.snapshot import Snapshot

RECORDS = RecordsFolder(Path("runs"))


def task(job, state="RUNNING", *, slurm_id="7", reason="", node="n1"):
    return Task(job=job.ref, entry=entry(state, slurm_id=slurm_id, reason=reason, node=node))


def entry(state, *, slurm_id="7", reason="", node="n1"):
    return Entry(slurm_id=slurm_id, index=0, state=state, reason=reason, node=node)


def picture(jobs, *, done=(), tasks=(), tracked=None, settled=(), failed=None):
    return reconcile(
        [job.ref for job in jobs],
        records=RECORDS,
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
    assert picture([job], done=half, tasks=[task(job, "COMPLETED")]).ended[0][0] == job.ref


@pytest.mark.parametrize(
    ("state", "reason", "phase", "note"),
    [
        ("PENDING", "Resources", Phase.PENDING, "Resources"),
        ("PENDING", "Dependency", Phase.WAITING, "for its parents"),
        ("SUSPENDED", "", Phase.PENDING, "suspended"),
        (
            "REQUEUE_HOLD",
            "",
            Phase.PENDING,
            "held in the queue: requeue_hold; scontrol release 7 lets it start",
        ),
        (
            "PENDING",
            "JobHeldAdmin",
            Phase.PENDING,
            "held in the queue: JobHeldAdmin; scontrol release 7 lets it start",
        ),
        ("DREAMING", "", Phase.PENDING, "dreaming"),
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
    assert seen.submit == (wide.ref,)
    assert [t.entry.slurm_id for t in seen.live[wide.id]] == ["7"], "it must wait for the other's runs"


def test_an_ended_task_is_looked_into_once_and_a_newer_one_hides_it(bench):
    job = bench.job("job")
    old, new = task(job, "FAILED", slurm_id="7_0"), task(job, "PENDING", slurm_id="12_0")
    assert picture([job], tasks=[old]).ended == ((job.ref, old),)
    assert picture([job], tasks=[old], settled={"7_0"}).submit == (job.ref,)
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
    assert str(RECORDS.job(bad.id).log()) in seen.states[child.id].note
    assert seen.submit == (free.ref,)


def test_a_failure_leaves_those_alone_who_do_not_learn_from_it(bench):
    old, bad = bench.job("old"), bench.job("bad")
    cohort = bench.job("cohort", after=[old, bad], size=2, learning=1)
    learner = bench.job("learner", after=[old, bad])
    seen = picture([old, bad, cohort, learner], done=ids(old), failed={bad.id: "bug: x"})
    assert seen.states[learner.id].phase is Phase.BLOCKED
    assert seen.submit == (cohort.ref,), "its plain run can be trained"
    seen = picture([old, bad, cohort], done=ids(old) | {cohort.runs[1].id}, failed={bad.id: "bug: x"})
    assert seen.states[cohort.id].phase is Phase.BLOCKED, "what is left of it learns from what failed"


def test_a_plan_of_thousands_with_a_task_each(bench):
    jobs = [bench.job(f"j{i}") for i in range(50)]
    tasks = [task(job, "PENDING", slurm_id=f"{i // 10}_{i % 10}") for i, job in enumerate(jobs[10:40])]
    seen = picture(jobs, done=ids(*jobs[:10]), tasks=tasks)
    assert [state.phase for state in seen.states.values()] == (
        [Phase.DONE] * 10 + [Phase.PENDING] * 30 + [Phase.WAITING] * 10
    )
    assert seen.submit == tuple(job.ref for job in jobs[40:])


def test_squeue_s_lines_are_read_whatever_a_comment_holds():
    lines = [
        "7_3 3 PENDING Resources  1000 then tok|en /a/tok.sh".replace(" ", SEPARATOR),
        "Welcome to cluster 7",
        "8 N/A RUNNING None n[1-2] 1000 then abc /b.sh".replace(" ", SEPARATOR),
        "slurm_load_jobs error: nonsense",
    ]
    first, second = parse_queue(lines)
    assert (first.slurm_id, first.index, first.live) == ("7_3", 3, True)
    assert first.marks == ("tok|en", "tok")
    assert (second.index, second.reason, second.node) == (0, "", "n[1-2]")


def test_what_sbatch_refused_is_no_task(bench):
    job = bench.job("job")
    array = Array.new(
        [job.ref],
        Profile().request(job.resources, role="candidate", arch="resnet8"),
        program="p",
        code=Snapshot(path="", commit=""),
    )
    refused = Entry(slurm_id="7", index=0, state="FAILED", reason="BadConstraints", comment=array.token)
    ran = Entry(slurm_id="8", index=0, state="FAILED", node="n1", comment=array.token)
    strange = Entry(slurm_id="9", index=3, state="RUNNING", node="n1", comment="abc")
    assert [t.entry for t in tasks_of([refused, ran, strange], {array.token: array})] == [ran]
