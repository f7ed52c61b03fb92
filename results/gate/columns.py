"""What a file of predictions says about each sample: its columns found, checked and turned into arrays.

An absent answer is never a class: a null, an empty cell, NaN, or a word for them is an error that names the
row (counted from 1, without the header), or a wrong answer where the layout says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.finding import ColumnFinder
from results.gate.ids import distinct
from results.gate.layout import OWN_NAMES, Condition, Layout, Role
from results.gate.sources import Source, there_are
from results.gate.values import (
    ABOVE_ONE,
    ABSENT,
    NEVER_A_CLASS,
    SELDOM_A_CLASS,
    Booleans,
    Column,
    Floats,
    Labels,
    absent_values,
    class_name,
    coded,
    coded_text,
    is_number,
    lists,
    merged,
    numbers,
    plain_ids,
    plain_number,
    probability,
    satisfies,
    whole,
)

ROUNDING = 1e-4
"""What a file's digits may bring to a probability that is compared with another."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictionFile:
    """One version's answers: a row per sample, or per sample and run."""

    label: str
    names: tuple[str, ...]
    """All columns of the file, for messages."""
    rows: int
    ids: Column | None
    """[N] whole numbers or text; None where the file has none."""
    target: Labels | None
    prediction: Labels | None
    right: Booleans | None
    """[N] where the file says itself which answers are right."""
    logits: NDArray[np.float64] | None
    probabilities: NDArray[np.float64] | None
    score_names: tuple[str, ...]
    """[C] the class of each column of logits or probabilities."""
    scores: Mapping[str, Floats]
    """confidence, target_confidence, margin: those that the file has, [N] each."""
    run: Labels | None
    weight: NDArray[np.float64] | None
    groups: Mapping[str, Labels]
    """Columns that samples are sliced by."""
    identity: Mapping[str, Column]
    """Columns that say which question a sample asks."""
    unanswered: int = 0
    """Absent predictions that count as wrong answers."""


def read_predictions(source: Source, layout: Layout, *, groups: Sequence[str] = ()) -> PredictionFile:
    """The answers in a source.

    Args:
        source: the columns.
        layout: what they mean.
        groups: columns to slice by; those that the source lacks are left out.

    Raises:
        ValueError: naming the source, and the row and column where there is one.
    """
    try:
        return _Reader(source, layout).predictions(groups)
    except ValueError as error:
        raise ValueError(f"{source.label}: {error}") from error


def read_targets(source: Source, layout: Layout) -> PredictionFile:
    """Targets alone, from a file of their own."""
    try:
        return _Reader(source, layout).targets()
    except ValueError as error:
        raise ValueError(f"{source.label}: {error}") from error


def read_groups(source: Source, layout: Layout, groups: Sequence[str]) -> PredictionFile:
    """Columns to slice by, from a file of their own."""
    try:
        return _Reader(source, layout).groups_alone(groups)
    except ValueError as error:
        raise ValueError(f"{source.label}: {error}") from error


