"""One run of one version: its targets found, and which of its answers are right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.columns import ROUNDING, PredictionFile
from results.gate.ids import distinct, positions
from results.gate.layout import Layout
from results.gate.sources import there_are
from results.gate.values import Booleans, Codes, Column, Floats, Labels, whole
from results.predictions import Predictions

SCORES = ("confidence", "target_confidence", "margin")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """One run of one version, its targets found."""

    file: PredictionFile
    ids: Column
    target: Labels | None
    prediction: Labels | None
    right: Booleans

    def take(self, where: NDArray[Any]) -> Run:
        """The samples at the positions, or under the mask, `where`."""
        return Run(
            file=take_rows(self.file, where),
            ids=self.ids.take(pa.array(np.flatnonzero(where) if where.dtype == bool else where)),
            target=self.target.take(where) if self.target else None,
            prediction=self.prediction.take(where) if self.prediction else None,
            right=self.right[where],
        )


def take_rows(file: PredictionFile, where: NDArray[Any]) -> PredictionFile:
    """A file's rows at the positions, or under the mask, `where`."""
    rows = np.flatnonzero(where) if where.dtype == bool else where
    taken = pa.array(rows)
    return replace(
        file,
        rows=len(rows),
        ids=None if file.ids is None else file.ids.take(taken),
        target=file.target.take(rows) if file.target else None,
        prediction=file.prediction.take(rows) if file.prediction else None,
        right=None if file.right is None else file.right[rows],
        logits=None if file.logits is None else file.logits[rows],
        probabilities=None if file.probabilities is None else file.probabilities[rows],
        scores={name: score[rows] for name, score in file.scores.items()},
        run=file.run.take(rows) if file.run else None,
        weight=None if file.weight is None else file.weight[rows],
        groups={name: labels.take(rows) for name, labels in file.groups.items()},
        identity={name: column.take(taken) for name, column in file.identity.items()},
    )


def split_runs(file: PredictionFile) -> list[PredictionFile]:
    """A file with a column `run` as one file per run.

    Raises:
        ValueError: an id that comes more than once in a run.
    """
    if file.run is None:
        return [file]
    parts = []
    for number, name in enumerate(file.run.names):
        part = replace(
            take_rows(file, file.run.codes == number),
            label=f"{file.label} (run {name})",
            run=None,
            unanswered=file.unanswered if number == 0 else 0,
        )
        if part.ids is not None and not distinct(part.ids):
            counts = pc.value_counts(part.ids)
            most = pc.index(counts.field("counts"), pc.max(counts.field("counts"))).as_py()
            raise ValueError(f"{part.label}: id '{counts.field('values')[most]}' comes more than once")
        parts.append(part)
    return parts


def read_run(file: PredictionFile, layout: Layout, targets: PredictionFile | None) -> Run:
    """A file with its targets, its predictions and which of them are right."""
    ids = file.ids
    if layout.pair == "order":
        if targets is not None and targets.rows != file.rows:
            raise ValueError(f"{file.label} has {file.rows:,} rows and {targets.label} {targets.rows:,}")
        ids = pa.array(np.arange(1, file.rows + 1)) if ids is None or not distinct(ids) else ids
    elif ids is None:
        raise ValueError(
            f"{file.label}: no column 'id', nor another that names the samples; {there_are(file.names)} (say "
            "which: columns.id=; or pair the rows by their order: pair=order)"
        )
    if file.right is not None:
        return Run(file=file, ids=ids, target=None, prediction=None, right=file.right)
    target = file.target
    if targets is not None:
        assert targets.target is not None
        given = (
            targets.target
            if layout.pair == "order"
            else targets.target.take(rows_of(file.label, ids, targets))
        )
        if target is not None:
            refuse_differing(ids, target, file.label, given, targets.label)
        target = given
    if target is None:
        raise ValueError(
            f"{file.label}: no column 'target', nor one that says right or wrong; {there_are(file.names)} "
            "(say which: columns.target= or right=; or give the targets in a file of their own: targets=)"
        )
    matrix = file.logits if file.logits is not None else file.probabilities
    prediction = file.prediction
    if prediction is None:
        assert matrix is not None, "a file has predictions or scores"
        prediction = Labels(codes=matrix.argmax(axis=1).astype(np.int32), names=file.score_names)
    _refuse_other_names(file.label, target, prediction)
    code = {name: number for number, name in enumerate(target.names)}
    right = prediction.as_coded_by(code) == target.codes
    run = Run(file=file, ids=ids, target=target, prediction=prediction, right=right)
    _check_scores(run)
    if layout.top_k > 1:
        return replace(run, right=_in_top_k(run, matrix, layout.top_k))
    return run


