"""What holds of the paper's claims, and what the rivals reach: `python -m benchmarks.evidence`.

    python -m benchmarks.evidence plan=true           # what would run
    python -m benchmarks.evidence cifar=FOLDER        # trains what is missing, then measures
    python -m benchmarks.evidence train=false         # measures what there is
    python -m benchmarks.results_page                 # writes docs/RESULTS.md from the measurements

Everything is an ordinary sweep (`experiment=evidence` with more words), so it can be interrupted and
continued, and each part can be repeated alone. `parts=` names those to do. Measurements go to
`benchmarks/results/evidence/`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import cores, describe_machine
from common.cli import command, parse
from common.files import write_atomically
from harness import config
from harness.plan import Run, expand
from harness.tuning import Tuning
from results.analysis import Analysis, analyse, mean_rates
from results.chains import chain_numbers, chains
from results.columns import training_seconds
from results.comparisons import Comparison, Row, comparisons
from results.leaderboard import DEFAULT_COLUMNS, numbers
from results.per_run import per_run_rows
from results.ranking import rank_means
from results.row_ranking import EventsBySeed, rank_rows
from results.store import Record, Store
from results.tables import as_csv

FOLDER = Path(__file__).parent / "results" / "evidence"
TABLE_COLUMNS = (*DEFAULT_COLUMNS, "margin_kept", "train_hours_alone", "networks", "gmacs")
RATES = ("nfr", "er_all", "er_old", "er_new")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One sweep of the evidence."""

    name: str
    title: str
    words: tuple[str, ...]
    """Of `flips sweep`."""
    images: str
    """Name of the images for people."""


def _parts() -> Iterator[Part]:
    for dataset, images in {
        "digits": "digits",
        "fashion-mnist": "Fashion-MNIST",
        "folder": "CIFAR-10 (JPEG)",
        "glyphs100": "glyphs100",
    }.items():
        name = images.split()[0].lower()
        words = ("experiment=evidence", f"dataset={dataset}")
        yield Part(name=name, title="all methods", words=words, images=images)
    for dataset, images in {"digits": "digits", "fashion-mnist": "Fashion-MNIST"}.items():
        common = ("experiment=evidence", f"dataset={dataset}", "seeds=0..4")
        few = "methods=none,pct-kl,elodi,mpt-kl,mpt-lm,posthoc-bias"
        yield Part(
            name=f"{dataset}-k",
            title="the margin k",
            words=(*common, "methods=none,mpt-kl,mpt-lm", "k=0,1,2,4,6,8"),
            images=images,
        )
        yield Part(
            name=f"{dataset}-new-classes",
            title="how many classes are new",
            words=(*common, "methods=none,mpt-kl", "old_classes=3,5,7,9"),
            images=images,
        )
        yield Part(
            name=f"{dataset}-updates",
            title="more data, a rare new half, retraining",
            words=(*common, few, "scenario=more-data,shifted-prior,retraining"),
            images=images,
        )
        yield Part(
            name=f"{dataset}-fine-tuning",
            title="from the old model's weights",
            words=(*common, f"{few},bcwi", "scenario=fine-tuning"),
            images=images,
        )
        yield Part(
            name=f"{dataset}-chain",
            title="a chain of three models",
            words=(*common, "methods=none,pct-kl,elodi,mpt-kl,posthoc-bias", "chain=4,7,10"),
            images=images,
        )
        yield Part(
            name=f"{dataset}-tuned",
            title="k and lambda tuned with twelve trials each",
            words=(
                *common,
                "methods=none,pct-kl,mpt-kl,posthoc-bias",
                "tune=pct-kl.lambda,mpt-kl.k",
                "budget=12",
                "validation=0.3" if dataset == "digits" else "validation=0.1",
            ),
            images=images,
        )
        yield Part(
            name=f"{dataset}-larger",
            title="ResNet-8 to ResNet-18",
            words=(*common, few, "old_arch=resnet8", "arch=resnet18", "stem=cifar"),
            images=images,
        )


PARTS = {part.name: part for part in _parts()}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Settings of the evidence."""

    parts: tuple[str, ...] = tuple(PARTS)
    """Parts to do, in this order."""
    runs: Path = Path("runs/evidence")
    """Folder of records."""
    cifar: Path | None = None
    """Folder with train/ and val/ of CIFAR-10 as image files; without it that part is left out."""
    betons: Path | None = None
    """Folder of the converted images (default: among the records)."""
    seeds: tuple[int, ...] = ()
    """Only these seeds (default: those of each part)."""
    train: bool = True
    """Train what is missing first."""
    plan: bool = False
    """Print what would run, and start nothing."""

    def __post_init__(self) -> None:
        for name in self.parts:
            if name not in PARTS:
                raise ValueError(f"parts={name}: must be among {', '.join(PARTS)}")

    @property
    def chosen(self) -> list[Part]:
        """The parts for which there are images."""
        return [PARTS[name] for name in self.parts if self.cifar or "dataset=folder" not in PARTS[name].words]

    def words(self, part: Part) -> list[str]:
        """The words of a part's sweep."""
        given = [f"runs={self.runs}", *part.words]
        if self.seeds:
            given = [word for word in given if not word.startswith("seeds=")]
            given.append(f"seeds={','.join(map(str, self.seeds))}")
        if self.betons:
            given.append(f"betons={self.betons}")
        if "dataset=folder" in part.words:
            given.append(f"data={self.cifar}")
        return given


