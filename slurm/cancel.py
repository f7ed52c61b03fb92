"""Cancel the jobs submitted to SLURM from a folder of records, and no others: `cancel runs=PATH`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from common import cli
from slurm import scheduler
from slurm.commands import NoAnswer
from slurm.ledger import Ledger
from slurm.status import StatusConfig, living


@cli.command
def main(argv: Sequence[str]) -> int:
    """Exit code 0, or 1 where SLURM does not answer."""
    asked = cli.parse(StatusConfig, argv, prog="python -m slurm.cancel", description=str(__doc__))
    ledger = Ledger(asked.runs)
    try:
        tasks = living(ledger) if ledger.exists else []
    except NoAnswer as silence:
        print(f"SLURM does not answer ({silence})", file=sys.stderr)
        return 1
    mine = [entry.slurm_id for entry in scheduler.mine((task.entry for task in tasks), os.getuid())]
    ledger.note_cancelled(mine)  # first, for a sweep that watches sees a task end at once
    scheduler.cancel(mine)
    others = len(tasks) - len(mine)
    print(f"cancelled {len(mine)} job(s)" + (f"; {others} belong to other people" if others else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
