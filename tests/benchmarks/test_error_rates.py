"""The tables that `benchmarks/statistics.py` draws are what it says they are."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import STABLE, Cell, Table, Trained, measure, measure_cell, tables_of
from results.ranking import rank

SAMPLES = 400
LABELS = ("none", STABLE, "mpt-lm", "pct-kl")


@pytest.fixture(scope="module")
def trained():
    """Models that err at random, `STABLE` less often than the others."""
    random = np.random.default_rng(0)
    hard = random.random(SAMPLES) < 0.3

    def model(rate):
        return ~(hard & (random.random(SAMPLES) < rate))

    return Trained(
        old={seed: model(0.05) for seed in range(12)},
        methods={
            label: {seed: model(0.02 if label == STABLE else 0.1) for seed in range(12)} for label in LABELS
        },
        references=[{seed: model(0.1) for seed in range(12)} for _ in range(4)],
    )


def cell(**changes):
    simulated = {"source": "simulated", "rates": "equal", "spread": "equal", "methods": 8, "seeds": 10}
    return Cell(**{**simulated, "samples": SAMPLES, **changes})


def drawn(cell, trained, tables=200):
    draw, random = tables_of(cell, trained), np.random.default_rng(1)
    return [draw(random) for _ in range(tables)]


@pytest.mark.parametrize(
    ("rates", "spread", "factor"),
    [("equal", "equal", 1), ("equal", "one x 3", 3), ("equal, 20 %", "one x 3", 3), ("own", "equal", 1)],
)
def test_simulated_methods_have_the_nfr_and_the_spread_that_they_should(trained, rates, spread, factor):
    tables = drawn(cell(rates=rates, spread=spread, samples=1000), trained)
    flips = np.stack([table.flips.mean(axis=2) for table in tables])  # [T, M, S]
    noise = np.mean([rank(table.flips).noise for table in tables], axis=0)

    assert flips.mean(axis=(0, 2)) == pytest.approx(tables[0].truth, rel=0.12)
    if rates != "own":
        assert noise[-1] / noise[:-1].mean() == pytest.approx(factor**2, rel=0.3)


def test_no_model_is_twice_in_a_table_of_the_pool(trained):
    table = drawn(cell(source="pool", spread=None, methods=3, seeds=5), trained, tables=1)[0]

    models = np.concatenate([table.flips, table.plain[1:]]).reshape(-1, SAMPLES)
    assert len(np.unique(models, axis=0)) == len(models)
    assert len(table.plain) == 1 + min(8, 60 // 5 - 3)


def test_the_trained_methods_are_drawn_with_some_of_their_seeds(trained):
    table = drawn(cell(source="drawn", rates="own", spread=None, methods=4, seeds=5), trained, tables=1)[0]

    assert table.flips.shape == (4, 5, SAMPLES)
    assert table.different[0, 1]  # No Treatment has more flips than the stable method
    assert not table.different[1, 0]


def test_a_false_positive_is_a_difference_that_is_not_there():
    random = np.random.default_rng(3)
    flips = random.random((3, 5, 2000)) < np.array([0.02, 0.02, 0.2])[:, None, None]

    def table(truth):
        truth = np.array(truth)
        return Table(
            flips=flips,
            plain=flips[:1],
            truth=truth,
            different=truth[:, None] > truth,
            different_from_plain=truth != truth[0],
        )

    honest = measure(table([0.02, 0.02, 0.2]), rejected=True)
    assert (honest["ranks: false"], honest["ranks: found"], honest["covered"]) == (0, 1, 1)
    assert (honest["plain: false"], honest["plain: found"]) == (0, 1)
    wrong = measure(table([0.02, 0.02, 0.02]), rejected=True)
    assert (wrong["ranks: false"], wrong["McNemar: false"], wrong["plain: false"], wrong["covered"]) == (
        1,
        1,
        1,
        0,
    )


def test_a_cell_is_measured_the_same_in_every_run(trained):
    one = cell(methods=3, seeds=3)

    assert measure_cell(one, trained, 8) == measure_cell(one, trained, 8)
