"""`flips`: every command of the harness under one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from common import extras
from common.cli import HELP_WORDS, Command, command
from common.text import nearest


@dataclass(frozen=True, kw_only=True)
class Subcommand:
    """One of the commands; its module is imported only when it is called."""

    module: str
    """Where its `main` is; `python -m` of the same module does the same."""
    summary: str

    def load(self) -> Command:
        """The command's `main`.

        Raises:
            ValueError: it needs a package of the [train] extra that is not installed.
        """
        try:
            main: Command = importlib.import_module(self.module).main
        except ModuleNotFoundError as error:
            package = extras.package_of(error.name or "")
            if package is None:
                raise
            raise ValueError(extras.advice([package])) from error
        return main


SUBCOMMANDS: Mapping[str, Subcommand] = {
    "sweep": Subcommand(
        module="harness.sweep", summary="train what is missing of a comparison, and print its table"
    ),
    "build": Subcommand(module="loaders.build", summary="convert a dataset's images ahead of time"),
    "compare": Subcommand(
        module="results.compare", summary="compare two files of predictions, and gate a release"
    ),
    "leaderboard": Subcommand(
        module="results.leaderboard", summary="print or export the tables of finished runs"
    ),
    "figures": Subcommand(module="results.figures", summary="draw the figures of finished runs"),
    "report": Subcommand(
        module="results.report", summary="write one HTML page with tables, figures and flipped images"
    ),
    "store": Subcommand(module="results.store.__main__", summary="verify, export or import records"),
    "status": Subcommand(module="slurm.status", summary="show the jobs submitted to SLURM"),
    "logs": Subcommand(module="slurm.logs", summary="print the end of a run's log"),
    "cancel": Subcommand(module="slurm.cancel", summary="cancel the jobs submitted to SLURM"),
}


@command
def main(argv: Sequence[str]) -> int:
    """Run a subcommand; its exit code."""
    if not argv:
        _print_help()
        return 2
    name, *rest = argv
    if name in HELP_WORDS:
        _print_help()
        return 0
    if name not in SUBCOMMANDS:
        raise ValueError(f"unknown command '{name}'{nearest(name, SUBCOMMANDS)}")
    return SUBCOMMANDS[name].load()(rest)


def _print_help() -> None:
    console = Console(highlight=False)
    console.print("usage: flips COMMAND key=value ...", style="bold")
    console.print(
        "\nMeasure and reduce negative flips: what an old classifier got right and its update gets wrong."
    )
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, title="Commands", title_justify="left")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, subcommand in SUBCOMMANDS.items():
        table.add_row(name, subcommand.summary)
    console.print(table)
    console.print("flips COMMAND --help lists a command's settings.")


if __name__ == "__main__":
    sys.exit(main())
