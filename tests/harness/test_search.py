"""Which values the trials of a search have."""

import math

import pytest

from harness.search import Dimension, Result, Search, grid
from methods import Range

K = Dimension(name="k", range=Range(0.0, 8.0), default=4.0)
WEIGHT = Dimension(name="lambda", range=Range(0.1, 10.0, log=True), default=1.0)
COUNT = Dimension(name="members", range=Range(1, 4), default=2, whole=True)


def trials(*dimensions, loss=lambda values: 0.0, excess=lambda values: 0.0, budget=12, **asked):
    """The batches of a whole search, each a list of the values of its trials."""
    asked = {"kind": "tpe", "at_once": 4, "seed": 0} | asked
    search = Search(dimensions, budget=budget, **asked)
    batches = []
    while batch := search.ask():
        batches.append(batch)
        search.tell([Result(loss=loss(values), excess=excess(values)) for values in batch])
    return batches


def flat(batches):
    return [values for batch in batches for values in batch]


@pytest.mark.parametrize("kind", ["tpe", "random", "grid"])
@pytest.mark.parametrize("dimensions", [(K,), (K, WEIGHT), (WEIGHT, COUNT)])
def test_a_search_spends_its_budget_within_the_ranges(kind, dimensions):
    tried = flat(trials(*dimensions, kind=kind))

    assert len(tried) == 12
    for values in tried:
        assert list(values) == [one.name for one in dimensions]
        for one in dimensions:
            assert one.range.low <= values[one.name] <= one.range.high
            assert values[one.name] == float(f"{values[one.name]:.3g}")
            assert not one.whole or isinstance(values[one.name], int)


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_the_first_trial_has_the_values_without_tuning(kind):
    assert flat(trials(K, WEIGHT, kind=kind))[0] == {"k": 4.0, "lambda": 1.0}


def test_only_tpe_asks_in_batches_because_only_it_learns():
    assert [len(batch) for batch in trials(K, budget=10, at_once=4)] == [4, 4, 2]
    assert [len(batch) for batch in trials(K, budget=10, kind="random")] == [10]
    assert [len(batch) for batch in trials(K, budget=10, kind="grid")] == [10]


@pytest.mark.parametrize("kind", ["tpe", "random", "grid"])
def test_a_search_is_made_again_by_the_same_results(kind):
    def loss(values):
        return (values["k"] - 6) ** 2

    assert trials(K, WEIGHT, kind=kind, loss=loss) == trials(K, WEIGHT, kind=kind, loss=loss)


def test_another_seed_makes_another_search():
    assert trials(K, seed=1)[0][1:] != trials(K, seed=0)[0][1:]


def test_tpe_looks_where_results_are_good_and_allowed():
    def mean_of_last(**how):
        return math.fsum(values["k"] for values in flat(trials(K, budget=40, **how))[20:]) / 20

    low, high = mean_of_last(loss=lambda v: v["k"]), mean_of_last(loss=lambda v: -v["k"])
    held_back = mean_of_last(loss=lambda v: -v["k"], excess=lambda v: v["k"] - 3)
    assert low < 3 < 5 < high
    assert held_back < high - 1


def test_trials_that_diverge_are_no_obstacle():
    search = Search([K], kind="tpe", budget=8, at_once=4, seed=0)
    for _ in range(2):
        search.tell([None for _ in search.ask()])

    assert search.ask() == []


def test_a_grid_is_even_by_difference_or_by_factor():
    assert [point["k"] for point in grid([K], 5)] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert [point["lambda"] for point in grid([WEIGHT], 3)] == [0.1, 1.0, 10.0]
    points = grid([K, WEIGHT], 12)
    assert len({tuple(point.values()) for point in points}) == 12
    assert len({point["k"] for point in points}) == 4
    assert len({point["lambda"] for point in points}) == 3
    assert sorted({point["members"] for point in grid([COUNT, K], 8)}) == [1, 2, 3, 4]


def test_a_grid_that_does_not_exist_is_refused_with_one_that_does():
    with pytest.raises(ValueError, match=r"budget=11: no grid over k, lambda .* \(try 10 or 12\)"):
        grid([K, WEIGHT], 11)
    with pytest.raises(ValueError, match=r"budget=7: no grid over members .* \(try 3 or 4\)"):
        grid([COUNT], 7)
