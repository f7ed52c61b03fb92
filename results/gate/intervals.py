"""Intervals of rates and differences, and how many samples decide; for many groups at once.

Arguments may be numbers or arrays of one shape. scipy is imported where it is needed, as in
`results.statistics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
POWER = 0.8
"""The share of test sets in which the number of samples that is advised decides."""
MOST_SAMPLES = 10**9


def rate_interval(rate: ArrayLike, n: ArrayLike, level: ArrayLike) -> tuple[Floats, Floats]:
    """Clopper and Pearson's interval (1934) of a rate seen in `n` samples: it covers at least `level`.

    With an effective number of samples, which need not be whole, this is Korn and Graubard's interval (1998)
    for weighted samples.
    """
    from scipy.special import betaincinv

    rate, n = np.asarray(rate, float), np.asarray(n, float)
    tail = (1 - np.asarray(level, float)) / 2
    count = rate * n
    with np.errstate(invalid="ignore"):
        low = np.where(count > 0, betaincinv(np.maximum(count, 1e-300), n - count + 1, tail), 0.0)
        high = np.where(count < n, betaincinv(count + 1, np.maximum(n - count, 1e-300), 1 - tail), 1.0)
    return low, high


def paired_difference_interval(lost: float, gained: float, n: float, level: float) -> tuple[float, float]:
    """Tango's score interval (1998) of the difference of two paired rates, (lost - gained) / n.

    `lost` and `gained` count the samples that differ each way; they need not be whole where `n` is an
    effective number of samples. It holds its level approximately, also for small numbers.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + level) / 2))
    estimate = (lost - gained) / n

    def score(delta: float) -> float:
        """How many standard errors the estimate lies above `delta`."""
        b = (2 * n + gained - lost) * delta - lost - gained
        c = -gained * delta * (1 - delta)
        q = (np.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # the rate of `gained` where delta holds
        variance = n * (2 * q + delta * (1 - delta))
        away = lost - gained - n * delta
        if away == 0:
            return 0.0
        return float(away / np.sqrt(variance)) if variance > 0 else float(np.sign(away)) * np.inf

    edge = 1 - 1e-12
    low = -1.0 if score(-edge) < z else brentq(lambda d: min(score(d), 1e9) - z, -edge, estimate)
    high = 1.0 if score(edge) > -z else brentq(lambda d: max(score(d), -1e9) + z, estimate, edge)
    return min(float(low), estimate), max(float(high), estimate)


def difference_of_rates(
    one: tuple[Floats, Floats, Floats], other: tuple[Floats, Floats, Floats], correlation: Floats
) -> tuple[Floats, Floats]:
    """Ends of the interval of a difference, from (estimate, low, high) of each rate (MOVER, Zou 2008)."""
    a, a_low, a_high = one
    b, b_low, b_high = other

    def width(left: Floats, right: Floats) -> Floats:
        return np.sqrt(np.maximum(left**2 + right**2 - 2 * correlation * left * right, 0))

    return a - b - width(a - a_low, b_high - b), a - b + width(a_high - a, b - b_low)


def chance_to_decide(
    n: ArrayLike, rate: ArrayLike, cap: float, level: float, fail_level: ArrayLike
) -> Floats:
    """The share of test sets of `n` samples that decide, exactly, where flips have the probability `rate`.

    They decide where the interval of `level` lies within the cap, or that of `fail_level` above it.
    """
    from scipy.stats import binom

    samples = np.floor(np.asarray(n, float))
    flips = np.asarray(rate, float)
    p = np.asarray(np.where(flips < 1e-15, 0.0, flips))  # scipy overflows below
    pass_tail, fail_tail = (1 - level) / 2, (1 - np.asarray(fail_level, float)) / 2
    # An interval's upper end is within the cap where so few flips would be rare at the cap.
    most = binom.ppf(pass_tail, samples, cap)
    most = np.where(binom.cdf(most, samples, cap) <= pass_tail, most, most - 1)
    fewest = binom.isf(fail_tail, samples, cap) + 1
    return np.asarray(binom.cdf(most, samples, p) + binom.sf(fewest - 1, samples, p))


def samples_to_decide(
    rate: ArrayLike, cap: float, start: ArrayLike, level: float, fail_level: ArrayLike | None = None
) -> NDArray[np.float64]:
    """About the smallest number of samples, from `start` on, that decides in 80 % of test sets.

    NaN where none below a billion does: a rate too near to the cap.
    """
    rate, start = np.atleast_1d(np.asarray(rate, float)), np.atleast_1d(np.asarray(start, float))
    strict = level if fail_level is None else fail_level

    def decided(n: Floats) -> NDArray[np.bool_]:
        return chance_to_decide(n, rate, cap, level, strict) >= POWER

    high = np.maximum(np.ceil(start), 1)
    while True:
        growing = ~decided(high) & (high <= MOST_SAMPLES)
        if not growing.any():
            break
        high = np.where(growing, high * 2, high)
    never = high > MOST_SAMPLES
    low = np.maximum(np.floor(high / 2), np.maximum(np.ceil(start), 1))
    while ((high - low) > np.maximum(1, high / 1000)).any():
        middle = np.floor((low + high) / 2)
        enough = decided(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(never, np.nan, high)


def samples_by_error(estimate: float, cap: float, error: float, samples: int, level: float) -> int | None:
    """About how many samples decide in 80 % of test sets, by the normal approximation.

    `error` is the standard error of the estimate in `samples` samples; it shrinks with the square root of
    their number.
    """
    from scipy.stats import norm

    if estimate == cap or error == 0:
        return None
    needed = samples * ((norm.ppf((1 + level) / 2) + norm.ppf(POWER)) * error / (cap - estimate)) ** 2
    return int(np.ceil(max(needed, samples))) if needed <= MOST_SAMPLES else None


def as_float(value: Any) -> float:
    """The only number of an array."""
    return float(np.asarray(value).reshape(-1)[0])
