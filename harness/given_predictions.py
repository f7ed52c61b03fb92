"""The predictions of an old model that was not trained here, held against the test set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import Data
from harness.plan import Run
from loaders.selection import class_ranks, samples_below
from results.gate.runs import Run as Answers
from results.gate.runs import scores_of_matrix
from results.gate.single import of_samples, read_version
from results.gate.values import class_name
from results.predictions import Predictions


def read_answers(run: Run, path: Path) -> Answers:
    """The answers in a file, in any format that `flips compare` reads.

    Raises:
        ValueError: it is damaged, lacks a column, or scores other classes than the old ones.
    """
    asked = run.split.old_classes
    try:
        answers = read_version(path)
        file = answers.file
        matrix = file.logits if file.logits is not None else file.probabilities
        if matrix is not None and matrix.shape[1] != asked:
            raise ValueError(f"the file has {matrix.shape[1]} classes, asked for are old_classes={asked}")
    except ValueError as error:
        raise ValueError(f"old_predictions={path}: {error}") from error
    return answers


def checked_predictions(run: Run, path: Path, data: Data) -> Predictions:
    """The predictions of a given old model on the test images of the old classes.

    Raises:
        ValueError: the file is damaged, lacks an image, or contradicts the test set.
    """
    answers, classes = read_answers(run, path), run.split.old_classes
    index = samples_below(data.test_targets, classes)
    target = data.test_targets[index]
    try:
        answers = of_samples(answers, index, len(data.test_targets))
        assert answers.prediction is not None
        codes = _codes(answers, index, target, data, run)
        prediction = answers.prediction.as_coded_by(codes).astype(np.int64)
        if len(unknown := np.flatnonzero((prediction < 0) | (prediction >= classes))):
            name = answers.prediction.names[answers.prediction.codes[unknown[0]]]
            raise ValueError(
                f"sample {index[unknown[0]]}: its prediction '{name}' is none of the {classes} old classes"
            )
        scores = {**answers.file.scores, **scores_of_matrix(answers)}
        return Predictions(index=index, target=target, prediction=prediction, **scores)
    except ValueError as error:
        raise ValueError(f"old_predictions={path}: {error}") from error


def _codes(
    answers: Answers, index: NDArray[np.int64], target: NDArray[np.int64], data: Data, run: Run
) -> Mapping[str, int]:
    """Position in the class order by how the file writes a class: the way under which all targets agree."""
    assert answers.target is not None
    found: list[NDArray[np.int64]] = []
    for codes in _ways_to_write(data, run):
        differing = np.flatnonzero(answers.target.as_coded_by(codes) != target)
        if not len(differing):
            return codes
        found.append(differing)
    closest = min(found, key=len)
    first = closest[0]
    said = answers.target.names[answers.target.codes[first]]
    raise ValueError(
        f"sample {index[first]}: its target is '{said}' in the file and '{data.class_names[target[first]]}' "
        f"in the test set ({len(closest):,} such of {len(index):,})"
    )


def _ways_to_write(data: Data, run: Run) -> Iterator[Mapping[str, int]]:
    """Class to position in the class order: by name, by label, and as the position itself."""
    ranks = class_ranks(len(data.test_beton.manifest.classes), run.split.class_order)
    yield {class_name(name): position for position, name in enumerate(data.class_names)}
    yield {str(label): int(rank) for label, rank in enumerate(ranks)}
    yield {str(position): position for position in range(len(ranks))}
