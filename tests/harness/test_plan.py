"""The graph of runs, their identity, and how they are grouped into jobs."""

import json
from dataclasses import replace

import pytest

from harness import config
from harness.plan import Job, Resources, Run, expand, group, told_apart


def plan(*words):
    (setting,) = config.read(words).settings
    return expand(setting)


def jobs(runs, *, done=(), cohort=16):
    resources = Resources(cpus=1, gpus=0, memory_gb=1.0, minutes=1)
    left = [run for run in runs if run.id not in done]
    return group(left, cohort=lambda run: cohort, resources=lambda runs: resources)


def test_golden_plan():
    """A change here gives every record in the world another name: raise a version instead, if you can."""
    assert [
        run.id for run in plan("methods=none,mpt-kl", "seeds=0", "dataset=digits", "mpt-kl.k=2")
    ] == GOLDEN


def test_each_seed_has_its_old_model_its_references_and_its_candidates():
    runs = plan("methods=all", "seeds=0,1")

    assert len(runs) == 2 * (1 + 8 + 8)
    for candidate in (run for run in runs if run.role == "candidate"):
        parents = [run for run in runs if run.id in candidate.parents]
        assert {parent.seed for parent in parents} == {candidate.seed}
        assert next(parent.role for parent in parents) == "old"
        assert len(parents) == 1 + {"elodi": 8, "elodi-topk": 8, "mpt-kl": 1, "mpt-lm": 1}.get(
            candidate.method, 0
        )


def test_parents_come_before_children():
    seen = set()
    for run in plan("methods=all,ablations"):
        assert set(run.parents) <= seen
        seen.add(run.id)


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


def test_no_more_references_than_somebody_reads():
    assert sum(run.role == "reference" for run in plan("methods=none,pct-kl", "seeds=0")) == 0
    assert sum(run.role == "reference" for run in plan("methods=mpt-kl", "seeds=0")) == 1
    assert sum(run.role == "reference" for run in plan("methods=elodi", "elodi.members=3", "seeds=0")) == 3


def test_candidates_of_a_seed_share_their_random_numbers_and_nobody_else_does():
    runs = plan("methods=all", "seeds=0,1")
    keys = [run.stream_key for run in runs if run.role == "candidate"]

    assert len(set(keys)) == 2
    assert len({run.stream_key for run in runs}) == 2 * (1 + 8 + 1)


@pytest.mark.parametrize(
    ("change", "renamed"),
    [
        (["lr=0.2"], {"old", "reference", "candidate"}),
        (["mpt-kl.k=3"], {"candidate"}),
        (["old_data=0.5"], {"old", "candidate"}),
        (["old_classes=4"], {"old", "candidate"}),
        (["class_order=1"], {"old", "reference", "candidate"}),
        (["old_arch=resnet18"], {"old", "candidate"}),
        (["precision=bf16"], {"old", "reference", "candidate"}),
        (["precision=fp32"], set()),
        (["stale=rerun"], set()),
        (["runs=elsewhere"], set()),
        (["device=cpu"], set()),
        (["cluster=inline"], set()),
        (["cohort=1"], set()),
    ],
)
def test_identity_is_what_decides_the_weights_and_nothing_else(change, renamed):
    before = plan("methods=mpt-kl", "seeds=0")
    after = plan("methods=mpt-kl", "seeds=0", *change)

    assert {run.role for run in after if run.id not in {other.id for other in before}} == renamed


def test_a_new_version_of_a_method_or_recipe_is_another_run():
    old, _, candidate = plan("methods=mpt-kl", "seeds=0")

    assert replace(candidate, method_version=2).id != candidate.id
    assert replace(old, recipe=replace(old.recipe, version=old.recipe.version + 1)).id != old.id


def test_a_run_comes_back_from_its_document():
    for run in plan("methods=all", "mpt-kl.k=2", "embedding=2", "class_order=3", "precision=bf16"):
        document = json.loads(json.dumps(run.document()))
        again = Run.from_content(document)
        assert again == run
        assert (again.id, again.label) == (document["id"], document["label"])


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


def test_a_plan_is_pure():
    assert [run.id for run in plan()] == [run.id for run in plan()]


GOLDEN = [
    "digits-resnet8-old-s0-5bb5bce2309d",
    "digits-resnet8-reference0-s0-d59cd03f8119",
    "digits-resnet8-none-s0-80a5716b3616",
    "digits-resnet8-mpt-kl-s0-d9345cfc99ec",
]
