"""Each cap held against the evidence.

A test set is a sample, so that a cap is held against an interval: PASS where the interval ends within the
cap, FAIL where it begins above it, UNDECIDED in between.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from results.gate.groups import Groups
from results.gate.intervals import (
    MOST_SAMPLES,
    paired_difference_interval,
    rate_interval,
    samples_by_error,
    samples_to_decide,
)
from results.gate.pairing import PairedSamples
from results.gate.policy import Policy
from results.gate.rates import FlipRates, flip_rates
from results.statistics import Interval, dirichlet_interval

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]
Cells = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One cap, held against the evidence."""

    name: str
    verdict: Verdict
    message: str
    cap: float | None = None
    interval: Interval | None = None
    samples_to_decide: int | None = None
    """About how many samples decide in 80 % of test sets at the same rate; None where decided, or where no
    number would."""


def overall(checks: Collection[Check]) -> Verdict:
    """FAIL if anything fails, else UNDECIDED if anything is, else PASS."""
    verdicts = {check.verdict for check in checks}
    return "FAIL" if "FAIL" in verdicts else "UNDECIDED" if "UNDECIDED" in verdicts else "PASS"


def check_all(
    samples: PairedSamples, policy: Policy, *, classes: Groups | None, slices: Groups | None
) -> list[Check]:
    """Every cap's check, in the order of `policy.CAPS`, the critical samples last.

    Raises:
        ValueError: a cap that these files cannot tell, or a critical sample that is not compared.
    """
    checks = []
    if policy.max_nfr is not None:
        checks.append(_nfr(samples, policy.max_nfr, policy.level))
    if policy.max_rel_nfr is not None:
        _refuse_runs(samples, "max_rel_nfr")
        checks.append(_rel_nfr(samples, policy.max_rel_nfr, policy.level))
    if policy.max_class_nfr is not None:
        if classes is None:
            raise ValueError("max_class_nfr= needs classes; these files say right or wrong (try slices=)")
        checks.append(_family("max_class_nfr", classes, policy.max_class_nfr, policy.level, least=1))
    if policy.max_slice_nfr is not None:
        assert slices is not None
        least = policy.min_slice_samples
        checks.append(_family("max_slice_nfr", slices, policy.max_slice_nfr, policy.level, least=least))
    if policy.max_error_increase is not None:
        checks.append(_error_increase(samples, policy.max_error_increase, policy.level))
    if policy.max_churn is not None:
        _refuse_runs(samples, "max_churn")
        checks.append(_churn(samples, policy.max_churn, policy.level))
    if policy.max_nfi is not None:
        _refuse_runs(samples, "max_nfi")
        checks.append(_nfi(samples, policy.max_nfi, policy.level))
    if policy.critical is not None:
        checks.append(_critical(samples, policy.critical))
    return checks


def cells_of(samples: PairedSamples) -> Cells:
    """Samples with (both right, a negative flip, a positive flip, both wrong): counts, sums of weights, or
    means over the pairs of runs.
    """
    if not samples.repeated:
        old, new = samples.old.right[0], samples.new.right[0]
        weight = samples.weight
        masks = (old & new, old & ~new, ~old & new, ~old & ~new)
        if weight is None:
            return tuple(int(np.count_nonzero(mask)) for mask in masks)  # type: ignore[return-value]
        return tuple(float(weight[mask].sum()) for mask in masks)  # type: ignore[return-value]
    p, q = samples.old.share_right, samples.new.share_right
    w = np.ones(len(samples)) if samples.weight is None else samples.weight
    parts = (p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q))
    return tuple(float((part * w).sum()) for part in parts)  # type: ignore[return-value]


def rel_nfr_interval(cells: Cells, level: float) -> Interval:
    """The Rel-NFR from counts of (both right, negative flips, positive flips, both wrong)."""
    right, negative, _, wrong = cells
    errors = (right + negative) * (negative + wrong)
    estimate = negative * sum(cells) / errors if errors else 0.0

    def rel_nfr(p: NDArray[np.float64]) -> NDArray[np.float64]:
        kept, lost, _, wrong = np.moveaxis(p, -1, 0)
        rates: NDArray[np.float64] = lost / ((kept + lost) * (lost + wrong))
        return rates

    low, high = dirichlet_interval(cells, rel_nfr, level=level)  # type: ignore[arg-type]
    return Interval(estimate, min(low, estimate), max(high, estimate))


