"""Which trial is the best, by hand, and what a table says of it."""

import pytest

from results import tuned
from results.tuned import Objective, Tried, Tuned

PLAIN = Tried(values={}, objective=0.050, er_all=0.100)


def tried(objective, er_all, k=1.0):
    return Tried(values={"k": k}, objective=objective, er_all=er_all)


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([tried(0.04, 0.10), tried(0.03, 0.10)], 1),
        ([tried(0.04, 0.10), tried(0.01, 0.106)], 0),  # 0.6 points above plain
        ([tried(0.04, 0.10), tried(0.01, 0.105)], 1),  # 0.5: still allowed
        ([tried(0.04, 0.10), tried(0.03, 0.01)], 1),
        ([tried(0.04, 0.20), tried(0.05, 0.12), tried(0.01, 0.13)], 1),  # none is allowed: fewest errors
        ([tried(0.04, 0.10), tried(0.04, 0.09), tried(0.04, 0.09)], 1),  # equal: fewer errors, then earlier
        ([tried(None, None), tried(0.04, 0.10)], 1),
        ([tried(0.06, 0.10)], 0),  # worse than plain, but nothing else was tried
    ],
)
def test_the_best_trial_has_the_fewest_flips_among_those_that_err_little_enough(trials, best):
    assert Objective().best(trials, PLAIN) == best


def test_the_limit_may_be_another_one_or_none():
    trials = [tried(0.04, 0.10), tried(0.03, 0.115), tried(0.02, 0.30)]

    assert Objective(within=0).best(trials, PLAIN) == 0
    assert Objective(within=2).best(trials, PLAIN) == 1
    assert Objective(within=None).best(trials, PLAIN) == 2


def test_a_metric_whose_high_values_are_good_is_maximized():
    assert Objective(metric="btc").best([tried(0.8, 0.1), tried(0.9, 0.1)], PLAIN) == 1
    assert str(Objective(metric="btc", within=None)) == "the highest BTC"


def test_where_every_trial_diverged_none_is_best():
    with pytest.raises(ValueError, match="every trial diverged"):
        Objective().best([tried(None, None)], PLAIN)


def made(trials, chosen, **more):
    fields = {
        "search": "tpe",
        "objective": Objective(),
        "validation": 0.1,
        "samples_old": 120,
        "seeds": (1000, 1001),
        "default": {"k": 4.0},
        "plain": PLAIN,
    }
    return Tuned(**fields | more, trials=tuple(trials), chosen=chosen)


def test_a_table_says_what_was_chosen_how_and_what_was_not():
    trials = [tried(0.04, 0.1, k=4.0), tried(0.03, 0.102, k=3.14)]
    rows = [("none", None), ("pct-kl", None), ("mpt-kl", made(trials, 1)), ("mpt-lm", made(trials, 0))]

    assert tuned.lines(rows) == [
        "mpt-kl: k=3.14 chosen from 2 trials, with NFR 3.00% and ER all 10.20% "
        "(plain NFR 5.00% and ER all 10.00%)",
        "mpt-lm: k=4 (the default) chosen from 2 trials, with NFR 4.00% and ER all 10.00% "
        "(plain NFR 5.00% and ER all 10.00%)",
        "Chosen by the lowest NFR with ER all within 0.5 points of plain, on 10% of the training images "
        "(120 of old classes), held out from the trials' models; seeds 1000, 1001; search=tpe.",
        "Not tuned: none, pct-kl.",
    ]


def test_a_table_says_where_no_trial_was_allowed():
    (line, *_) = tuned.lines([("mpt-kl", made([tried(0.03, 0.2)], 0))])

    assert line.endswith("; none came within 0.5 points, and this one erred least")


def test_a_table_without_tuning_says_nothing_of_it():
    assert tuned.lines([("none", None), ("mpt-kl", None)]) == []
