"""Logs of evaluation tools as columns: which sample, right or wrong, and which question it was.

Written after public descriptions of each format:

- lm-evaluation-harness, `--log_samples`: https://github.com/EleutherAI/lm-evaluation-harness
  (`docs/interface.md`; the fields of a sample in `lm_eval/evaluator.py`).
- Inspect, `.eval` and `.json` logs: https://inspect.aisi.org.uk/eval-logs.html and
  https://inspect.aisi.org.uk/reference/inspect_ai.log.html (EvalSample, Score).
- OpenAI evals, events as JSON lines: https://github.com/openai/evals (`evals/record.py`).
- pytest, JUnit XML: https://docs.pytest.org/en/stable/how-to/output.html#creating-junitxml-format-files.
"""

from __future__ import annotations

import json
import re
import struct
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from results.gate.layout import Layout
from results.gate.sources import Source, TextFormat, as_utf8, content, endings, lines_of, of_rows, open_source

_TASK = re.compile(r"samples_(.+?)(?:_\d{4}-\d{2}-\d{2}T.*)?\.jsonl.*")
_OF_LM_EVAL = frozenset(
    {
        "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
        "doc_hash", "prompt_hash", "target_hash", "task_name", "schema_version",
    }
)  # fmt: skip
_ZSTD = 93  # the ZIP format's number of it
_NAME_LENGTHS = 26  # where a file's own header holds the lengths of its name and extra field
_INSPECT_VALUES = {"C": 1, "I": 0, "P": 0.5, "N": 0}
"""Correct, incorrect, partial, no answer: as `inspect_ai.scorer.value_to_float` reads them."""


def open_evaluation(path: Path, text: TextFormat, layout: Layout) -> Source:
    """The columns of a file: an evaluation's log where it is one, else whatever its ending says.

    Raises:
        ValueError: a file of no known format, or a log that does not say which of its metrics to take.
        OSError: a file that cannot be read.
    """
    if path.is_dir():
        return _lm_eval_folder(path, layout)
    ending, compression = endings(path)
    if ending == ".eval":
        return _inspect(_inspect_archive(path), path, layout)
    if ending == ".xml":
        return _junit(content(path, compression), path)
    if ending == ".json":
        data = content(path, compression)
        if b'"samples"' in data and b'"eval"' in data:
            log = _json_object(data)
            if isinstance(log.get("samples"), list) and isinstance(log.get("eval"), dict):
                _refuse_unfinished(log)
                return _inspect(log["samples"], path, layout)
    if ending in (".jsonl", ".ndjson"):
        rows = lines_of(as_utf8(content(path, compression), text.encoding))
        if rows and all(isinstance(row, dict) for row in rows):
            if "spec" in rows[0] or {"run_id", "event_id", "type", "data"} <= rows[0].keys():
                return _openai_evals(rows, path)
            if "doc_id" in rows[0] and rows[0].keys() & {"resps", "filtered_resps", "doc_hash"}:
                return _lm_eval(rows, path, layout)
        return of_rows(rows, str(path))
    return open_source(path, text)


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    return value if isinstance(value, dict) else {}


def _lm_eval_folder(path: Path, layout: Layout) -> Source:
    """Every task of a run: `samples_TASK_DATE.jsonl`; samples are named TASK/DOC_ID."""
    files = sorted(file for file in path.rglob("samples_*.jsonl*") if _TASK.fullmatch(file.name))
    if not files:
        raise ValueError("is a directory without samples_*.jsonl, as lm-evaluation-harness writes them")
    rows: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    for file in files:
        match = _TASK.fullmatch(file.name)
        assert match
        task = match[1]
        if task in seen:
            raise ValueError(f"task '{task}' is there twice ({seen[task].name}, {file.name}): name one file")
        seen[task] = file
        for row in lines_of(content(file, endings(file)[1])):
            if not isinstance(row, dict) or "doc_id" not in row:
                raise ValueError(f"{file.name}: a line without doc_id")
            rows.append({**row, "task": task, "id": f"{task}/{row['doc_id']}"})
    return _lm_eval(rows, path, layout)


