"""Records that would turn out otherwise today: made with other code of their method, or in another precision.

A run's id does not cover the code of its method, which may be tidied up without a new version. So a record
says which code made it, and `stale=` decides what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.files import locked
from harness.plan import Run
from results.store import Record, Store


def find_stale(runs: Iterable[Run], records: Mapping[str, Record]) -> dict[str, str]:
    """Done runs whose records are stale, by id, each with what makes it so.

    Args:
        runs: parents before children.
        records: the records of those that are done, by id. Older ones do not say with which code they were
            made; they count as made with today's.
    """
    stale: dict[str, str] = {}
    labels = {}
    for run in runs:
        labels[run.id] = run.label
        record = records.get(run.id)
        if record is None:
            continue
        of_stale = [labels[parent] for parent in run.parents if parent in stale]
        if reason := _own_reason(run, record):
            stale[run.id] = reason
        elif of_stale:
            stale[run.id] = f"learned from a stale {of_stale[0]}"
    return stale


def withdraw(runs: Iterable[Run], store: Store) -> None:
    """Take back the records of stale runs, and checkpoints with them, so that they are trained again."""
    from harness import checkpoint  # loads torch, which a plan does without

    for run in runs:
        folder = store.folder(run.id)
        with locked(store.paths(run.id).lock, lambda: None):
            checkpoint.remove(folder)
            store.withdraw(run.id)


def _own_reason(run: Run, record: Record) -> str:
    if record.precision != run.precision:
        return f"made in {record.precision}"
    made, today = record.method_code, run.method_code
    return f"made with other code of {run.method}" if made and today and made != today else ""
