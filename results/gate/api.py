"""The gate as one call: two versions' answers in, a report out. It reads no settings and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from results.gate.columns import PredictionFile, read_groups, read_predictions, read_targets
from results.gate.evaluations import open_evaluation
from results.gate.layout import Layout
from results.gate.pairing import pair_versions
from results.gate.policy import Policy
from results.gate.report import GateReport, judge
from results.gate.sources import Source, TextFormat, from_memory


def compare(
    old: Any,
    new: Any,
    *,
    targets: Any = None,
    metadata: Any = None,
    layout: Layout | None = None,
    policy: Policy | None = None,
) -> GateReport:
    """What changes from the old version to the new one, and whether it keeps the policy.

    Args:
        old: the old version's answers: a path, a pandas DataFrame, a pyarrow Table, a mapping of arrays by
            column name, an array of predictions [N] or of scores [N, C]; or a list of them, one per run.
        new: the new version's answers, likewise.
        targets: the true classes, where old and new do not hold them.
        metadata: a table with columns to slice or to weight by, where old and new do not hold them.
        layout: what the columns mean and how rows are paired; by default, what the usual names say, paired
            by id. Bare arrays have no ids: give `Layout(pair="order")`.
        policy: the caps; without one, the report has no verdict.

    Raises:
        ValueError: naming the table, the row and the column of what cannot be used.
        OSError: a file that cannot be read.
    """
    layout, policy = layout or Layout(), policy or Policy()
    text = TextFormat(sep=layout.sep, encoding=layout.encoding, decimal=layout.decimal)
    groups = policy.slice_columns

    def answers(data: Any, label: str) -> list[PredictionFile]:
        runs = data if _is_runs(data) else [data]
        named = (
            [f"{label} (run {number})" for number in range(1, len(runs) + 1)] if len(runs) > 1 else [label]
        )
        return [
            read_predictions(_source(run, name, text, layout), layout, groups=groups)
            for run, name in zip(runs, named, strict=True)
        ]

    target_file = None if targets is None else read_targets(_source(targets, "targets", text, layout), layout)
    metadata_file = None
    if metadata is not None:
        metadata_file = read_groups(_source(metadata, "metadata", text, layout), layout, groups)
    samples = pair_versions(
        answers(old, "old"), answers(new, "new"), layout, targets=target_file, metadata=metadata_file
    )
    return judge(samples, policy)


def _is_runs(data: Any) -> bool:
    """Whether a list holds a table per run; a list of numbers or names is one array of predictions."""
    tables = (Path, Mapping, np.ndarray, pa.Table)
    return (
        isinstance(data, list | tuple)
        and len(data) > 0
        and all(isinstance(item, tables) or hasattr(item, "to_numpy") for item in data)
    )


def _source(data: Any, label: str, text: TextFormat, layout: Layout) -> Source:
    if not isinstance(data, str | Path):
        return from_memory(data, label)
    path = Path(data)
    try:
        return open_evaluation(path, text, layout)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
