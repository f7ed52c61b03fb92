"""`python -m harness.sweep`: plan what was asked for, run what is missing, print the table."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common import cli
from common.extras import require_train
from common.files import locked
from common.jobs import Outcome, Resources
from common.jobtable import duration
from common.paths import RecordsFolder
from common.text import disk_space, printable
from harness import config, jobfile, resources, tracking
from harness.architectures import ARCHITECTURES
from harness.config import Sweep
from harness.dispatch.dispatcher import dispatch
from harness.experiments import find
from harness.grouping import Job, group, told_apart
from harness.help import print_help
from harness.plan import Role, Run, Setting, expand
from harness.recipes import images_of
from harness.settings import Runtime, SweepConfig
from harness.stale import find_stale, withdraw
from harness.tuning import Tuning
from loaders.datasets import DATASETS, PART_FOLDERS, beton_bytes, require_files
from results.comparisons import comparisons
from results.held_out import open_store
from results.leaderboard import tables
from results.store import Store
from results.tables import show
from slurm import profile

CTRL_C = 130


@cli.command
def main(argv: Sequence[str]) -> int:
    """Exit code 0 when every run is done (or has diverged, which the table shows), 1 when some failed."""
    if cli.HELP_WORDS & set(argv):
        print_help(argv)
        return 0
    sweep = config.read(argv)
    asked, runtime, console = sweep.config, sweep.config.runtime, Console()
    options = profile.load(asked.dispatch.profile, sweep.slurm, roles=get_args(Role), archs=ARCHITECTURES)
    _require_folder(runtime.runs)
    for name, reason in sweep.left_out.items():
        console.print(Text(f"without {name}: {reason}"), soft_wrap=True)
    store = Store(runtime.runs)
    tuning = Tuning(sweep) if asked.tuning.tune else None
    if asked.plan:
        print_plan(sweep, tuning, store, console)
        return 0
    for runs in tuning.rounds(runtime.runs) if tuning else ():
        assert tuning is not None
        work = Work.of(runs, sweep, store)
        if work.jobs:
            console.print(Text(f"tuning: {tuning.progress}"))
        outcome = carry_out(work, sweep, store, options, console)
        if outcome is not None and not outcome.complete:
            return _tuning_stopped(outcome, console)
    work = Work.of(expand(*(tuning.settings if tuning else sweep.settings)), sweep, store)
    outcome = carry_out(work, sweep, store, options, console)
    if outcome is not None and outcome.detached:
        return 0
    note_tuning(work.runs, store)
    interrupted = outcome is not None and outcome.interrupted
    expected = [run.document() for run in work.runs]
    shown = open_store(runtime.runs, asked.metrics)
    show(tables(shown, expected), console)
    if asked.experiment and not interrupted:
        _draw(asked, shown, expected, console)
    if interrupted:
        return CTRL_C
    return 0 if all(store.read(run.id) is not None for run in work.runs) else 1


@dataclass(frozen=True, kw_only=True)
class Work:
    """Runs, as the folder of records has them: what is done, and the jobs for what is not."""

    runs: Sequence[Run]
    """Parents before children."""
    jobs: Sequence[Job]
    """Of what is to be done."""
    finished: Sequence[Job]
    """Of what is done."""
    stale: Mapping[str, str]
    """Runs whose records are stale, by id, each with what makes it so."""
    again: frozenset[str]
    """Ids of those that are to be trained again."""

    @classmethod
    def of(cls, runs: Sequence[Run], sweep: Sweep, store: Store) -> Work:
        """The work that these runs are."""
        records = {run.id: record for run in runs if (record := store.read(run.id)) is not None}
        stale = find_stale(runs, records)
        again = frozenset(stale if sweep.config.stale == "rerun" else ())
        done = records.keys() - again
        jobs = make_jobs([run for run in runs if run.id not in done], sweep)
        finished = make_jobs([run for run in runs if run.id in done], sweep)
        named = told_apart([*finished, *jobs])
        finished, jobs = named[: len(finished)], named[len(finished) :]
        return cls(runs=runs, jobs=jobs, finished=finished, stale=stale, again=again)


def carry_out(
    work: Work, sweep: Sweep, store: Store, options: profile.Profile, console: Console
) -> Outcome | None:
    """Run the jobs; None where there are none.

    Raises:
        ValueError: they cannot run here, in one line.
    """
    if not work.jobs:
        return None
    asked, runtime = sweep.config, sweep.config.runtime
    require_train()
    tracking.require(runtime.track)
    _require_data(sweep.settings, runtime)
    _require_writable(runtime.runs)
    _require_old_model(work.jobs, runtime)
    withdraw([run for run in work.runs if run.id in work.again], store)
    for job in work.jobs:
        jobfile.write(job, runtime, sweep.images[job.runs[0].data].encoding)
    return dispatch(
        work.jobs,
        runs=runtime.runs,
        cluster=asked.dispatch.cluster,
        console=console,
        profile=options,
        wait=asked.dispatch.wait,
        jobs_per_gpu=asked.dispatch.jobs_per_gpu,
    )


def _tuning_stopped(outcome: Outcome, console: Console) -> int:
    """The exit code of a sweep whose trials are not all done."""
    if outcome.detached:
        return 0
    if outcome.interrupted:
        return CTRL_C
    console.print("nothing was chosen: the same command tries the failed trials again", highlight=False)
    return 1


def note_tuning(runs: Iterable[Run], store: Store) -> None:
    """Write how hyperparameters were chosen into the records of runs that were there before."""
    for run in runs:
        record = store.read(run.id) if run.tuned else None
        if record is not None and record.tuned is None:
            with locked(store.paths(run.id).lock, lambda: None):
                store.add_tuning(record, run.document())


def _draw(asked: SweepConfig, store: Store, expected: Sequence[dict[str, Any]], console: Console) -> None:
    """The experiment's figure, if it is one, into the folder of records."""
    name = find(asked.experiment or "").figure
    if name is None:
        return
    from results import paper_figures  # matplotlib, which tables do without
    from results.figure_style import save

    folder = RecordsFolder(asked.runtime.runs).figures
    folder.mkdir(exist_ok=True)
    for number, comparison in enumerate(comparisons(store, expected), 1):
        made = getattr(paper_figures, name)(store, comparison)
        png, _ = save(made, folder / f"{name}-{comparison.dataset}-{number}")
        console.print(f"{name}: {png} (and .svg)", highlight=False, soft_wrap=True)