def error_increase(samples: PairedSamples, level: float) -> tuple[Interval, float]:
    """The new error rate less the old one, with Tango's interval, and the effective number of samples."""
    if not samples.repeated and samples.weight is None:
        _, lost, gained, _ = cells_of(samples)
        low, high = paired_difference_interval(lost, gained, len(samples), level)
        return Interval((lost - gained) / len(samples), low, high), float(len(samples))
    p, q = samples.old.share_right, samples.new.share_right
    w = np.ones(len(samples)) if samples.weight is None else samples.weight
    share = w / w.sum()
    lost, gained = float((share * p * (1 - q)).sum()), float((share * q * (1 - p)).sum())
    estimate = lost - gained
    effective = float(1 / (share**2).sum())  # Kish's number; the samples themselves without weights
    variance = float((share**2 * (p - q - estimate) ** 2).sum())
    for version in (samples.old, samples.new):
        if version.runs > 1:
            variance += float(np.var(version.right @ share, ddof=1)) / version.runs
    if variance > 0:
        effective = min(effective, (lost + gained - estimate**2) / variance)
    low, high = paired_difference_interval(lost * effective, gained * effective, effective, level)
    return Interval(estimate, low, high), effective


def _refuse_runs(samples: PairedSamples, name: str) -> None:
    if samples.repeated:
        raise ValueError(f"{name}= is defined for one run of each version only (max_nfr= takes several)")


def _nfr(samples: PairedSamples, cap: float, level: float) -> Check:
    rates = flip_rates(samples)
    interval = _interval_of(rates.held, *rates.interval(level))
    verdict = decide(interval, cap)
    needed = None
    if verdict == "UNDECIDED":
        needed = _needs(rates, cap, level)
    what = "NFR"
    if rates.noise is not None:
        what = "NFR that the update adds"
    more = (
        f" ({rates.nfr[0]:.2%} in all, {rates.noise[0]:.2%} between runs of the old version)"
        if rates.noise is not None
        else ""
    )
    return Check(
        name="max_nfr",
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"{what} {_against(interval, cap)}{more}{_advice(verdict, needed, _of_old(samples))}",
    )


def _needs(rates: FlipRates, cap: float, level: float) -> int | None:
    if rates.noise is None:
        scale = float(rates.samples[0] / rates.effective[0])
        needed = samples_to_decide(rates.nfr, cap, rates.effective, level)[0]
        return None if np.isnan(needed) else int(np.ceil(needed * scale))
    return samples_by_error(
        float(rates.held[0]), cap, _error(rates.interval(level), level), int(rates.samples[0]), level
    )


def _error(ends: tuple[NDArray[np.float64], NDArray[np.float64]], level: float) -> float:
    """About the standard error, from the width of an interval."""
    from scipy.stats import norm

    return float((ends[1][0] - ends[0][0]) / (2 * norm.ppf((1 + level) / 2)))


def _rel_nfr(samples: PairedSamples, cap: float, level: float) -> Check:
    cells = cells_of(samples)
    if samples.weight is not None:
        effective = flip_rates(samples).effective[0]
        total = sum(cells)
        cells = tuple(cell * effective / total for cell in cells)
    interval = rel_nfr_interval(cells, level)
    verdict = decide(interval, cap)
    needed = None
    if verdict == "UNDECIDED":
        error = (interval.high - interval.low) / (2 * _z(level))
        needed = samples_by_error(interval.estimate, cap, error, len(samples), level)
    advice = _advice(verdict, needed, _of_old(samples))
    if advice and not cells[1] + cells[3]:  # of which share of no errors at all is a flip?
        needed = None
        advice = "; the new model makes no error here, so a share of its errors cannot be told (try max_nfr=)"
    return Check(
        name="max_rel_nfr",
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"Rel-NFR {_against(interval, cap)}{advice}",
    )


def _z(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))


