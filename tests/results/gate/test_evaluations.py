"""Logs of evaluation tools, made small after the public descriptions that the reader names."""

import json
import struct
import zipfile
import zlib

import pyarrow as pa
import pytest

from results.gate import Layout, compare


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def of_lm_eval(right, *, metrics=("exact_match",), filters=("none",), question="What is {}+1?", **more):
    """Samples of `lm_eval --log_samples`: one line per document and filter."""
    return [
        {
            "doc_id": i,
            "doc": {"question": question.format(i), "subject": ["add", "more"][i % 2]},
            "target": str(i + 1),
            "arguments": {"gen_args_0": {"arg_0": question.format(i)}},
            "resps": [["..."]],
            "filtered_resps": ["..."],
            "filter": name,
            "metrics": list(metrics),
            "doc_hash": f"hash of {question.format(i)}",
            "prompt_hash": f"prompt {i} {more}",
            "target_hash": f"target {i}",
            **{metric: float(value) for metric in metrics},
            **{metric: values[i] for metric, values in more.items()},
        }
        for name in filters
        for i, value in enumerate(right)
    ]


def test_samples_of_lm_evaluation_harness_are_read_as_they_are(tmp_path):
    old = lines(tmp_path / "samples_sums_2026-11-25T10-00-00.jsonl", of_lm_eval([1, 1, 0, 1]))
    new = lines(tmp_path / "samples_sums_2026-11-25T11-00-00.jsonl", of_lm_eval([1, 0, 1, 1])[::-1])
    report = compare(old, new)
    assert (report.metrics["nfr"], report.metrics["pfr"]) == (0.25, 0.25)
    assert report.flips("negative") == [{"id": "1", "flip": "negative"}]
    assert report.samples.identity == "doc_hash"


def test_a_new_prompt_is_the_same_question_and_a_new_document_is_not(tmp_path):
    old = lines(tmp_path / "old.jsonl", of_lm_eval([1, 1]))
    prompted = [{**row, "prompt_hash": "another"} for row in of_lm_eval([1, 1])]
    compare(old, lines(tmp_path / "new.jsonl", prompted))
    other = lines(tmp_path / "new.jsonl", of_lm_eval([1, 1], question="What is {}+2?"))
    with pytest.raises(
        ValueError, match=r"sample '0' is another question in .*new\.jsonl.*'doc_hash' differs"
    ):
        compare(old, other)
    assert compare(old, other, layout=Layout(same="none")).metrics["nfr"] == 0


def test_of_several_metrics_and_filters_one_has_to_be_named(tmp_path):
    rows = of_lm_eval([1, 0, 1], metrics=("acc", "acc_norm"), acc_norm=[0.0, 0.0, 1.0])
    path = lines(tmp_path / "samples_a.jsonl", rows)
    with pytest.raises(
        ValueError, match=r"metrics 'acc', 'acc_norm' all say right or wrong: say which, as right=acc"
    ):
        compare(path, path)
    assert compare(path, path, layout=Layout(right="acc_norm")).metrics["er_old"] == pytest.approx(2 / 3)
    path = lines(tmp_path / "samples_b.jsonl", of_lm_eval([1, 0, 1], filters=("strict-match", "flexible")))
    with pytest.raises(
        ValueError, match=r"filters 'strict-match', 'flexible': say which, as where=filter==strict"
    ):
        compare(path, path)
    assert len(compare(path, path, layout=Layout(where="filter==flexible")).samples) == 3


def test_a_metric_between_0_and_1_needs_a_bound(tmp_path):
    path = lines(tmp_path / "samples_a.jsonl", of_lm_eval([1, 1, 1], metrics=("f1",), f1=[0.2, 0.5, 1.0]))
    with pytest.raises(ValueError, match=r"no metric is only 0 or 1; .* as right=f1>=0\.5"):
        compare(path, path)
    assert compare(path, path, layout=Layout(right="f1>=0.5")).metrics["er_old"] == pytest.approx(1 / 3)
    assert compare(path, path, layout=Layout(right="f1>0.5")).metrics["er_old"] == pytest.approx(2 / 3)


def test_a_folder_of_lm_evaluation_harness_is_all_its_tasks(tmp_path):
    for version, right in (("old", [1, 1]), ("new", [1, 0])):
        (tmp_path / version / "model").mkdir(parents=True)
        lines(tmp_path / version / "model" / "samples_a_2026-11-25T10-00-00.jsonl", of_lm_eval([1, 1, 1]))
        lines(tmp_path / version / "model" / "samples_b_2026-11-25T10-00-00.jsonl", of_lm_eval(right))
    report = compare(tmp_path / "old", tmp_path / "new")
    assert [row["id"] for row in report.flips()] == ["b/1"]
    assert len(report.samples) == 5