def _lm_eval(rows: list[dict[str, Any]], path: Path, layout: Layout) -> Source:
    """Samples of lm-evaluation-harness: the metric named, or the only one that is 0 or 1."""
    filters = list(dict.fromkeys(str(row["filter"]) for row in rows if "filter" in row))
    if len(filters) > 1 and not layout.where:
        raise ValueError(f"filters {_listed(filters)}: say which, as where=filter=={filters[0]}")
    source = of_rows(rows, str(path))
    if layout.right or "right" in layout.columns:
        return source
    found: dict[str, None] = {}
    for row in rows:
        named = row.get("metrics")
        names = named if isinstance(named, list) else [name for name in row if name not in _OF_LM_EVAL]
        found |= dict.fromkeys(name for name in names if isinstance(row.get(name), int | float))
    binary = [name for name in found if all(row.get(name) in (0, 1) for row in rows if name in row)]
    return _renamed(source, "right", _only(binary, list(found), rows))


def _only(binary: Sequence[str], numbers: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The one metric that says right or wrong.

    Raises:
        ValueError: there are several, or none.
    """
    if len(binary) > 1:
        same = all(row.get(binary[0]) == row.get(name) for row in rows for name in binary[1:])
        if not same:
            raise ValueError(
                f"metrics {_listed(binary)} all say right or wrong: say which, as right={binary[0]}"
            )
    if binary:
        return binary[0]
    if numbers:
        raise ValueError(
            f"no metric is only 0 or 1; from {_listed(numbers)} make one with a bound, "
            f"as right={numbers[0]}>=0.5"
        )
    raise ValueError("no sample has a metric")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _renamed(source: Source, name: str, column: str) -> Source:
    """A source with one column also under another name."""

    def load(wanted: Sequence[str]) -> dict[str, Any]:
        columns = dict(source.load([column if each == name else each for each in wanted]))
        return {each: columns[column if each == name else each] for each in wanted}

    names = tuple(dict.fromkeys((name, *source.names)))
    return Source(label=source.label, names=names, load=load)


class _InspectSample(msgspec.Struct):
    """What a sample of Inspect's log holds that is needed here."""

    id: int | str
    epoch: int = 1
    input: Any = None
    scores: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


def _inspect_archive(path: Path) -> list[Any]:
    if not path.exists():
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = [
                info for info in archive.infolist() if re.fullmatch(r"samples/.+\.json", info.filename)
            ]
            entries.sort(key=lambda info: info.filename)
            if "header.json" in archive.namelist():
                header = archive.getinfo("header.json")
                _refuse_unfinished(_json_object(_unpacked(archive, file, header)))
            return [_json_object(_unpacked(archive, file, info)) for info in entries]
    except (zipfile.BadZipFile, zlib.error, OSError, struct.error, NotImplementedError) as error:
        raise ValueError(f"not an Inspect log, or damaged ({error})") from error


def _refuse_unfinished(log: Mapping[str, Any]) -> None:
    """Refuse an evaluation that did not get to its end: some of its samples may be absent."""
    status = log.get("status", "success")
    if status != "success":
        raise ValueError(f"the evaluation did not finish (status '{status}')")


def _unpacked(archive: zipfile.ZipFile, file: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    """One file of an archive; Inspect compresses with zstd, which `zipfile` reads only from Python 3.14."""
    if info.compress_type != _ZSTD:
        return archive.read(info)
    file.seek(info.header_offset + _NAME_LENGTHS)
    name, extra = struct.unpack("<HH", file.read(4))
    file.seek(name + extra, 1)
    packed = pa.BufferReader(file.read(info.compress_size))
    with pa.CompressedInputStream(packed, "zstd") as stream:
        data: bytes = stream.read()
    if zlib.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"wrong checksum of {info.filename}")
    return data


def _inspect(samples: Sequence[Any], path: Path, layout: Layout) -> Source:
    """Samples of an Inspect log: the score of the scorer named, or the only one; epochs are runs."""
    try:
        read = msgspec.convert(samples, list[_InspectSample], strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"not the samples of an Inspect log ({error})") from error
    if not read:
        raise ValueError("the log holds no sample")
    scorers = list(dict.fromkeys(name for sample in read for name in sample.scores or {}))
    rows = []
    for sample in read:
        row: dict[str, Any] = {"id": sample.id, "input": sample.input, "metadata": sample.metadata or {}}
        row |= {name: _inspect_value((sample.scores or {}).get(name)) for name in scorers}
        rows.append(row | {"run": sample.epoch} if any(s.epoch != 1 for s in read) else row)
    rows = _flat_scores(rows, scorers)
    source = of_rows(rows, str(path))
    if layout.right or "right" in layout.columns:
        return source
    scorers = [name for name in rows[0] if name not in ("id", "input", "metadata", "run")]
    if not scorers:
        raise ValueError("no sample has a score")
    binary = [name for name in scorers if all(row.get(name) in (0, 1, None) for row in rows)]
    if len(scorers) > 1 and len(binary) != 1:
        raise ValueError(f"scorers {_listed(scorers)}: say which, as right={scorers[0]}")
    if not binary:
        raise ValueError(
            f"'{scorers[0]}' is not only right or wrong: give a bound, as right={scorers[0]}>=0.5"
        )
    return _renamed(source, "right", binary[0])


def _inspect_value(score: Any) -> Any:
    value = score.get("value") if isinstance(score, dict) else score
    if isinstance(value, bool):
        return int(value)
    return _INSPECT_VALUES.get(value, value) if isinstance(value, str) else value


def _flat_scores(rows: list[dict[str, Any]], scorers: Sequence[str]) -> list[dict[str, Any]]:
    """A scorer that gives several values gives a column for each: `NAME.KEY`."""
    flat = []
    for row in rows:
        made: dict[str, Any] = {}
        for name, value in row.items():
            if name in scorers and isinstance(value, dict):
                made |= {f"{name}.{key}": _inspect_value(inner) for key, inner in value.items()}
            else:
                made[name] = value
        flat.append(made)
    return flat


def _openai_evals(rows: Sequence[Mapping[str, Any]], path: Path) -> Source:
    """Events of OpenAI's evals: `match` events say whether a sample is right."""
    events = [row for row in rows if "type" in row and "sample_id" in row]
    matches = [row for row in events if row["type"] == "match" and isinstance(row.get("data"), dict)]
    metrics = [row for row in events if row["type"] == "metrics" and isinstance(row.get("data"), dict)]
    prompts: dict[Any, Any] = {}
    for row in events:
        data = row.get("data")
        if row["type"] == "sampling" and isinstance(data, dict):
            prompts.setdefault(row["sample_id"], data.get("prompt"))
    made = [
        {"id": row["sample_id"], "prompt": prompts.get(row["sample_id"]), **row["data"]}
        for row in matches or metrics
    ]
    if not made:
        raise ValueError("no event of type 'match' or 'metrics'")
    if matches:
        made = [{"right": row.pop("correct", None), **row} for row in made]
        seen = {row["id"] for row in made}
        failed = dict.fromkeys(row["sample_id"] for row in events if row["sample_id"] not in seen)
        made += [{"right": None, "id": name, "prompt": prompts.get(name)} for name in failed]
    return of_rows(made, str(path))


def _junit(data: bytes, path: Path) -> Source:
    """Tests of a JUnit XML file: failed, or an error, is wrong; skipped tests are left out."""
    try:
        root = ET.fromstring(data)
    except ET.ParseError as error:
        raise ValueError(f"not XML ({error})") from error
    if root.tag not in ("testsuites", "testsuite"):
        raise ValueError(f"not JUnit XML: the outermost element is '{root.tag}'")
    tests: dict[str, dict[str, Any]] = {}
    for case in root.iter("testcase"):
        if case.find("skipped") is not None:
            continue
        module = case.get("classname") or case.get("file") or ""
        name = "::".join(part for part in (module, case.get("name", "")) if part)
        failed = case.find("failure") is not None or case.find("error") is not None
        # A test whose teardown fails is written twice; it is right only if nothing failed.
        row = tests.setdefault(name, {"id": name, "right": 1, "classname": module})
        row["right"] = int(row["right"] and not failed)
    if not tests:
        raise ValueError("no test that ran")
    return of_rows(list(tests.values()), str(path))
