"""One flat row per run, for further analysis: everything that was asked for, and everything that came out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from common.text import printable
from results.columns import record_columns, run_columns
from results.comparisons import Comparison, Row
from results.store import RunContent

Rows = list[dict[str, Any]]


def per_run_rows(comparisons: Iterable[Comparison]) -> Rows:
    """A row for every run that the comparisons show, missing ones included; each run comes once."""
    rows: dict[str, dict[str, Any]] = {}
    for comparison in comparisons:
        for row in comparison.rows:
            for columns in _rows_of(row, comparison.old_run):
                rows.setdefault(columns["id"], columns)
        for record in comparison.references:
            rows.setdefault(record.id, run_columns(record.run) | record_columns(record))
    return list(rows.values())


def _rows_of(row: Row, old: RunContent | None) -> Iterator[dict[str, Any]]:
    for record in row.records.values():
        yield _columns(record.run, old) | record_columns(record)
    for missing in row.missing:
        if missing.record is not None:
            yield _columns(missing.record.run, old) | record_columns(missing.record)
        elif missing.run is not None:
            yield _columns(missing.run, old) | {"state": missing.state, "reason": missing.reason}


def _columns(run: RunContent, old: RunContent | None) -> dict[str, Any]:
    return run_columns(run, old if run["role"] == "candidate" else None)


def as_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows as a Parquet file; a column that mixes numbers with text holds text."""
    import pyarrow
    from pyarrow import parquet

    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _of_one_type([row.get(name) for row in rows]) for name in names}
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _of_one_type(values: Sequence[Any]) -> list[Any]:
    types = {type(value) for value in values} - {type(None)}
    if types == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(types) == 1 and types != {str}:
        return list(values)
    return [None if value is None else printable(str(value)) for value in values]