def inspect_log(right, *, epochs=1, scorers=("match",), status="success", values="CI"):
    samples = [
        {
            "id": f"q{i}",
            "epoch": epoch,
            "input": f"What is {i}+1?",
            "target": str(i + 1),
            "scores": {
                scorer: {"value": values[0] if (value + epoch * (scorer != scorers[0])) % 2 else values[1]}
                for scorer in scorers
            },
            "metadata": {"subject": ["add", "more"][i % 2]},
        }
        for epoch in range(1, epochs + 1)
        for i, value in enumerate(right)
    ]
    return {"version": 2, "status": status, "eval": {"task": "sums"}, "samples": samples}


def as_archive(path, log, *, zstd):
    """A `.eval` file: a ZIP of one JSON file per sample, today compressed with zstd."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({**log, "samples": None}))
        for sample in log["samples"]:
            data = json.dumps(sample).encode()
            info = zipfile.ZipInfo(f"samples/{sample['id']}_epoch_{sample['epoch']}.json")
            if not zstd:
                archive.writestr(info, data)
                continue
            packed = pa.BufferOutputStream()
            with pa.CompressedOutputStream(packed, "zstd") as stream:
                stream.write(data)
            body = packed.getvalue().to_pybytes()
            info.CRC, info.file_size, info.compress_size = zlib.crc32(data), len(data), len(body)
            info.header_offset = archive.fp.tell()
            archive.fp.write(info.FileHeader())
            archive.fp.write(body)
            archive.start_dir = archive.fp.tell()
            info.compress_type = 93
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info
            archive._didModify = True
    return path


@pytest.mark.parametrize("kind", ["json", "deflate", "zstd"])
def test_logs_of_inspect_are_read_as_they_are(tmp_path, kind):
    paths = []
    for version, right in (("old", [1, 1, 0, 1]), ("new", [1, 0, 1, 1])):
        log = inspect_log(right)
        path = tmp_path / f"{version}.{'json' if kind == 'json' else 'eval'}"
        if kind == "json":
            path.write_text(json.dumps(log))
        else:
            as_archive(path, log, zstd=kind == "zstd")
        paths.append(path)
    report = compare(*paths)
    assert (report.metrics["nfr"], report.metrics["pfr"]) == (0.25, 0.25)
    assert report.samples.identity == "input"


def test_epochs_of_inspect_are_runs_and_scorers_have_to_be_named(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(inspect_log([1, 0], epochs=3)))
    assert compare(path, path).samples.old.runs == 3
    path.write_text(json.dumps(inspect_log([1, 0], scorers=("match", "judge"))))
    with pytest.raises(ValueError, match=r"scorers 'match', 'judge': say which, as right=match"):
        compare(path, path)
    assert compare(path, path, layout=Layout(right="judge")).metrics["er_old"] == 0.5
    path.write_text(json.dumps(inspect_log([1, 0], values=["P", "I"])))
    with pytest.raises(
        ValueError, match=r"'match' is not only right or wrong: give a bound, as right=match>=0\.5"
    ):
        compare(path, path)


def test_an_evaluation_that_did_not_finish_and_a_sample_without_a_score_are_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(inspect_log([1, 0], status="cancelled")))
    with pytest.raises(ValueError, match=r"old\.json: the evaluation did not finish \(status 'cancelled'\)"):
        compare(path, path)
    log = inspect_log([1, 0, 1])
    log["samples"][1]["scores"] = None
    path.write_text(json.dumps(log))
    with pytest.raises(ValueError, match=r"row 2: right is empty"):
        compare(path, path)
    assert compare(path, path, layout=Layout(unanswered="wrong")).metrics["er_old"] == pytest.approx(1 / 3)


def test_a_damaged_inspect_log_is_refused(tmp_path):
    path = as_archive(tmp_path / "old.eval", inspect_log([1, 0, 1]), zstd=True)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("samples/q1_epoch_1.json")
    name, extra = struct.unpack("<HH", data[entry.header_offset + 26 : entry.header_offset + 30])
    data[entry.header_offset + 30 + name + extra + 40] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"old\.eval: (not an Inspect log, or damaged|not JSON)"):
        compare(path, path)


def openai_events(right):
    """What OpenAI's evals record: a header, then events, of which `match` says whether a sample is right."""
    yield {"spec": {"eval_name": "sums", "run_id": "r"}}
    for i, value in enumerate(right):
        event = {"run_id": "r", "event_id": 2 * i, "sample_id": f"sums.test.{i}", "created_by": ""}
        sampled = {"prompt": f"What is {i}+1?", "sampled": ["?"]}
        yield {**event, "type": "sampling", "data": sampled}
        matched = {"correct": bool(value), "expected": str(i + 1), "picked": "?", "options": ["a"]}
        if value is not None:
            yield {**event, "type": "match", "data": matched}
    yield {"final_report": {"accuracy": 0.5}}


