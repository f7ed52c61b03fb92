"""How often the rules of the tables err, and what they find: `python -m benchmarks.statistics`.

    python -m benchmarks.statistics runs=runs/statistics              # trains what is missing, then measures
    python -m benchmarks.statistics runs=runs/statistics train=false tables=200

Tables are drawn in three ways:

- `pool`: identical plain models of the digits. Each seed has one trained old model, and every method of it is
  another trained plain model, so that whatever is found is false.
- `simulated`: flips of a probit model with variances for samples, for old models, for trainings and for
  methods' samples, as large as among the trained models. Methods are equal in their NFR or differ as
  the trained methods do; their spreads between seeds are equal, those of the trained methods, or one or
  half of them enlarged.
- `drawn`: the trained methods themselves, with some of their seeds.

For each cell it prints the share of tables with any false positive, with all intervals covering the truth at
once, and the share of the true differences that are found, beside the same for rules that were rejected. ± is
one binomial standard error. Training takes about a quarter of an hour on two idle cores, measuring an hour.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Shown
from scipy.special import ndtr, ndtri, owens_t, stdtr

from benchmarks.report import cores, describe_machine
from common.cli import command, parse
from common.files import write_atomically
from results.predictions import unpack_bits
from results.ranking import co_occurrences, minus_plain, rank, rate_intervals
from results.statistics import critical_value, holm, mcnemar
from results.store import Store

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Separated = Booleans
"""[M, M] pairs that a rule calls different."""

RESULTS = Path(__file__).parent / "results" / "statistics.json"
SIGNIFICANT = 0.05
REFERENCES, SIMULATED_REFERENCES = 8, 2
BASELINE, STABLE = "none", "mpt-kl"
THREE_METHODS = (BASELINE, STABLE, "mpt-lm")
"""What tables of three methods are like: the usual one, the most stable and the most variable."""


@dataclass(frozen=True, kw_only=True)
class StatisticsBenchmark:
    """Settings of the benchmark."""

    runs: Path = Path("runs/statistics")
    """Folder of the trained models."""
    train: bool = True
    """Train what is missing of them first."""
    seeds: int = 20
    """Seeds with all methods and references."""
    plain_seeds: int = 140
    """Further seeds with an old model and No Treatment alone."""
    tables: int = 1000
    """Tables in each cell; half of them where methods differ. The rejected rules see a quarter."""
    measure: bool = True
    """Whether to measure; otherwise the tables of the results file are printed again."""
    processes: int = 0
    """How many cells are measured at a time (default: the number of cores)."""
    results: Path = RESULTS
    """File that the figures are written to."""


@command
def main(argv: Sequence[str]) -> int:
    """Train the models, measure all cells, print the tables and write the figures."""
    prog = "python -m benchmarks.statistics"
    config = parse(StatisticsBenchmark, argv, prog=prog, description=__doc__ or "")
    if config.measure:
        if config.train:
            train(config)
        content = measure_all(config, Trained.read(config.runs))
        write_atomically(config.results, (json.dumps(content, indent=1) + "\n").encode())
    print_results(json.loads(config.results.read_bytes()))
    return 0


def measure_all(config: StatisticsBenchmark, trained: Trained) -> dict[str, Any]:
    """Every cell, in several processes; what the results file holds."""
    began = time.perf_counter()
    results: list[Result] = []
    todo = list(cells(trained))
    counts = [config.tables // (2 if cell.rates == "own" else 1) for cell in todo]
    with ProcessPoolExecutor(config.processes or cores(), initializer=_start, initargs=(trained,)) as pool:
        for result in pool.map(_measure_here, todo, counts):
            results.append(result)
            print(f"{len(results)} of {len(todo)}: {result.cell}", file=sys.stderr, flush=True)
    return {
        **describe_machine(),
        "tables": config.tables,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "trained": trained.summary(),
        "cells": [result.document() for result in results],
    }


def train(config: StatisticsBenchmark) -> None:
    """The models of the benchmark, as two sweeps; what is there already is not trained again."""
    whole = range(config.seeds)
    more = range(config.seeds, config.seeds + config.plain_seeds)
    for methods, seeds in (("all", whole), (BASELINE, more)):
        if seeds:
            words = [f"methods={methods}", "dataset=digits", f"seeds={','.join(map(str, seeds))}"]
            call = [sys.executable, "-m", "harness.sweep", *words, f"runs={config.runs}"]
            subprocess.run(call, check=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What the trained models got right on the N test samples of old classes."""

    old: Mapping[int, Booleans]
    """[N] by seed."""
    methods: Mapping[str, Mapping[int, Booleans]]
    """[N] by label and seed, No Treatment first."""
    references: Sequence[Mapping[int, Booleans]]
    """[N] by seed, for each reference."""

    @classmethod
    def read(cls, runs: Path) -> Trained:
        """All done digits models in a folder of records."""
        found: dict[tuple[str, str], dict[int, Booleans]] = {}
        records = [r for r in Store(runs).records() if r.right and r.run["dataset"] == "digits"]
        samples = {int(r.metrics["samples_old"]) for r in records if r.run["role"] == "old"}
        if len(samples) != 1:
            raise ValueError(f"runs={runs}: needs trained models of one setting of the digits")
        for record in records:
            run = record.run
            key = (run["role"], run["label"])
            found.setdefault(key, {})[run["seed"]] = unpack_bits(record.right or "", min(samples))
        methods = {label: found[role, label] for role, label in found if role == "candidate"}
        order = sorted(methods, key=lambda label: (label != BASELINE, label))
        return cls(
            old=found["old", "old"],
            methods={label: methods[label] for label in order},
            references=[found[key] for key in sorted(found) if key[0] == "reference"],
        )

    @functools.cached_property
    def seeds(self) -> list[int]:
        """Seeds that all models have."""
        rows = (self.old, *self.methods.values(), *self.references)
        return sorted(set.intersection(*(set(row) for row in rows)))

    @functools.cached_property
    def olds(self) -> Booleans:
        """[O, N] all old models."""
        return np.stack(list(self.old.values()))

    @functools.cached_property
    def plain(self) -> Booleans:
        """[P, N] all plain models: No Treatment and the references."""
        rows = (self.methods[BASELINE], *self.references)
        return np.stack([right for row in rows for right in row.values()])

    def flips(self, rows: Sequence[Mapping[int, Booleans]]) -> Booleans:
        """[M, S, N] negative flips on the common seeds."""
        return np.stack([[self.old[seed] & ~row[seed] for seed in self.seeds] for row in rows])

    @functools.cached_property
    def plain_flips(self) -> Floats:
        """[O, P, N] negative flips of every plain model against every old one."""
        return (self.olds[:, None] & ~self.plain).astype(np.float64)

    @functools.cached_property
    def plain_rate(self) -> float:
        """NFR of plain models."""
        return float(self.plain_flips.mean())

    @functools.cached_property
    def plain_variance(self) -> float:
        """Variance of the NFR between plain models for the same old model."""
        return float(self.plain_flips.mean(axis=2).var(axis=1, ddof=1).mean())

    @functools.cached_property
    def rates(self) -> dict[str, float]:
        """NFR of each method."""
        return {label: float(self.flips([row]).mean()) for label, row in self.methods.items()}

    @functools.cached_property
    def variances(self) -> dict[str, float]:
        """Each method's own variance between seeds."""
        ranking = rank(self.flips(list(self.methods.values())))
        assert ranking is not None, "three seeds at least"
        return dict(zip(self.methods, ranking.noise.tolist(), strict=True))

    def summary(self) -> dict[str, Any]:
        """What the simulation is made of."""
        return {
            "old models": len(self.olds),
            "plain models": len(self.plain),
            "samples": self.plain.shape[1],
            "seeds with all methods": len(self.seeds),
            "plain NFR": self.plain_rate,
            "spread of plain NFR": math.sqrt(self.plain_variance),
            "NFR": self.rates,
            "spread of NFR": {label: math.sqrt(value) for label, value in self.variances.items()},
            "correlations": correlations(self.plain_flips),
        }


