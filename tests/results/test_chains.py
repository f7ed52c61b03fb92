"""A chain's table: what is shown of it, and which rows and seeds are ranked."""

import itertools
from dataclasses import replace

import pytest

from harness.plan import Split
from results import leaderboard, report
from results.chains import chain_table, chains
from results.comparisons import comparisons
from results.filters import Filters
from results.finished import finished_comparisons
from results.metrics import alone, compare
from results.store import Record
from tests.results.store_making import FINISHED, plan, publish, random_predictions

METHODS = ("none", "pct-kl", "mpt-kl")
KNOWN = (2, 4, 6)
"""Classes of the first model and of each step."""
ACCURACY = {"none": 0.6, "pct-kl": 0.6, "mpt-kl": 0.98}


def steps(seeds=(0, 1, 2)):
    """The runs of a chain of three models, by step."""
    first = [run for run in plan(methods=METHODS, seeds=seeds, references=0) if run.role == "old"]
    by_step = [[replace(run, split=Split(classes=4, old_classes=2)) for run in first]]
    olds = {(method, run.seed): run for run in by_step[0] for method in METHODS}
    for old_classes, classes in itertools.pairwise(KNOWN):
        split = Split(classes=classes, old_classes=old_classes)
        olds = {
            (method, seed): replace(old, role="candidate", split=split, method=method, parents=(old.id,))
            for (method, seed), old in olds.items()
        }
        by_step.append(list(olds.values()))
    return by_step


def finish(store, by_step, missing=()):
    """Records of all runs but those that are `missing`, by method and seed of the last step."""
    number = 0
    for classes, runs in zip(KNOWN, by_step, strict=True):
        for run in runs:
            number += 1
            if classes == KNOWN[-1] and (run.method, run.seed) in missing:
                continue
            made = random_predictions(
                number,
                accuracy=ACCURACY[run.method] if run.role == "candidate" else 0.95,
                classes=classes,
                tested=classes,
            )
            metrics = alone(made, on="old")
            if run.role == "candidate":
                old = store.predictions(store.read(run.parents[0]))
                metrics = compare(old, made, old_classes=run.split.old_classes)
            record = Record(run=run.document(), state="done", metrics=metrics, attempt=1, finished=FINISHED)
            publish(store.begin(run.id), record, made)


def chain_of(store, by_step):
    runs = [run.document() for runs in by_step for run in runs]
    (chain,) = chains(store, comparisons(store, runs))
    return chain


def rows_of(table):
    return {row[0].text: row[1].text for row in table.rows}


def test_methods_are_ranked_by_their_flips_since_the_first_model(store):
    finish(store, steps())
    chain = chain_of(store, steps())

    assert chain.classes == KNOWN
    assert chain.samples == 80
    assert rows_of(chain_table(chain)) == {"none": "2", "pct-kl": "2", "mpt-kl": "1"}


def test_a_method_that_lacks_a_seed_says_so_and_is_not_ranked(store):
    finish(store, steps(), missing=[("mpt-kl", 1)])
    table = chain_table(chain_of(store, steps()))

    assert rows_of(table) == {"none": "1", "pct-kl": "1", "mpt-kl (2 of 3 seeds)": "-"}


def test_a_seed_that_all_methods_lack_is_missing_too(store):
    finish(store, steps((0, 1, 2, 3)), missing=[(method, 3) for method in METHODS])

    assert chain_of(store, steps((0, 1, 2, 3))).rank == {}


def test_hiding_a_method_changes_no_rank(store):
    finish(store, steps())
    (chain,) = finished_comparisons(store.root, Filters({"methods": ("none",)})).chains

    assert rows_of(chain_table(chain)) == {"none": "2"}


def test_leaderboard_and_report_hide_the_same_methods_of_a_chain(store, tmp_path, capsys):
    finish(store, steps())
    words = [f"runs={store.root}", "methods=none,pct-kl"]

    assert leaderboard.main([*words, f"export={tmp_path / 'table.md'}"]) == 0
    assert report.main([*words, f"out={tmp_path / 'report.html'}"]) == 0

    assert "mpt-kl" not in (tmp_path / "table.md").read_text().partition("chain of")[2]
    assert "mpt-kl" not in (tmp_path / "report.html").read_text().rpartition('<section id="chain-1">')[2]


@pytest.mark.parametrize("words", ["Last step: ", "Recipe: epochs=2 "])
def test_the_table_tells_chains_apart_that_have_the_same_title(store, words):
    finish(store, steps())

    assert any(note.startswith(words) for note in chain_table(chain_of(store, steps())).footer)
