"""Jobs and how they stand, as a table of rich."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from common.jobs import JobRef, JobState, Phase
from common.paths import RecordsFolder
from common.progress import Progress
from common.text import printable

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
BAR_WIDTH = 8
MAX_CELL = 28
COLUMNS: Sequence[tuple[str, JustifyMethod]] = (
    ("job", "left"),
    ("state", "left"),
    ("epoch", "left"),
    ("images/s", "right"),
    ("left", "right"),
)


def failure_line(job: JobRef, state: JobState, *, records: RecordsFolder) -> Text:
    """Why a job failed, and where its log is, in one line."""
    line = Text.assemble(("failed", "red"), printable(f" {job.title}: {state.note}"))
    return line.append(f"; log: {records.job(job.id).log()}")


def held_line(job: JobRef, state: JobState) -> Text:
    """Why a job does not start, and what would help, in one line."""
    return Text.assemble(("held", "yellow"), printable(f" {job.title}: {state.note}"))


def jobs_table(
    jobs: Sequence[JobRef], states: Mapping[str, JobState], *, records: RecordsFolder, rows: int
) -> RenderableType:
    """The jobs that are not done, at most `rows` lines of them, with what they say about their progress."""
    order = {phase: place for place, phase in enumerate(SHOWN)}
    open_jobs = [job for job in jobs if job.id in states and states[job.id].phase in order]
    open_jobs.sort(key=lambda job: order[states[job.id].phase])  # stable: the plan's order within
    if not open_jobs:
        return Text("")
    fits = len(open_jobs) if len(open_jobs) < rows else max(rows - 2, 1)
    cells = [_row(job, states[job.id], records) for job in open_jobs[:fits]]
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


def _row(job: JobRef, state: JobState, records: RecordsFolder) -> tuple[Text, ...]:
    title = Text(printable(job.title))
    progress = Progress.read(records.job(job.id)) if state.phase is Phase.RUNNING else None
    word = state.phase.value if progress is None else printable(progress.state)
    cells = [title, Text(word, style=STYLES[state.phase])]
    cells += _training(progress) if progress is not None else [Text(), Text(), Text()]
    attempts = max(state.starts, progress.attempt if progress is not None else 0)
    again = f"attempt {attempts}" if attempts > 1 else ""
    message = progress.message if progress is not None else ""
    said = " · ".join(part for part in (state.node, again, state.note or message) if part)
    return (*cells, Text(printable(said)))


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