def test_events_of_openai_evals_are_read_as_they_are(tmp_path):
    old = lines(tmp_path / "old.jsonl", openai_events([1, 1, 0]))
    report = compare(old, lines(tmp_path / "new.jsonl", openai_events([0, 1, 1])))
    assert [row["id"] for row in report.flips("negative")] == ["sums.test.0"]
    assert report.samples.identity == "prompt"
    broken = lines(tmp_path / "new.jsonl", openai_events([1, None, 1]))
    with pytest.raises(ValueError, match=r"row 3: right is empty"):
        compare(old, broken)


def junit(path, cases):
    inside = {"passed": "", "failed": "<failure message='x'/>", "error": "<error/>", "skipped": "<skipped/>"}
    tests = "".join(
        f'<testcase classname="test_a" name="{name}" time="0.1">{inside[outcome]}</testcase>'
        for name, outcome in cases
    )
    path.write_text(
        f'<?xml version="1.0"?><testsuites><testsuite name="pytest">{tests}</testsuite></testsuites>'
    )
    return path


def test_a_test_of_pytest_that_passed_and_now_fails_is_a_negative_flip(tmp_path):
    old = junit(
        tmp_path / "old.xml", [("a", "passed"), ("b[1]", "passed"), ("c", "failed"), ("d", "skipped")]
    )
    new = junit(
        tmp_path / "new.xml",
        [("a", "passed"), ("b[1]", "passed"), ("b[1]", "error"), ("c", "passed"), ("d", "skipped")],
    )
    report = compare(old, new)
    assert [row["id"] for row in report.flips("negative")] == ["test_a::b[1]"]
    assert len(report.samples) == 3


def test_a_test_that_is_skipped_now_is_not_silently_gone(tmp_path):
    old = junit(tmp_path / "old.xml", [("a", "passed"), ("b", "passed")])
    new = junit(tmp_path / "new.xml", [("a", "passed"), ("b", "skipped")])
    with pytest.raises(
        ValueError, match=r"new\.xml: lacks 1 of the samples in .*old\.xml, first 'test_a::b'"
    ):
        compare(old, new)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("old.xml", "<html></html>", "not JUnit XML: the outermost element is 'html'"),
        ("old.xml", "<testsuite>", "not XML"),
        ("old.jsonl", '{"id": 1}\nnot json\n', "line 2 is not JSON"),
        ("old.jsonl", "[1]\n", "row 1 is not a JSON object but list"),
        ("old.json", '{"a": 1}', "not a list of objects"),
        ("old.eval", "no archive", "not an Inspect log, or damaged"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, name, text, complaint):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        compare(path, path)


def test_a_column_may_say_right_or_wrong_in_many_words():
    for values in ([1, 0], [True, False], ["True", "False"], ["pass", "fail"], ["correct", "incorrect"]):
        made = {"id": [1, 2], "correct": values}
        assert compare(made, made).metrics["er_old"] == 0.5
    with pytest.raises(ValueError, match=r"row 2: correct is '0\.5', neither right .*right=correct>=0\.5"):
        compare({"id": [1, 2], "correct": ["1", "0.5"]}, made)


def test_a_column_that_contradicts_targets_and_predictions_is_asked_about():
    made = {"id": [1, 2], "target": ["a", "b"], "prediction": ["a", "B."], "correct": [1, 1]}
    with pytest.raises(ValueError, match=r"row 2: 'correct' says right.*say right=correct"):
        compare(made, made)
    assert compare(made, made, layout=Layout(right="correct")).metrics["er_old"] == 0


def test_a_table_of_right_answers_has_no_classes_and_no_churn():
    made = {"id": [1, 2], "passed": [1, 0]}
    report = compare(made, made)
    assert "churn" not in report.metrics
    assert report.classes == []


def test_samples_that_only_one_file_has_are_no_new_classes_where_there_are_no_classes():
    with pytest.raises(ValueError, match=r"old: lacks 1 of the samples in new, first '3'"):
        compare({"id": [1, 2], "passed": [1, 0]}, {"id": [1, 2, 3], "passed": [1, 0, 1]})
