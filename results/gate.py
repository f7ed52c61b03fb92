"""The release gate: may a new model replace the old one, given how many right answers may be lost?

Every cap is held against a 95 % interval, because a test set is a sample: PASS where the interval ends
within the cap, FAIL where it begins above it, UNDECIDED in between.
"""

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from results.metrics import pair
from results.reading import Update
from results.statistics import LEVEL, Interval, binomial_interval, dirichlet_interval

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]
EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "UNDECIDED": 3}
MOST_SAMPLES = 10**9


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What a new model may lose; None where nothing is asked."""

    nfr: float | None = None
    rel_nfr: float | None = None
    class_nfr: float | None = None
    critical: Collection[str] | None = None
    """Ids of samples that may not flip at all."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One cap, held against the evidence."""

    name: str
    verdict: Verdict
    message: str
    cap: float | None = None
    interval: Interval | None = None
    samples_to_decide: int | None = None
    """About how many samples would decide at the same rate; None where decided, or where none would."""


def check(update: Update, caps: Caps) -> list[Check]:
    """Each cap's check, in the order of `Caps`. Raises ValueError for a critical id that is not paired."""
    checks = []
    if caps.nfr is not None:
        checks.append(_check_nfr(update, caps.nfr))
    if caps.rel_nfr is not None:
        checks.append(_check_rel_nfr(update, caps.rel_nfr))
    if caps.class_nfr is not None:
        checks.append(_check_classes(update, caps.class_nfr))
    if caps.critical is not None:
        checks.append(_check_critical(update, caps.critical))
    return checks


def overall(checks: Collection[Check]) -> Verdict:
    """FAIL if anything fails, else UNDECIDED if anything is, else PASS."""
    verdicts = {check.verdict for check in checks}
    return "FAIL" if "FAIL" in verdicts else "UNDECIDED" if "UNDECIDED" in verdicts else "PASS"


def rel_nfr_interval(cells: tuple[int, int, int, int]) -> Interval:
    """The Rel-NFR from counts of (both right, negative flips, positive flips, both wrong)."""
    right, negative, _, wrong = cells
    errors = (right + negative) * (negative + wrong)
    estimate = negative * sum(cells) / errors if errors else 0.0

    def rel_nfr(p: NDArray[np.float64]) -> NDArray[np.float64]:
        kept, lost, _, wrong = np.moveaxis(p, -1, 0)
        rates: NDArray[np.float64] = lost / ((kept + lost) * (lost + wrong))
        return rates

    low, high = dirichlet_interval(cells, rel_nfr)
    return Interval(estimate, min(low, estimate), max(high, estimate))


def cells_of(update: Update) -> tuple[int, int, int, int]:
    """Counts of samples with (both right, a negative flip, a positive flip, both wrong)."""
    both = pair(update.old, update.new)
    right = int((both.old.right & both.new.right).sum())
    negative, positive = int(both.negative.sum()), int(both.positive.sum())
    return right, negative, positive, len(both.old) - right - negative - positive


def _check_nfr(update: Update, cap: float) -> Check:
    samples, flips = len(update.old), cells_of(update)[1]
    interval = binomial_interval(flips, samples)
    verdict = _decide(interval.low, interval.high, cap)
    needed = _rate_needs(flips / samples, cap, samples) if verdict == "UNDECIDED" else None
    return Check(
        name="max_nfr",
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"NFR {_against(interval, cap)}{_advice(verdict, needed, 'samples of old classes')}",
    )


def _check_rel_nfr(update: Update, cap: float) -> Check:
    cells = cells_of(update)
    interval = rel_nfr_interval(cells)
    verdict = _decide(interval.low, interval.high, cap)
    needed = None
    if verdict == "UNDECIDED":

        def decided(samples: int) -> bool:
            scale = samples / sum(cells)
            scaled = rel_nfr_interval(tuple(round(cell * scale) for cell in cells))  # type: ignore[arg-type]
            return _decide(scaled.low, scaled.high, cap) != "UNDECIDED"

        needed = _first(decided, sum(cells))
    advice = _advice(verdict, needed, "samples of old classes")
    if advice and not cells[1] + cells[3]:  # of which share of no errors at all is a flip?
        advice = "; the new model makes no error here, so a share of its errors cannot be told (try max_nfr=)"
    return Check(
        name="max_rel_nfr",
        verdict=verdict,
        cap=cap,
        interval=interval,
        samples_to_decide=needed,
        message=f"Rel-NFR {_against(interval, cap)}{advice}",
    )