class _Reader:
    """One source under a layout; columns are read once, then checked one after the other."""

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source, self._layout = source, layout
        self._find = ColumnFinder(source.names, layout)
        self._columns: dict[str, Column] = {}

    def predictions(self, groups: Sequence[str]) -> PredictionFile:
        layout = self._layout
        names = {role: self._find.find(role) for role in OWN_NAMES}
        if "values" in self._source.names and not names["prediction"]:
            names["prediction"] = "values"
        right = self._find.right_column(names)
        logits, probabilities = self._find.score_columns(names)
        if right is None and names["prediction"] is None and not (logits or probabilities):
            raise ValueError(self._find.nothing_to_judge(names))
        present = [name for name in groups if name in self._source.names]
        identity = self._find.identity()
        self._load(
            [
                *(name for name in names.values() if name is not None),
                *((right.column if isinstance(right, Condition) else right,) if right else ()),
                *logits.values(), *probabilities.values(), *present, *identity,
                *((layout.weight,) if layout.weight and layout.weight in self._source.names else ()),
            ]
        )  # fmt: skip
        if right is not None and names["target"] and names["prediction"] and not self._find.asked_for_right():
            self._refuse_contradiction(right, names["target"], names["prediction"])
            right = None
        count = self._count()
        unanswered = np.zeros(count, np.bool_)
        is_right = None if right is None else self._right(right, unanswered)
        target = prediction = None
        if is_right is None:
            if names["target"]:
                target = self._labels("target", names["target"])
            if names["prediction"]:
                known = target.used if target else None
                prediction = self._labels("prediction", names["prediction"], unanswered, known)
        z, p = self._matrix(logits), self._matrix(probabilities)
        if is_right is not None:
            z = p = None
        if p is not None and probabilities.get("") == "scores" and not _are_probabilities(p):
            z, p = p, None
        predictions = PredictionFile(
            label=self._source.label,
            names=self._source.names,
            rows=count,
            ids=self._ids(names["id"]),
            target=target,
            prediction=prediction,
            right=is_right,
            logits=z,
            probabilities=p,
            score_names=self._score_names(logits or probabilities, z if z is not None else p),
            scores=self._scores(names),
            run=self._labels("run", names["run"]) if names["run"] else None,
            weight=self._weight(),
            groups={name: self._group(name) for name in present},
            identity={name: self._column(name) for name in identity},
            unanswered=int(unanswered.sum()),
        )
        _check(predictions)
        return predictions

    def targets(self) -> PredictionFile:
        name = self._find.find("target", must_be=False)
        if name is None and "values" in self._source.names:
            name = "values"
        if name is None:
            raise ValueError(
                f"no column 'target'; {there_are(self._source.names)} (say which: columns.target=)"
            )
        id_name = self._find.find("id", must_be=False)
        self._load([name, *((id_name,) if id_name is not None else ())])
        return self._plain(id_name, target=self._labels("target", name))

    def groups_alone(self, groups: Sequence[str]) -> PredictionFile:
        id_name = self._find.find("id", must_be=False)
        present = [name for name in groups if name in self._source.names]
        weight = [name for name in self._source.names if name == self._layout.weight]
        self._load([*present, *weight, *((id_name,) if id_name is not None else ())])
        groups_found = {name: self._group(name) for name in present}
        return self._plain(id_name, groups=groups_found, weight=self._weight())

    def _plain(self, id_name: str | None, **more: Any) -> PredictionFile:
        empty: dict[str, Any] = dict.fromkeys(
            ("target", "prediction", "right", "logits", "probabilities", "run", "weight")
        )
        empty |= {"score_names": (), "scores": {}, "groups": {}, "identity": {}}
        made = PredictionFile(
            label=self._source.label,
            names=self._source.names,
            rows=self._count(),
            ids=self._ids(id_name),
            **(empty | more),
        )
        _check_ids(made)
        return made

    def _refuse_contradiction(self, right: Condition | str, target: str, prediction: str) -> None:
        """Refuse a file whose column of right answers contradicts its targets and predictions."""
        said = self._right(right, np.zeros(self._count(), np.bool_))
        targets = self._labels("target", target)
        unanswered = np.zeros(self._count(), np.bool_)
        predicted = self._labels("prediction", prediction, unanswered, targets.used)
        same = predicted.as_coded_by({name: code for code, name in enumerate(targets.names)}) == targets.codes
        differing = np.flatnonzero(same != said)
        if len(differing):
            raise ValueError(
                f"row {differing[0] + 1}: '{right}' says {'right' if said[differing[0]] else 'wrong'}, "
                f"but '{target}' and '{prediction}' say otherwise: say right={right}, or leave the column out"
            )

    def _load(self, names: Sequence[str]) -> None:
        wanted = list(dict.fromkeys(names))
        chosen = self._find.where()
        columns = self._source.read([*wanted, *((chosen.column,) if chosen else ())])
        if chosen:
            mask = satisfies(columns[chosen.column], chosen, self._number)
            if not mask.any():
                raise ValueError(
                    f"where={self._layout.where}: no row does; {_some_values(columns[chosen.column])}"
                )
            columns = {name: columns[name].filter(pa.array(mask)) for name in wanted}
        self._columns = columns
        if not self._count():
            raise ValueError("no sample")

    def _count(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def _column(self, name: str) -> Column:
        return self._columns[name]

    def _ids(self, name: str | None) -> Column | None:
        return None if name is None else plain_ids(name, self._column(name))

    def _labels(
        self,
        role: str,
        name: str,
        unanswered: Booleans | None = None,
        targets: set[str] | None = None,
    ) -> Labels:
        """Codes of classes; absent ones are marked in `unanswered`, or refused."""
        codes, names = coded(name, self._column(name))
        names, codes = merged([class_name(text) for text in names], codes)
        for code, text in enumerate(names):
            if text.startswith("-") and whole(text) and role != "run":
                row = int(np.flatnonzero(codes == code)[0]) + 1
                raise ValueError(f"row {row}: {name} is {text}, classes count from 0")
            if text == name and role in ("target", "prediction"):
                where = np.flatnonzero(codes == code)
                if self._repeats_header(int(where[0])):
                    raise ValueError(f"row {where[0] + 1} repeats the header")
        absent = np.array([self._is_absent(text, names, targets) for text in names] + [True], np.bool_)
        bad = absent[codes]
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            if unanswered is None or self._layout.unanswered == "refuse":
                said = names[codes[row]] if codes[row] >= 0 else ""
                raise ValueError(
                    f"row {row + 1}: {name} is {_quoted(said)}"
                    + ("" if unanswered is None else f"; an absent answer is not a class ({_how_many(bad)})")
                )
            unanswered |= bad
            codes = np.where(bad, np.int32(ABSENT), codes)
        return Labels(codes=codes, names=tuple(names))

    def _repeats_header(self, row: int) -> bool:
        """Whether a row's texts are its columns' names."""
        cells = {name: column[row].as_py() for name, column in self._columns.items()}
        texts = {name: cell for name, cell in cells.items() if isinstance(cell, str)}
        return len(texts) > 0 and all(cell.strip() == name for name, cell in texts.items())

    def _is_absent(self, text: str, names: Sequence[str], targets: set[str] | None) -> bool:
        word = text.lower()
        if not word or word in NEVER_A_CLASS:
            return True
        if word not in SELDOM_A_CLASS:
            return False
        others = [name for name in names if name.lower() not in SELDOM_A_CLASS | NEVER_A_CLASS and name]
        numbers = bool(others) and all(whole(name) for name in others)
        return numbers or (targets is not None and text not in targets)

    def _group(self, name: str) -> Labels:
        codes, names = coded(name, self._column(name))
        names = [text.strip() for text in names]
        names, codes = merged([plain_number(text) for text in names], codes)
        if (codes < 0).any() or "" in names:
            names = [*(text or MISSING for text in names)]
            names, codes = merged([*names, MISSING], np.where(codes < 0, np.int32(len(names)), codes))
        return Labels(codes=codes, names=tuple(names))

    def _right(self, right: Condition | str, unanswered: Booleans) -> Booleans:
        """[N] right or wrong; absent values are marked in `unanswered`, or refused."""
        name = right if isinstance(right, str) else right.column
        column = self._column(name)
        absent = absent_values(column)
        if absent.any():
            if self._layout.unanswered == "refuse":
                row = int(np.flatnonzero(absent)[0]) + 1
                raise ValueError(
                    f"row {row}: {name} is empty; an absent answer is neither right nor wrong "
                    f"({_how_many(absent)})"
                )
            unanswered |= absent
        if isinstance(right, Condition):
            return satisfies(column, right, self._number) & ~absent
        return self._truth(name, column, absent)

    def _truth(self, name: str, column: Column, absent: Booleans) -> Booleans:
        codes, names = coded(name, column)
        values = np.array([_TRUTH.get(text.strip().lower(), -1) for text in names] + [0], np.int8)
        said = np.where(absent, 0, values[codes])
        bad = np.flatnonzero(said < 0)
        if len(bad):
            text = names[codes[bad[0]]]
            hint = f"; say right={name}>=0.5, or another bound" if is_number(text) else ""
            raise ValueError(
                f"row {bad[0] + 1}: {name} is '{text}', neither right (1, true) nor wrong (0, false){hint}"
            )
        return said > 0

    def _number(self, name: str, column: Column) -> NDArray[np.float64]:
        return numbers(name, column, self._layout.decimal)

    def _matrix(self, columns: Mapping[str, str]) -> NDArray[np.float64] | None:
        if not columns:
            return None
        if "" in columns:
            return lists(columns[""], self._column(columns[""]))
        return np.stack([self._number(name, self._column(name)) for name in columns.values()], axis=1)

    def _score_names(self, columns: Mapping[str, str], matrix: NDArray[np.float64] | None) -> tuple[str, ...]:
        if matrix is None:
            return ()
        names = self._layout.class_names or self._source.class_names
        if not names and "" not in columns:
            return tuple(class_name(name) for name in columns)
        if not names:
            return tuple(map(str, range(matrix.shape[1])))
        if len(names) != matrix.shape[1]:
            raise ValueError(f"{len(names)} names of classes for {matrix.shape[1]} columns of scores")
        return tuple(class_name(name) for name in names)

    def _scores(self, names: Mapping[Role, str | None]) -> dict[str, Floats]:
        roles: tuple[Role, ...] = ("confidence", "target_confidence", "margin")
        found = {role: name for role in roles if (name := names[role])}
        scores = {role: self._number(name, self._column(name)) for role, name in found.items()}
        for role in ("confidence", "target_confidence"):
            if role in scores:
                scores[role] = probability(role, scores[role])
        return {role: score.astype(np.float32) for role, score in scores.items()}

    def _weight(self) -> NDArray[np.float64] | None:
        name = self._layout.weight
        if not name or name not in self._source.names:
            return None
        weight = self._number(name, self._column(name))
        bad = np.flatnonzero(~(weight > 0))
        if len(bad):
            raise ValueError(f"row {bad[0] + 1}: {name} is {weight[bad[0]]:g}, a weight must be above 0")
        return weight


MISSING = "(none)"
_TRUTH = {
    "1": 1, "1.0": 1, "true": 1, "yes": 1, "pass": 1, "passed": 1, "correct": 1, "right": 1,
    "0": 0, "0.0": 0, "false": 0, "no": 0, "fail": 0, "failed": 0, "incorrect": 0, "wrong": 0,
}  # fmt: skip


def _how_many(absent: Booleans) -> str:
    count = int(absent.sum())
    return f"{count} such row{'s' * (count > 1)}; to count them as wrong: unanswered=wrong"


def _quoted(text: str) -> str:
    return f"'{text}', a word for an absent value" if text else "empty"


def _some_values(column: Column) -> str:
    _, names = coded_text(column)
    return f"there are: {', '.join(names[:8])}{', ...' * (len(names) > 8)}"


def _check(file: PredictionFile) -> None:
    _check_ids(file)
    matrix = file.logits if file.logits is not None else file.probabilities
    if matrix is not None and matrix.shape[1] < 2:
        raise ValueError(f"scores (logits or probabilities) of {matrix.shape[1]} classes, wanted two or more")
    if file.probabilities is not None:
        _check_probabilities(file)
    if matrix is not None and file.prediction is not None:
        _check_against_scores(file, matrix)


def _check_ids(file: PredictionFile) -> None:
    if file.ids is None or file.run is not None:
        return
    if distinct(file.ids):
        return
    counts = pc.value_counts(file.ids)
    most = pc.index(counts.field("counts"), pc.max(counts.field("counts"))).as_py()
    value, count = counts.field("values")[most].as_py(), counts.field("counts")[most].as_py()
    raise ValueError(
        f"id '{value}' comes {count} times (if these are runs of one version, name their column with "
        "columns.run=; if another column tells the rows apart: where=COLUMN==VALUE)"
    )


def _are_probabilities(matrix: NDArray[np.float64]) -> bool:
    """Whether every row of a matrix of unnamed scores [N, C] is a distribution; else they are logits."""
    return bool(
        ((matrix >= 0) & (matrix <= 1 + ABOVE_ONE)).all() and (abs(matrix.sum(axis=1) - 1) < 1e-2).all()
    )


def _check_probabilities(file: PredictionFile) -> None:
    p = file.probabilities
    assert p is not None
    bad = np.flatnonzero(((p < 0) | (p > 1 + ABOVE_ONE)).any(axis=1))
    if len(bad):
        raise ValueError(
            f"row {bad[0] + 1}: a probability must lie in [0, 1]; if these are logits: columns.logits="
        )


def _check_against_scores(file: PredictionFile, matrix: NDArray[np.float64]) -> None:
    """Refuse a prediction that has not the highest score."""
    assert file.prediction is not None
    columns = file.prediction.as_coded_by({name: code for code, name in enumerate(file.score_names)})
    answered = file.prediction.codes >= 0
    lacking = np.flatnonzero((columns < 0) & answered)
    if len(lacking):
        name = file.prediction.names[file.prediction.codes[lacking[0]]]
        raise ValueError(
            f"row {lacking[0] + 1}: prediction '{name}' is none of the {matrix.shape[1]} columns of scores"
        )
    rows = np.arange(file.rows)
    lower = np.flatnonzero((matrix[rows, columns] < matrix.max(axis=1)) & answered)
    if len(lower):
        name = file.prediction.names[file.prediction.codes[lower[0]]]
        raise ValueError(f"row {lower[0] + 1}: prediction '{name}' has not the highest score")