def make_jobs(runs: Sequence[Run], sweep: Sweep) -> tuple[Job, ...]:
    """Jobs for these runs, with the resources that they need."""
    asked, gpu = sweep.config.dispatch, sweep.gpu

    def cohort(run: Run) -> int:
        if asked.cohort != "auto":
            return int(asked.cohort)
        return resources.cohort_size(run, image_size=images_of(run.dataset, run.seen).image_size, gpu=gpu)

    def needs(members: Sequence[Run]) -> Resources:
        first = members[0]
        return resources.estimate(
            members,
            image_size=images_of(first.dataset, first.seen).image_size,
            train_samples=round(sweep.images[first.data].contents.train_samples * first.split.trained_share),
            gpu=gpu,
        )

    return group(runs, cohort=cohort, resources=needs)


def print_plan(sweep: Sweep, tuning: Tuning | None, store: Store, console: Console) -> None:
    """What would run, and what it would take; before that, as far as it is known, what tuning would do."""
    lines: list[str] = []
    jobs: list[Job] = []
    if tuning:
        for runs in tuning.rounds(store.root):
            if Work.of(runs, sweep, store).jobs:
                break
        trials = Work.of(tuning.planned(), sweep, store)
        jobs += trials.jobs
        needed = f"{_training_time(trials.jobs)} of training" if trials.jobs else "nothing to train"
        lines += [*tuning.describe(), f"trials, with old models and references: {_counts(trials)}, {needed}"]
    work = Work.of(expand(*(tuning.settings if tuning else sweep.settings)), sweep, store)
    for line in lines:
        console.print(Text(printable(line)), soft_wrap=True)
    print_jobs(work, store, console)
    for line in describe(sweep, work.runs, [*jobs, *work.jobs], store):
        console.print(Text(printable(line)), soft_wrap=True)


def print_jobs(work: Work, store: Store, console: Console) -> None:
    """Every job with its runs' state and what it waits for; what is done comes first."""
    jobs, finished, stale = work.jobs, work.finished, work.stale
    titles = {job.id: job.title for job in jobs}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Job", "State", "Waits for", "Runs"):
        table.add_column(heading, overflow="fold")
    for job in finished:
        table.add_row(Text(job.title), Text("done", "green"), "", _labels(job))
    for job in jobs:
        failures = [found for run in job.runs if (found := store.failure(run.id)) is not None]
        again = any(run.id in stale for run in job.runs)
        state = Text("again", "yellow") if again else Text("new", "cyan")
        if failures:
            state = Text(f"failed ({failures[0].cause})", "red")
        waits = _summed_up([titles[parent] for parent in job.after])
        table.add_row(Text(job.title), state, Text(waits), _labels(job))
    console.print(table)
    console.print(
        f"{_counts(work)}; records in {store.root}; nothing was started", highlight=False, soft_wrap=True
    )
    for line in _about_stale(finished, stale):
        console.print(Text(line, "yellow"), soft_wrap=True)


