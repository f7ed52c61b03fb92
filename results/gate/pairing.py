"""Two versions' answers on the same samples, row by row: what every number of the gate is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.columns import ROUNDING, PredictionFile
from results.gate.ids import distinct, positions, same_type
from results.gate.layout import IDENTITY, Layout
from results.gate.sources import there_are
from results.gate.values import Booleans, Codes, Column, Floats, Labels, class_name
from results.predictions import Predictions

SCORES = ("confidence", "target_confidence", "margin")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Version:
    """One version's answers on N paired samples, and on S that only the new version was tested on."""

    right: Booleans
    """[R, N] of each run."""
    prediction: Codes | None
    """[N + S] class, or -1 for an absent answer; None where unknown, or where there are several runs."""
    scores: Mapping[str, Floats]
    """confidence, target_confidence, margin: those that are known, [N + S] each."""
    unanswered: int
    """Absent answers that count as wrong."""

    @property
    def runs(self) -> int:
        """R"""
        return len(self.right)

    @property
    def share_right(self) -> NDArray[np.float64]:
        """[N] share of the runs that are right."""
        return np.asarray(self.right.mean(axis=0))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairedSamples:
    """N samples that both versions answered, and S of new classes that only the new one did."""

    ids: Column
    """[N]"""
    old: Version
    new: Version
    target: Codes | None
    """[N + S] class; None where the files only say right or wrong."""
    classes: tuple[str, ...]
    """Name of each class, the old model's first."""
    old_classes: int
    surplus_right: int
    """How many of the S samples the new version gets right."""
    surplus: int
    """S"""
    left_out: int
    """Samples that are not compared: of no old class, or (pair=common) in one file alone."""
    weight: NDArray[np.float64] | None
    """[N]"""
    groups: Mapping[str, Labels]
    """Columns to slice by, [N] each."""
    identity: str | None
    """Name of the column that was checked to agree."""

    def __len__(self) -> int:
        return int(self.old.right.shape[1])

    @property
    def repeated(self) -> bool:
        """Whether a version has several runs."""
        return self.old.runs > 1 or self.new.runs > 1

    def as_predictions(self) -> tuple[Predictions, Predictions]:
        """Both models' predictions, as `results.metrics` takes them; only where classes are known."""
        assert self.target is not None
        assert self.old.prediction is not None
        assert self.new.prediction is not None
        index = np.arange(len(self) + self.surplus)
        count = len(self)
        target = self.target.astype(np.int64)
        # An absent answer enters as some class that is not the target: it is wrong.
        another = (target + 1) % max(self.old_classes, 2)
        old = np.where(self.old.prediction < 0, another[:count], self.old.prediction)
        new = np.where(self.new.prediction < 0, another, self.new.prediction)
        return (
            Predictions(index=index[:count], target=target[:count], prediction=old, **self.old.scores),
            Predictions(index=index, target=target, prediction=new, **self.new.scores),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Run:
    """One run of one version, its targets found."""

    file: PredictionFile
    ids: Column
    target: Labels | None
    prediction: Labels | None
    right: Booleans

    def take(self, where: NDArray[Any]) -> _Run:
        return _Run(
            file=_take_scores(self.file, where),
            ids=self.ids.take(pa.array(np.flatnonzero(where) if where.dtype == bool else where)),
            target=self.target.take(where) if self.target else None,
            prediction=self.prediction.take(where) if self.prediction else None,
            right=self.right[where],
        )


def _take_scores(file: PredictionFile, where: NDArray[Any]) -> PredictionFile:
    rows = np.flatnonzero(where) if where.dtype == bool else where
    return replace(
        file,
        rows=len(rows),
        logits=None if file.logits is None else file.logits[rows],
        probabilities=None if file.probabilities is None else file.probabilities[rows],
        scores={name: score[rows] for name, score in file.scores.items()},
    )


def pair_versions(
    old: Sequence[PredictionFile],
    new: Sequence[PredictionFile],
    layout: Layout,
    *,
    targets: PredictionFile | None = None,
    metadata: PredictionFile | None = None,
) -> PairedSamples:
    """Pair two versions' answers; several files (or a column `run`) are runs of one version.

    Samples that only the new version has are of classes that the old model does not know. What it knows are
    the classes that its file names, unless `layout.old_classes` says otherwise.

    Raises:
        ValueError: the files contradict each other, or it cannot be told which samples belong together.
    """
    old_runs, new_runs = (
        [_run(part, layout, targets) for file in files for part in _split_runs(file)] for files in (old, new)
    )
    first, other = old_runs[0], new_runs[0]
    by_class = layout.top_k == 1 and all(run.target and run.prediction for run in (*old_runs, *new_runs))
    if layout.old_classes and not by_class:
        raise ValueError("old_classes= needs targets and predictions; these files say right or wrong")
    left_out = 0
    known: set[str] = set()
    if by_class:
        known = _known(old_runs, new_runs, layout)
        assert first.target is not None
        relevant = np.isin(first.target.codes, [c for c, n in enumerate(first.target.names) if n in known])
        if not relevant.any():
            raise ValueError(f"{first.file.label}: no sample is of an old class")
        left_out = int((~relevant).sum())
        if left_out:
            old_runs = [run.take(_known_samples(run, known)) for run in old_runs]
            first = old_runs[0]
    if layout.pair == "common":
        old_runs, new_runs, dropped = _common(old_runs, new_runs)
        left_out += dropped
        first, other = old_runs[0], new_runs[0]
    old_rows = [_rows(first, run, layout) for run in old_runs]
    new_rows = [_rows(first, run, layout) for run in new_runs]
    surplus = _surplus(
        first, other, new_rows[0], known, by_class=by_class, repeated=len(old_runs) + len(new_runs) > 2
    )
    for run, rows in (*zip(old_runs, old_rows, strict=True), *zip(new_runs, new_rows, strict=True)):
        _check_targets(first, run, rows)
    if by_class:
        _check_predictions(old_runs, known)
    everything = np.concatenate([new_rows[0], surplus])
    classes, old_classes = _class_list(old_runs, new_runs, known) if by_class else ((), 0)
    code = {name: number for number, name in enumerate(classes)}
    single = len(old_runs) == 1 and len(new_runs) == 1
    old_version = _version(old_runs, old_rows, old_rows[0], code, whole=by_class and single)
    new_version = _version(new_runs, new_rows, everything, code, whole=by_class and single)
    find = _Finder(first, old_rows, new_runs, new_rows, metadata, layout)
    return PairedSamples(
        ids=first.ids,
        old=old_version,
        new=new_version,
        target=_targets(first, other, surplus, code) if by_class else None,
        classes=classes,
        old_classes=old_classes,
        surplus_right=int(other.right[surplus].sum()),
        surplus=len(surplus),
        left_out=left_out,
        weight=find.weight(),
        groups=find.groups(),
        identity=_check_identity(first, (*old_runs[1:], *new_runs), (*old_rows[1:], *new_rows), layout),
    )


def _split_runs(file: PredictionFile) -> list[PredictionFile]:
    """A file with a column `run` as one file per run."""
    if file.run is None:
        return [file]
    parts = []
    for number, name in enumerate(file.run.names):
        rows = np.flatnonzero(file.run.codes == number)
        taken = pa.array(rows)
        part = replace(
            _take_scores(file, rows),
            label=f"{file.label} (run {name})",
            ids=None if file.ids is None else file.ids.take(taken),
            target=file.target.take(rows) if file.target else None,
            prediction=file.prediction.take(rows) if file.prediction else None,
            right=None if file.right is None else file.right[rows],
            run=None,
            weight=None if file.weight is None else file.weight[rows],
            groups={name: labels.take(rows) for name, labels in file.groups.items()},
            identity={name: column.take(taken) for name, column in file.identity.items()},
            unanswered=file.unanswered if number == 0 else 0,
        )
        if part.ids is not None and not distinct(part.ids):
            counts = pc.value_counts(part.ids)
            most = pc.index(counts.field("counts"), pc.max(counts.field("counts"))).as_py()
            raise ValueError(f"{part.label}: id '{counts.field('values')[most]}' comes more than once")
        parts.append(part)
    return parts


def _run(file: PredictionFile, layout: Layout, targets: PredictionFile | None) -> _Run:
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
        return _Run(file=file, ids=ids, target=None, prediction=None, right=file.right)
    target = file.target
    if targets is not None:
        assert targets.target is not None
        given = (
            targets.target
            if layout.pair == "order"
            else targets.target.take(_find_ids(file.label, ids, targets))
        )
        if target is not None:
            _refuse_differing(ids, target, file.label, given, targets.label)
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
    code = {name: number for number, name in enumerate(target.names)}
    right = prediction.as_coded_by(code) == target.codes
    run = _Run(file=file, ids=ids, target=target, prediction=prediction, right=right)
    _check_scores(run)
    if layout.top_k > 1:
        return replace(run, right=_in_top_k(run, matrix, layout.top_k))
    return run


def _in_top_k(run: _Run, matrix: NDArray[np.float64] | None, k: int) -> Booleans:
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


def _target_columns(run: _Run) -> Codes:
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


def _check_scores(run: _Run) -> None:
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


def _refuse_sample(run: _Run, bad: Booleans, why: str) -> None:
    if bad.any():
        raise ValueError(f"{run.file.label}: sample '{run.ids[int(np.flatnonzero(bad)[0])]}': {why}")


def _known(old_runs: Sequence[_Run], new_runs: Sequence[_Run], layout: Layout) -> set[str]:
    """Names of the classes that the old model knows."""
    of_old = {
        name for run in old_runs for labels in (run.target, run.prediction) if labels for name in labels.used
    }
    if not layout.old_classes:
        return of_old
    labels = of_old | {
        name for run in new_runs for labels in (run.target, run.prediction) if labels for name in labels.used
    }
    asked = [class_name(name) for name in layout.old_classes]
    if len(asked) == 1 and asked[0].isdecimal():
        if not all(label.isdecimal() for label in labels):
            raise ValueError(f"old_classes={asked[0]}: the classes have names; name the old ones")
        return {label for label in labels if int(label) < int(asked[0])}
    unknown = sorted(set(asked) - labels)
    if unknown:
        raise ValueError(f"old_classes: no sample and no prediction is of class '{unknown[0]}'")
    return set(asked)


def _named(runs: Iterable[_Run]) -> set[str]:
    """Names of the classes that are targets or predictions."""
    return {name for run in runs for labels in (run.target, run.prediction) if labels for name in labels.used}


def _known_samples(run: _Run, known: set[str]) -> Booleans:
    assert run.target is not None
    return np.isin(run.target.codes, [code for code, name in enumerate(run.target.names) if name in known])


def _common(old_runs: list[_Run], new_runs: list[_Run]) -> tuple[list[_Run], list[_Run], int]:
    """The runs on the samples that all of them have, and how many others there are."""
    runs = [*old_runs, *new_runs]
    shared = runs[0].ids
    every = runs[0].ids
    for run in runs[1:]:
        mine, theirs = same_type(shared, run.ids)
        shared = mine.filter(pc.is_in(mine, theirs))
        one, another = same_type(every, run.ids)
        every = pc.unique(pa.concat_arrays([one, another]))
    if not len(shared):
        raise ValueError(f"{runs[0].file.label} and {runs[-1].file.label} have no sample in common")
    taken = []
    for run in runs:
        theirs, mine = same_type(run.ids, shared)
        keep = pc.is_in(theirs, mine).to_numpy(zero_copy_only=False)
        part = run.take(keep)
        rows = pa.array(np.flatnonzero(keep))
        file = replace(
            part.file,
            weight=None if run.file.weight is None else run.file.weight[keep],
            groups={name: labels.take(keep) for name, labels in run.file.groups.items()},
            identity={name: column.take(rows) for name, column in run.file.identity.items()},
        )
        taken.append(replace(part, file=file))
    return taken[: len(old_runs)], taken[len(old_runs) :], len(every) - len(shared)


def _rows(first: _Run, run: _Run, layout: Layout) -> NDArray[np.int64]:
    """[N] the row of `run` for each sample of `first`.

    Raises:
        ValueError: it lacks one.
    """
    if layout.pair == "order":
        if len(run.ids) != len(first.ids):
            raise ValueError(
                f"pair=order: {first.file.label} has {len(first.ids):,} rows and "
                f"{run.file.label} {len(run.ids):,}"
            )
        return np.arange(len(first.ids))
    rows = positions(first.ids, run.ids)
    lacking = np.flatnonzero(rows == len(run.ids))
    if len(lacking):
        raise ValueError(
            f"{run.file.label}: lacks {len(lacking):,} of the samples in {first.file.label}, first "
            f"'{first.ids[int(lacking[0])]}' (pair=common compares those that both have)"
        )
    return rows


def _find_ids(label: str, ids: Column, targets: PredictionFile) -> NDArray[np.int64]:
    if targets.ids is None:
        raise ValueError(
            f"{targets.label}: no column 'id': say which with columns.id=, or pair by order with pair=order"
        )
    rows = positions(ids, targets.ids)
    lacking = np.flatnonzero(rows == len(targets.ids))
    if len(lacking):
        raise ValueError(f"{targets.label}: lacks sample '{ids[int(lacking[0])]}' of {label}")
    return rows


def _surplus(
    first: _Run, new: _Run, rows: NDArray[np.int64], known: set[str], *, by_class: bool, repeated: bool
) -> NDArray[np.int64]:
    """[S] rows of the new file that the old one has not: samples of new classes.

    Raises:
        ValueError: they may be of classes that the old model knows.
    """
    mask = np.ones(len(new.ids), np.bool_)
    mask[rows] = False
    surplus = np.flatnonzero(mask)
    if not len(surplus):
        return surplus
    name = new.ids[int(surplus[0])]
    if not by_class or repeated:
        raise ValueError(
            f"{first.file.label}: lacks {len(surplus):,} of the samples in {new.file.label}, first '{name}' "
            "(pair=common compares those that both have)"
        )
    assert new.target is not None
    of_known = surplus[
        np.isin(new.target.codes[surplus], [c for c, n in enumerate(new.target.names) if n in known])
    ]
    if len(of_known):
        sample = int(of_known[0])
        raise ValueError(
            f"{first.file.label}: lacks sample '{new.ids[sample]}', whose class "
            f"'{new.target.names[new.target.codes[sample]]}' the old model knows; give its prediction, or "
            "say with old_classes= what the old model knows (pair=common compares the samples that both have)"
        )
    return surplus


def _check_targets(first: _Run, run: _Run, rows: NDArray[np.int64]) -> None:
    if first.target is None or run.target is None or run is first:
        return
    _refuse_differing(first.ids, first.target, first.file.label, run.target.take(rows), run.file.label)


def _refuse_differing(ids: Column, one: Labels, label: str, other: Labels, other_label: str) -> None:
    """Refuse targets that differ."""
    recoded = other.as_coded_by({name: number for number, name in enumerate(one.names)})
    differing = np.flatnonzero(recoded != one.codes)
    if len(differing):
        row = int(differing[0])
        raise ValueError(
            f"sample '{ids[row]}': its target is '{one.names[one.codes[row]]}' in {label} and "
            f"'{other.names[other.codes[row]]}' in {other_label} ({len(differing):,} such)"
        )


def _check_predictions(old_runs: Sequence[_Run], known: set[str]) -> None:
    for run in old_runs:
        assert run.prediction is not None
        foreign = [code for code, name in enumerate(run.prediction.names) if name not in known]
        bad = np.flatnonzero(np.isin(run.prediction.codes, foreign))
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"{run.file.label}: sample '{run.ids[row]}' is predicted as "
                f"'{run.prediction.names[run.prediction.codes[row]]}', which is no old class"
            )


