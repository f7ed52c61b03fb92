"""What a person sees while jobs run: one live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from common.jobs import FOR_PARENTS, UNSUBMITTED, JobRef, JobState, Phase
from common.jobtable import STYLES, duration, jobs_table
from common.paths import RecordsFolder
from common.text import printable

CHROME_LINES = 4


class View:
    """Shows the states of `jobs` until its context closes."""

    def __init__(self, jobs: Sequence[JobRef], *, records: RecordsFolder, console: Console) -> None:
        self._jobs = jobs
        self._records = records
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
        return Group(
            self._headline(), jobs_table(self._jobs, self._states, records=self._records, rows=height)
        )

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

    def _line(self, job: JobRef, state: JobState) -> Text:
        line = Text(f"{state.phase.value:<8}{printable(job.title)}")
        if state.node:
            line.append(f" on {printable(state.node)}")
        if state.note:
            line.append(f" ({printable(state.note)})")
        if state.phase is Phase.FAILED:
            line.append(f" log: {self._records.job(job.id).log()}")
        return line


def _is_news(before: JobState | None, state: JobState) -> bool:
    """Whether a change is worth a line: a queue's changing reasons for not having started a job are not."""
    if before is not None and (before.phase, before.note) == (state.phase, state.note):
        return False
    if state.held:
        return True
    if state.phase is Phase.PENDING:
        return bool(state.node) or (before is not None and before.phase is Phase.RUNNING)
    return state.phase is not Phase.WAITING or state.note not in ("", FOR_PARENTS, UNSUBMITTED)
