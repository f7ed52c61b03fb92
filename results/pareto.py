"""The figure of error against negative flips: where each method lies, and how far its intervals reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.analysis import intervals_are_over, mean_rates
from results.comparisons import Comparison
from results.figure_style import Style, add_axes, literal, new_figure, styles_of
from results.statistics import Interval
from results.store import Store

CROWDED = 10
"""With more methods the plane shows their means alone; the intervals are beside it."""


def pareto(store: Store, comparison: Comparison) -> Figure:
    """Error on all classes against NFR, with the front; beside it each method's rates with 95 % intervals.

    The few methods far above all others are drawn as arrows at the end of an axis, with their values.
    """
    rates = mean_rates(comparison)
    er_all = {label: _in_percent(rate.er_all) for label, rate in rates.items()}
    nfr = {label: _in_percent(rate.nfr) for label, rate in rates.items()}
    figure = new_figure(9.0, max(4.0, 1.3 + 0.2 * len(rates)), title=comparison.title)
    if not rates:
        return figure
    styles = styles_of([(row.method, row.label) for row in comparison.candidates])
    spans = Span.of(er_all), Span.of(nfr)
    grid = figure.add_gridspec(1, 3, width_ratios=(2, 1, 1))
    plane, errors, flips = (add_axes(figure, grid[0, column]) for column in range(3))
    _draw_plane(plane, er_all, nfr, spans, styles)
    _draw_column(errors, er_all, spans[0], styles)
    _draw_column(flips, nfr, spans[1], styles)
    plane.set(xlabel="error rate on all classes in %", ylabel="negative flip rate in %")
    errors.set(xlabel="error rate in %")
    flips.set(xlabel="NFR in %")
    errors.tick_params(axis="y", length=0, labelleft=False)
    flips.tick_params(axis="y", length=0, labelleft=False, labelright=True)
    arrows = "; arrows: beyond the axis" if any(span.beyond for span in spans) else ""
    plane.set_title(f"bars: {intervals_are_over(comparison)}{arrows}", fontsize=8, loc="left")
    return figure


def _in_percent(interval: Interval) -> Interval:
    return Interval(100 * interval.estimate, 100 * interval.low, 100 * interval.high)


@dataclass(frozen=True, kw_only=True)
class Span:
    """What an axis shows of some intervals: all, but for the few that would squash the others."""

    low: float
    high: float
    beyond: frozenset[str]
    """Labels of the intervals that end above `high`."""

    @classmethod
    def of(cls, intervals: Mapping[str, Interval], *, share: float = 0.2) -> Self:
        """Leaves out the highest ones where the others would take up less than `share` of the axis.

        At most a third of them: more are no exception.
        """
        order = sorted(intervals, key=lambda label: intervals[label].high)
        kept = len(order)
        while True:
            fewer = (n for n in range(kept - 1, 0, -1) if 3 * n >= 2 * len(order))
            low, high = _ends([intervals[label] for label in order[:kept]])
            for n in fewer:
                least, most = _ends([intervals[label] for label in order[:n]])
                if most - least < share * (high - low):
                    kept = n
                    break
            else:
                return cls(low=low, high=high, beyond=frozenset(order[kept:]))

    @property
    def width(self) -> float:
        """Never 0."""
        return max(self.high - self.low, 1e-3)

    @property
    def limits(self) -> tuple[float, float]:
        """Of the axis: with a margin, and with room for arrows."""
        return self.low - 0.06 * self.width, self.high + (0.2 if self.beyond else 0.06) * self.width

    @property
    def arrow(self) -> float:
        """Where arrows to what lies beyond begin."""
        return self.high + 0.08 * self.width


def _ends(intervals: list[Interval]) -> tuple[float, float]:
    return min(i.low for i in intervals), max(i.high for i in intervals)


def _draw_plane(
    axes: Axes,
    er_all: Mapping[str, Interval],
    nfr: Mapping[str, Interval],
    spans: tuple[Span, Span],
    styles: Mapping[str, Style],
) -> None:
    """One point for each method, and the front: those that no other beats in both rates."""
    axes.set(xlim=spans[0].limits, ylim=spans[1].limits)
    corner = 0
    for label in nfr:
        style, x, y = styles[label], er_all[label], nfr[label]
        look = _look(style, size=8)
        outside = [
            label in span.beyond and i.estimate > span.high for span, i in zip(spans, (x, y), strict=True)
        ]
        if not any(outside):
            xerr, yerr = (None, None) if len(nfr) > CROWDED else (_arms(x), _arms(y))
            axes.errorbar(x.estimate, y.estimate, xerr=xerr, yerr=yerr, **look, ls="none")
            continue
        at = [span.arrow if out else i.estimate for span, i, out in zip(spans, (x, y), outside, strict=True)]
        if all(outside):  # several would lie on each other
            at[1] -= 0.08 * corner * spans[1].width
            corner += 1
        to = [span.limits[1] if out else place for span, place, out in zip(spans, at, outside, strict=True)]
        _draw_arrow(axes, (at[0], at[1]), (to[0], to[1]), style)
        axes.errorbar(at[0], at[1], **look, ls="none")
    points = [(er_all[label].estimate, nfr[label].estimate) for label in nfr]
    front = [p for p in sorted(points) if all(q == p or q[0] > p[0] or q[1] > p[1] for q in points)]
    axes.plot(*zip(*front, strict=True), color="#999999", lw=1, zorder=0, drawstyle="steps-post")


def _draw_column(
    axes: Axes, intervals: Mapping[str, Interval], span: Span, styles: Mapping[str, Style]
) -> None:
    """One line for each method, in the order of the table, with its interval."""
    axes.set(xlim=span.limits, ylim=(len(intervals) - 0.5, -0.5))
    axes.set_yticks(range(len(intervals)), [literal(label) for label in intervals], fontsize=8)
    for y, (label, interval) in enumerate(intervals.items()):
        style = styles[label]
        look = _look(style, size=6)
        if interval.estimate <= span.high:
            axes.errorbar(interval.estimate, y, xerr=_arms(interval), **look)
        else:
            axes.errorbar(span.arrow, y, **look)
        if label in span.beyond:
            _draw_arrow(axes, (span.arrow, y), (span.limits[1], y), style)
            text = f"{interval.estimate:.1f}" if interval.estimate > span.high else f"to {interval.high:.1f}"
            axes.annotate(
                text, (span.arrow, y), xytext=(-6, 0), textcoords="offset points",
                ha="right", va="center", fontsize=8,
            )  # fmt: skip


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], style: Style) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": style.colour})


def _look(style: Style, *, size: float) -> dict[str, Any]:
    """How a mean and its interval are drawn."""
    return {
        "color": style.colour, "marker": style.marker, "ms": size, "mec": "white", "mew": 0.6,
        "capsize": 2, "elinewidth": 0.8,
    }  # fmt: skip


def _arms(interval: Interval) -> list[list[float]]:
    """[2, 1] distances of the interval's ends from the estimate."""
    return [[interval.estimate - interval.low], [interval.high - interval.estimate]]
