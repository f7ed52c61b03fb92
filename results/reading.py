"""Predictions of any origin: CSV, Parquet and NPZ files of one row a sample, and two of them as one update.

Columns: `id` (or `index`), `target`, and `prediction` or logits (`logits`, or `logit_0`, `logit_1`, ...);
optionally `confidence`, `target_confidence` and `margin`. Classes are numbers or names, as text here.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.predictions import Floats, Predictions, read_arrays

Texts = NDArray[np.str_]
_SCORES = ("confidence", "target_confidence", "margin")
ROUNDING = 1e-4  # that a file's digits may bring to a probability
_LOGIT = re.compile(r"logit_(\d+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """One file: a row a sample, ids and classes as they are written there."""

    path: Path
    ids: Texts
    target: Texts
    prediction: Texts | None
    logits: NDArray[np.float64] | None
    """[N, C], its columns the classes 0..C-1."""
    scores: Mapping[str, Floats]
    """confidence, target_confidence, margin: those that the file has, [N] each."""

    def take(self, where: NDArray[Any]) -> "Answers":
        """The rows at the positions, or under the mask, `where`."""
        return Answers(
            path=self.path,
            ids=self.ids[where],
            target=self.target[where],
            prediction=None if self.prediction is None else self.prediction[where],
            logits=None if self.logits is None else self.logits[where],
            scores={name: score[where] for name, score in self.scores.items()},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """Two models' predictions, paired by id and ready for `results.metrics`."""

    old: Predictions
    new: Predictions
    ids: Texts
    """Id of the sample at each `index` of the predictions."""
    classes: tuple[str, ...]
    """Name of each class, the old model's first."""
    old_classes: int
    left_out: int
    """Samples of the old file that are of no old class."""


def read(path: Path) -> Answers:
    """One file of predictions; ValueError, naming it and the row, for anything that is no such thing."""
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: the ending must be one of {', '.join(_READERS)}")
    try:
        columns = _READERS[path.suffix](path)
        return _answers(path, columns)
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def pair_files(old: Answers, new: Answers, *, old_classes: Sequence[str] = ()) -> Update:
    """The update from the old file's model to the new one's.

    `old_classes` says what the old model knows: a number k (classes 0..k-1) or the classes' names; without
    it, these are the classes that the old file names. Samples that only the new file has are of other
    classes and count in its overall error alone. Raises ValueError where the files contradict that.
    """
    said = _predicted(old), _predicted(new)
    labels = {label for texts in (old.target, new.target, *said) for label in texts.tolist()}
    order = sorted(labels, key=_class_order(labels))
    known = {*old.target.tolist(), *said[0].tolist()}
    if old_classes:
        known = _known_classes([_whole(name) or name for name in old_classes], labels)
    relevant = old.take(np.isin(old.target, sorted(known)))
    _check_samples(relevant, new, known)
    classes = [
        *(label for label in order if label in known),
        *(label for label in order if label not in known),
    ]
    ids, codes = np.unique(new.ids), {label: code for code, label in enumerate(classes)}
    return Update(
        old=_predictions(relevant, ids, codes),
        new=_predictions(new, ids, codes),
        ids=ids,
        classes=tuple(classes),
        old_classes=sum(label in known for label in classes),
        left_out=len(old.ids) - len(relevant.ids),
    )


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file; ValueError, naming it, where it is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _known_classes(asked: Sequence[str], labels: set[str]) -> set[str]:
    if len(asked) == 1 and asked[0].isdecimal():
        if not all(label.isdecimal() for label in labels):
            raise ValueError(f"old_classes={asked[0]}: the classes have names; name the old ones")
        return {label for label in labels if int(label) < int(asked[0])}
    unknown = sorted(set(asked) - labels)
    if unknown:
        raise ValueError(f"old_classes: no sample and no prediction is of class '{unknown[0]}'")
    return set(asked)


def _check_samples(old: Answers, new: Answers, known: set[str]) -> None:
    if not len(old.ids):
        raise ValueError(f"{old.path}: no sample is of an old class")
    lacking = np.setdiff1d(old.ids, new.ids)
    if len(lacking):
        raise ValueError(
            f"{new.path}: lacks {len(lacking)} of the samples in {old.path}, first '{lacking[0]}'"
        )
    surplus = ~np.isin(new.ids, old.ids) & np.isin(new.target, sorted(known))
    if surplus.any():
        raise ValueError(
            f"{old.path}: lacks sample '{new.ids[surplus][0]}', whose class '{new.target[surplus][0]}' "
            "the old model knows; give its prediction, or say with old_classes= what the old model knows"
        )
    row_of = {name: row for row, name in enumerate(new.ids.tolist())}
    target = new.target[[row_of[name] for name in old.ids.tolist()]]
    differing = np.flatnonzero(target != old.target)
    if len(differing):
        first = differing[0]
        raise ValueError(
            f"sample '{old.ids[first]}': its target is '{old.target[first]}' in {old.path} "
            f"and '{target[first]}' in {new.path}"
        )
    foreign = ~np.isin(_predicted(old), sorted(known))
    if foreign.any():
        raise ValueError(
            f"{old.path}: sample '{old.ids[foreign][0]}' is predicted as '{_predicted(old)[foreign][0]}', "
            "which is no old class"
        )


