"""The graph of runs, and their identity."""

import json
from dataclasses import replace

import pytest

from harness import config
from harness.plan import Run, expand


def plan(*words):
    (setting,) = config.read(words).settings
    return expand(setting)


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


def test_a_plan_is_pure():
    assert [run.id for run in plan()] == [run.id for run in plan()]


GOLDEN = [
    "digits-resnet8-old-s0-5bb5bce2309d",
    "digits-resnet8-reference0-s0-d59cd03f8119",
    "digits-resnet8-none-s0-80a5716b3616",
    "digits-resnet8-mpt-kl-s0-d9345cfc99ec",
]
