"""One version alone: its answers about numbered samples, from any file that the gate reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from results.gate.columns import read_predictions
from results.gate.evaluations import open_evaluation
from results.gate.ids import positions
from results.gate.layout import Layout
from results.gate.runs import Run, read_run
from results.gate.sources import TextFormat


def read_version(path: Path) -> Run:
    """The answers in a file, which says for each sample once what it is and what was predicted.

    Raises:
        ValueError: it does not, or it is damaged.
    """
    layout = Layout()
    try:
        file = read_predictions(open_evaluation(path, TextFormat(), layout), layout)
        if file.ids is None or file.target is None or file.right is not None or file.run is not None:
            raise ValueError("needs an id (a sample's number, from 0), a target and a prediction in each row")
        return read_run(file, layout, None)
    except (ValueError, OSError) as error:
        raise ValueError(str(error).removeprefix(f"{path}: ")) from error


def of_samples(run: Run, index: NDArray[np.int64], samples: int) -> Run:
    """The answers about the samples `index` [N], in that order, of `samples` that are numbered from 0.

    Raises:
        ValueError: one is missing, or there is a number beyond.
    """
    outside = positions(run.ids, pa.array(np.arange(samples))) == samples
    if outside.any():
        beyond = run.ids[int(np.flatnonzero(outside)[0])]
        raise ValueError(f"sample '{beyond}': the samples are numbered from 0 to {samples - 1:,}")
    rows = positions(pa.array(index), run.ids)
    if len(lacking := np.flatnonzero(rows == len(run.ids))):
        raise ValueError(
            f"lacks sample {index[lacking[0]]} of an old class ({len(lacking):,} such of {len(index):,})"
        )
    return run.take(rows)
