"""What the files say about samples besides the answers: weights, columns to slice by, the question itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.columns import PredictionFile
from results.gate.layout import IDENTITY, Layout
from results.gate.runs import Run, rows_of
from results.gate.values import Column, Labels


class Context:
    """Weights and columns to slice by, wherever they are: in the old files, the new ones, or a third one."""

    def __init__(
        self,
        first: Run,
        old_rows: Sequence[NDArray[np.int64]],
        new_runs: Sequence[Run],
        new_rows: Sequence[NDArray[np.int64]],
        metadata: PredictionFile | None,
        layout: Layout,
    ) -> None:
        self._layout = layout
        self._ids = first.ids
        self._places = [(first.file, old_rows[0]), (new_runs[0].file, new_rows[0])]
        if metadata is not None:
            rows = (
                np.arange(metadata.rows)
                if layout.pair == "order"
                else rows_of(first.file.label, first.ids, metadata)
            )
            if len(rows) != len(first.ids):
                raise ValueError(
                    f"{metadata.label} has {len(rows):,} rows, there are {len(first.ids):,} samples"
                )
            self._places.append((metadata, rows))

    def weight(self) -> NDArray[np.float64] | None:
        found = [(file, file.weight[rows]) for file, rows in self._places if file.weight is not None]
        if not self._layout.weight:
            return None
        if not found:
            raise ValueError(f"weight={self._layout.weight}: no file has such a column")
        for file, weight in found[1:]:
            differing = np.flatnonzero(~np.isclose(weight, found[0][1]))
            if len(differing):
                raise ValueError(
                    f"sample '{self._ids[int(differing[0])]}': its weight differs between "
                    f"{found[0][0].label} and {file.label}"
                )
        return found[0][1]

    def groups(self) -> dict[str, Labels]:
        found: dict[str, tuple[str, Labels]] = {}
        for file, rows in self._places:
            for name, labels in file.groups.items():
                taken = labels.take(rows)
                if name not in found:
                    found[name] = file.label, taken
                    continue
                label, before = found[name]
                code = {value: number for number, value in enumerate(before.names)}
                differing = np.flatnonzero(taken.as_coded_by(code) != before.codes)
                if len(differing):
                    row = int(differing[0])
                    raise ValueError(
                        f"sample '{self._ids[row]}': its {name} is '{before.names[before.codes[row]]}' in "
                        f"{label} and '{taken.names[taken.codes[row]]}' in {file.label}"
                    )
        return {name: labels for name, (_, labels) in found.items()}


def check_identity(
    first: Run, others: Sequence[Run], rows: Sequence[NDArray[np.int64]], layout: Layout
) -> str | None:
    """Refuse samples that have one id and ask different questions; the column that was checked."""
    shared = [
        name
        for name in ((layout.same,) if layout.same else IDENTITY)
        if name in first.file.identity and all(name in run.file.identity for run in others)
    ]
    if not shared:
        return None
    name = shared[0]
    mine = first.file.identity[name].combine_chunks()
    for run, where in zip(others, rows, strict=True):
        theirs = run.file.identity[name].combine_chunks().take(pa.array(where))
        equal = pc.equal(_text(mine), _text(theirs))
        same = pc.fill_null(equal, False).to_numpy(zero_copy_only=False)
        same |= (mine.is_null().to_numpy(zero_copy_only=False)) & (
            theirs.is_null().to_numpy(zero_copy_only=False)
        )
        differing = np.flatnonzero(~same)
        if len(differing):
            row = int(differing[0])
            raise ValueError(
                f"sample '{first.ids[row]}' is another question in {run.file.label} than in "
                f"{first.file.label}: '{name}' differs ({len(differing):,} such; if that is meant: "
                "same=none, or same=COLUMN)"
            )
    return name


def _text(column: Column) -> Column:
    return column.cast(pa.string())