def _refuse_other_names(label: str, target: Labels, prediction: Labels) -> None:
    """Refuse numbers as targets and names as predictions, or the other way round: all would be wrong."""
    targets, predictions = sorted(target.used), sorted(prediction.used)
    for one, other in ((targets, predictions), (predictions, targets)):
        if one and other and all(map(whole, one)) and not any(map(whole, other)):
            raise ValueError(
                f"{label}: the targets are written as '{targets[0]}', the predictions as '{predictions[0]}': "
                "one as numbers, the other as names, so that no answer could be right"
            )


def _in_top_k(run: Run, matrix: NDArray[np.float64] | None, k: int) -> Booleans:
    """[N] whether fewer than k classes score higher than the target (of equal ones, the first counts)."""
    label = run.file.label
    if matrix is None:
        raise ValueError(f"{label}: top_k={k} needs logits or probabilities")
    if k >= matrix.shape[1]:
        raise ValueError(f"{label}: top_k={k} of {matrix.shape[1]} classes is always right")
    column = _target_columns(run)
    of_target = matrix[np.arange(len(matrix)), column][:, None]
    before = np.arange(matrix.shape[1])[None, :] < column[:, None]
    higher = (matrix > of_target) | ((matrix == of_target) & before)
    return np.asarray(higher.sum(axis=1) < k)


def _target_columns(run: Run) -> Codes:
    """[N] the column of the scores that is the target's."""
    assert run.target is not None
    column = run.target.as_coded_by({name: number for number, name in enumerate(run.file.score_names)})
    lacking = np.flatnonzero(column < 0)
    if len(lacking):
        name = run.target.names[run.target.codes[lacking[0]]]
        raise ValueError(
            f"{run.file.label}: sample '{run.ids[int(lacking[0])]}': its target '{name}' is outside the "
            f"{len(run.file.score_names)} classes of the scores"
        )
    return column


def _check_scores(run: Run) -> None:
    """Refuse scores that contradict each other or the prediction."""
    scores, right = run.file.scores, run.right
    confidence, of_target, margin = (scores.get(name) for name in SCORES)
    if confidence is not None and of_target is not None:
        _refuse_sample(run, of_target > confidence + ROUNDING, "target_confidence is above confidence")
    if margin is not None:
        _refuse_sample(
            run, (margin > 0) & ~right, "the margin is above 0 and the prediction is not the target"
        )
        _refuse_sample(run, (margin < 0) & right, "the margin is below 0 and the prediction is the target")


def _refuse_sample(run: Run, bad: Booleans, why: str) -> None:
    if bad.any():
        raise ValueError(f"{run.file.label}: sample '{run.ids[int(np.flatnonzero(bad)[0])]}': {why}")


def rows_of(label: str, ids: Column, targets: PredictionFile) -> NDArray[np.int64]:
    """[N] the rows of a third file that belong to the ids of the file `label`.

    Raises:
        ValueError: it has no ids, or lacks one.
    """
    if targets.ids is None:
        raise ValueError(
            f"{targets.label}: no column 'id': say which with columns.id=, or pair by order with pair=order"
        )
    rows = positions(ids, targets.ids)
    lacking = np.flatnonzero(rows == len(targets.ids))
    if len(lacking):
        raise ValueError(f"{targets.label}: lacks sample '{ids[int(lacking[0])]}' of {label}")
    return rows


def refuse_differing(ids: Column, one: Labels, label: str, other: Labels, other_label: str) -> None:
    """Refuse targets that differ."""
    recoded = other.as_coded_by({name: number for number, name in enumerate(one.names)})
    differing = np.flatnonzero(recoded != one.codes)
    if len(differing):
        row = int(differing[0])
        raise ValueError(
            f"sample '{ids[row]}': its target is '{one.names[one.codes[row]]}' in {label} and "
            f"'{other.names[other.codes[row]]}' in {other_label} ({len(differing):,} such)"
        )


def scores_of_matrix(run: Run) -> dict[str, Floats]:
    """What logits, or probabilities, say about confidence and margin."""
    file = run.file
    if file.logits is not None:
        column = _target_columns(run)
        try:
            made = Predictions.from_logits(index=range(file.rows), target=column, logits=file.logits)
        except ValueError as error:
            raise ValueError(f"{file.label}: {error}") from error
        scores = {name: getattr(made, name) for name in SCORES}
        return {name: score for name, score in scores.items() if score is not None}
    if file.probabilities is not None:
        p = np.minimum(file.probabilities, 1.0)
        of_target = p[np.arange(file.rows), _target_columns(run)]
        return {
            "confidence": p.max(axis=1).astype(np.float32),
            "target_confidence": of_target.astype(np.float32),
        }
    return {}