def _predicted(answers: Answers) -> Texts:
    if answers.prediction is not None:
        return answers.prediction
    assert answers.logits is not None, "a file has predictions or logits"
    predicted: Texts = answers.logits.argmax(axis=1).astype(np.str_)
    return predicted


def _predictions(answers: Answers, ids: Texts, codes: Mapping[str, int]) -> Predictions:
    def coded(texts: Texts) -> NDArray[np.int64]:
        return np.array([codes[text] for text in texts.tolist()], np.int64)

    scores = dict(answers.scores)
    if answers.logits is not None:
        scores |= _scores_of_logits(answers)
    return Predictions(
        index=np.searchsorted(ids, answers.ids),
        target=coded(answers.target),
        prediction=coded(_predicted(answers)),
        **scores,
    )


def _scores_of_logits(answers: Answers) -> dict[str, Floats]:
    assert answers.logits is not None
    numbers = [int(label) if label.isdecimal() else -1 for label in answers.target.tolist()]
    try:
        made = Predictions.from_logits(index=range(len(numbers)), target=numbers, logits=answers.logits)
    except ValueError as error:
        raise ValueError(f"{answers.path}: {error}") from error
    scores = {name: getattr(made, name) for name in _SCORES}
    return {name: score for name, score in scores.items() if score is not None}


def _class_order(labels: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    numbers = all(label.isdecimal() for label in labels)
    return lambda label: (int(label) if numbers else 0, label)


Columns = dict[str, NDArray[Any]]


def _answers(path: Path, columns: Columns) -> Answers:
    names = [name for name in ("id", "index") if name in columns]
    if len(names) == 2:
        raise ValueError("both a column 'id' and a column 'index': leave one out")
    if not names or "target" not in columns:
        missing = "target" if names else "id"
        raise ValueError(f"no column '{missing}'; there are: {', '.join(columns) or 'none'}")
    ids = _ids(names[0], columns[names[0]])
    if not len(ids):
        raise ValueError("no sample")
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"id '{values[counts > 1][0]}' comes {counts.max()} times")
    logits = _logits(columns)
    if logits is None and "prediction" not in columns:
        raise ValueError("neither a column 'prediction' nor logits")
    answers = Answers(
        path=path,
        ids=ids,
        target=_classes("target", columns["target"]),
        prediction=_classes("prediction", columns["prediction"]) if "prediction" in columns else None,
        logits=logits,
        scores={
            name: _numbers(name, columns[name]).astype(np.float32) for name in _SCORES if name in columns
        },
    )
    _check_columns(answers)
    return answers


def _check_columns(answers: Answers) -> None:
    arrays = {
        "target": answers.target,
        "prediction": answers.prediction,
        "logits": answers.logits,
        **answers.scores,
    }
    for name, array in arrays.items():
        if array is not None and len(array) != len(answers.ids):
            raise ValueError(f"{name} has {len(array)} rows, there are {len(answers.ids)} ids")
        if array is not None and array.ndim != (2 if name == "logits" else 1):
            raise ValueError(f"{name} has shape {array.shape}")
    if answers.logits is not None and answers.logits.shape[1] < 2:
        raise ValueError(f"logits of {answers.logits.shape[1]} classes, wanted two or more")
    for name in ("confidence", "target_confidence"):
        score = answers.scores.get(name)
        if score is not None and not ((score >= 0) & (score <= 1)).all():
            raise ValueError(f"{name} must lie in [0, 1]")
    _check_scores(answers)
    if answers.logits is not None and answers.prediction is not None:
        _check_against_logits(answers.ids, answers.prediction, answers.logits)


def _check_scores(answers: Answers) -> None:
    """Refuse scores that contradict each other or the prediction."""
    confidence, of_target, margin = (answers.scores.get(name) for name in _SCORES)
    if confidence is not None and of_target is not None:
        _refuse_row(answers, of_target > confidence + ROUNDING, "target_confidence is above confidence")
    if margin is not None:
        right = _predicted(answers) == answers.target
        _refuse_row(
            answers, (margin > 0) & ~right, "the margin is above 0 and the prediction is not the target"
        )
        _refuse_row(answers, (margin < 0) & right, "the margin is below 0 and the prediction is the target")


