"""The command `python -m results.compare`: words and a policy file in, a verdict and files out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from rich.console import Console

from common.cli import HELP_WORDS, build, command, print_help, split
from common.files import write_atomically
from results.gate.api import compare
from results.gate.layout import Layout
from results.gate.outputs import as_json, as_junit, flips_csv, print_report
from results.gate.policy import CAPS, Policy, policy_words, rate
from results.gate.report import GateReport
from results.gate.values import plain_id
from results.statistics import LEVEL

PROG = "python -m results.compare"
_READ = ("targets", "metadata", "critical", "policy")
_WRITTEN = ("flips", "json", "junit", "markdown", "html")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which files, what they mean, which caps, what to write."""

    old: tuple[Path, ...] = ()
    """Old version's answers, a file or one per run: CSV, TSV, JSON, JSONL, Parquet, Feather, NPZ, NPY (also
    .gz, .zst), or an evaluation's log."""
    new: tuple[Path, ...] = ()
    """New version's answers, on at least the same samples."""
    targets: Path | None = None
    """A file with the true classes, where old= and new= do not hold them."""
    metadata: Path | None = None
    """A file with columns to slice or weight by, where old= and new= do not hold them."""
    policy: Path | None = None
    """A TOML file that holds any of these settings; what it sets cannot be given again here."""
    right: str = ""
    """A column that says right or wrong, or a bound, as score>=0.5; instead of target and prediction."""
    where: str = ""
    """Only the rows in which a column has a value, as filter==strict-match."""
    pair: Literal["id", "order", "common"] = "id"
    """How samples are paired: by id; by the order of the rows; by id, only those that both files have."""
    same: str = ""
    """A column that must agree between paired samples (by default a hash or text of the question); none for
    no check."""
    old_classes: tuple[str, ...] = ()
    """What the old model knows: a number of classes, names, or a file of names; by default those in old=."""
    class_names: tuple[str, ...] = ()
    """Names of the classes of a matrix of scores, in order, or a file of them."""
    top_k: int = 1
    """A sample is right where its target is among the k highest scores."""
    unanswered: Literal["refuse", "wrong"] = "refuse"
    """What an empty answer is: an error, or a wrong answer."""
    weight: str = ""
    """Column of the samples' weights."""
    sep: str = ""
    """What separates the cells of a CSV file (tab for a tab); by default found by itself."""
    encoding: str = ""
    """Encoding of text files, as latin-1; by default UTF-8, or what the byte order mark says."""
    decimal: str = "."
    """Decimal mark of numbers in text files."""
    max_nfr: str = ""
    """Highest negative flip rate allowed, as 1% or 0.01; with several runs, what the update adds to noise."""
    max_rel_nfr: str = ""
    """Highest relative NFR allowed, as 40% or 0.4."""
    max_class_nfr: str = ""
    """Highest NFR allowed in any one class."""
    max_slice_nfr: str = ""
    """Highest NFR allowed in any one slice."""
    max_error_increase: str = ""
    """By how much the error rate may grow (0% for not at all)."""
    max_churn: str = ""
    """Highest share of samples allowed whose prediction changes."""
    max_nfi: str = ""
    """Highest share of the new errors allowed that are negative flips."""
    critical: Path | None = None
    """A file of ids, one per line, of which none may flip."""
    slices: tuple[str, ...] = ()
    """Columns to slice by, as country,device; country+device for the pairs of their values."""
    min_slice_samples: int = 1
    """Slices with fewer samples are shown, but held against no cap."""
    level: float = LEVEL
    """Level of all intervals."""
    undecided: Literal["", "pass", "fail"] = ""
    """What UNDECIDED is to the exit code (by default 3)."""
    flips: Path | None = None
    """Write all flips, negative first, most confident first, as CSV."""
    json: Path | None = None
    """Write everything as JSON."""
    junit: Path | None = None
    """Write the checks as JUnit XML, for a CI system."""
    markdown: Path | None = None
    """Write a summary for a pull request."""
    html: Path | None = None
    """Write one page: verdict, intervals as a picture, slices, searchable flips."""
    show: int = 10
    """Flips, classes and slices to print."""

    def __post_init__(self) -> None:
        if not self.old or not self.new:
            raise ValueError("old= and new= must name two files of predictions (try --help)")
        for name in CAPS:
            rate(name, getattr(self, name))
        if self.show < 0:
            raise ValueError(f"show={self.show}: must be 0 or more")
        taken: dict[Path, str] = {}
        for name in ("old", "new", *_READ, *_WRITTEN):
            value = getattr(self, name)
            for path in value if isinstance(value, tuple) else (value,):
                if path is None:
                    continue
                if name in _WRITTEN and path.resolve() in taken:
                    raise ValueError(f"{name}={path}: would overwrite the file of {taken[path.resolve()]}=")
                taken[path.resolve()] = name