def correlations(flips: Floats) -> dict[str, float]:
    """Tetrachoric correlations of two plain models' flips [O, P, N] on one sample, by what the two share."""
    olds, models, samples = flips.shape
    every, same = float((flips.sum(axis=(0, 1)) ** 2).sum()), float((flips**2).sum())
    one_old = float((flips.sum(axis=1) ** 2).sum())
    one_model = float((flips.sum(axis=0) ** 2).sum())
    joint = {
        "neither": (every - one_old - one_model + same) / (olds * (olds - 1) * models * (models - 1)),
        "old model": (one_old - same) / (olds * models * (models - 1)),
        "new model": (one_model - same) / (models * olds * (olds - 1)),
    }
    q = float(ndtri(flips.mean()))
    return {shared: _solve(lambda r: _both(q, r), value / samples) for shared, value in joint.items()}


def _both(q: float, correlation: float) -> float:
    """Probability that two standard normals with that correlation lie both below q."""
    return float(ndtr(q) - 2 * owens_t(q, math.sqrt((1 - correlation) / (1 + correlation))))


def _solve(increasing: Callable[[float], float], value: float) -> float:
    """Where in [0, 1) a function reaches a value; the nearer end if it does not."""
    low, high = 0.0, 0.9999
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < value else (low, middle)
    return low


