"""Every metric of an update, as arithmetic on two models' predictions.

Rates are fractions of 1. N counts the samples that the old model was tested on (samples of old classes).
A rate whose denominator is 0 takes the value of an update without flips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from results.predictions import Booleans, Floats, Predictions


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """Name, meaning and format of one number in a table."""

    title: str
    meaning: str
    better: Literal["low", "high"] | None = "low"
    unit: Literal["%", ""] = "%"
    digits: int = 2
    """Digits after the decimal point."""


METRICS: dict[str, Metric] = {
    "er_old": Metric(title="ER old", meaning="error rate on samples of old classes"),
    "er_all": Metric(title="ER all", meaning="error rate on samples of all classes"),
    "nfr": Metric(title="NFR", meaning="negative flips (old right, new wrong) / N"),
    "rel_nfr": Metric(title="Rel-NFR", meaning="NFR / ((1 - ER of the old model) * ER of the new one)"),
    "pfr": Metric(title="PFR", meaning="positive flips (old wrong, new right) / N", better="high"),
    "nfi": Metric(title="NFI", meaning="negative flips / errors of the new model"),
    "btc": Metric(title="BTC", meaning="both right / old right", better="high"),
    "bec": Metric(title="BEC", meaning="both wrong / new wrong (denominator: the new errors)", better="high"),
    "churn": Metric(title="Churn", meaning="share of N on which the two predictions differ"),
    "nfr_to_new": Metric(title="NFR to new", meaning="negative flips into a new class / N"),
    "nfr_to_old": Metric(title="NFR to old", meaning="negative flips into another old class / N"),
    "confidence_weighted_nfr": Metric(
        title="NFR by confidence",
        meaning="mean over N of p(prediction) - p(target) where the flip is negative, else 0",
    ),
    "margin_old": Metric(
        title="Old margin", meaning="mean margin of the old model's logits", better=None, unit=""
    ),
    "margin_new": Metric(
        title="New margin", meaning="mean margin of the new model's logits", better="high", unit=""
    ),
    "margin_kept": Metric(
        title="Margin kept",
        meaning="where old was right: new margins, cut to [0, old margin], summed / old margins summed",
        better="high",
    ),
    "er_old_model": Metric(title="ER old model", meaning="error rate of the old model on N", better=None),
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pair:
    """Two models' predictions on the same N samples, row by row."""

    old: Predictions
    new: Predictions

    @property
    def negative(self) -> Booleans:
        """[N] negative flips: the old model is right and the new one wrong."""
        return self.old.right & ~self.new.right

    @property
    def positive(self) -> Booleans:
        """[N] positive flips: the old model is wrong and the new one right."""
        return ~self.old.right & self.new.right


def pair(old: Predictions, new: Predictions) -> Pair:
    """The new model's predictions on the old model's samples, in the old model's order.

    Raises:
        ValueError: the old model's predictions are empty, the new model's lack one of the samples, or the
            two disagree about a target.
    """
    if not len(old):
        raise ValueError("the old model's predictions hold no sample")
    order = np.argsort(new.index)
    where = np.searchsorted(new.index, old.index, sorter=order)
    found = where < len(new)
    found[found] = new.index[order[where[found]]] == old.index[found]
    if not found.all():
        raise ValueError(f"the new model's predictions lack sample {old.index[~found][0]} of the old model's")
    aligned = new.take(order[where])
    differing = aligned.target != old.target
    if differing.any():
        raise ValueError(f"the two files disagree about the target of sample {old.index[differing][0]}")
    return Pair(old=old, new=aligned)


def compare(old: Predictions, new: Predictions, *, old_classes: int) -> dict[str, float]:
    """The metrics of `METRICS` that follow from two models' predictions, by name, and the sample counts.

    `old` holds exactly the samples of the old classes 0..old_classes-1, `new` these and any others.

    Raises:
        ValueError: that does not hold (see also `pair`).
    """
    both = pair(old, new)
    _check_classes(old, new, old_classes)
    samples = len(old)
    old_right, new_right, negative = both.old.right, both.new.right, both.negative
    old_rights, new_wrongs, flips = int(old_right.sum()), int((~new_right).sum()), int(negative.sum())
    flips_to_new = int((negative & (both.new.prediction >= old_classes)).sum())
    return {
        "er_old": new_wrongs / samples,
        "er_all": error_rate(new),
        "nfr": flips / samples,
        "rel_nfr": _ratio(flips * samples, old_rights * new_wrongs, empty=0.0),
        "pfr": int(both.positive.sum()) / samples,
        "nfi": _ratio(flips, new_wrongs, empty=0.0),
        "btc": _ratio(int((old_right & new_right).sum()), old_rights, empty=1.0),
        "bec": _ratio(int((~old_right & ~new_right).sum()), new_wrongs, empty=1.0),
        "churn": int((both.old.prediction != both.new.prediction).sum()) / samples,
        "nfr_to_new": flips_to_new / samples,
        "nfr_to_old": (flips - flips_to_new) / samples,
        "er_old_model": (samples - old_rights) / samples,
        **_confidence_metrics(both.new, negative),
        **_margin_metrics(both.old.margin, both.new.margin, old_right),
        "samples_old": samples,
        "samples_all": len(new),
    }


def alone(predictions: Predictions, *, on: Literal["old", "all"]) -> dict[str, float]:
    """Error rate and sample count of an old model or a reference, which is not compared with another."""
    return {f"er_{on}": error_rate(predictions), f"samples_{on}": len(predictions)}


def error_rate(predictions: Predictions) -> float:
    """Share of the samples with a wrong prediction.

    Raises:
        ValueError: there are no samples.
    """
    if not len(predictions):
        raise ValueError("the predictions hold no sample")
    return int((~predictions.right).sum()) / len(predictions)


def _confidence_metrics(new: Predictions, negative: Booleans) -> dict[str, float]:
    if new.confidence is None or new.target_confidence is None:
        return {}
    lost = new.confidence.astype(np.float64) - new.target_confidence
    return {"confidence_weighted_nfr": float(np.mean(negative * lost))}


def _margin_metrics(old: Floats | None, new: Floats | None, old_right: Booleans) -> dict[str, float]:
    if old is None or new is None:
        return {}
    had = old[old_right].astype(np.float64)
    kept = np.clip(new[old_right].astype(np.float64), 0.0, had)
    return {
        "margin_old": float(old.mean(dtype=np.float64)),
        "margin_new": float(new.mean(dtype=np.float64)),
        "margin_kept": _ratio(float(kept.sum()), float(had.sum()), empty=1.0),
    }


def _check_classes(old: Predictions, new: Predictions, old_classes: int) -> None:
    for what, classes in (("targets", old.target), ("predictions", old.prediction)):
        if classes.max() >= old_classes:
            raise ValueError(
                f"the old model's {what} hold class {classes.max()}, but it knows {old_classes} classes"
            )
    samples_of_old_classes = int((new.target < old_classes).sum())
    if samples_of_old_classes != len(old):
        raise ValueError(
            f"the new model's predictions hold {samples_of_old_classes} samples of old classes, "
            f"the old model's hold {len(old)}"
        )


def _ratio(numerator: float, denominator: float, *, empty: float) -> float:
    return numerator / denominator if denominator else empty
