"""Hyperparameters chosen on held-out training images, with as many trials for every tuned method (`tune=`).

A trial is an ordinary run of a setting that holds out a part of the training images, with seeds of its own.
Nothing else is kept of a search: it is made again from the records, which say what came of each trial. What
is chosen is then trained on all training images, with the seeds of the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_type_hints

import msgspec

from common import cli
from common.text import nearest
from harness import config, hyperparameters
from harness.config import Sweep
from harness.plan import PLAIN, Run, Scalar, Setting, Variant, expand
from harness.search import Dimension, Result, Search, Values
from harness.settings import TrainingConfig, TuningConfig
from methods import METHODS, Range
from results.held_out import HeldOutStore
from results.metrics import METRICS
from results.store import Record
from results.tuned import Objective, Tried, Tuned


class Tuning:
    """The searches of a sweep: one for every tuned method in every setting."""

    def __init__(self, sweep: Sweep) -> None:
        """Read what `tune=` asks for.

        Raises:
            ValueError: something that cannot be tuned, in one line.
        """
        self._config = sweep.config.tuning
        _require_metric(self._config.objective)
        self._names = _read_names(sweep)
        self._searches = {
            setting: [
                _MethodSearch(setting, _only_variant(setting, method, names, sweep), names, self._config)
                for method, names in self._names.items()
            ]
            for setting in sweep.settings
        }
        self._all = [search for searches in self._searches.values() for search in searches]

    def rounds(self, runs: Path) -> Iterator[tuple[Run, ...]]:
        """The runs of all trials that need no other trial's results, one round after the other.

        Whoever asks for the next round has trained the last: all its candidates have records in `runs`.

        Raises:
            ValueError: No Treatment or every trial of a method diverged, in one line.
        """
        while not all(search.finished for search in self._all):
            for search in self._all:
                search.ask()
            settings = [
                self._of_trials(setting, [variant for search in searches for variant in search.in_work])
                for setting, searches in self._searches.items()
            ]
            yield expand(*settings)
            store = HeldOutStore(runs)
            for setting, searches in zip(settings, self._searches.values(), strict=True):
                results = _Results(setting, store, self._config.objective)
                for search in searches:
                    search.tell(results)

    @property
    def progress(self) -> str:
        """Which trials are in work: `trials 5 to 8 of 12 of mpt-kl, pct-kl`."""
        search = self._all[0]
        last = len(search.trials) + len(search.in_work)
        methods = ", ".join(self._names)
        return f"trials {len(search.trials) + 1} to {last} of {self._config.budget} of {methods}"

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings of the tables, on all training images: with `?` for what is not chosen yet."""
        return tuple(
            replace(
                setting,
                split=replace(setting.split, validation=0.0),
                variants=tuple(_final(variant, searches) for variant in setting.variants),
            )
            for setting, searches in self._searches.items()
        )

    def planned(self) -> tuple[Run, ...]:
        """The runs of all trials, with `?` for values that are not known yet."""
        return expand(
            *(
                self._of_trials(setting, [variant for search in searches for variant in search.planned])
                for setting, searches in self._searches.items()
            )
        )

    def describe(self) -> list[str]:
        """What is searched where, and for what: lines of a plan."""
        asked, (setting, searches) = self._config, next(iter(self._searches.items()))
        at_once = f", {asked.trials_at_once} at once" if asked.search == "tpe" else ""
        return [
            *(f"tuning: {search.variant.method}: {search}" for search in searches),
            f"{asked.budget} trials of each: search={asked.search}{at_once}, "
            f"tune_seeds={','.join(map(str, asked.tune_seeds))}, "
            f"{100 * setting.split.validation:.4g}% of the training images held out, "
            f"for {searches[0].objective}",
        ]

    def _of_trials(self, setting: Setting, variants: Sequence[Variant]) -> Setting:
        """The setting of trials: No Treatment, and these variants."""
        version = METHODS[PLAIN].load().version
        plain = Variant(method=PLAIN, hyperparameters=(), shown=(), references=0, version=version)
        marked = (replace(variant, trial=True) for variant in (plain, *variants))
        return replace(setting, seeds=self._config.tune_seeds, variants=tuple(dict.fromkeys(marked)))


