"""Records made with other code of their method, or in another precision, are marked or made again."""

import json

import pytest

from common.files import digest
from harness import plan, sweep
from methods.mpt import MptKl
from methods.plain import NoTreatment
from results.store import Record

WORDS = ("methods=none,mpt-kl", "seeds=0", "epochs=1", "device=cpu", "cluster=inline")


@pytest.fixture
def call(bench, capsys):
    """Output of a sweep on one and the same folder of records."""

    def called(*words):
        assert sweep.main([*WORDS, f"runs={bench.runs}", f"betons={bench.betons}", *words]) == 0
        return capsys.readouterr().out

    called()
    return called


@pytest.fixture
def change_code(monkeypatch):
    """Let the code of these methods be another one than it was."""
    before = plan.code_digest

    def change(*methods):
        monkeypatch.setattr(plan, "code_digest", lambda m: "changed" if m in methods else before(m))

    return change


def finished(bench):
    return {record.id: record.finished for record in bench.store.records()}


def attempts(bench):
    return {record.run["label"]: record.attempt for record in bench.store.records()}


def test_a_record_says_which_code_of_its_method_made_it(call, bench):
    codes = {record.run["label"]: record.method_code for record in bench.store.records()}

    assert codes["mpt-kl"] == plan.code_digest(MptKl)
    assert codes["old"] == codes["reference 0"] == codes["none"] == plan.code_digest(NoTreatment)


def test_records_of_other_code_are_kept_and_marked(call, bench, change_code):
    change_code(MptKl)

    planned, table = call("plan=true"), call()

    assert "0 to do" in planned
    assert "made with other code of mpt-kl: mpt-kl s0; stale=rerun trains it again" in planned
    assert "mpt-kl: seed 0 made with other code of mpt-kl; stale=rerun trains it again" in table
    assert set(attempts(bench).values()) == {1}


def test_records_of_other_code_are_made_again_on_request(call, bench, change_code):
    change_code(MptKl)

    assert "1 to do" in call("plan=true", "stale=rerun")
    table = call("stale=rerun")

    assert attempts(bench) == {"old": 1, "reference 0": 1, "none": 1, "mpt-kl": 2}
    assert "other code" not in table
    assert "0 to do" in call("plan=true", "stale=rerun")


def test_what_learned_from_a_stale_model_is_stale_too(call, bench, change_code):
    change_code(NoTreatment)

    assert "learned from a stale old: mpt-kl s0" in call("plan=true")
    call("stale=rerun")

    assert set(attempts(bench).values()) == {2}


def test_records_that_do_not_say_their_code_are_not_marked(call, bench, change_code):
    for path in bench.runs.glob("*/record.json"):
        edit(path, lambda content: content["run"].pop("method_code"))
    change_code(MptKl, NoTreatment)

    assert "other code" not in call("plan=true") + call()


def test_a_record_from_before_precision_was_planned_is_marked(call, bench):
    (path,) = bench.runs.glob("*-mpt-kl-*/record.json")
    edit(path, lambda content: content["environment"].update(precision="bf16"))

    assert "made in bf16: mpt-kl s0" in call("plan=true")
    assert call().count(" classes old, bf16") == 1


def test_runs_of_another_precision_are_trained_in_it_and_shown_apart(call, bench):
    table = call("precision=fp32,bf16")

    assert table.count("5 of 10 classes old, bf16") == 1
    assert table.count("5 of 10 classes old\n") == 1
    precisions = sorted(record.precision for record in bench.store.records())
    assert precisions == ["bf16"] * 4 + ["fp32"] * 4
    assert {r.environment["precision"] for r in bench.store.records() if "precision" in r.run} == {"bf16"}


def edit(path, change):
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    rest = ('",' + json.dumps(content).removeprefix("{")).encode()
    path.write_bytes(b'{\n "sha256": "' + digest(rest).encode() + rest)
    assert Record.from_bytes(path.read_bytes())
