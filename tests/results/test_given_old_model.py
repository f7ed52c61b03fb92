"""Tables about an old model that was given: one record, paired with the candidates of every seed."""

from dataclasses import replace

import pytest

from harness.plan import UNKNOWN, Given, Model
from results.analysis import analyse
from results.comparisons import comparisons
from results.leaderboard import tables
from results.per_run import per_run_rows
from results.store import Failure, Store
from tests.results import store_making

GIVEN = Given(kind="weights", sha256="a" * 64)


def plan(given=GIVEN, seeds=(0, 1, 2)):
    """A small setting whose old model is read from a file."""
    trained = store_making.plan(seeds=seeds)
    old = replace(trained[0], seed=0, recipe=None, given=given)
    if given.kind == "predictions":
        old = replace(old, model=Model(arch=UNKNOWN, stem=UNKNOWN))
    others = [run for run in trained if run.role != "old"]
    return [old, *(replace(run, parents=run.parents and (old.id, *run.parents[1:])) for run in others)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def comparison_of(store, runs):
    (found,) = comparisons(store, [run.document() for run in runs])
    return found


def text(store, runs):
    (table,) = tables(store, [run.document() for run in runs])
    rows = [" ".join(cell.text for cell in row) for row in table.rows]
    return "\n".join([table.title, *rows, *table.footer])


def test_every_seeds_flips_are_counted_against_the_one_old_model(store):
    runs = plan()
    for run in runs:
        store_making.finish(store, run)
    found = comparison_of(store, runs)
    old = store.read(runs[0].id)

    assert dict(found.old.records) == {0: old, 1: old, 2: old}
    assert found.old.complete
    analysis = analyse(found)
    assert analysis.rank.keys() == {"none", "pct-kl", "mpt-kl"}
    assert analysis.from_plain.keys() == {"pct-kl", "mpt-kl"}
    flips = analysis.wrong["nfr"]["none"]
    none = next(row for row in found.candidates if row.label == "none")
    assert {seed: events.mean() for seed, events in flips.items()} == {
        seed: pytest.approx(record.metrics["nfr"]) for seed, record in none.records.items()
    }


def test_the_table_shows_one_old_model_and_says_so(store):
    runs = plan()
    for run in runs:
        store_making.finish(store, run)
    shown = text(store, runs)

    assert "digits: given resnet18 (imagenet stem) -> resnet18 (imagenet stem)" in shown
    assert "old model: weights of sha256 aaaaaaaaaaaa" in shown
    assert "One old model was given for all seeds" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("old model -"))
    assert "±" not in line


def test_models_from_different_files_have_tables_of_their_own(store):
    runs = {run.id: run for given in (GIVEN, replace(GIVEN, sha256="b" * 64)) for run in plan(given)}

    found = comparisons(store, [run.document() for run in runs.values()])

    assert [comparison.recipe.partition("sha256 ")[2] for comparison in found] == ["a" * 12, "b" * 12]
    assert all(len(row.missing) == 3 for comparison in found for row in comparison.candidates)


def test_predictions_alone_have_no_network(store):
    assert comparison_of(store, plan(replace(GIVEN, kind="predictions"))).title.startswith(
        "digits: given predictions -> resnet18 (imagenet stem)"
    )


def test_why_the_one_old_model_is_missing_is_said_once(store):
    runs = plan()
    attempt = store.begin(runs[0].id)
    attempt.fail(Failure(attempt=attempt.number, cause="data", message="another network"))

    assert "old model: seeds 0, 1, 2 failed (data: another network)" in text(store, runs)


def test_exports_have_the_run_once_and_tell_what_was_given(store):
    runs = plan()
    for run in runs:
        store_making.finish(store, run)
    rows = per_run_rows([comparison_of(store, runs)])

    (old,) = (row for row in rows if row["role"] == "old")
    assert (old["given"], old["given_sha256"]) == ("weights", GIVEN.sha256)
    assert {row["old.given_sha256"] for row in rows if row["role"] == "candidate"} == {GIVEN.sha256}
