import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from common.files import remove_leftovers, replacing
from results.store import BrokenRecord, Failure, Record, StaleAttempt, Store
from results.store.records import SCHEMA
from tests.results.store_making import FINISHED, diverge, finish, plan

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def run():
    return plan(methods=("none",), seeds=(0,))[0]


def test_an_empty_or_missing_folder_is_an_empty_store(store, run):
    assert store.read(run.id) is None
    assert store.failure(run.id) is None
    assert list(store.records()) == []
    assert not store.root.exists()


def test_a_published_record_reads_back_with_its_files(store, run):
    record = finish(store, run)
    assert store.read(run.id) == record
    assert [r.id for r in store.records()] == [run.id]
    assert len(store.predictions(record)) == 120
    assert [epoch["loss"] for epoch in store.history(record)] == [2.0, 1.0]


def test_nothing_but_record_json_proves_that_a_run_is_done(store, run):
    record = finish(store, run)
    (store.folder(run.id) / "record.json").unlink()
    assert record.files
    assert store.read(run.id) is None


@pytest.mark.parametrize("length", [0, 1, 50, -2])
def test_a_record_cut_short_is_no_record(store, run, length):
    finish(store, run)
    path = store.folder(run.id) / "record.json"
    path.write_bytes(path.read_bytes()[:length])
    assert store.read(run.id) is None
    assert list(store.records()) == []
    assert isinstance(next(store.scan()), BrokenRecord)


def test_a_record_whose_predictions_are_gone_is_no_record(store, run):
    record = finish(store, run)
    (store.folder(run.id) / record.file("predictions")).unlink()
    assert store.read(run.id) is None
    assert "is gone" in str(next(store.scan()))


def test_a_record_in_the_wrong_folder_is_no_record(store, run):
    finish(store, run)
    shutil.copytree(store.folder(run.id), store.root / "elsewhere")
    assert store.read("elsewhere") is None


def change_record(path, **change):
    """As schema 1 wrote it, whose records have no digest of their own."""
    content = json.loads(path.read_bytes()) | {"schema": 1} | change
    content.pop("sha256")
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        {"state": "running"},
        {"metrics": {"nfr": float("nan")}},
        {"timings": {"train_s": "long"}},
        {"run": {"id": "x", "role": "old"}},
        {"metrics": {"nfr": "low"}},
        {"run": {}},
        {"attempt": "1"},
        {"surprise": 1},
        {"files": {"../weights.pt": "00"}},
        {"schema": None},
        {"metrics": {"nfr": 10**400}},
        {"metrics": {"nfr": 1e300}},
        {"metrics": {"nfr": True}},
        {"environment": {"processes": "two"}},
        {"environment": {"class_names": [1, 2]}},
        {"environment": {"gpus": {"0": {"name": "deep"}}}},
        {"right": "not base64"},
        {"peak_memory_bytes": 0.5},
    ],
)
def test_an_invalid_record_is_no_record(store, run, change):
    finish(store, run)
    change_record(store.folder(run.id) / "record.json", **change)
    assert store.read(run.id) is None


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_json_is_a_broken_record_or_failure(store, run, opening):
    finish(store, run)
    folder = store.folder(run.id)
    (folder / "record.json").write_text('{"schema": 1, "environment": ' + opening * 100_000)
    (folder / "failure.json").write_text(opening * 100_000)
    assert store.read(run.id) is None
    assert isinstance(next(store.scan()), BrokenRecord)
    assert store.failure(run.id) is None


@pytest.mark.parametrize("part", ["split", "model", "recipe"])
def test_a_run_of_wrong_types_is_no_record(store, run, part):
    finish(store, run)
    content = json.loads((store.folder(run.id) / "record.json").read_bytes())["run"]
    change_record(store.folder(run.id) / "record.json", run=content | {part: {"old_classes": "three"}})
    if part != "recipe":  # a recipe's values are only printed
        assert store.read(run.id) is None


def test_a_number_that_is_not_finite_is_not_written(store, run):
    attempt = store.begin(run.id)
    record = Record(
        run=run.document(), state="done", metrics={"nfr": float("nan")}, attempt=1, finished=FINISHED
    )
    with pytest.raises(BrokenRecord):
        attempt.publish(record)
    assert not (store.folder(run.id) / "record.json").exists()


