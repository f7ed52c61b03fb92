"""What a person sees while Jobs run: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.jobfile import job_folder
from harness.plan import Job
from slurm.progress import Progress, log_path, read
from slurm.states import FOR_PARENTS, UNSUBMITTED, JobState, Phase

STYLES: Mapping[Phase, str] = {
    Phase.RUNNING: "bold cyan",
    Phase.PENDING: "yellow",
    Phase.WAITING: "dim",
    Phase.DONE: "green",
    Phase.FAILED: "bold red",
    Phase.BLOCKED: "red",
    Phase.STOPPED: "yellow",
}
SHOWN = (Phase.FAILED, Phase.RUNNING, Phase.PENDING, Phase.BLOCKED, Phase.WAITING, Phase.STOPPED)
"""Phases that get rows of their own, the most telling first; the finished ones are only counted."""
CHROME_LINES = 4
BAR_WIDTH = 8
MAX_CELL = 28
COLUMNS: Sequence[tuple[str, JustifyMethod]] = (
    ("job", "left"),
    ("state", "left"),
    ("epoch", "left"),
    ("images/s", "right"),
    ("left", "right"),
)


class View:
    """Shows the states of `jobs` until its context closes."""

    def __init__(self, jobs: Sequence[Job], *, runs: Path, console: Console) -> None:
        self._jobs = jobs
        self._runs = runs
        self._console = console
        self._started = time.monotonic()
        self._states: Mapping[str, JobState] = {}
        self._said: dict[str, JobState] = {}
        self._live: Live | None = None

    def __enter__(self) -> View:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console, get_renderable=self.render, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, states: Mapping[str, JobState]) -> None:
        """Take over the newest states."""
        self._states = dict(states)
        if not self._console.is_terminal:
            self._say_changes()

    def render(self) -> RenderableType:
        """The table as of now, cut to the height of the terminal."""
        height = max(self._console.height - CHROME_LINES, 3)
        return Group(self._headline(), table(self._jobs, self._states, runs=self._runs, rows=height))

    def _headline(self) -> Text:
        counts = Counter(state.phase for state in self._states.values())
        done = counts[Phase.DONE]
        line = Text.assemble((f"{done} of {len(self._jobs)} jobs done", "bold"))
        for phase in (Phase.RUNNING, Phase.PENDING, Phase.WAITING, Phase.FAILED, Phase.BLOCKED):
            if counts[phase]:
                line.append("  ").append(f"{counts[phase]} {phase.value}", STYLES[phase])
        return line.append(f"  {duration(time.monotonic() - self._started)}", "dim")

    def _say_changes(self) -> None:
        for job in self._jobs:
            state, before = self._states[job.id], self._said.get(job.id)
            self._said[job.id] = state
            if _is_news(before, state):
                self._console.print(self._line(job, state), soft_wrap=True)

    def _line(self, job: Job, state: JobState) -> Text:
        line = Text(f"{state.phase.value:<8}{job.title}")
        if state.node:
            line.append(f" on {state.node}")
        if state.note:
            line.append(f" ({state.note})")
        if state.phase is Phase.FAILED:
            line.append(f" log: {log_path(self._runs, job.id)}")
        return line


def failure(job: Job, state: JobState, *, runs: Path) -> Text:
    """Why a Job failed, in a line."""
    line = Text.assemble(("failed", "red"), f" {job.title}: {state.note}")
    return line.append(f"; log: {log_path(runs, job.id)}")


def _is_news(before: JobState | None, state: JobState) -> bool:
    """Whether a change is worth a line: a queue's changing reasons for not having started a job are not."""
    if before is not None and (before.phase, before.note) == (state.phase, state.note):
        return False
    if state.phase is Phase.PENDING:
        return bool(state.node) or (before is not None and before.phase is Phase.RUNNING)
    return state.phase is not Phase.WAITING or state.note not in ("", FOR_PARENTS, UNSUBMITTED)


def table(jobs: Sequence[Job], states: Mapping[str, JobState], *, runs: Path, rows: int) -> RenderableType:
    """The Jobs that are not done, at most `rows` lines of them, with what they say of their progress."""
    order = {phase: place for place, phase in enumerate(SHOWN)}
    open_jobs = [job for job in jobs if job.id in states and states[job.id].phase in order]
    open_jobs.sort(key=lambda job: order[states[job.id].phase])  # stable: the plan's order within
    if not open_jobs:
        return Text("")
    fits = len(open_jobs) if len(open_jobs) < rows else max(rows - 2, 1)
    cells = [_row(job, states[job.id], runs) for job in open_jobs[:fits]]
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, expand=True)
    for place, (name, align) in enumerate(COLUMNS):
        widest = max(len(name), *(row[place].cell_len for row in cells))
        grid.add_column(name, justify=align, no_wrap=True, min_width=min(widest, MAX_CELL))
    grid.add_column("", no_wrap=True, overflow="ellipsis", style="dim", ratio=1)
    for row in cells:
        grid.add_row(*row)
    hidden = Counter(states[job.id].phase for job in open_jobs[fits:])
    if not hidden:
        return grid
    more = ", ".join(f"{count} {phase.value}" for phase, count in hidden.items())
    return Group(grid, Text(f"and {more}", style="dim"))


def _row(job: Job, state: JobState, runs: Path) -> tuple[Text, ...]:
    title = Text(job.title)
    progress = read(job_folder(runs, job.id)) if state.phase is Phase.RUNNING else None
    word = state.phase.value if progress is None else progress.state
    cells = [title, Text(word, style=STYLES[state.phase])]
    cells += _training(progress) if progress is not None else [Text(), Text(), Text()]
    tries = max(state.tries, progress.attempt if progress is not None else 0)
    again = f"try {tries}" if tries > 1 else ""
    message = progress.message if progress is not None else ""
    return (*cells, Text(" · ".join(part for part in (state.node, again, state.note or message) if part)))


def _training(progress: Progress) -> list[Text]:
    if not progress.epochs:
        return [Text(), Text(), Text()]
    filled = round(BAR_WIDTH * min(progress.epoch / progress.epochs, 1.0))
    width = len(str(progress.epochs))
    epoch = Text.assemble(
        ("━" * filled, "cyan"),
        ("━" * (BAR_WIDTH - filled), "bright_black"),
        f" {progress.epoch:>{width}}/{progress.epochs}",
    )
    speed = Text(f"{progress.images_per_s:,.0f}" if progress.images_per_s else "")
    left = Text(duration(progress.eta_s) if progress.eta_s is not None else "")
    return [epoch, speed, left]


def duration(seconds: float) -> str:
    """`42s`, `3m07s`, `5h02m`, `2d03h`."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
