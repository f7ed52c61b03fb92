"""Check a folder of records, or move its runs between machines.

python -m results.store verify|export|import runs=runs file=runs.tar
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.cli import HELP_WORDS, command, parse
from common.text import nearest
from results.store.archive import SUFFIXES, export_runs, import_runs
from results.store.folder import Store
from results.store.records import BrokenRecord
from results.store.verify import problems


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which store, which archive."""

    runs: Path = Path("runs")
    """Folder of records."""
    file: Path | None = None
    """The archive to write or to read: .tar, .tar.gz or .tgz."""
    weights: bool = True
    """Whether an export holds the weights, which new candidates of the same references need."""


@command
def main(argv: Sequence[str]) -> int:
    """verify: check all digests; export, import: move runs between machines; exit code 1 for damage."""
    verb, words = (argv[0], argv[1:]) if argv and argv[0] not in HELP_WORDS else ("", ["--help"])
    if verb and verb not in VERBS:
        raise ValueError(f"'{verb}' is not one of {', '.join(VERBS)}{nearest(verb, VERBS)}")
    settings = parse(Settings, words, prog="python -m results.store verb", description=main.__doc__ or "")
    if verb != "import" and not settings.runs.is_dir():
        raise ValueError(f"runs={settings.runs}: no such folder")
    return VERBS[verb](Store(settings.runs), settings)


def verify_command(store: Store, settings: Settings) -> int:
    """Print every problem; exit code 1 if there is one."""
    found = list(problems(store))
    for problem in found:
        print(problem)
    print(f"{settings.runs}: {sum(1 for _ in store.records())} intact runs, {len(found)} problems")
    return 1 if found else 0


def export_command(store: Store, settings: Settings) -> int:
    """Write the archive, and name the damaged records that it lacks; exit code 1 if there is one."""
    broken = [found for found in store.scan() if isinstance(found, BrokenRecord)]
    for problem in broken:
        print(f"left out: {problem}", file=sys.stderr)
    count = export_runs(store, _archive(settings), weights=settings.weights)
    print(f"{settings.file}: {count} runs" + (f", {len(broken)} damaged ones left out" if broken else ""))
    return 1 if broken else 0


def import_command(store: Store, settings: Settings) -> int:
    """Read the archive."""
    new, known = import_runs(store, _archive(settings))
    print(f"{settings.runs}: {new} runs imported, {known} were there already")
    return 0


def _archive(settings: Settings) -> Path:
    if settings.file is None:
        raise ValueError("file= must name the archive")
    if not settings.file.name.endswith(SUFFIXES):
        raise ValueError(f"file={settings.file}: the suffix must be .tar, .tar.gz or .tgz")
    return settings.file


VERBS: dict[str, Callable[[Store, Settings], int]] = {
    "verify": verify_command,
    "export": export_command,
    "import": import_command,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