def _counts(work: Work) -> str:
    done, left = (sum(len(job.runs) for job in some) for some in (work.finished, work.jobs))
    return f"{done + left} runs: {done} done, {left} to do in {len(work.jobs)} jobs"


def describe(sweep: Sweep, runs: Sequence[Run], jobs: Sequence[Job], store: Store) -> list[str]:
    """What a plan says besides its jobs: the tables, the data that is missing, time and disk space."""
    runtime = sweep.config.runtime
    lines = [f"table: {c.title}; {c.recipe}" for c in comparisons(store, [run.document() for run in runs])]
    for setting in {one.data: one for one in sweep.settings}.values():
        if not _is_built(setting, runtime):
            try:
                _require_data([setting], runtime)
                into = f"{setting.dataset} will be converted into {runtime.betons_folder}"
                lines.append(f"images: {into}{_disk_space(sweep, setting)}")
            except ValueError as error:
                lines.append(f"missing data: {error}")
    if jobs:
        networks = [run.model for job in jobs for run in job.runs if run.model.is_known]
        megabytes = sum(ARCHITECTURES[network.arch].megabytes for network in networks)
        device = "GPU" if sweep.gpu else "CPU core"
        lines.append(
            f"estimate: {_training_time(jobs)} of training on one {device}; {megabytes:,.0f} MB of weights, "
            "and up to four times that for checkpoints meanwhile"
        )
    return lines


def _disk_space(sweep: Sweep, setting: Setting) -> str:
    """What a plan says about the size of images that are not converted yet."""
    runtime, images = sweep.config.runtime, sweep.images[setting.data]
    needed = beton_bytes(DATASETS[setting.dataset], runtime.data, images.encoding, images.contents)
    return "" if needed is None else f", about {disk_space(needed)}"


def _training_time(jobs: Sequence[Job]) -> str:
    seconds = 60 * sum(resources.training_minutes(job.resources) for job in jobs)
    return duration(seconds) if seconds else "under a minute"


def _about_stale(finished: Sequence[Job], stale: Mapping[str, str]) -> list[str]:
    """A line for each reason why finished runs are stale."""
    by_reason: dict[str, list[str]] = {}
    for run in (run for job in finished for run in job.runs if run.id in stale):
        by_reason.setdefault(stale[run.id], []).append(f"{run.label} s{run.seed}")
    return [f"{reason}: {', '.join(who)}; stale=rerun trains it again" for reason, who in by_reason.items()]


def _labels(job: Job) -> Text:
    return Text(", ".join(run.label for run in job.runs))


def _summed_up(titles: Sequence[str]) -> str:
    return ", ".join(titles) if len(titles) <= 2 else f"{titles[0]} and {len(titles) - 1} more"


def _require_data(settings: Sequence[Setting], runtime: Runtime) -> None:
    """Look for the images that a dataset does not bring, before anything is started.

    Raises:
        ValueError: they are nowhere, in one line.
    """
    for setting in settings:
        dataset = DATASETS[setting.dataset]
        if _is_built(setting, runtime) or not dataset.needs_data:
            continue
        if runtime.data:
            require_files(dataset, runtime.data)
        elif not runtime.download and not (dataset.packaged and Path(dataset.packaged).is_dir()):
            folder = (runtime.betons_folder / setting.data).absolute()
            raise ValueError(
                f"{setting.dataset} needs data=FOLDER with its files: {dataset.summary}; "
                f"or betons in {folder}, which flips build makes"
            )


def _require_old_model(jobs: Sequence[Job], runtime: Runtime) -> None:
    """Read the file of an old model that is not trained here, before anything is started.

    Raises:
        ValueError: it is not what it should be, in one line.
    """
    given = [run for job in jobs for run in job.runs if run.given]
    if given:
        from harness import old_model_file  # loads torch, which a plan does without

        for run in given:
            old_model_file.check(run, runtime)


def _is_built(setting: Setting, runtime: Runtime) -> bool:
    folder = runtime.betons_folder / setting.data
    return all((folder / f"{part}.json").is_file() for part in PART_FOLDERS)


def _require_folder(runs: Path) -> None:
    """Refuse a path that leads through a file, before anything else is done.

    Raises:
        ValueError: in one line.
    """
    for part in (runs, *runs.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"runs={runs}: {part} is a file: choose another folder")


def _require_writable(runs: Path) -> None:
    """Make the folder of records and write to it once, before anything is started.

    Raises:
        ValueError: it cannot be made or written, in one line.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=runs, prefix=".writable-"):
            pass
    except OSError as error:
        raise ValueError(f"runs={runs}: {os.strerror(error.errno or 0)}: choose another folder") from error


if __name__ == "__main__":
    sys.exit(main())
