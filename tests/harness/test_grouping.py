"""How runs are grouped into jobs, and what jobs are called."""

import json

from common.jobs import Resources
from harness import config
from harness.grouping import Job, group, told_apart
from harness.plan import expand


def plan(*words):
    (setting,) = config.read(words).settings
    return expand(setting)


def jobs(runs, *, done=(), cohort=16):
    resources = Resources(cpus=1, gpus=0, memory_gb=1.0, minutes=1)
    left = [run for run in runs if run.id not in done]
    return group(left, cohort=lambda run: cohort, resources=lambda runs: resources)


def test_candidates_train_in_lockstep_and_references_alone():
    made = jobs(plan("methods=all", "seeds=0"))

    assert [len(job.runs) for job in made] == [1] * 9 + [8]
    assert set(made[-1].after) == {job.id for job in made[:-1]}


def test_a_cohort_is_cut_into_nearly_equal_parts():
    made = jobs(plan("methods=all,ablations", "seeds=0"), cohort=4)

    assert [len(job.runs) for job in made if job.runs[0].role == "candidate"] == [3, 4, 4]


def test_a_job_waits_for_its_own_parents_alone():
    made = jobs(plan("methods=none,mpt-kl", "seeds=0,1"), cohort=1)
    by_id = {job.id: job for job in made}

    for job in made:
        waits = {run.id for parent in job.after for run in by_id[parent].runs}
        assert waits == {parent for run in job.runs for parent in run.parents}


def test_done_runs_are_dropped_and_waited_for_no_more():
    runs = plan("methods=none,mpt-kl", "seeds=0")
    old = runs[0]

    made = jobs(runs, done={old.id, runs[2].id})

    assert [run.id for job in made for run in job.runs] == [runs[1].id, runs[3].id]
    assert made[1].after == (made[0].id,)
    assert jobs(runs, done={run.id for run in runs}) == ()


def test_a_job_comes_back_from_its_document():
    for job in jobs(plan("methods=all", "seeds=0")):
        assert Job.from_document(json.loads(json.dumps(job.document()))) == job


def test_jobs_of_a_grid_say_what_differs():
    settings = config.read(["methods=none,pct-kl", "seeds=0", "epochs=2,3", "old_data=0.5,1"]).settings
    runs = list(expand(*settings))

    titles = {job.title for job in told_apart(jobs(runs))}

    words = [f"old_data={share} epochs={epochs}" for share in ("0.5", "1") for epochs in (2, 3)]
    assert titles == {f"{what} s0, {word}" for what in ("old", "2 candidates") for word in words}
    assert [job.title for job in told_apart(jobs(plan("methods=none", "seeds=0")))] == ["old s0", "none s0"]


def test_candidates_of_other_old_models_train_apart_and_wait_for_their_own():
    sweep = config.read(["methods=none,pct-kl", "seeds=0", "old_data=0.5,1"])
    runs = list(expand(*sweep.settings))
    made = {job.id: job for job in jobs(runs)}

    cohorts = [job for job in made.values() if job.runs[0].role == "candidate"]
    assert [len(job.runs) for job in cohorts] == [2, 2]
    for job in cohorts:
        (parent,) = job.after
        assert {run.parents[0] for run in job.runs} == {made[parent].runs[0].id}
    assert len({job.after for job in cohorts}) == 2