def _check_classes(update: Update, cap: float) -> Check:
    """An interval for each class; to FAIL, one must stand out even among so many (Bonferroni)."""
    both = pair(update.old, update.new)
    counts = np.bincount(both.old.target, minlength=update.old_classes)
    flips = np.bincount(both.old.target[both.negative], minlength=update.old_classes)
    tested = np.flatnonzero(counts)
    intervals = {c: binomial_interval(int(flips[c]), int(counts[c])) for c in tested.tolist()}
    strict = 1 - (1 - LEVEL) / len(tested)
    worst = max(intervals, key=lambda c: (intervals[c].low, intervals[c].estimate, intervals[c].high))
    failing = [
        c for c in intervals if binomial_interval(int(flips[c]), int(counts[c]), level=strict).low > cap
    ]
    undecided = [c for c in intervals if intervals[c].high > cap]
    verdict: Verdict = "FAIL" if failing else "UNDECIDED" if undecided else "PASS"
    needed = None
    if verdict == "UNDECIDED":
        needs = {
            c: _rate_needs(intervals[c].estimate, cap, int(counts[c]), fail_level=strict) for c in undecided
        }
        failing_soon = {c: n for c, n in needs.items() if intervals[c].estimate > cap and n is not None}
        # One class that fails decides; otherwise all must pass, the one that takes longest included.
        worst = (
            min(failing_soon, key=failing_soon.__getitem__)
            if failing_soon
            else max(undecided, key=lambda c: needs[c] or MOST_SAMPLES)
        )
        needed = needs[worst]
        if intervals[worst].low > cap:  # by itself it would fail; shown is what it is held against
            intervals[worst] = binomial_interval(int(flips[worst]), int(counts[worst]), level=strict)
    many = "" if verdict == "PASS" else f"; {len(failing or undecided)} of {len(tested)} classes {verdict}"
    return Check(
        name="max_class_nfr",
        verdict=verdict,
        cap=cap,
        interval=intervals[worst],
        samples_to_decide=needed,
        message=f"class '{update.classes[worst]}': NFR {_against(intervals[worst], cap)}{many}"
        f"{_advice(verdict, needed, 'samples of that class')}",
    )


def _check_critical(update: Update, critical: Collection[str]) -> Check:
    both = pair(update.old, update.new)
    paired = dict(zip(update.ids[both.old.index].tolist(), both.negative.tolist(), strict=True))
    unknown = [name for name in critical if name not in paired]
    if unknown:
        raise ValueError(
            f"critical: sample '{unknown[0]}' is not among the compared ones of old classes "
            f"({len(unknown)} such)"
        )
    flipped = [name for name in critical if paired[name]]
    if not flipped:
        return Check(
            name="critical", verdict="PASS", message=f"none of {len(critical)} critical samples flips"
        )
    shown = ", ".join(f"'{name}'" for name in flipped[:5]) + (", ..." if len(flipped) > 5 else "")
    message = f"{len(flipped)} of {len(critical)} critical samples flip: {shown}"
    return Check(name="critical", verdict="FAIL", message=message)


def _decide(low: float, high: float, cap: float) -> Verdict:
    return "PASS" if high <= cap else "FAIL" if low > cap else "UNDECIDED"


def _against(interval: Interval, cap: float) -> str:
    return f"{interval.estimate:.2%} [{interval.low:.2%}, {interval.high:.2%}] against a cap of {cap:.2%}"


def _advice(verdict: Verdict, needed: int | None, what: str) -> str:
    if verdict != "UNDECIDED":
        return ""
    if needed is None:
        return "; at this rate no number of samples would decide"
    return f"; about {needed:,} {what} would decide"


@functools.cache
def _rate_needs(rate: float, cap: float, samples: int, fail_level: float = LEVEL) -> int | None:
    def decided(n: int) -> bool:
        count = round(rate * n)
        low = binomial_interval(count, n, level=fail_level).low
        return _decide(low, binomial_interval(count, n).high, cap) != "UNDECIDED"

    return _first(decided, samples)


def _first(decided: Callable[[int], bool], start: int) -> int | None:
    """About the smallest number from `start` on that decides; None if none below a billion does."""
    high = start
    while not decided(high):
        high *= 2
        if high > MOST_SAMPLES:
            return None
    low = max(start, high // 2)
    while high - low > max(1, high // 1000):
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high