@command
def main(argv: Sequence[str]) -> int:
    """Train what is missing, measure, and write the measurements."""
    settings = parse(Evidence, argv, prog="python -m benchmarks.evidence", description=__doc__ or "")
    for part in settings.chosen:
        print(f"== {part.name}: {part.images}, {part.title}", flush=True)
        if settings.plan:
            _sweep([*settings.words(part), "plan=true"])
        elif settings.train:
            _record_speed(part, settings)
    if not settings.plan:
        _measure(settings)
    return 0


def _sweep(words: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "harness.sweep", *words], check=False).returncode


def _record_speed(part: Part, settings: Evidence) -> None:
    """Run a part's sweep; note its time and what the cores did, if it trained anything."""
    before = _records(settings.runs).keys()
    began = time.monotonic()
    _sweep(settings.words(part))
    wall = time.monotonic() - began
    made = [record for run_id, record in _records(settings.runs).items() if run_id not in before]
    if not made:
        return
    entry = {
        "part": part.name,
        "runs": len(made),
        "wall_s": wall,
        "cores": cores(),
        "train_s": sum(training_seconds(record) or 0.0 for record in made),
        "evaluate_s": sum(record.timings.get("evaluate_s", 0.0) for record in made),
        "load": os.getloadavg()[1],
    }
    path = settings.runs / "speed.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def _records(runs: Path) -> dict[str, Record]:
    return {record.id: record for record in Store(runs).scan() if isinstance(record, Record)}


def _planned(words: Sequence[str], runs: Path) -> tuple[Run, ...]:
    """The runs of a sweep's tables; of one that tunes, the trials until all of them are done."""
    sweep = config.read(words)
    if not sweep.config.tuning.tune:
        return expand(*sweep.settings)
    tuning, store = Tuning(sweep), Store(runs)
    for trials in tuning.rounds(runs):
        if any(store.read(run.id) is None for run in trials):
            return trials
    return expand(*tuning.settings)


def _measure(settings: Evidence) -> None:
    """Write the tables, differences and one row per run of every part that has results."""
    store = Store(settings.runs)
    found: list[dict[str, Any]] = []
    rows: dict[str, dict[str, Any]] = {}
    for part in settings.chosen:
        runs = _planned(settings.words(part), settings.runs)
        made = comparisons(store, [run.document() for run in runs])
        made = [one for one in made if any(row.records for row in one.candidates)]
        rows |= {row["id"]: row for row in per_run_rows(made)}
        found += [{"part": part.name, "images": part.images, **_numbers(one)} for one in made]
        found += [
            {"part": part.name, "images": part.images, "chain": chain.title, "rows": chain_numbers(chain)}
            for chain in chains(store, made)
        ]
    speed = settings.runs / "speed.jsonl"
    content = {
        **describe_machine(),
        "speed": [json.loads(line) for line in speed.read_text().splitlines()] if speed.exists() else [],
        "tables": found,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_atomically(FOLDER / "tables.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(FOLDER / "runs.csv", as_csv(_anonymous(rows.values())).encode())
    print(f"{len(found)} tables of {len(rows)} runs: {FOLDER}")


def _anonymous(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without what tells about the machine's owner rather than about the run."""
    return [{name: value for name, value in row.items() if name not in ("host", "git_dirty")} for row in rows]


def _numbers(comparison: Comparison) -> dict[str, Any]:
    """A table's numbers, its intervals, and the differences between all pairs of its rows."""
    analysis = analyse(comparison)
    rates = mean_rates(comparison)
    return {
        "title": comparison.title,
        "recipe": comparison.recipe,
        "seeds": len(analysis.seeds),
        "rows": numbers(comparison, analysis, TABLE_COLUMNS),
        "intervals": {
            label: {"er_all": asdict(rate.er_all), "nfr": asdict(rate.nfr)} for label, rate in rates.items()
        },
        "differences": {metric: _differences(analysis, metric) for metric in RATES}
        | {"margin_kept": _of_means(comparison.candidates, "margin_kept", analysis.seeds)},
    }


def _differences(analysis: Analysis, metric: str) -> list[dict[str, Any]]:
    """Every pair of rows by itself: its difference with a 95 % interval over seeds and samples."""
    events = _events(analysis, metric)
    pairs = []
    for one in events:
        for other in events:
            if one == other or not all(len(right) for right in events[one].values()):
                continue
            labels, ranking = rank_rows({label: events[label] for label in (one, other)}, analysis.seeds)
            if ranking is not None and len(labels) == 2:
                interval = ranking.interval(0, 1)
                pairs.append({"of": one, "minus": other, **asdict(interval)})
    return pairs


def _events(analysis: Analysis, metric: str) -> Mapping[str, EventsBySeed]:
    """The events of a rate, by row label; errors on new classes are those on all but old ones."""
    if metric != "er_new":
        return analysis.wrong.get(metric, {})
    old, every = analysis.wrong.get("er_old", {}), analysis.wrong.get("er_all", {})
    return {
        label: {seed: wrong[len(old[label][seed]) :] for seed, wrong in by_seed.items()}
        for label, by_seed in every.items()
    }


def _of_means(rows: Iterable[Row], metric: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The same for a metric that is no rate of samples: over seeds alone."""
    values = {
        row.label: [row.records[seed].metrics[metric] for seed in seeds]
        for row in rows
        if row.complete and all(metric in record.metrics for record in row.records.values())
    }
    pairs = []
    for one in values:
        for other in values:
            ranking = rank_means(np.array([values[one], values[other]])) if one != other else None
            if ranking is not None:
                pairs.append({"of": one, "minus": other, **asdict(ranking.interval(0, 1))})
    return pairs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
