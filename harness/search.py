"""Which hyperparameters a trial has: by Optuna's samplers, told what came of others, or on a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from methods import Range

if TYPE_CHECKING:
    import optuna

Kind = Literal["tpe", "random", "grid"]
Values = Mapping[str, float]
DIGITS = 3
"""Of a value that is tried, so that tables can show it as it is."""
MOST_RANDOM = 10
"""Of the first trials of tpe: the default of Optuna, which is meant for larger budgets."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One hyperparameter that is searched."""

    name: str
    range: Range
    default: float
    whole: bool = False
    """Whether its values are whole numbers."""

    def rounded(self, value: float) -> float:
        """The value that is tried for one that was asked for."""
        if self.whole:
            return round(value)
        return min(self.range.high, max(self.range.low, float(f"{value:.{DIGITS}g}")))

    def evenly(self, count: int) -> list[float]:
        """`count` values from end to end of the range."""
        low, high = self.range.low, self.range.high
        steps = [i / (count - 1) for i in range(count)]
        if self.range.log:
            return [self.rounded(low * (high / low) ** step) for step in steps]
        return [self.rounded(low + (high - low) * step) for step in steps]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a trial."""

    loss: float
    """Lower is better."""
    excess: float
    """Above 0 where the trial may not be chosen, by how much."""


class Search:
    """The trials of one method: a function of its arguments and of the results that it is told."""

    def __init__(
        self, dimensions: Sequence[Dimension], *, kind: Kind, budget: int, at_once: int, seed: int
    ) -> None:
        """Ask for `budget` trials in all; of tpe for `at_once` before it sees results, else for all.

        Raises:
            ValueError: Optuna is not installed, or no grid has that many points.
        """
        self._dimensions = dimensions
        self._left = budget
        self._at_once = at_once if kind == "tpe" else budget
        self._asked: list[optuna.Trial] = []
        self._study = _study(kind, seed, random=min(MOST_RANDOM, max(at_once, budget // 3)))
        first = [{one.name: one.default for one in dimensions}]
        for point in grid(dimensions, budget) if kind == "grid" else first:
            self._study.enqueue_trial(dict(point))

    @property
    def left(self) -> int:
        """How many trials have not been asked for."""
        return self._left

    def ask(self) -> list[Values]:
        """The next trials; none once the budget is spent."""
        assert not self._asked, "results of the last trials come first"
        space = {one.name: _distribution(one) for one in self._dimensions}
        self._asked = [self._study.ask(space) for _ in range(min(self._at_once, self._left))]
        self._left -= len(self._asked)
        return [
            {one.name: one.rounded(trial.params[one.name]) for one in self._dimensions}
            for trial in self._asked
        ]

    def tell(self, results: Sequence[Result | None]) -> None:
        """What came of the trials that were asked for last; None of one that diverged."""
        from optuna.trial import TrialState

        for trial, result in zip(self._asked, results, strict=True):
            if result is None:
                self._study.tell(trial, state=TrialState.PRUNED)
            else:
                trial.set_constraint("excess", result.excess)
                self._study.tell(trial, result.loss)
        self._asked = []


def grid(dimensions: Sequence[Dimension], budget: int) -> list[Values]:
    """`budget` points, with as even a number of values as possible for each hyperparameter.

    Raises:
        ValueError: there is no such grid.
    """
    counts = _counts(dimensions, budget)
    if counts is None:
        near = sorted(range(2, 2 * budget + 2 ** len(dimensions)), key=lambda other: abs(other - budget))
        fitting = [other for other in near if _counts(dimensions, other)][:2]
        advice = f" (try {' or '.join(map(str, sorted(fitting)))})" if fitting else ""
        over = ", ".join(one.name for one in dimensions)
        raise ValueError(f"budget={budget}: no grid over {over} has that many points{advice}")
    axes = [one.evenly(count) for one, count in zip(dimensions, counts, strict=True)]
    names = [one.name for one in dimensions]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*axes)]


def _counts(dimensions: Sequence[Dimension], budget: int) -> tuple[int, ...] | None:
    """Numbers of values, two or more each, whose product is `budget`; the most even ones, or None."""
    divisors = [count for count in range(2, budget + 1) if budget % count == 0]
    fitting = [
        counts
        for counts in itertools.product(divisors, repeat=len(dimensions))
        if math.prod(counts) == budget
        and all(
            not one.whole or count <= one.range.high - one.range.low + 1
            for one, count in zip(dimensions, counts, strict=True)
        )
    ]
    return min(fitting, key=lambda counts: (max(counts) - min(counts), [-c for c in counts]), default=None)


def _study(kind: Kind, seed: int, *, random: int) -> optuna.Study:
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "tune= needs optuna, which is not installed: pip install 'negative-flips[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = optuna.samplers
    sampler = (
        samplers.TPESampler(seed=seed, n_startup_trials=random)
        if kind == "tpe"
        else samplers.RandomSampler(seed=seed)
    )
    return optuna.create_study(sampler=sampler)


def _distribution(one: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if one.whole:
        return IntDistribution(int(one.range.low), int(one.range.high), log=one.range.log)
    return FloatDistribution(one.range.low, one.range.high, log=one.range.log)
