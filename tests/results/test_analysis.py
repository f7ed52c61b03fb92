import numpy as np
import pytest

from results.analysis import analyse, mean_rates
from results.comparisons import comparisons
from results.metrics import pair
from tests.results.store_making import diverge, finish, plan


def analysis_of(store, runs):
    (comparison,) = comparisons(store, [run.document() for run in runs])
    return analyse(comparison)


def test_the_difference_is_the_mean_of_the_differences_of_the_nfr(finished_store):
    runs = plan()
    nfr = {(run.method, run.seed): finished_store.read(run.id).metrics.get("nfr") for run in runs}
    interval = analysis_of(finished_store, runs).difference["mpt-kl"]
    assert interval.estimate == pytest.approx(np.mean([nfr["mpt-kl", s] - nfr["none", s] for s in range(3)]))
    assert interval.low < interval.estimate < interval.high


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
    nfr = {(r.method, r.seed): store.read(r.id).metrics.get("nfr") for r in runs}
    expected = np.mean([nfr["mpt-kl", s] - nfr["none", s] for s in (0, 2)])
    assert analysis.difference["mpt-kl"].estimate == pytest.approx(expected)


def test_the_noise_floor_is_the_nfr_between_plainly_trained_models_on_old_classes(finished_store):
    runs = plan()
    plain = [r for r in runs if r.role == "reference" or (r.role == "candidate" and r.method == "none")]
    said = [finished_store.predictions(finished_store.read(r.id)) for r in plain]
    said = [predictions.take(predictions.target < 3) for predictions in said]
    rates = [pair(a, b).negative.mean() for a in said for b in said if a is not b]
    analysis = analysis_of(finished_store, runs)
    assert analysis.floor_pairs == len(rates) == 9 * 8
    assert analysis.floor.mean == pytest.approx(np.mean(rates))


def test_without_results_there_is_nothing_to_say(store):
    analysis = analysis_of(store, plan())
    assert (analysis.rank, analysis.difference, analysis.floor) == ({}, {}, None)


def test_mean_rates_are_the_means_of_the_table_with_their_intervals(finished_store):
    runs = plan()
    (comparison,) = comparisons(finished_store, [run.document() for run in runs])
    found = mean_rates(comparison)
    for row in comparison.candidates:
        for name in ("er_all", "nfr"):
            interval = getattr(found[row.label], name)
            assert interval.estimate == pytest.approx(row.summary(name).mean)
            assert interval.low < interval.estimate < interval.high