def _family(name: str, groups: Groups, cap: float, level: float, *, least: int) -> Check:
    """An interval for each group; to FAIL, one must stand out even among so many (Bonferroni).

    To PASS, every group must, which needs no correction: the chance that a group above the cap passes by
    luck is no higher for others being there.
    """
    kind = groups.kind
    where = np.flatnonzero(groups.rates.samples >= least)
    if not len(where):
        raise ValueError(f"{name}: no {kind} has {least} samples")
    rates = groups.rates.at(where)
    strict = 1 - (1 - level) / len(where)
    low, high = rates.interval(level)
    strict_low, strict_high = rates.interval(strict)
    failing = strict_low > cap
    undecided = (high > cap) & ~failing
    verdict: Verdict = "FAIL" if failing.any() else "UNDECIDED" if undecided.any() else "PASS"
    worst = int(np.lexsort((high, rates.held, low))[-1])
    ends = float(low[worst]), float(high[worst])
    needed: int | None = None
    if verdict == "UNDECIDED":
        # One group that fails decides; otherwise all must pass, the one that takes longest included.
        open_groups = np.flatnonzero(high > cap)
        needs = _group_needs(rates.at(open_groups), cap, level, strict)
        above = (rates.held[open_groups] > cap) & ~np.isnan(needs)
        if above.any():
            chosen = int(np.argmin(np.where(above, needs, np.inf)))
        else:
            chosen = int(np.argmax(np.where(np.isnan(needs), MOST_SAMPLES, needs)))
        worst = int(open_groups[chosen])
        needed = None if np.isnan(needs[chosen]) else int(np.ceil(needs[chosen]))
        ends = float(low[worst]), float(high[worst])
        if ends[0] > cap:  # by itself it would fail; shown is what it is held against
            ends = float(strict_low[worst]), float(strict_high[worst])
    elif verdict == "FAIL":
        worst = int(np.argmax(strict_low))
        ends = float(strict_low[worst]), float(strict_high[worst])
    interval = Interval(float(rates.held[worst]), *ends)
    count = int(failing.sum()) if verdict == "FAIL" else int((high > cap).sum())
    plural = "classes" if kind == "class" else "slices"
    many = "" if verdict == "PASS" else f"; {count} of {len(where)} {plural} {verdict}"
    small = len(groups.values) - len(where)
    left = ""
    if small:
        which = f"{kind} has" if small == 1 else f"{plural} have"
        left = f"; {small} {which} fewer than {least} samples and no cap"
    added = "" if rates.noise is None else " that the update adds"
    return Check(
        name=name,
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"{groups.name(int(where[worst]))}: NFR{added} {_against(interval, cap)}{many}"
        f"{_advice(verdict, needed, f'samples of that {kind}')}{left}",
    )


def _group_needs(rates: FlipRates, cap: float, level: float, strict: float) -> NDArray[np.float64]:
    if rates.noise is None:
        scale = rates.samples / rates.effective
        return samples_to_decide(rates.nfr, cap, rates.effective, level, strict) * scale
    low, high = rates.interval(level)
    needs = [
        samples_by_error(float(held), cap, float(end - begin) / (2 * _z(level)), int(n), level)
        for held, begin, end, n in zip(rates.held, low, high, rates.samples, strict=True)
    ]
    return np.array([np.nan if n is None else n for n in needs], float)


def _error_increase(samples: PairedSamples, cap: float, level: float) -> Check:
    interval, _ = error_increase(samples, level)
    verdict = decide(interval, cap)
    needed = None
    if verdict == "UNDECIDED":
        error = (interval.high - interval.low) / (2 * _z(level))
        needed = samples_by_error(interval.estimate, cap, error, len(samples), level)
    return Check(
        name="max_error_increase",
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"error rate {_signed(interval)} against a cap of +{cap:.2%}"
        f"{_advice(verdict, needed, _of_old(samples))}",
    )


def _signed(interval: Interval) -> str:
    return f"{interval.estimate:+.2%} [{interval.low:+.2%}, {interval.high:+.2%}]"


