import io
import tarfile
from dataclasses import replace

import pytest

from results.store import Store
from results.store.__main__ import main
from results.store.archive import export_runs, import_runs
from results.store.verify import problems
from tests.results.store_making import finish, plan, publish


@pytest.fixture
def small(store) -> Store:
    """Four runs, one of them with weights."""
    for run in plan(methods=("none",), seeds=(0,)):
        finish(store, run)
    return store


@pytest.fixture
def elsewhere(tmp_path) -> Store:
    return Store(tmp_path / "elsewhere")


def copied(store, elsewhere, tmp_path, **more) -> tuple[int, int]:
    export_runs(store, tmp_path / "runs.tar", **({"weights": True} | more))
    return import_runs(elsewhere, tmp_path / "runs.tar")


def add_weights(store) -> str:
    """Publish a first record again, with a file of weights."""
    record = next(store.records())
    predictions = store.predictions(record)
    attempt = store.begin(record.id)
    name = attempt.name("weights.pt")
    publish(attempt, replace(record, files={name: attempt.write(name, b"weights")}), predictions)
    return record.id


def test_an_intact_store_has_no_problems(small):
    assert list(problems(small)) == []


def test_every_damaged_file_is_named(small):
    first, second, *_ = small.records()
    history = small.folder(first.id) / first.file("history")
    history.write_bytes(history.read_bytes() + b" ")
    (small.folder(second.id) / "record.json").write_bytes(b"{")
    found = list(problems(small))
    assert len(found) == 2
    assert str(history) in "".join(found)
    assert second.id in "".join(found)


def test_right_answers_that_are_not_those_of_the_predictions_are_found(small):
    first = next(small.records())
    wrong = replace(first, right=first.right[::-1].replace("=", "A"))
    (small.folder(first.id) / "record.json").write_bytes(wrong.to_bytes())
    assert "right answers" in next(problems(small))


def test_a_flipped_bit_in_a_record_is_found_wherever_it_is(small):
    path = small.folder(next(small.records()).id) / "record.json"
    whole = path.read_bytes()
    schema = whole.rindex(b'"schema": ') + len('"schema": ')  # a newer one is refused in another way
    for place in {*range(0, len(whole), 97)} - {schema}:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert len(list(problems(small))) == 1, place


def test_an_export_says_what_damage_it_leaves_out(small, tmp_path, capsys):
    path = small.folder(next(small.records()).id) / "record.json"
    path.write_bytes(path.read_bytes()[:200])
    assert main(["export", f"runs={small.root}", f"file={tmp_path / 'runs.tar'}"]) == 1
    said = capsys.readouterr()
    assert "3 runs, 1 damaged ones left out" in said.out
    assert str(path) in said.err


def test_a_compressed_archive_with_a_flipped_bit_is_one_line(small, elsewhere, tmp_path, capsys):
    file = tmp_path / "runs.tgz"
    export_runs(small, file, weights=True)
    data = bytearray(file.read_bytes())
    for place in range(100, len(data), len(data) // 20):
        damaged = data.copy()
        damaged[place] ^= 0x10
        file.write_bytes(bytes(damaged))
        assert main(["import", f"runs={elsewhere.root}", f"file={file}"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_runs_arrive_as_they_left(small, elsewhere, tmp_path, ending):
    file = tmp_path / f"runs.{ending}"
    assert export_runs(small, file, weights=True) == 4
    assert import_runs(elsewhere, file) == (4, 0)
    assert list(elsewhere.records()) == list(small.records())
    assert list(problems(elsewhere)) == []


def test_what_is_there_already_is_kept(small, elsewhere, tmp_path):
    copied(small, elsewhere, tmp_path)
    before = {r.id: (elsewhere.folder(r.id) / "record.json").stat().st_mtime_ns for r in elsewhere.records()}
    assert copied(small, elsewhere, tmp_path) == (0, 4)
    assert before == {r: (elsewhere.folder(r) / "record.json").stat().st_mtime_ns for r in before}


def test_an_import_makes_way_past_attempts_that_failed(small, elsewhere, tmp_path):
    for record in small.records():
        elsewhere.begin(record.id)
    assert copied(small, elsewhere, tmp_path) == (4, 0)
    assert {record.attempt for record in elsewhere.records()} == {2}
    assert list(problems(elsewhere)) == []


def test_weights_may_stay_behind(small, elsewhere, tmp_path):
    run_id = add_weights(small)
    copied(small, elsewhere, tmp_path, weights=False)
    assert small.read(run_id).file("weights")
    assert elsewhere.read(run_id).file("weights") is None

    there, here = elsewhere.read(run_id), small.read(run_id)
    assert elsewhere.content(there, "predictions") == small.content(here, "predictions")
    other = Store(tmp_path / "third")
    copied(small, other, tmp_path)
    assert other.content(other.read(run_id), "weights") == b"weights"


@pytest.mark.parametrize("kept", [0, 0.001, 0.2, 0.5, 0.7])
def test_an_archive_cut_short_is_refused_and_leaves_no_half_run(small, elsewhere, tmp_path, kept):
    file = tmp_path / "runs.tar"
    export_runs(small, file, weights=True)

    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match=r"runs\.tar: not an intact archive"):
        import_runs(elsewhere, file)
    assert list(problems(elsewhere)) == []


def test_an_archive_that_ends_between_two_runs_is_refused(small, elsewhere, tmp_path):
    file = tmp_path / "runs.tar"
    export_runs(small, file, weights=True)
    with tarfile.open(file) as archive:
        third = [member for member in archive if member.name.endswith("record.json")][2]
    file.write_bytes(file.read_bytes()[: third.offset_data + -(-third.size // 512) * 512])
    with pytest.raises(ValueError, match="its end is missing"):
        import_runs(elsewhere, file)
    assert len(list(elsewhere.records())) == 3


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a/b/c", "evil"])
def test_an_archive_cannot_write_elsewhere(elsewhere, tmp_path, name):
    file = tmp_path / "runs.tar"
    with tarfile.open(file, "w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(ValueError, match="not an intact archive"):
        import_runs(elsewhere, file)
    assert not list(tmp_path.rglob("evil"))


def test_a_changed_file_in_an_archive_is_refused(small, elsewhere, tmp_path):
    file = tmp_path / "runs.tar"
    export_runs(small, file, weights=True)
    file.write_bytes(file.read_bytes().replace(b'"train_accuracy":0.5', b'"train_accuracy":0.9'))
    with pytest.raises(ValueError, match="is not the one in its record"):
        import_runs(elsewhere, file)


def test_the_command_verifies_exports_and_imports(small, tmp_path, capsys):
    file, other = tmp_path / "runs.tgz", tmp_path / "other"
    assert main(["verify", f"runs={small.root}"]) == 0
    assert main(["export", f"runs={small.root}", f"file={file}"]) == 0
    assert main(["import", f"runs={other}", f"file={file}"]) == 0
    out = capsys.readouterr().out
    assert "4 intact runs, 0 problems" in out
    assert "4 runs imported, 0 were there already" in out
    (small.folder(next(small.records()).id) / "record.json").write_bytes(b"")
    assert main(["verify", f"runs={small.root}"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verfy"], "did you mean 'verify'"),
        (["verify", "runs=nowhere"], "no such folder"),
        (["export"], "file= must name the archive"),
        (["export", "file=runs.zip"], "must be .tar, .tar.gz or .tgz"),
        (["import", "file=nowhere.tar"], "nowhere.tar"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(small, monkeypatch, capsys, words, message):
    monkeypatch.chdir(small.root.parent)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
