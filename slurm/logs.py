"""The end of what the job of a run has printed: `logs RUN [runs=PATH] [lines=40]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import cli
from common.jobs import read_job_ref
from common.paths import RecordsFolder
from common.text import nearest, printable


@dataclass(frozen=True, kw_only=True)
class LogsConfig:
    """Settings of the command."""

    runs: Path = Path("runs")
    """Folder of records."""
    lines: int = 40
    """How many lines."""

    def __post_init__(self) -> None:
        if self.lines < 1:
            raise ValueError(f"lines={self.lines}: must be 1 or more")


@cli.command
def main(argv: Sequence[str]) -> int:
    """RUN is the id of a run or a job, or a part of one that names it alone."""
    names = [word for word in argv if "=" not in word and not word.startswith("-")]
    rest = [word for word in argv if word not in names]
    asked = cli.parse(LogsConfig, rest, prog="python -m slurm.logs RUN", description=str(__doc__))
    if len(names) != 1:
        raise ValueError("expected one RUN: flips logs RUN [runs=PATH] [lines=40] (the name of its folder)")
    path = find(asked.runs, names[0])
    for line in path.read_text(errors="replace").splitlines()[-asked.lines :]:
        print(printable(line))
    return 0


def find(runs: Path, name: str) -> Path:
    """The newest log of the run called `name`.

    Raises:
        ValueError: there is none, or several runs match.
    """
    known = dict.fromkeys(name_ for name_, _ in _logs(runs))
    matching = [name] if name in known else [one for one in known if name in one]
    if not matching:
        raise ValueError(f"no log of a run '{name}' in {runs}{nearest(name, known) if known else ''}")
    if len(matching) > 1:
        raise ValueError(f"'{name}' may be any of {', '.join(matching[:5])}")
    paths = [path for one, path in _logs(runs) if one == matching[0]]
    return max(paths, key=lambda path: path.stat().st_mtime)


def _logs(runs: Path) -> Iterator[tuple[str, Path]]:
    """Every log there is, under the id of its job and those of the job's runs."""
    for folder in RecordsFolder(runs).job_folders():
        if folder.log().exists():
            job = read_job_ref(folder)
            for name in dict.fromkeys((job.id, *job.run_ids)):
                yield name, folder.log()


if __name__ == "__main__":
    sys.exit(main())