class _MethodSearch:
    """The search for one method's hyperparameters in one setting."""

    def __init__(self, setting: Setting, variant: Variant, names: Sequence[str], asked: TuningConfig) -> None:
        """`variant` has the values without tuning; `names` are those on the command line."""
        self.variant = variant
        self.objective = Objective(metric=asked.objective, within=asked.within)
        self.trials: list[Tried] = []
        self.in_work: list[Variant] = []
        self._validation = setting.split.validation
        self._asked = asked
        self._dimensions = [_dimension(variant, name) for name in names]
        self._search = Search(
            self._dimensions,
            kind=asked.search,
            budget=asked.budget,
            at_once=asked.trials_at_once,
            seed=asked.tune_seeds[0],
        )
        self._plain = Tried(values={}, objective=None, er_all=None)
        self._samples_old = 0

    def __str__(self) -> str:
        return ", ".join(f"{one.name} from {one.range}" for one in self._dimensions)

    @property
    def finished(self) -> bool:
        """Whether all trials have results."""
        return len(self.trials) == self._asked.budget

    @property
    def planned(self) -> list[Variant]:
        """All trials; those that were not asked for yet with unknown values."""
        known = [self._with(trial.values) for trial in self.trials] + self.in_work
        return known + [self.unknown(str(number)) for number in range(len(known), self._asked.budget)]

    def unknown(self, number: str = "") -> Variant:
        """The variant with values that are not known yet; a number tells several of them apart."""
        variant = self._described({one.name: f"?{number}" for one in self._dimensions})
        return replace(variant, shown=tuple((name.rstrip("_"), value) for name, value in variant.shown))

    def ask(self) -> None:
        """Ask for the next trials."""
        self.in_work = [self._with(values) for values in self._search.ask()]

    def tell(self, results: _Results) -> None:
        """Take the results of the trials in work.

        Raises:
            ValueError: every trial diverged.
        """
        self._plain, self._samples_old = results.plain, results.samples_old
        tried = [results.of(variant, self._values(variant)) for variant in self.in_work]
        self._search.tell([self._result(trial) for trial in tried])
        self.trials += tried
        self.in_work = []
        if self.finished and all(trial.diverged for trial in self.trials):
            raise ValueError(f"tune=: every trial of {self.variant.method} diverged ({self})")

    def chosen(self) -> Variant:
        """The variant with the values of the best trial."""
        chosen = self.objective.best(self.trials, self._plain)
        tuned = Tuned(
            search=self._asked.search,
            objective=self.objective,
            validation=self._validation,
            samples_old=self._samples_old,
            seeds=self._asked.tune_seeds,
            default=self._values(self.variant),
            plain=self._plain,
            trials=tuple(self.trials),
            chosen=chosen,
        )
        return replace(self._with(self.trials[chosen].values), tuned=msgspec.to_builtins(tuned))

    def _result(self, trial: Tried) -> Result | None:
        if trial.objective is None:
            return None
        return Result(
            loss=self.objective.sign * trial.objective, excess=self.objective.excess(trial, self._plain)
        )

    def _values(self, variant: Variant) -> Values:
        found = {name.rstrip("_"): value for name, value in variant.hyperparameters}
        return {one.name: cast(float, found[one.name]) for one in self._dimensions}

    def _with(self, values: Values) -> Variant:
        """The variant with other values.

        Raises:
            ValueError: the method refuses them.
        """
        described = self._described(values)
        try:
            made = METHODS[self.variant.method].load()(**dict(described.hyperparameters))
        except ValueError as error:
            raise ValueError(f"{self.variant.method}.{error} (its range for tune= is too wide)") from None
        return replace(described, references=made.references)

    def _described(self, values: Mapping[str, Scalar]) -> Variant:
        """The variant with other values, whatever they are."""
        shown, all_ = dict(self.variant.shown), dict(self.variant.hyperparameters)
        changed = {name: values[name.rstrip("_")] for name in all_ if name.rstrip("_") in values}
        return replace(
            self.variant,
            hyperparameters=tuple(sorted((all_ | changed).items())),
            shown=tuple((name, {**shown, **changed}[name]) for name in all_ if name in {**shown, **changed}),
        )