def _churn(samples: PairedSamples, cap: float, level: float) -> Check:
    old, new = samples.old.prediction, samples.new.prediction
    if old is None or new is None:
        raise ValueError("max_churn= needs the predictions of both versions; these files say right or wrong")
    differing = old != new[: len(old)]
    share = np.ones(len(old)) if samples.weight is None else samples.weight
    estimate = float((differing * share).sum() / share.sum())
    effective = float(share.sum() ** 2 / (share**2).sum())
    return _simple_rate("max_churn", "churn", estimate, effective, len(old), cap, level, _of_old(samples))


def _nfi(samples: PairedSamples, cap: float, level: float) -> Check:
    """Given the number of the new model's errors, the flips among them are binomial."""
    wrong = ~samples.new.right[0]
    flips = wrong & samples.old.right[0]
    share = np.ones(len(samples)) if samples.weight is None else samples.weight
    errors = float(share[wrong].sum())
    if not errors:
        interval = Interval(0.0, 0.0, 1.0)
        message = (
            f"NFI {_against(interval, cap)}; the new model makes no error here, of which a share could flip"
        )
        return Check(
            name="max_nfi", verdict=decide(interval, cap), cap=cap, interval=interval, message=message
        )
    effective = errors**2 / float((share[wrong] ** 2).sum())
    estimate = float(share[flips].sum()) / errors
    count = int(np.count_nonzero(wrong))
    return _simple_rate("max_nfi", "NFI", estimate, effective, count, cap, level, "errors of the new model")


def _simple_rate(
    name: str, title: str, estimate: float, effective: float, count: int, cap: float, level: float, what: str
) -> Check:
    low, high = rate_interval(estimate, effective, level)
    interval = Interval(estimate, float(low), float(high))
    verdict = decide(interval, cap)
    needed: int | None = None
    if verdict == "UNDECIDED":
        found = samples_to_decide(estimate, cap, effective, level)[0] * count / effective
        needed = None if np.isnan(found) else int(np.ceil(found))
    return Check(
        name=name,
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"{title} {_against(interval, cap)}{_advice(verdict, needed, what)}",
    )


def _critical(samples: PairedSamples, critical: Collection[str]) -> Check:
    """With several runs, a sample flips that most old runs get right and at least one new run gets wrong."""
    names = samples.ids.cast(pa.string())
    rows = pc.index_in(pa.array(list(critical), pa.string()), names)
    unknown = [name for name, row in zip(critical, rows.to_pylist(), strict=True) if row is None]
    if unknown:
        raise ValueError(
            f"critical: sample '{unknown[0]}' is not among the compared samples ({len(unknown)} such)"
        )
    where = np.array(rows.to_pylist(), np.int64)
    flips = (samples.old.share_right[where] > 0.5) & (samples.new.share_right[where] < 1)
    flipped = [name for name, flip in zip(critical, flips.tolist(), strict=True) if flip]
    if not flipped:
        message = f"none of {len(critical)} critical samples flips"
        return Check(name="critical", verdict="PASS", message=message)
    shown = ", ".join(f"'{name}'" for name in flipped[:5]) + (", ..." if len(flipped) > 5 else "")
    message = f"{len(flipped)} of {len(critical)} critical samples flip: {shown}"
    return Check(name="critical", verdict="FAIL", message=message)


def decide(interval: Interval, cap: float) -> Verdict:
    """PASS, FAIL or UNDECIDED by the ends of an interval."""
    return "PASS" if interval.high <= cap else "FAIL" if interval.low > cap else "UNDECIDED"


def _interval_of(
    estimate: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> Interval:
    return Interval(float(estimate[0]), float(low[0]), float(high[0]))


def _of_old(samples: PairedSamples) -> str:
    return "samples of old classes" if samples.target is not None else "samples"


def _against(interval: Interval, cap: float) -> str:
    return f"{interval.estimate:.2%} [{interval.low:.2%}, {interval.high:.2%}] against a cap of {cap:.2%}"


def _advice(verdict: Verdict, needed: int | None, what: str) -> str:
    if verdict != "UNDECIDED":
        return ""
    if needed is None:
        return "; at this rate no number of samples would decide"
    return f"; {needed:,} {what} would decide in 80 % of cases"