SpreadName = Literal["equal", "own", "one x 3", "one x 10", "half x 3"]
SPREADS: tuple[SpreadName, ...] = ("equal", "own", "one x 3", "one x 10", "half x 3")
Rates = Literal["equal", "equal, 20 %", "own"]
RATES: tuple[Rates, ...] = ("equal", "equal, 20 %", "own")
HIGH_RATE = 0.2
"""At the digits' rate of 2 % a method with ten times the spread cannot but fail badly in few seeds; at this
rate its seeds lie on both sides of the mean."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What the tables of one cell have in common."""

    source: Literal["pool", "simulated", "drawn"]
    rates: Rates
    """Whether the methods have one NFR (that of plain models, or 20 %), or those of the trained methods."""
    spread: SpreadName | None = None
    methods: int
    seeds: int
    samples: int


def cells(trained: Trained) -> Iterator[Cell]:
    """All cells, the long ones first, so that processes end together."""
    samples = trained.plain.shape[1]
    for n, rates, spread in itertools.product((5000, samples), RATES, SPREADS):
        for methods, seeds in itertools.product((20, 8, 3), (10, 5, 3)):
            yield Cell(
                source="simulated", rates=rates, spread=spread, methods=methods, seeds=seeds, samples=n
            )
    for methods, seeds in itertools.product((20, 8, 3), (10, 5, 3)):
        yield Cell(source="pool", rates="equal", methods=methods, seeds=seeds, samples=samples)
    for seeds in (10, 5, 3):
        if seeds < len(trained.seeds):
            yield Cell(
                source="drawn", rates="own", methods=len(trained.methods), seeds=seeds, samples=samples
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One table with its truth."""

    flips: Booleans
    """[M, S, N]"""
    plain: Booleans
    """[P, S, N] No Treatment and the references."""
    truth: Floats | None
    """[M] NFR of each method over all seeds and samples; None where it is unknown."""
    different: Booleans
    """[M, M] where the row's NFR is truly above the column's."""
    different_from_plain: Booleans
    """[M]"""
    stable: int | None = None
    """Which method is `STABLE`, with clearly fewer flips than the first, No Treatment."""


Draw = Callable[[np.random.Generator], Table]


def tables_of(cell: Cell, trained: Trained) -> Draw:
    """What draws tables of a cell."""
    if cell.source == "pool":
        return from_pool(cell, trained)
    if cell.source == "drawn":
        return from_records(cell, trained)
    return from_simulation(cell, trained)


def from_pool(cell: Cell, trained: Trained) -> Draw:
    """Tables of identical plain models; no model is used twice in a table."""
    references = min(REFERENCES, len(trained.plain) // cell.seeds - cell.methods)
    if references < 0 or cell.seeds > len(trained.olds):
        raise ValueError(f"{len(trained.plain)} plain models are too few for {cell}")
    rows = cell.methods + references
    none = np.zeros((cell.methods, cell.methods), bool)

    def draw(random: np.random.Generator) -> Table:
        old = trained.olds[random.permutation(len(trained.olds))[: cell.seeds]]
        plain = trained.plain[random.permutation(len(trained.plain))[: cell.seeds * rows]]
        flips = old & ~plain.reshape(rows, cell.seeds, -1)
        return Table(
            flips=flips[: cell.methods],
            plain=flips[[0, *range(cell.methods, rows)]],
            truth=np.full(cell.methods, trained.plain_rate),
            different=none,
            different_from_plain=none[0],
        )

    return draw


def from_records(cell: Cell, trained: Trained) -> Draw:
    """Tables of the trained methods on some of their seeds; true is what all seeds separate."""
    flips = trained.flips(list(trained.methods.values()))
    plain = trained.flips([trained.methods[BASELINE], *trained.references])
    ranking = rank(flips)
    assert ranking is not None, "three seeds at least"
    p_values = [1.0, *holm([one.p or 0.0 for one in minus_plain(flips[1:], plain)])]

    def draw(random: np.random.Generator) -> Table:
        seeds = random.permutation(len(trained.seeds))[: cell.seeds]
        return Table(
            flips=flips[:, seeds],
            plain=plain[:, seeds],
            truth=None,
            different=ranking.separated & (ranking.difference > 0),
            different_from_plain=np.array(p_values) < SIGNIFICANT,
            stable=list(trained.methods).index(STABLE),
        )

    return draw


SEED, OLD, SAMPLE, SAMPLE_OF_METHOD = 0.005, 0.09, 0.62, 0.04
"""Parts of the probit model's variance that trainings share: by old model, by old model and sample, by
sample, and by method and sample. So two plain models' flips correlate as among the trained ones."""


def from_simulation(cell: Cell, trained: Trained) -> Draw:
    """Tables of a probit model: method m with seed s flips on sample x where

        sqrt(a_m) z_ms + sqrt(1 - a_m) (SEED, OLD, SAMPLE, SAMPLE_OF_METHOD and residual normals) < q_m,

    all normals together of variance 1, so that the NFR is exactly Phi(q_m), whatever the spread a_m.
    """
    labels = THREE_METHODS if cell.methods == 3 else tuple(trained.methods)
    chosen = [labels[i % len(labels)] for i in range(cell.methods)]
    plain_rate = HIGH_RATE if cell.rates == "equal, 20 %" else trained.plain_rate
    rates = np.array([trained.rates[label] if cell.rates == "own" else plain_rate for label in chosen])
    enlarged = {"one x 3": (1, 3.0), "one x 10": (1, 10.0), "half x 3": (cell.methods // 2, 3.0)}
    count, factor = enlarged.get(cell.spread or "", (0, 1.0))
    measured_on = trained.plain.shape[1]
    shares = []
    for i, (label, rate) in enumerate(zip(chosen, rates.tolist(), strict=True)):
        variance = trained.variances[label] if cell.spread == "own" else trained.plain_variance
        share = _share_of_training(rate, variance, measured_on)
        if cell.methods - i <= count:
            enlarged_variance = factor**2 * _variance_of_training(rate, share, cell.samples)
            share = _share_of_training(rate, enlarged_variance, cell.samples)
        shares.append(share)
    plain_share = _share_of_training(plain_rate, trained.plain_variance, measured_on)
    # The first method is the No Treatment of the comparison with plain models.
    rates_of_rows = np.append(rates, np.full(SIMULATED_REFERENCES, plain_rate))
    rates_of_rows[0], shares[0] = (plain_rate, plain_share) if cell.rates == "own" else (rates[0], shares[0])
    truth = rates_of_rows[: cell.methods]
    a = np.append(shares, np.full(SIMULATED_REFERENCES, plain_share))
    rows, residual = len(a), 1 - SEED - OLD - SAMPLE - SAMPLE_OF_METHOD
    different = truth[:, None] > truth

    def draw(random: np.random.Generator) -> Table:
        def normal(*shape: int) -> NDArray[np.float32]:
            return random.standard_normal(shape, np.float32)

        common = math.sqrt(SEED) * normal(cell.seeds, 1) + math.sqrt(OLD) * normal(cell.seeds, cell.samples)
        common = common + math.sqrt(SAMPLE) * normal(cell.samples)  # [S, N]
        of_training = np.sqrt(a)[:, None] * normal(rows, cell.seeds)
        below = (ndtri(rates_of_rows)[:, None] - of_training) / np.sqrt(1 - a)[:, None]  # [M, S]
        flips = np.empty((rows, cell.seeds, cell.samples), bool)
        for m in range(rows):
            limit = below[m].astype(np.float32)[:, None] - common
            limit -= math.sqrt(SAMPLE_OF_METHOD) * normal(cell.samples) if m < cell.methods else 0
            noise = residual if m < cell.methods else residual + SAMPLE_OF_METHOD
            np.less(math.sqrt(noise) * normal(cell.seeds, cell.samples), limit, out=flips[m])
        return Table(
            flips=flips[: cell.methods],
            plain=flips[[0, *range(cell.methods, rows)]],
            truth=truth,
            different=different,
            different_from_plain=truth != plain_rate,
            stable=labels.index(STABLE) if cell.rates == "own" else None,
        )

    return draw


def _variance_of_training(rate: float, share: float, samples: int) -> float:
    """Variance of the NFR between trainings of a method for the same old model and samples."""
    q = float(ndtri(rate))
    between = _both(q, share + (1 - share) * SEED) - _both(q, (1 - share) * SEED)
    within = rate - _both(q, (1 - share) * (SEED + OLD + SAMPLE + SAMPLE_OF_METHOD))
    return between + within / samples


def _share_of_training(rate: float, variance: float, samples: int) -> float:
    """a_m for which the NFR has that variance; 0 where it has less than samples alone give."""
    return _solve(lambda share: _variance_of_training(rate, share, samples), variance)


def pooled_mcnemar(flips: Booleans) -> Separated:
    """Exact McNemar on all seeds pooled, Holm."""
    both = co_occurrences(flips)
    alone = np.diagonal(both)[:, None] - both
    return _by_pairs(len(flips), lambda i, j: mcnemar(int(alone[i, j]), int(alone[j, i])))


def paired_t(flips: Booleans) -> Separated:
    """Paired t over seeds, Holm."""
    rates, seeds = flips.mean(axis=2), flips.shape[1]

    def p(i: int, j: int) -> float:
        difference = rates[i] - rates[j]
        error = float(difference.std(ddof=1)) / math.sqrt(seeds)
        return 2 * float(stdtr(seeds - 1, -abs(float(difference.mean())) / error)) if error else 1.0

    return _by_pairs(len(flips), p)


def _by_pairs(methods: int, p_value: Callable[[int, int], float]) -> Separated:
    pairs = list(itertools.combinations(range(methods), 2))
    separated = np.zeros((methods, methods), bool)
    for (i, j), p in zip(pairs, holm([p_value(i, j) for i, j in pairs]), strict=True):
        separated[i, j] = separated[j, i] = p < SIGNIFICANT
    return separated


def seed_bootstrap(flips: Booleans) -> Separated:
    """95 % percentile bootstrap over seeds, pair by pair."""
    seeds = flips.shape[1]
    drawn = np.random.default_rng(0).integers(0, seeds, (400, seeds))
    means = flips.mean(axis=2)[:, drawn].mean(axis=2)  # [M, 400]
    low, high = np.quantile(means[:, None] - means, [0.025, 0.975], axis=2)
    separated: Separated = (low > 0) | (high < 0)
    return separated


def studentized_range(flips: Booleans) -> Separated:
    """Tukey's studentized range on the pooled variance of methods by seeds."""
    methods, seeds, _ = flips.shape
    y = flips.mean(axis=2)
    e = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    df = (seeds - 1) * (methods - 1)
    half = critical_value(methods, df) * math.sqrt(2 * float((e**2).sum()) / df / seeds)
    separated: Separated = np.abs(y.mean(axis=1)[:, None] - y.mean(axis=1)) > half
    return separated


REJECTED: Mapping[str, Callable[[Booleans], Separated]] = {
    "McNemar": pooled_mcnemar,
    "bootstrap": seed_bootstrap,
    "t, Holm": paired_t,
    "range": studentized_range,
}


def measure(table: Table, *, rejected: bool) -> dict[str, float]:
    """What a table shows, by name: 1 or 0, or a share of the true differences."""
    ranking = rank(table.flips)
    assert ranking is not None, "three seeds at least"
    said = {"ranks": ranking.separated}
    if rejected:
        said |= {name: rule(table.flips) for name, rule in REJECTED.items()}
    above = ranking.difference > 0
    figures: dict[str, float] = {}
    for name, separated in said.items():
        found = separated & above
        if table.truth is not None:  # else it is unknown which pairs are equal
            figures[f"{name}: false"] = float((found & ~table.different).any())
        if table.different.any():
            figures[f"{name}: found"] = float(found[table.different].mean())
        if table.stable is not None:
            figures[f"{name}: {STABLE} found"] = float(found[0, table.stable])
    differences = minus_plain(table.flips[1:], table.plain)
    p_values = holm([1.0 if one.p is None else one.p for one in differences])
    found = np.array(p_values) < SIGNIFICANT
    different = table.different_from_plain[1:]
    if table.truth is not None:
        figures["plain: false"] = float((found & ~different).any())
        error = np.abs(ranking.difference - (table.truth[:, None] - table.truth))
        figures["covered"] = float((error <= ranking.half_width + 1e-12).all())
        intervals = rate_intervals(table.flips)
        inside = [i.low <= t <= i.high for i, t in zip(intervals, table.truth.tolist(), strict=True)]
        figures["rate covered"] = sum(inside) / len(inside)
    if different.any():
        figures["plain: found"] = float(found[different].mean())
    if table.stable is not None:
        figures[f"plain: {STABLE} found"] = float(found[table.stable - 1])
    return figures


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean over tables."""

    mean: float
    tables: int

    @property
    def error(self) -> float:
        """One binomial standard error; of a share of several differences, an upper limit."""
        return math.sqrt(self.mean * (1 - self.mean) / self.tables)

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f}±{100 * self.error:.1f}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the tables of a cell show."""

    cell: Cell
    figures: dict[str, Figure]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        figures = {
            name: {"mean": round(one.mean, 4), "error": round(one.error, 4), "tables": one.tables}
            for name, one in self.figures.items()
        }
        return {**asdict(self.cell), "figures": figures}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Result:
        """The inverse of `document`."""
        figures = {
            name: Figure(mean=one["mean"], tables=one["tables"]) for name, one in document["figures"].items()
        }
        return cls(
            cell=Cell(**{name: value for name, value in document.items() if name != "figures"}),
            figures=figures,
        )


def measure_cell(cell: Cell, trained: Trained, tables: int) -> Result:
    """Draw the tables of a cell and measure each; the same ones in every run of the benchmark."""
    words = (cell.source, cell.rates, cell.spread or "")
    key = [cell.methods, cell.seeds, cell.samples, *" ".join(words).encode()]
    random = np.random.default_rng(key)
    draw = tables_of(cell, trained)
    values: dict[str, list[float]] = {}
    for i in range(tables):
        for name, value in measure(draw(random), rejected=i < math.ceil(tables / 4)).items():
            values.setdefault(name, []).append(value)
    figures = {name: Figure(mean=math.fsum(v) / len(v), tables=len(v)) for name, v in values.items()}
    return Result(cell=cell, figures=figures)


_trained: list[Trained] = []


def _start(trained: Trained) -> None:
    _trained[:] = [trained]


def _measure_here(cell: Cell, tables: int) -> Result:
    return measure_cell(cell, _trained[0], tables)


def print_results(content: Mapping[str, Any]) -> None:
    """Every cell, and a summary; all in % ± one binomial standard error."""
    console = Console(width=220, highlight=False)
    results = [Result.from_document(one) for one in content["cells"]]
    console.print(f"{content['date']}, {content['machine']}, {content['versions']}")
    console.print(json.dumps(content["trained"], indent=1))
    names = list(dict.fromkeys(name for result in results for name in result.figures))
    for source, rates in dict.fromkeys((r.cell.source, r.cell.rates) for r in results):
        group = [r for r in results if (r.cell.source, r.cell.rates) == (source, rates)]
        here = [name for name in names if any(name in r.figures for r in group)]
        shown = Shown(title=f"{source}, rates: {rates}", title_justify="left")
        for name in ("spread", "M", "S", "N", *here):
            shown.add_column(name, justify="left" if name == "spread" else "right")
        for r in group:
            cell = r.cell
            figures = [str(r.figures[name]) if name in r.figures else "-" for name in here]
            shown.add_row(
                cell.spread or "", str(cell.methods), str(cell.seeds), f"{cell.samples:,}", *figures
            )
        console.print(shown)
    console.print(summary(results))


def summary(results: Sequence[Result]) -> Shown:
    """For each kind of table the worst cell of all M and N, at S = 3 / 5 / 10."""
    shown = Shown(title="worst of all M and N at S = 3 / 5 / 10", title_justify="left")
    columns = {"ranks: false": max, "plain: false": max, "covered": min, "rate covered": min}
    for name in ("tables", "rates", "spread", *columns):
        shown.add_column(name, justify="left" if name not in columns else "right")
    for key in dict.fromkeys((r.cell.source, r.cell.rates, r.cell.spread) for r in results):
        group = [r for r in results if (r.cell.source, r.cell.rates, r.cell.spread) == key]
        cells_ = []
        for name, worst in columns.items():
            by_seeds = [
                [r.figures[name].mean for r in group if r.cell.seeds == seeds and name in r.figures]
                for seeds in (3, 5, 10)
            ]
            cells_.append(" / ".join(f"{100 * worst(means):.1f}" if means else "-" for means in by_seeds))
        shown.add_row(key[0], key[1], key[2] or "", *cells_)
    return shown


if __name__ == "__main__":
    sys.exit(main())