def test_names_that_are_not_utf_8_are_kept(store, run):
    name = b"caf\xe9".decode(errors="surrogateescape")
    attempt = store.begin(run.id)
    attempt.fail(Failure(attempt=1, cause="data", message=f"cannot read {name}", log=name))
    assert store.failure(run.id).message == f"cannot read {name}"
    environment = {"class_names": [name, "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]}
    record = Record(run=run.document(), state="done", environment=environment, attempt=1, finished=FINISHED)
    attempt.publish(record)
    assert store.read(run.id).environment == environment


def test_a_record_of_the_first_schema_needs_no_digest_and_a_newer_one_does(store, run):
    finish(store, run)
    path = store.folder(run.id) / "record.json"
    newer = json.loads(path.read_bytes())
    change_record(path)
    assert store.read(run.id) is not None
    path.write_text(json.dumps(newer))  # the same content, laid out in another way
    assert store.read(run.id) is None


def test_a_newer_schema_is_refused_by_name_and_not_overwritten(store, run):
    finish(store, run)
    path = store.folder(run.id) / "record.json"
    change_record(path, schema=SCHEMA + 1, new_field=1)
    with pytest.raises(ValueError, match=r"record\.json: its schema is 3, this code knows up to 2") as caught:
        store.read(run.id)
    assert not isinstance(caught.value, BrokenRecord)


def test_a_file_that_has_changed_is_refused(store, run):
    record = finish(store, run)
    path = store.folder(run.id) / record.file("predictions")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="digest"):
        store.predictions(record)


def test_a_newer_attempt_fences_the_older_one_off(store, run):
    stale = store.begin(run.id)
    current = store.begin(run.id)
    assert (stale.number, current.number) == (1, 2)
    for write in (
        lambda: stale.write("weights-0001.pt", b""),
        lambda: stale.fail(Failure(attempt=1, cause="bug", message="late")),
        lambda: stale.publish(Record(run=run.document(), state="done", attempt=1, finished=FINISHED)),
    ):
        with pytest.raises(StaleAttempt, match="attempt 1 has given way to attempt 2"):
            write()
    assert sorted(p.name for p in store.folder(run.id).iterdir()) == ["attempts"]
    current.write("weights-0002.pt", b"")


def test_a_stale_writer_caught_in_the_middle_of_a_file_is_told_so(store, run, monkeypatch):
    stale = store.begin(run.id)
    replace_file = Path.replace

    def overtaken(self, target):
        store.begin(run.id)  # clears the temporary file away
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    with pytest.raises(StaleAttempt):
        stale.write("weights-0001.pt", b"abc")


def test_a_record_that_a_newer_attempt_writes_meanwhile_stays(store, run, monkeypatch):
    """The newer one begins and ends after the older has been let through, and before its file is there."""
    stale, newer = store.begin(run.id), []

    def overtaken(path):
        if not newer:
            newer.append(True)
            finish(store, run)
        return replacing(path)

    monkeypatch.setattr("results.store.attempts.replacing", overtaken)
    with pytest.raises(StaleAttempt):
        stale.write("record.json", b"a record of old")
    assert store.read(run.id).attempt == 2


def test_a_late_cleaner_does_not_disturb_the_newest_attempt(store, run, monkeypatch):
    attempt = store.begin(run.id)
    replace_file, cleaned = Path.replace, []

    def cleaned_once(self, target):
        if not cleaned:
            cleaned.append(self)
            remove_leftovers(attempt.folder)
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", cleaned_once)
    attempt.write("weights-0001.pt", b"abc")
    assert (attempt.folder / "weights-0001.pt").read_bytes() == b"abc"


def test_attempts_that_begin_at_once_have_numbers_of_their_own(store, run):
    with ThreadPoolExecutor(8) as pool:
        numbers = [attempt.number for attempt in pool.map(lambda _: store.begin(run.id), range(24))]
    assert sorted(numbers) == list(range(1, 25))


def test_a_record_needs_the_files_that_it_names(store, run):
    attempt = store.begin(run.id)
    record = Record(
        run=run.document(), state="done", attempt=1, files={"weights-0001.pt": "00"}, finished=FINISHED
    )
    with pytest.raises(AssertionError, match=r"weights-0001\.pt"):
        attempt.publish(record)
    assert store.read(run.id) is None


def test_success_clears_the_failure_and_the_files_of_earlier_attempts(store, run):
    first = store.begin(run.id)
    first.write(first.name("weights.pt"), b"old")
    first.write("checkpoint.pt", b"kept: the engine's own")
    first.fail(Failure(attempt=1, cause="preempted", message="node taken", log="jobs/x/log.txt"))
    assert store.failure(run.id) == Failure(
        attempt=1, cause="preempted", message="node taken", log="jobs/x/log.txt"
    )
    record = finish(store, run)
    assert record.attempt == 2
    assert store.failure(run.id) is None
    names = {path.name for path in store.folder(run.id).iterdir()}
    assert names == {"attempts", "checkpoint.pt", "record.json", "predictions-0002.npz", "history-0002.json"}


def test_a_diverged_run_is_a_result(store, run):
    diverge(store, run, "loss is NaN in epoch 1")
    record = store.read(run.id)
    assert (record.state, record.reason) == ("diverged", "loss is NaN in epoch 1")
    with pytest.raises(ValueError, match="no predictions"):
        store.predictions(record)


def test_a_nan_in_the_history_is_written_as_null(store, run):
    attempt = store.begin(run.id)
    record = Record(run=run.document(), state="diverged", reason="NaN", attempt=1, finished=FINISHED)
    record = attempt.publish(record, history=[{"epoch": 0, "loss": float("nan")}])
    assert store.history(record) == [{"epoch": 0, "loss": None}]


def test_an_unreadable_failure_is_no_failure(store, run):
    attempt = store.begin(run.id)
    (attempt.folder / "failure.json").write_text('{"attempt": 1')
    assert store.failure(run.id) is None


def test_missing_names_the_runs_without_a_valid_record(store):
    done, damaged, never = plan(methods=("none", "pct-kl", "mpt-kl"), seeds=(0,))[:3]
    for run in (done, damaged):
        finish(store, run)
    (store.folder(damaged.id) / "record.json").write_text("{}")
    assert store.missing([done.id, damaged.id, never.id]) == [damaged.id, never.id]


def test_the_first_failure_is_that_of_the_first_run_that_has_one(store):
    runs = [run.id for run in plan(seeds=(0,))]
    assert store.first_failure(runs) is None
    store.fail(runs[2:], "memory", "out of memory", Path("log.txt"))
    store.fail(runs[1:2], "data", "no such folder", Path("log.txt"))
    assert store.first_failure(runs).cause == "data"
    assert store.first_failure(runs[2:]).message == "out of memory"


def test_failing_a_run_ends_the_attempt_at_work_on_it(store, run):
    attempt = store.begin(run.id)
    store.fail([run.id], "node", "its process was lost", Path("jobs/a/log.txt"))
    assert store.failure(run.id) == Failure(
        attempt=2, cause="node", message="its process was lost", log="jobs/a/log.txt"
    )
    with pytest.raises(StaleAttempt):
        attempt.write("weights-0001.pt", b"late")


@pytest.mark.parametrize("name", ["", "..", "a/b", "jobs", "features", ".hidden"])
def test_an_id_that_is_no_plain_name_is_refused(store, name):
    with pytest.raises(ValueError, match="cannot be the id"):
        store.read(name)


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_records_of_every_schema_are_read_for_ever(schema):
    store = Store(GOLDEN / f"schema-{schema}")
    (record,) = store.records()
    assert record.metrics == {"er_old": 0.25, "samples_old": 4}
    assert record.environment == {"torch": "2.15.0"}
    assert store.predictions(record).prediction.tolist() == [0, 1, 0, 2]
    assert store.history(record) == [{"epoch": 0, "loss": 1.5}]


def test_a_record_is_written_as_the_golden_one():
    (record,) = Store(GOLDEN / f"schema-{SCHEMA}").records()
    path = GOLDEN / f"schema-{SCHEMA}" / record.id / "record.json"
    assert replace(record).to_bytes() == path.read_bytes()