def _class_list(
    old_runs: Sequence[_Run], new_runs: Sequence[_Run], known: set[str]
) -> tuple[tuple[str, ...], int]:
    """Names of all classes, the old model's first, and how many those are."""
    labels = known | _named((*old_runs, *new_runs))
    order = sorted(labels, key=_class_order(labels))
    old = [name for name in order if name in known]
    return (*old, *(name for name in order if name not in known)), len(old)


def _class_order(labels: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    numbers = all(label.isdecimal() for label in labels)
    return lambda label: (int(label) if numbers else 0, label)


def _version(
    runs: Sequence[_Run],
    rows: Sequence[NDArray[np.int64]],
    everything: NDArray[np.int64],
    code: Mapping[str, int],
    *,
    whole: bool,
) -> Version:
    prediction, scores = None, {}
    if whole:
        assert runs[0].prediction is not None
        prediction = runs[0].prediction.as_coded_by(code)[everything]
    if len(runs) == 1:
        taken = runs[0].take(everything)
        scores = dict(taken.file.scores)
        if taken.target is not None:
            scores |= _scores_of_matrix(taken)
    return Version(
        right=np.stack([run.right[where] for run, where in zip(runs, rows, strict=True)]),
        prediction=prediction,
        scores=scores,
        unanswered=sum(run.file.unanswered for run in runs),
    )


def _scores_of_matrix(run: _Run) -> dict[str, Floats]:
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


def _targets(first: _Run, new: _Run, surplus: NDArray[np.int64], code: Mapping[str, int]) -> Codes:
    assert first.target is not None
    assert new.target is not None
    return np.concatenate([first.target.as_coded_by(code), new.target.as_coded_by(code)[surplus]])


class _Finder:
    """Weights and columns to slice by, wherever they are: in the old files, the new ones, or a third one."""

    def __init__(
        self,
        first: _Run,
        old_rows: Sequence[NDArray[np.int64]],
        new_runs: Sequence[_Run],
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
                else _find_ids(first.file.label, first.ids, metadata)
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


def _check_identity(
    first: _Run, others: Sequence[_Run], rows: Sequence[NDArray[np.int64]], layout: Layout
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
