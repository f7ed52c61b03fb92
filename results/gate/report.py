"""All that is known about an update: the verdict, its checks, the metrics, the groups and the flips."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from results.gate.checks import (
    Cells,
    Check,
    Verdict,
    cells_of,
    check_all,
    error_increase,
    overall,
    rel_nfr_interval,
)
from results.gate.groups import GroupRow, Groups, by_class, by_slices
from results.gate.pairing import PairedSamples
from results.gate.policy import Policy
from results.gate.rates import FlipRates, flip_rates, noise_of
from results.metrics import compare as metrics_of_predictions
from results.statistics import Interval, mcnemar

EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "UNDECIDED": 3}


@dataclass(frozen=True, kw_only=True, eq=False)
class GateReport:
    """What an update changes, and whether it may be released."""

    samples: PairedSamples
    policy: Policy
    checks: tuple[Check, ...]
    class_groups: Groups | None
    slice_groups: Groups | None

    @property
    def verdict(self) -> Verdict | None:
        """The worst of the checks; None where nothing was asked."""
        return overall(self.checks) if self.checks else None

    @property
    def exit_code(self) -> int:
        """0 for PASS or no cap, 1 for FAIL, 3 for UNDECIDED (or what the policy makes of it)."""
        if self.verdict == "UNDECIDED" and self.policy.undecided:
            return 0 if self.policy.undecided == "pass" else 1
        return EXIT_CODES[self.verdict or "PASS"]

    @functools.cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics of `results.metrics` that the files tell; rates are fractions of 1."""
        return metrics_of(self.samples)

    @functools.cached_property
    def rates(self) -> FlipRates:
        """The NFR over all samples, and with several runs its noise."""
        return flip_rates(self.samples)

    @functools.cached_property
    def nfr(self) -> Interval:
        """The NFR with its interval."""
        low, high = self.rates.nfr_interval(self.policy.level)
        return Interval(float(self.rates.nfr[0]), float(low[0]), float(high[0]))

    @functools.cached_property
    def added_nfr(self) -> Interval | None:
        """What the update adds to the noise of the old version; None where that has one run."""
        if self.rates.noise is None:
            return None
        low, high = self.rates.interval(self.policy.level)
        return Interval(float(self.rates.held[0]), float(low[0]), float(high[0]))

    @functools.cached_property
    def rel_nfr(self) -> Interval | None:
        """The relative NFR with its interval; None for several runs, where it is not defined."""
        if self.samples.repeated:
            return None
        cells: Cells = cells_of(self.samples)
        scale = float(self.rates.effective[0]) / sum(cells)
        if self.samples.weight is None:
            return rel_nfr_interval(cells, self.policy.level)
        return rel_nfr_interval(tuple(cell * scale for cell in cells), self.policy.level)  # type: ignore[arg-type]

    @functools.cached_property
    def error_increase(self) -> Interval:
        """The new error rate less the old one, with its paired interval."""
        return error_increase(self.samples, self.policy.level)[0]

    @property
    def noise(self) -> tuple[float | None, float | None]:
        """The NFR between two runs of the old version, and of the new one."""
        return noise_of(self.samples.old, self.samples), noise_of(self.samples.new, self.samples)

    @functools.cached_property
    def flip_counts(self) -> tuple[float, float]:
        """How many samples flip negatively and positively; means over pairs of runs."""
        p, q = self.samples.old.share_right, self.samples.new.share_right
        lost, gained = float((p * (1 - q)).sum()), float((q * (1 - p)).sum())
        return (lost, gained) if self.samples.repeated else (int(lost), int(gained))

    @property
    def mcnemar_p(self) -> float | None:
        """Two-sided p of the exact McNemar test; None for weights or several runs."""
        if self.samples.repeated or self.samples.weight is not None:
            return None
        return mcnemar(*(int(count) for count in self.flip_counts))

    @functools.cached_property
    def classes(self) -> list[GroupRow]:
        """Each old class, the worst NFR first."""
        return [] if self.class_groups is None else self.class_groups.rows(self.policy.level)

    @functools.cached_property
    def slices(self) -> list[GroupRow]:
        """Each slice, the worst NFR first."""
        return [] if self.slice_groups is None else self.slice_groups.rows(self.policy.level)

    def flips(self, kind: str = "", most: int | None = None) -> list[dict[str, Any]]:
        """Flipped samples: negative ones first, of each kind the new model's most confident ones first.

        Args:
            kind: `negative` or `positive`; both where empty.
            most: of each kind, at most so many.
        """
        return [
            row
            for each in ("negative", "positive")
            if kind in ("", each)
            for row in _flips(self.samples, each, most)
        ]