@command
def main(argv: Sequence[str]) -> int:
    """Compare two versions' answers on the same samples, and decide whether the new one may be released.

    Exit code 0 for PASS (or no cap), 1 for FAIL, 3 for UNDECIDED, 2 for unusable input.
    """
    if HELP_WORDS & set(argv):
        print_help(Settings, prog=PROG, description=main.__doc__ or "", sections=[("Columns", _ROLES)])
        return 0
    words = split(argv)
    if "policy" in words:
        words = _with_policy(words)
    columns = {
        key.removeprefix("columns."): text for key, text in words.items() if key.startswith("columns.")
    }
    settings = build(Settings, {key: text for key, text in words.items() if not key.startswith("columns.")})
    report = compare(
        list(settings.old),
        list(settings.new),
        targets=settings.targets,
        metadata=settings.metadata,
        layout=_layout(settings, columns),
        policy=_policy(settings),
    )
    _write(report, settings)
    print_report(report, settings.show, Console(highlight=False))
    return report.exit_code


_ROLES = [
    ("columns.id=NAME", "Names the sample."),
    ("columns.target=NAME", "The true class."),
    ("columns.prediction=NAME", "The predicted class."),
    ("columns.right=NAME", "Says right or wrong; the same as right=."),
    ("columns.run=NAME", "Tells the runs of one version apart, where they are in one file."),
    ("columns.logits=NAME", "A list of logits per sample; also logit_0, logit_1, ..."),
    ("columns.probabilities=NAME", "A list of probabilities per sample; also p_0, p_1, ... or prob_cat, ..."),
    ("columns.confidence=NAME", "Also target_confidence and margin."),
]


def _with_policy(words: Mapping[str, str]) -> dict[str, str]:
    path = Path(words["policy"])
    said = policy_words(path, get_type_hints(Settings))
    both = sorted(said.keys() & words.keys())
    if both:
        raise ValueError(f"{both[0]}= is set in {path}, and cannot be given again")
    return {**said, **words}


def _layout(settings: Settings, columns: Mapping[str, str]) -> Layout:
    return Layout(
        columns=columns,
        right=settings.right,
        where=settings.where,
        pair=settings.pair,
        same=settings.same,
        old_classes=_names(settings.old_classes),
        class_names=_names(settings.class_names),
        top_k=settings.top_k,
        unanswered=settings.unanswered,
        weight=settings.weight,
        sep=settings.sep,
        encoding=settings.encoding,
        decimal=settings.decimal,
    )


def _policy(settings: Settings) -> Policy:
    caps: dict[str, Any] = {name: rate(name, getattr(settings, name)) for name in CAPS}
    return Policy(
        **caps,
        critical=None if settings.critical is None else _critical(settings.critical),
        slices=settings.slices,
        min_slice_samples=settings.min_slice_samples,
        level=settings.level,
        undecided=settings.undecided,
    )


def _names(words: tuple[str, ...]) -> tuple[str, ...]:
    """Names given one by one, or as a file of them."""
    if len(words) == 1 and not words[0].isdigit() and Path(words[0]).is_file():
        return tuple(read_lines(Path(words[0])))
    return words


def _critical(path: Path) -> list[str]:
    ids = list(dict.fromkeys(map(plain_id, read_lines(path))))
    if not ids:
        raise ValueError(f"critical={path}: names no sample")
    return ids


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file.

    Raises:
        ValueError: naming it, where it is not text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error})") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _write(report: GateReport, settings: Settings) -> None:
    writers = {"flips": flips_csv, "json": as_json, "junit": as_junit}
    if settings.markdown or settings.html:
        from results.gate.pages import as_html, as_markdown  # matplotlib and jinja2 take their time

        writers |= {
            "markdown": lambda report: as_markdown(report, most=settings.show).encode(),
            "html": lambda report: as_html(report).encode(),
        }
    for name, make in writers.items():
        path: Path | None = getattr(settings, name)
        if path is not None:
            write_atomically(path, make(report))
