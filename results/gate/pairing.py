"""Two versions' answers on the same samples, row by row: what every number of the gate is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.columns import PredictionFile
from results.gate.context import Context, check_identity
from results.gate.ids import positions, same_type
from results.gate.layout import Layout
from results.gate.runs import Run, read_run, refuse_differing, scores_of_matrix, split_runs
from results.gate.values import Booleans, Codes, Column, Floats, Labels, class_name
from results.predictions import Predictions


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
        [read_run(part, layout, targets) for file in files for part in split_runs(file)]
        for files in (old, new)
    )
    if layout.pair == "order":
        ordered = _in_order([*old_runs, *new_runs])
        old_runs, new_runs = ordered[: len(old_runs)], ordered[len(old_runs) :]
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
    old_rows = [_rows(first, run) for run in old_runs]
    new_rows = [_rows(first, run) for run in new_runs]
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
    find = Context(first, old_rows, new_runs, new_rows, metadata, layout)
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
        identity=check_identity(first, (*old_runs[1:], *new_runs), (*old_rows[1:], *new_rows), layout),
    )


def _known(old_runs: Sequence[Run], new_runs: Sequence[Run], layout: Layout) -> set[str]:
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


def _named(runs: Iterable[Run]) -> set[str]:
    """Names of the classes that are targets or predictions."""
    return {name for run in runs for labels in (run.target, run.prediction) if labels for name in labels.used}


def _known_samples(run: Run, known: set[str]) -> Booleans:
    assert run.target is not None
    return np.isin(run.target.codes, [code for code, name in enumerate(run.target.names) if name in known])


def _common(old_runs: list[Run], new_runs: list[Run]) -> tuple[list[Run], list[Run], int]:
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
        taken.append(run.take(keep))
    return taken[: len(old_runs)], taken[len(old_runs) :], len(every) - len(shared)


def _rows(first: Run, run: Run) -> NDArray[np.int64]:
    """[N] the row of `run` for each sample of `first`.

    Raises:
        ValueError: it lacks one.
    """
    rows = positions(first.ids, run.ids)
    lacking = np.flatnonzero(rows == len(run.ids))
    if len(lacking):
        raise ValueError(
            f"{run.file.label}: lacks {len(lacking):,} of the samples in {first.file.label}, first "
            f"'{first.ids[int(lacking[0])]}' (pair=common compares those that both have)"
        )
    return rows


def _in_order(runs: Sequence[Run]) -> list[Run]:
    """Runs whose rows belong together by their order: from now on under the ids of the first.

    Raises:
        ValueError: they have different numbers of rows, or ids in another order.
    """
    first = runs[0]
    for run in runs[1:]:
        if len(run.ids) != len(first.ids):
            raise ValueError(
                f"pair=order: {first.file.label} has {len(first.ids):,} rows and "
                f"{run.file.label} {len(run.ids):,}"
            )
        if first.file.ids is not None and run.file.ids is not None:
            _refuse_other_order(first, run)
    return [replace(run, ids=first.ids) for run in runs]


def _refuse_other_order(first: Run, run: Run) -> None:
    """Refuse to pair two files by order whose ids say that the order differs."""
    mine, theirs = same_type(first.ids, run.ids)
    differing = np.flatnonzero(~pc.equal(mine, theirs).to_numpy(zero_copy_only=False))
    if len(differing):
        row = int(differing[0])
        raise ValueError(
            f"pair=order: row {row + 1} is sample '{mine[row]}' in {first.file.label} and '{theirs[row]}' in "
            f"{run.file.label}"
        )


def _surplus(
    first: Run, new: Run, rows: NDArray[np.int64], known: set[str], *, by_class: bool, repeated: bool
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


def _check_targets(first: Run, run: Run, rows: NDArray[np.int64]) -> None:
    if first.target is None or run.target is None or run is first:
        return
    refuse_differing(first.ids, first.target, first.file.label, run.target.take(rows), run.file.label)


def _check_predictions(old_runs: Sequence[Run], known: set[str]) -> None:
    for run in old_runs:
        assert run.prediction is not None
        foreign = [code for code, name in enumerate(run.prediction.names) if name not in known]
        bad = np.flatnonzero(np.isin(run.prediction.codes, foreign))
        if len(bad):
            row = int(bad[0])
            raise ValueError(
                f"{run.file.label}: sample '{run.ids[row]}' is predicted as "
                f"'{run.prediction.names[run.prediction.codes[row]]}', which is not an old class"
            )


def _class_list(
    old_runs: Sequence[Run], new_runs: Sequence[Run], known: set[str]
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
    runs: Sequence[Run],
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
            scores |= scores_of_matrix(taken)
    return Version(
        right=np.stack([run.right[where] for run, where in zip(runs, rows, strict=True)]),
        prediction=prediction,
        scores=scores,
        unanswered=sum(run.file.unanswered for run in runs),
    )


def _targets(first: Run, new: Run, surplus: NDArray[np.int64], code: Mapping[str, int]) -> Codes:
    assert first.target is not None
    assert new.target is not None
    return np.concatenate([first.target.as_coded_by(code), new.target.as_coded_by(code)[surplus]])
