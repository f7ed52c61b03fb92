"""How hyperparameters were chosen (`tune=`): what a record says about it, and the lines under a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.metrics import METRICS

ROUNDING = 1e-9
"""Rates are fractions of counts: a difference below this is none."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """Hyperparameters, and what came of them on held-out training images: means over the tuning seeds."""

    values: Mapping[str, float]
    objective: float | None
    """None where a run diverged."""
    er_all: float | None

    @property
    def diverged(self) -> bool:
        """Whether one of its runs diverged."""
        return self.objective is None or self.er_all is None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the best trial is: the lowest or highest mean of a metric, among trials that err little enough."""

    metric: str = "nfr"
    within: float | None = 0.5
    """Points of ER all that a trial may lie above No Treatment; None for any number."""

    @property
    def sign(self) -> int:
        """1 where low values are good, -1 where high ones are."""
        return -1 if METRICS[self.metric].better == "high" else 1

    def excess(self, trial: Tried, plain: Tried) -> float:
        """By how much ER all lies above what is allowed; 0 or less where the trial may be chosen."""
        assert trial.er_all is not None
        assert plain.er_all is not None
        if self.within is None:
            return 0.0
        return trial.er_all - plain.er_all - self.within / 100 - ROUNDING

    def best(self, trials: Sequence[Tried], plain: Tried) -> int:
        """Index of the best trial; of equal ones the one with fewer errors, then the earlier.

        Where none errs little enough, the one with the fewest errors.

        Raises:
            ValueError: every trial diverged.
        """

        def order(index: int) -> tuple[float, float, float]:
            trial = trials[index]
            assert trial.objective is not None
            assert trial.er_all is not None
            return max(0.0, self.excess(trial, plain)), self.sign * trial.objective, trial.er_all

        finished = [index for index, trial in enumerate(trials) if not trial.diverged]
        if not finished:
            raise ValueError("every trial diverged")
        return min(finished, key=order)

    def __str__(self) -> str:
        title = METRICS[self.metric].title
        extreme = "lowest" if self.sign == 1 else "highest"
        limit = "" if self.within is None else f" with ER all within {self.within:g} points of plain"
        return f"the {extreme} {title}{limit}"


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What was chosen for a run, and on what."""

    search: str
    objective: Objective
    validation: float
    """Fraction of the training images that it was chosen on."""
    samples_old: int
    """How many images of old classes that is."""
    seeds: tuple[int, ...]
    """Of the trials."""
    default: Mapping[str, float]
    """The values without tuning."""
    plain: Tried
    """No Treatment, on the same images and seeds."""
    trials: tuple[Tried, ...]
    chosen: int
    """Index of the trial whose values were taken."""

    @property
    def best(self) -> Tried:
        """The trial whose values were taken."""
        return self.trials[self.chosen]

    @property
    def way(self) -> str:
        """How it was chosen, for a table's footer."""
        seeds = f"seed{'s' if len(self.seeds) > 1 else ''} {', '.join(map(str, self.seeds))}"
        return (
            f"Chosen by {self.objective}, on {100 * self.validation:.4g}% of the training images "
            f"({self.samples_old:,} of old classes), held out from the trials' models; {seeds}; "
            f"search={self.search}."
        )

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value:g}" for name, value in self.best.values.items())
        if self.best.values == self.default:
            values += " (the default)"
        text = f"{values} chosen from {len(self.trials)} trials, with {self._rates(self.best)} "
        text += f"(plain {self._rates(self.plain)})"
        if self.objective.excess(self.best, self.plain) > 0:
            text += f"; none came within {self.objective.within:g} points, and this one erred least"
        return text

    def _rates(self, tried: Tried) -> str:
        metrics = dict.fromkeys((self.objective.metric, "er_all"))
        numbers = {"er_all": tried.er_all, self.objective.metric: tried.objective}
        return " and ".join(_shown(name, numbers[name]) for name in metrics)


def _shown(name: str, value: float | None) -> str:
    metric = METRICS[name]
    if value is None:
        return f"no {metric.title}"
    scale, unit = (100, "%") if metric.unit == "%" else (1, "")
    return f"{metric.title} {value * scale:.{metric.digits}f}{unit}"


def lines(rows: Sequence[tuple[str, Tuned | None]]) -> list[str]:
    """What a table says about the tuning of its methods, (name, tuning) each; nothing where none is tuned."""
    tuned = [(name, one) for name, one in rows if one is not None]
    if not tuned:
        return []
    found = [f"{name}: {one}" for name, one in tuned]
    found += dict.fromkeys(one.way for _, one in tuned)
    others = dict.fromkeys(name for name, one in rows if one is None)
    return found + ([f"Not tuned: {', '.join(others)}."] if others else [])
