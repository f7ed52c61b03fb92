"""Compare two files of predictions, ours or not, and decide whether the new model may be released.

python -m results.compare old=old.csv new=new.parquet max_nfr=1% critical=ids.txt junit=gate.xml
"""

import dataclasses
import functools
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from common.cli import command, parse
from common.files import write_atomically
from common.text import printable
from results.gate import EXIT_CODES, Caps, Check, Verdict, cells_of, check, overall, rel_nfr_interval
from results.metrics import METRICS, compare, pair
from results.reading import Update, pair_files, plain_id, read, read_lines
from results.statistics import binomial_interval, mcnemar
from results.tables import Cell, Table, as_csv, show

_WRITTEN = ("flips", "json", "junit")
STYLES = {"PASS": "bold green", "FAIL": "bold red", "UNDECIDED": "bold yellow"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which files, which caps, what to write."""

    old: Path | None = None
    """Old model's predictions: CSV, Parquet or NPZ; columns id (or index), target, prediction or logits."""
    new: Path | None = None
    """New model's predictions, on at least the same samples."""
    old_classes: tuple[str, ...] = ()
    """What the old model knows: a number of classes, names, or a file of names; by default those in old=."""
    max_nfr: str = ""
    """Highest negative flip rate allowed, as 1% or 0.01."""
    max_rel_nfr: str = ""
    """Highest relative NFR allowed, as 40% or 0.4."""
    max_class_nfr: str = ""
    """Highest NFR allowed in any one class."""
    critical: Path | None = None
    """A file of ids, one a line, of which none may flip."""
    flips: Path | None = None
    """Write all flips, negative first, most confident first, as CSV."""
    json: Path | None = None
    """Write everything as JSON."""
    junit: Path | None = None
    """Write the checks as JUnit XML, for a CI system."""
    show: int = 10
    """Flips and classes to print."""

    def __post_init__(self) -> None:
        if self.old is None or self.new is None:
            raise ValueError("old= and new= must name two files of predictions (try --help)")
        for name in ("max_nfr", "max_class_nfr", "max_rel_nfr"):
            _rate(name, getattr(self, name))
        if self.show < 0:
            raise ValueError(f"show={self.show}: must be 0 or more")
        taken: dict[Path, str] = {}
        for name in ("old", "new", "critical", "flips", "json", "junit"):
            path: Path | None = getattr(self, name)
            if path is None:
                continue
            if name in _WRITTEN and path.resolve() in taken:
                raise ValueError(f"{name}={path}: would overwrite the file of {taken[path.resolve()]}=")
            taken[path.resolve()] = name


def _rate(name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{name}={text}: expected a rate such as 1% or 0.01") from None
    if not text.endswith("%") and (rate > 1 if name == "max_rel_nfr" else rate >= 1):
        raise ValueError(f"{name}={text}: write {text}% or a fraction below 1")
    if not 0 <= rate < float("inf"):
        raise ValueError(f"{name}={text}: must be 0 or more")
    return rate


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All that is known about an update."""

    update: Update
    metrics: dict[str, float]
    checks: list[Check]
    verdict: Verdict

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """As JSON holds it; rates are fractions of 1."""
        right, negative, positive, wrong = cells_of(self.update)
        nfr = binomial_interval(negative, right + negative + positive + wrong)
        rel_nfr = rel_nfr_interval((right, negative, positive, wrong))
        return {
            "verdict": self.verdict if self.checks else None,
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "metrics": self.metrics,
            "nfr_interval": [nfr.low, nfr.high],
            "rel_nfr_interval": [rel_nfr.low, rel_nfr.high],
            "mcnemar_p": mcnemar(negative, positive),
            "negative_flips": negative,
            "positive_flips": positive,
            "old_classes": list(self.update.classes[: self.update.old_classes]),
            "old_samples_left_out": self.update.left_out,
            "classes": class_rows(self.update),
            "flips": flip_rows(self.update),
        }


def judge(update: Update, caps: Caps) -> Comparison:
    """Metrics and checks of an update."""
    checks = check(update, caps)
    metrics = compare(update.old, update.new, old_classes=update.old_classes)
    return Comparison(update=update, metrics=metrics, checks=checks, verdict=overall(checks))


def flip_rows(update: Update) -> list[dict[str, Any]]:
    """Every flip: negative ones first, in each kind the new model's most confident ones first."""
    both = pair(update.old, update.new)
    confidence = both.new.confidence if both.new.confidence is not None else np.zeros(len(both.new))
    rows = []
    for kind, mask in (("negative", both.negative), ("positive", both.positive)):
        where = np.flatnonzero(mask)
        for i in where[np.argsort(-confidence[where], kind="stable")].tolist():
            row: dict[str, Any] = {"id": str(update.ids[both.old.index[i]]), "flip": kind}
            row |= {"target": update.classes[both.old.target[i]]}
            row |= {
                "old": update.classes[both.old.prediction[i]],
                "new": update.classes[both.new.prediction[i]],
            }
            for name, model in (("old_confidence", both.old), ("new_confidence", both.new)):
                if model.confidence is not None:
                    row[name] = round(float(model.confidence[i]), 6)
            rows.append(row)
    return rows


def class_rows(update: Update) -> list[dict[str, Any]]:
    """Each old class with its errors and flips, worst NFR first."""
    both = pair(update.old, update.new)
    rows = []
    for c in np.unique(both.old.target).tolist():
        of = both.old.target == c
        samples, negative, positive = (
            int(of.sum()),
            int(both.negative[of].sum()),
            int(both.positive[of].sum()),
        )
        row = {"class": update.classes[c], "samples": samples}
        row |= {
            "er_old_model": float(np.mean(~both.old.right[of])),
            "er_new_model": float(np.mean(~both.new.right[of])),
        }
        rows.append(row | {"negative_flips": negative, "positive_flips": positive, "nfr": negative / samples})
    return sorted(rows, key=lambda row: (-row["nfr"], -row["negative_flips"]))


def junit(comparison: Comparison) -> bytes:
    """The checks as JUnit XML: FAIL and UNDECIDED are failures of these types."""
    failures = sum(check.verdict != "PASS" for check in comparison.checks)
    counts = {"tests": str(len(comparison.checks)), "failures": str(failures)}
    suite = ET.Element("testsuite", {"name": "negative flips", **counts})
    for each in comparison.checks:
        case = ET.SubElement(suite, "testcase", classname="negative-flips", name=each.name)
        if each.verdict == "PASS":
            ET.SubElement(case, "system-out").text = printable(each.message)
        else:
            ET.SubElement(case, "failure", type=each.verdict, message=printable(each.message))
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document


@command
def main(argv: Sequence[str]) -> int:
    """Compare two files of predictions; exit code 0 for PASS (or no cap), 1 FAIL, 3 UNDECIDED, 2 unusable."""
    settings = parse(Settings, argv, prog="python -m results.compare", description=main.__doc__ or "")
    old, new = (read(path) for path in (settings.old, settings.new) if path is not None)
    update = pair_files(old, new, old_classes=_old_classes(settings.old_classes))
    caps = Caps(
        nfr=_rate("max_nfr", settings.max_nfr),
        rel_nfr=_rate("max_rel_nfr", settings.max_rel_nfr),
        class_nfr=_rate("max_class_nfr", settings.max_class_nfr),
        critical=None if settings.critical is None else _critical(settings.critical),
    )
    comparison = judge(update, caps)
    _write(comparison, settings)
    _print(comparison, settings.show, Console(highlight=False))
    return EXIT_CODES[comparison.verdict]


def _old_classes(words: tuple[str, ...]) -> Sequence[str]:
    if len(words) == 1 and not words[0].isdigit() and Path(words[0]).is_file():
        return read_lines(Path(words[0]))
    return words


def _critical(path: Path) -> list[str]:
    ids = list(dict.fromkeys(map(plain_id, read_lines(path))))
    if not ids:
        raise ValueError(f"critical={path}: names no sample")
    return ids


def _write(comparison: Comparison, settings: Settings) -> None:
    if settings.flips:
        write_atomically(settings.flips, as_csv(comparison.document["flips"]).encode())
    if settings.json:
        text = json.dumps(comparison.document, indent=1, allow_nan=False)
        write_atomically(settings.json, text.encode())
    if settings.junit:
        write_atomically(settings.junit, junit(comparison))


def _print(comparison: Comparison, most: int, console: Console) -> None:
    document = comparison.document
    show([_metrics_grid(comparison, document)], console)
    negative = [row for row in document["flips"] if row["flip"] == "negative"]
    losing = [row for row in document["classes"] if row["negative_flips"]]
    if negative[:most]:
        order = ", the surest first" if "new_confidence" in negative[0] else ""
        show([_rows_grid(f"Negative flips{order}", negative, most)], console)
    if losing[:most]:
        show([_rows_grid("Classes that lose most", losing, most)], console)
    for each in comparison.checks:
        console.print(
            Text.assemble(
                (f"{each.verdict:9}", STYLES[each.verdict]), printable(f" {each.name}: {each.message}")
            ),
            soft_wrap=True,
        )
    if len(comparison.checks) > 1:
        console.print(Text.assemble((f"{comparison.verdict:9}", STYLES[comparison.verdict]), " overall"))


def _metrics_grid(comparison: Comparison, document: dict[str, Any]) -> Table:
    update, metrics = comparison.update, comparison.metrics
    intervals = {"nfr": document["nfr_interval"], "rel_nfr": document["rel_nfr_interval"]}
    rows = []
    for name, metric in METRICS.items():
        if name in metrics:
            value = f"{metrics[name]:.2%}" if metric.unit == "%" else f"{metrics[name]:.2f}"
            low, high = intervals.get(name, (None, None))
            between = "" if low is None else f"[{low:.2%}, {high:.2%}]"
            rows.append((Cell(metric.title), Cell(value), Cell(between)))
    counts = (
        f"{metrics['samples_old']:,.0f} samples of {update.old_classes} old classes, "
        f"{metrics['samples_all']:,.0f} in all; {document['negative_flips']} negative flips, "
        f"{document['positive_flips']} positive, McNemar p = {document['mcnemar_p']:.3g}"
    )
    left_out = f"{update.left_out} samples of the old file are of no old class and left out."
    return Table(
        title="From the old model to the new one",
        header=("", "", "95 % interval"),
        rows=tuple(rows),
        footer=(counts, left_out) if update.left_out else (counts,),
    )


def _rows_grid(title: str, rows: list[dict[str, Any]], most: int) -> Table:
    def text(name: str, value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}" if "confidence" in name else f"{value:.1%}"
        return str(value)

    more = (f"... and {len(rows) - most} more",) if len(rows) > most else ()
    return Table(
        title=title,
        header=tuple(name.replace("_", " ") for name in rows[0] if name != "flip"),
        rows=tuple(
            tuple(Cell(text(name, value)) for name, value in row.items() if name != "flip")
            for row in rows[:most]
        ),
        footer=more,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