def judge(samples: PairedSamples, policy: Policy) -> GateReport:
    """Hold an update against a policy.

    Raises:
        ValueError: a cap, a slice or a critical sample that the files do not tell.
    """
    classes, slices = by_class(samples), by_slices(samples, policy.slices)
    checks = check_all(samples, policy, classes=classes, slices=slices)
    return GateReport(
        samples=samples, policy=policy, checks=tuple(checks), class_groups=classes, slice_groups=slices
    )


def metrics_of(samples: PairedSamples) -> dict[str, float]:
    """The metrics by name, from predictions where there are, else from the four counts."""
    if samples.target is not None and not samples.repeated and samples.weight is None:
        old, new = samples.as_predictions()
        metrics = metrics_of_predictions(old, new, old_classes=samples.old_classes)
        if samples.old.unanswered or samples.new.unanswered:
            # A flip to an absent answer goes to neither an old nor a new class.
            metrics.pop("nfr_to_new")
            metrics.pop("nfr_to_old")
            metrics["churn"] = _churn(samples)
        return metrics
    right, negative, positive, wrong = cells_of(samples)
    total = right + negative + positive + wrong
    old_right, new_wrong = right + negative, negative + wrong
    er_new = new_wrong / total
    nfr = negative / total
    metrics = {
        "er_old": er_new,
        "er_all": (er_new * len(samples) + samples.surplus - samples.surplus_right)
        / (len(samples) + samples.surplus),
        "nfr": nfr,
        "rel_nfr": nfr * total**2 / (old_right * new_wrong) if old_right and new_wrong else 0.0,
        "pfr": positive / total,
        "nfi": negative / new_wrong if new_wrong else 0.0,
        "btc": right / old_right if old_right else 1.0,
        "bec": wrong / new_wrong if new_wrong else 1.0,
        "er_old_model": (positive + wrong) / total,
        "samples_old": len(samples),
        "samples_all": len(samples) + samples.surplus,
    }
    if samples.surplus and samples.weight is not None:
        del metrics["er_all"]  # the weights of the samples of new classes are not known
    if samples.old.prediction is not None and samples.new.prediction is not None:
        metrics["churn"] = _churn(samples)
    if samples.repeated:
        for name in ("rel_nfr", "nfi", "btc", "bec"):  # ratios of means over runs say nothing of any run
            del metrics[name]
    return metrics


def _churn(samples: PairedSamples) -> float:
    assert samples.old.prediction is not None
    assert samples.new.prediction is not None
    differing = samples.old.prediction != samples.new.prediction[: len(samples)]
    return float(np.average(differing, weights=samples.weight))


def _flips(samples: PairedSamples, kind: str, most: int | None) -> list[dict[str, Any]]:
    p, q = samples.old.share_right, samples.new.share_right
    strength = p * (1 - q) if kind == "negative" else q * (1 - p)
    where = np.flatnonzero(strength > 0)
    confidence = samples.new.scores.get("confidence")
    keys = [_by_id(samples, where)]
    if confidence is not None:
        keys.append(-confidence[where])
    keys.append(-strength[where])
    where = where[np.lexsort(keys)][:most]
    ids = samples.ids.take(pa.array(where)).to_pylist()
    columns: dict[str, list[Any]] = {"id": [str(name) for name in ids], "flip": [kind] * len(where)}
    if samples.target is not None:
        columns["target"] = _names(samples, samples.target[where])
    for name, version in (("old", samples.old), ("new", samples.new)):
        if version.runs > 1 or samples.repeated:
            right = version.right[:, where].sum(axis=0).tolist()
            columns[f"{name}_right"] = [f"{count}/{version.runs}" for count in right]
        elif version.prediction is not None:
            columns[name] = _names(samples, version.prediction[where])
    for name, version in (("old", samples.old), ("new", samples.new)):
        if "confidence" in version.scores:
            scores = version.scores["confidence"][where].tolist()
            columns[f"{name}_confidence"] = [round(score, 6) for score in scores]
    for name, labels in samples.groups.items():
        columns.setdefault(name, [labels.names[code] for code in labels.codes[where].tolist()])
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _by_id(samples: PairedSamples, where: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What sorts samples by id: the number, or the rank of the text."""
    ids = samples.ids.take(pa.array(where))
    if pa.types.is_integer(ids.type):
        return np.asarray(ids.to_numpy(zero_copy_only=False))
    import pyarrow.compute as pc

    return np.asarray(pc.rank(ids, sort_keys="ascending").to_numpy(zero_copy_only=False))


def _names(samples: PairedSamples, codes: np.ndarray[Any, Any]) -> list[str]:
    return ["" if code < 0 else samples.classes[code] for code in codes.tolist()]