def _refuse_row(answers: Answers, bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        raise ValueError(f"sample '{answers.ids[bad][0]}': {why}")


def _check_against_logits(ids: Texts, prediction: Texts, logits: NDArray[np.float64]) -> None:
    for name, label, row in zip(ids.tolist(), prediction.tolist(), logits, strict=True):
        if not label.isdecimal() or int(label) >= len(row):
            raise ValueError(
                f"sample '{name}': prediction '{label}' is none of the {len(row)} columns of logits"
            )
        if row[int(label)] != row.max():
            raise ValueError(f"sample '{name}': prediction '{label}' has not the highest logit")


def _logits(columns: Columns) -> NDArray[np.float64] | None:
    if "logits" in columns:
        rows = columns["logits"]
        if rows.dtype == object:
            if len({np.size(row) for row in rows}) != 1:
                raise ValueError("logits must have one length in all rows")
            rows = np.stack([np.asarray(row) for row in rows])
        if rows.ndim != 2:
            raise ValueError(f"logits have shape {rows.shape}, wanted (samples, classes)")
        return _numbers("logits", rows)
    found = {int(match[1]): name for name in columns if (match := _LOGIT.fullmatch(name))}
    if len(found) < sum(_LOGIT.fullmatch(name) is not None for name in columns):
        raise ValueError("two columns of logits have the same number")
    if not found:
        return None
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"there are {len(found)} columns of logits, but no logit_{_first_gap(found)}")
    return np.stack([_numbers(name, columns[name]) for _, name in sorted(found.items())], axis=1)


def _first_gap(numbers: Iterable[int]) -> int:
    taken = set(numbers)
    return next(i for i in range(len(taken) + 1) if i not in taken)


def _numbers(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    if not values.ndim:
        raise ValueError(f"{name} is a single number, wanted one for each sample")
    if values.dtype.kind == "c":
        raise ValueError(f"{name} holds complex numbers")
    try:
        numbers = values.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} holds something that is no number ({error})") from error
    bad = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))
    if len(bad):
        raise ValueError(f"row {bad[0] + 1}: {name} is NaN or infinite")
    return numbers


_WHOLE = re.compile(r"(-?)0*(\d+)(?:\.0*)?")
LARGEST_EXACT = 2**53  # whole numbers beyond it are not all to be had as floats


def _whole(text: str) -> str | None:
    """A whole number without what a format adds to it, `3.0` or `03` -> `3`; None for another text."""
    match = _WHOLE.fullmatch(text)
    return match[1] + match[2] if match else None


def plain_id(text: str) -> str:
    """An id without what a format adds to a whole number, `3.0` -> `3`; zeros in front belong to a name."""
    return (_whole(text) or text) if "." in text else text


def _ids(name: str, values: NDArray[Any]) -> Texts:
    """Ids as text."""
    return np.array([plain_id(text) for text in _texts(name, values).tolist()], np.str_)


def _classes(name: str, values: NDArray[Any]) -> Texts:
    """Classes as text: their numbers, or their names."""
    texts = [_whole(text) or text for text in _texts(name, values).tolist()]
    negative = next((text for text in texts if text.startswith("-") and _whole(text)), None)
    if negative is not None:
        raise ValueError(f"row {texts.index(negative) + 1}: {name} is {negative}, classes count from 0")
    return np.array(texts, np.str_)


def _texts(name: str, values: NDArray[Any]) -> Texts:
    if values.ndim != 1:
        raise ValueError(f"{name} has shape {values.shape}, wanted (samples,)")
    if values.dtype.kind == "f":
        numbers = _numbers(name, values)
        if (numbers != np.round(numbers)).any():
            raise ValueError(f"{name} holds fractions")
        if (np.abs(numbers) > LARGEST_EXACT).any():
            raise ValueError(f"{name} holds floats too large to be told apart; write it as text")
        return values.astype(np.int64).astype(np.str_)
    if values.dtype.kind in "iu":
        return values.astype(np.str_)
    if values.dtype.kind not in "OUT":
        raise ValueError(f"{name} must hold whole numbers or names, not {values.dtype}")
    return np.array([_text(name, row, value) for row, value in enumerate(values.tolist(), 1)], np.str_)


def _text(name: str, row: int, value: Any) -> str:
    text = "" if value is None or value != value else value
    if not isinstance(text, str | int | float | np.generic):
        raise ValueError(f"row {row}: {name} must be a whole number or a name, not a {type(value).__name__}")
    text = str(text).strip()
    if not text:
        raise ValueError(f"row {row}: {name} is empty")
    return text


def _read_csv(path: Path) -> Columns:
    import pandas as pd

    options: dict[str, Any] = {"encoding": "utf-8-sig", "keep_default_na": False, "skipinitialspace": True}
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, **options).iloc[0].tolist()
    names = [str(name).strip() for name in header]
    if len(set(names)) != len(names):
        raise ValueError(f"column '{max(names, key=names.count)}' comes twice")
    texts = dict.fromkeys(("id", "index", "target", "prediction"), str)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row of too many cells
            frame = pd.read_csv(
                path, header=0, names=names, index_col=False, dtype=texts, low_memory=False, **options
            )
    except pd.errors.ParserWarning as warning:
        raise ValueError(f"a row has more cells than the header ({warning})") from warning
    return {name: frame[name].to_numpy() for name in names}


def _read_parquet(path: Path) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"not a Parquet file ({error})") from error
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def _read_npz(path: Path) -> Columns:
    return read_arrays(path.read_bytes())


_READERS: Mapping[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
}