class _Results:
    """What came of the trials of one setting, as means over their seeds."""

    def __init__(self, setting: Setting, store: HeldOutStore, metric: str) -> None:
        """All candidates of `setting` have records in `store`.

        Raises:
            ValueError: No Treatment diverged.
        """
        self._metric = metric
        self._records: dict[tuple[str, tuple[tuple[str, Scalar], ...]], list[Record]] = {}
        for run in expand(setting):
            if run.role == "candidate":
                record = store.read(run.id)
                assert record is not None, "a round ends with all its records"
                self._records.setdefault((run.method, run.hyperparameters), []).append(record)
        self.plain = self._of((PLAIN, ()), {})
        """No Treatment."""
        if self.plain.diverged:
            raise ValueError("tune=: No Treatment diverged, so there is nothing to hold trials against")
        self.samples_old = int(self._records[PLAIN, ()][0].metrics["samples_old"])
        """How many held-out images of old classes there are."""

    def of(self, variant: Variant, values: Values) -> Tried:
        """A trial with these values."""
        return self._of((variant.method, variant.hyperparameters), values)

    def _of(self, key: tuple[str, tuple[tuple[str, Scalar], ...]], values: Values) -> Tried:
        records = self._records[key]
        if any(record.state == "diverged" for record in records):
            return Tried(values=values, objective=None, er_all=None)
        objective, er_all = (
            math.fsum(record.metrics[name] for record in records) / len(records)
            for name in (self._metric, "er_all")
        )
        return Tried(values=values, objective=objective, er_all=er_all)


def _require_metric(name: str) -> None:
    objectives = [metric for metric in METRICS if METRICS[metric].better]
    if name not in objectives:
        raise ValueError(f"objective={name}: no such metric{nearest(name, objectives)}")


def _read_names(sweep: Sweep) -> dict[str, list[str]]:
    """What `tune=` names, by method.

    Raises:
        ValueError: what no chosen method has, or what has no range.
    """
    asked = sweep.config
    methods = config.chosen(asked.methods)
    found: dict[str, list[str]] = {}
    for word in asked.tuning.tune:
        method, dot, name = word.rpartition(".")
        if dot and method not in METHODS:
            raise ValueError(f"tune={word}: unknown method '{method}'{nearest(method, METHODS)}")
        if dot and method not in methods:
            raise ValueError(f"tune={word}: {method} is not among methods={','.join(asked.methods)}")
        if name in cli.settings(TrainingConfig):
            raise ValueError(
                f"tune={word}: all models of a table share {name}; compare {name}=... of none by "
                "validation=0.1 metrics=validation"
            )
        known = {one: hyperparameters.ranges(one) for one in ([method] if dot else methods)}
        owners = [one for one in known if name in known[one]]
        if not owners:
            raise ValueError(f"tune={word}: {_why_not(name, known)}")
        for owner in owners:
            if name in found.setdefault(owner, []):
                raise ValueError(f"tune={word}: {owner}.{name} is given twice")
            found[owner].append(name)
    return found


def _why_not(name: str, known: Mapping[str, Mapping[str, Range]]) -> str:
    """Why none of these methods, each with its ranges, can be tuned by that hyperparameter."""
    names = sorted({other for ranges in known.values() for other in ranges})
    if not names:
        return f"nothing about {', '.join(known)} can be tuned"
    has = any(name in hyperparameters.defaults(method) for method in known)
    why = "has no range to search" if has else f"no such hyperparameter{nearest(name, names)}"
    return f"{why}; {', '.join(names)} can be tuned"


def _only_variant(setting: Setting, method: str, names: Sequence[str], sweep: Sweep) -> Variant:
    """The variant that is tuned.

    Raises:
        ValueError: there is none or more than one, or it has a value for what is to be chosen.
    """
    variants = [variant for variant in setting.variants if variant.method == method]
    if not variants:
        raise ValueError(f"tune={method}.{names[0]}: {sweep.left_out[method]}")
    if len(variants) > 1:
        raise ValueError(f"tune={method}.{names[0]}: give {method} one value of each other hyperparameter")
    if given := {name.rstrip("_") for name, _ in variants[0].shown} & set(names):
        name = min(given)
        raise ValueError(f"tune={method}.{name}: {name} has a value already (leave out one of the two)")
    return variants[0]


def _dimension(variant: Variant, name: str) -> Dimension:
    cls = METHODS[variant.method].load()
    values = {field.rstrip("_"): (field, value) for field, value in variant.hyperparameters}
    field, value = values[name]
    assert isinstance(value, int | float)
    return Dimension(
        name=name,
        range=hyperparameters.ranges(variant.method)[name],
        default=value,
        whole=get_type_hints(cls)[field] is int,
    )


def _final(variant: Variant, searches: Sequence[_MethodSearch]) -> Variant:
    """A variant as the table has it."""
    for search in searches:
        if search.variant == variant:
            return search.chosen() if search.finished else search.unknown()
    return variant
