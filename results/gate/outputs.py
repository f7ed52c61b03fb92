"""What a report looks like on a terminal, as JSON, as JUnit XML and as CSV."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from common.text import printable
from results.gate.groups import GroupRow
from results.gate.report import GateReport
from results.metrics import METRICS
from results.statistics import Interval
from results.tables import Cell, Table, as_csv, show

SCHEMA_VERSION = 2
STYLES = {"PASS": "bold green", "FAIL": "bold red", "UNDECIDED": "bold yellow"}


def as_json(report: GateReport) -> bytes:
    """Everything, flips included; `docs/compare.md` describes the fields."""
    return msgspec.json.format(msgspec.json.encode(document(report)), indent=1)


def document(report: GateReport) -> dict[str, Any]:
    """As JSON holds it; rates are fractions of 1."""
    samples, negative_positive = report.samples, report.flip_counts
    old_noise, new_noise = report.noise
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "level": report.policy.level,
        "checks": [_check(check) for check in report.checks],
        "metrics": report.metrics,
        "nfr_interval": _ends(report.nfr),
        "rel_nfr_interval": None if report.rel_nfr is None else _ends(report.rel_nfr),
        "error_increase": report.error_increase.estimate,
        "error_increase_interval": _ends(report.error_increase),
        "mcnemar_p": report.mcnemar_p,
        "negative_flips": negative_positive[0],
        "positive_flips": negative_positive[1],
        "runs": {"old": samples.old.runs, "new": samples.new.runs},
        "noise": {"old": old_noise, "new": new_noise},
        "added_nfr": None if report.added_nfr is None else report.added_nfr.estimate,
        "added_nfr_interval": None if report.added_nfr is None else _ends(report.added_nfr),
        "old_classes": list(samples.classes[: samples.old_classes]),
        "old_samples_left_out": samples.left_out,
        "unanswered": {"old": samples.old.unanswered, "new": samples.new.unanswered},
        "identity_checked_by": samples.identity,
        "classes": [_group(row, "class") for row in report.classes],
        "slices": [_group(row, "value") for row in report.slices],
        "flips": report.flips(),
    }


def _check(check: Any) -> dict[str, Any]:
    return dataclasses.asdict(check)


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def _group(row: GroupRow, name: str) -> dict[str, Any]:
    fields = dataclasses.asdict(row)
    value = fields.pop("value")
    low, high = fields.pop("low"), fields.pop("high")
    column = fields.pop("column")
    if fields["noise"] is None:
        del fields["noise"]
    head = {"class": value} if name == "class" else {"column": column, "value": value}
    return head | fields | {"interval": [low, high]}


def as_junit(report: GateReport) -> bytes:
    """The checks as JUnit XML: FAIL and UNDECIDED are failures of these types.

    An UNDECIDED that the policy lets pass is not a failure.
    """
    passing = {"PASS", "UNDECIDED"} if report.policy.undecided == "pass" else {"PASS"}
    failures = sum(check.verdict not in passing for check in report.checks)
    counts = {"tests": str(len(report.checks)), "failures": str(failures)}
    suite = ET.Element("testsuite", {"name": "negative flips", **counts})
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", classname="negative-flips", name=check.name)
        if check.verdict in passing:
            ET.SubElement(case, "system-out").text = printable(f"{check.verdict}: {check.message}")
        else:
            ET.SubElement(case, "failure", type=check.verdict, message=printable(check.message))
    xml: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return xml


def flips_csv(report: GateReport) -> bytes:
    """All flips, negative first; cells that a spreadsheet would run as formulas are quoted."""
    rows = report.flips()
    return as_csv(rows or [{"id": None, "flip": None}]).encode() if rows else b"id,flip\r\n"


def print_report(report: GateReport, most: int, console: Console) -> None:
    """On a terminal, or into a pipe: metrics, flips, groups that lose most, and the verdict."""
    show([metrics_table(report)], console)
    negative = report.flips("negative", most)
    if negative:
        order = ", the surest first" if "new_confidence" in negative[0] else ""
        total = count_flips(report)
        show([_rows_table(f"Negative flips{order}", negative, total)], console)
    for title, rows in (("Slices", report.slices), ("Classes", report.classes)):
        losing = [row for row in rows if row.negative_flips]
        if losing[:most]:
            table = [_group(row, "class" if title == "Classes" else "value") for row in losing[:most]]
            show([_rows_table(f"{title} that lose most", table, len(losing))], console)
    for line in verdict_lines(report):
        verdict, _, rest = line.partition(" ")
        console.print(Text.assemble((f"{verdict:9}", STYLES[verdict]), printable(f" {rest}")), soft_wrap=True)


def verdict_lines(report: GateReport) -> list[str]:
    """One line per check, `VERDICT name: message`, and the overall verdict where there are several."""
    lines = [f"{check.verdict} {check.name}: {check.message}" for check in report.checks]
    if len(report.checks) > 1:
        lines.append(f"{report.verdict} overall")
    if report.verdict == "UNDECIDED" and report.policy.undecided:
        lines[-1] += f" (the policy lets it {report.policy.undecided})"
    return lines


def count_flips(report: GateReport) -> int:
    """How many samples flip negatively, in some pair of runs."""
    old, new = report.samples.old, report.samples.new
    return int((old.right.any(axis=0) & ~new.right.all(axis=0)).sum())


def metrics_table(report: GateReport) -> Table:
    """The metrics with the intervals that are known."""
    intervals = {"nfr": report.nfr, "rel_nfr": report.rel_nfr}
    rows: list[tuple[Cell, ...]] = []
    for name, metric in METRICS.items():
        if name in report.metrics and not (name == "er_all" and report.samples.target is None):
            value = report.metrics[name]
            text = f"{value:.2%}" if metric.unit == "%" else f"{value:.2f}"
            title = metric.title
            if name == "er_old" and report.samples.target is None:
                title = "ER new model"  # there are no classes, hence no old ones
            rows.append((Cell(title), Cell(text), Cell(_between(intervals.get(name)))))
            if name == "nfr":
                rows += _noise_rows(report)
    return Table(
        title="From the old model to the new one",
        header=("", "", _percent(report)),
        rows=tuple(rows),
        footer=tuple(notes(report)),
    )


def _percent(report: GateReport) -> str:
    return f"{report.policy.level * 100:.4g} % interval"


def _noise_rows(report: GateReport) -> list[tuple[Cell, ...]]:
    old, new = report.noise
    rows: list[tuple[Cell, ...]] = []
    if old is not None:
        rows.append((Cell("  old runs"), Cell(f"{old:.2%}"), Cell("")))
    if new is not None:
        rows.append((Cell("  new runs"), Cell(f"{new:.2%}"), Cell("")))
    added = report.added_nfr
    if added is not None:
        rows.append((Cell("NFR added"), Cell(f"{added.estimate:.2%}"), Cell(_between(added))))
    return rows


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f"[{interval.low:.2%}, {interval.high:.2%}]"


def notes(report: GateReport) -> list[str]:
    """The lines under the metrics."""
    samples, (negative, positive) = report.samples, report.flip_counts
    if samples.target is not None:
        head = (
            f"{report.metrics['samples_old']:,.0f} samples of {samples.old_classes} old classes, "
            f"{report.metrics['samples_all']:,.0f} in all"
        )
    else:
        head = f"{len(samples):,} samples"
    p = report.mcnemar_p
    if samples.repeated:
        head += f"; {samples.old.runs} runs of the old version, {samples.new.runs} of the new one; on average"
        flips = f" {negative:.1f} negative flips, {positive:.1f} positive"
    else:
        flips = f"; {negative} negative flip{'' if negative == 1 else 's'}, {positive} positive"
    lines = [head + flips + (f", McNemar p = {p:.3g}" if p is not None else "")]
    if samples.left_out:
        lines.append(
            f"{samples.left_out} samples of the old file are of no old class and left out."
            if samples.target is not None
            else f"{samples.left_out} samples are not in all files and left out."
        )
    if samples.weight is not None:
        effective = report.rates.effective[0]
        lines.append(
            f"Weighted by a column; for the NFR, as much as {effective:,.0f} unweighted samples tell."
        )
    for name, version in (("old", samples.old), ("new", samples.new)):
        if version.unanswered:
            lines.append(f"{version.unanswered} absent answers of the {name} version count as wrong.")
    if report.noise[0] is not None:
        lines.append(
            "old runs, new runs: NFR between two runs of one version; NFR added: NFR less that of old runs."
        )
    elif samples.repeated:
        lines.append("The old version has one run, so that its noise is not known and not taken off.")
    return lines


def _rows_table(title: str, rows: Sequence[dict[str, Any]], total: int) -> Table:
    hidden = {"flip", "interval"}

    def text(name: str, value: Any) -> str:
        if isinstance(value, float):
            if "flips" in name:
                return f"{value:.1f}"
            return f"{value:.3f}" if "confidence" in name else f"{value:.1%}"
        return str(value)

    more = (f"... and {total - len(rows):,} more",) if total > len(rows) else ()
    return Table(
        title=title,
        header=tuple(name.replace("_", " ") for name in rows[0] if name not in hidden),
        rows=tuple(
            tuple(Cell(text(name, value)) for name, value in row.items() if name not in hidden)
            for row in rows
        ),
        footer=more,
    )
