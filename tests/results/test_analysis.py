from dataclasses import replace

import numpy as np
import pytest

from results.analysis import analyse, mean_rates
from results.comparisons import comparisons
from results.metrics import METRICS, pair
from tests.results.store_making import diverge, finish, plan


def analysis_of(store, runs):
    (comparison,) = comparisons(store, [run.document() for run in runs])
    return analyse(comparison)


def nfr_of(store, run, old) -> float:
    """From the predictions themselves."""
    predictions = store.predictions(store.read(run.id))
    return pair(store.predictions(store.read(old.id)), predictions).negative.mean()


def mean_difference(store, runs, seeds, *, roles=("candidate", "reference")) -> float:
    """NFR of mpt-kl minus the mean of the plain models of the same seed: No Treatment and the references."""
    differences = []
    for seed in seeds:
        of_seed = [run for run in runs if run.seed == seed]
        (old,) = (run for run in of_seed if run.role == "old")
        (method,) = (run for run in of_seed if run.method == "mpt-kl")
        plain = [run for run in of_seed if run.role in roles and run.method == "none"]
        assert len(plain) == (3 if "reference" in roles else 1)
        differences.append(nfr_of(store, method, old) - np.mean([nfr_of(store, run, old) for run in plain]))
    return np.mean(differences)


def test_the_difference_to_plain_models_is_to_no_treatment_and_the_references(finished_store):
    runs = plan()
    analysis = analysis_of(finished_store, runs)
    found = analysis.from_plain["mpt-kl"]
    assert set(analysis.from_plain) == {"pct-kl", "mpt-kl"}
    assert analysis.references == 2
    assert found.estimate == pytest.approx(mean_difference(finished_store, runs, range(3)))
    assert found.standard_error > 0
    assert 0 < found.p < 0.2


def test_references_are_no_plain_models_where_candidates_start_from_the_old_model(store):
    runs = [replace(run, init="old") if run.role == "candidate" else run for run in plan()]
    for run in runs:
        finish(store, run)
    analysis = analysis_of(store, runs)
    alone = mean_difference(store, runs, range(3), roles=("candidate",))
    assert analysis.from_plain["mpt-kl"].estimate == pytest.approx(alone)
    assert analysis.references == 0


def test_without_no_treatment_there_is_no_difference_to_plain_models(store):
    runs = plan(methods=("pct-kl", "mpt-kl"))
    for run in runs:
        finish(store, run)
    assert analysis_of(store, runs).from_plain == {}


def test_fewer_than_three_seeds_give_differences_but_no_ranks(store):
    runs = plan(seeds=(0, 1))
    for run in runs:
        finish(store, run)
    analysis = analysis_of(store, runs)
    assert analysis.rank == {}
    assert analysis.from_plain["mpt-kl"].p is None
    assert analysis.best("nfr", METRICS["nfr"]) == frozenset()


def test_a_method_with_clearly_fewer_flips_ranks_first_and_equals_share(store):
    runs = plan(methods=("none", "pct-kl", "mpt-kl"))
    for run in runs:
        finish(store, run, accuracy={"none": 0.5, "pct-kl": 0.5, "mpt-kl": 0.97})
    assert analysis_of(store, runs).rank == {"none": 2, "pct-kl": 2, "mpt-kl": 1}


def test_methods_that_differ_by_chance_all_rank_first(store):
    runs = plan(methods=("none", "pct-kl", "mpt-kl"))
    for run in runs:
        finish(store, run, accuracy={"none": 0.9, "pct-kl": 0.9, "mpt-kl": 0.9})
    assert set(analysis_of(store, runs).rank.values()) == {1}


def test_a_method_that_lacks_a_seed_has_no_rank_but_a_difference(store):
    runs = plan()
    for run in runs:
        if run.method == "mpt-kl" and run.seed == 1:
            diverge(store, run, "NaN")
        else:
            finish(store, run)
    analysis = analysis_of(store, runs)
    assert "mpt-kl" not in analysis.rank
    assert analysis.from_plain["mpt-kl"].estimate == pytest.approx(mean_difference(store, runs, (0, 2)))
    assert set(analysis.rank) == {"none", "pct-kl"}


def test_retrained_plain_models_are_compared_with_each_other_on_old_classes(finished_store):
    runs = plan()
    plain = [r for r in runs if r.role == "reference" or (r.role == "candidate" and r.method == "none")]
    said = {run: finished_store.predictions(finished_store.read(run.id)) for run in plain}
    said = {run: predictions.take(predictions.target < 3) for run, predictions in said.items()}
    by_seed = [
        np.mean(
            [pair(said[a], said[b]).negative.mean() for a in plain for b in plain if a.seed == s and a != b]
        )
        for s in range(3)
    ]
    summary = analysis_of(finished_store, runs).between_plain
    assert summary.mean == pytest.approx(np.mean(by_seed))
    assert summary.std == pytest.approx(np.std(by_seed, ddof=1))


@pytest.mark.parametrize("name", ["er_old", "er_all", "nfr", "pfr", "churn"])
def test_the_best_are_those_not_separated_from_the_best_mean(finished_store, name):
    comparison = comparisons(finished_store, [run.document() for run in plan()])[0]
    best = analyse(comparison).best(name, METRICS[name])
    sign = -1 if METRICS[name].better == "high" else 1
    leader = min(comparison.candidates, key=lambda row: sign * row.summary(name).mean)
    assert leader.label in best


def test_the_best_are_judged_with_samples_where_the_metric_counts_samples(store):
    runs = plan(methods=("none", "pct-kl", "mpt-kl"))
    for run in runs:
        finish(store, run, accuracy={"none": 0.5, "pct-kl": 0.5, "mpt-kl": 0.97})
    analysis = analysis_of(store, runs)
    assert analysis.best("er_all", METRICS["er_all"]) == {"mpt-kl"}
    assert analysis.best("nfr", METRICS["nfr"]) == {"mpt-kl"}
    assert analysis.best("churn", METRICS["churn"]) == {"mpt-kl"}


def test_of_what_is_neither_better_high_nor_low_nothing_is_best(finished_store):
    assert analysis_of(finished_store, plan()).best("margin_old", METRICS["margin_old"]) == frozenset()


def test_without_results_there_is_nothing_to_say(store):
    analysis = analysis_of(store, plan())
    assert (analysis.rank, analysis.from_plain, analysis.between_plain) == ({}, {}, None)


def test_mean_rates_are_the_means_of_the_table_with_their_intervals(finished_store):
    runs = plan()
    (comparison,) = comparisons(finished_store, [run.document() for run in runs])
    found = mean_rates(comparison)
    for row in comparison.candidates:
        for name in ("er_all", "nfr"):
            interval = getattr(found[row.label], name)
            assert interval.estimate == pytest.approx(row.summary(name).mean)
            assert interval.low < interval.estimate < interval.high
