"""Checkpoints: whole or not at all, the previous one kept, a full disk survived."""

import errno

import pytest
import torch

from harness import checkpoint
from results.store import StaleAttempt, Store


@pytest.fixture
def attempt(tmp_path):
    return Store(tmp_path).begin("run")


def save(attempt, *values):
    writer = checkpoint.Writer({attempt.folder: newest(attempt)} if epochs(attempt) else {})
    for value in values:
        writer.save({attempt: {"epoch": value, "weights": torch.full((3,), float(value))}})
    writer.close()
    return writer


def epochs(attempt):
    return sorted((state["epoch"] for state in checkpoint.load(attempt.folder).values()), reverse=True)


def newest(attempt):
    """The file from which a run would go on."""
    files = checkpoint.load(attempt.folder)
    return max(files, key=lambda name: files[name]["epoch"])


def test_the_newest_and_the_one_before_are_kept(attempt):
    save(attempt, 1, 2, 3)

    assert epochs(attempt) == [3, 2]


def test_the_state_is_copied_when_it_is_saved(attempt):
    living = torch.zeros(3)
    writer = checkpoint.Writer({})
    writer.save({attempt: {"nested": [{"weights": living}]}})
    living.fill_(9)
    writer.close()

    (state,) = checkpoint.load(attempt.folder).values()
    assert state["nested"][0]["weights"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_previous_one(attempt, damage):
    save(attempt, 1, 2)
    path = attempt.folder / newest(attempt)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"torn": bytes(data[:-10]), "flipped": bytes(data), "empty": b""}[damage])

    assert epochs(attempt) == [1]


def test_another_process_keeps_the_point_from_which_it_goes_on(attempt):
    save(attempt, 1, 2)
    save(attempt, 3)

    assert epochs(attempt) == [3, 2]


def test_a_point_that_all_members_share_outlives_any_number_of_saves_that_fail(tmp_path, monkeypatch):
    members = [Store(tmp_path).begin(name) for name in ("a", "b")]
    writer = checkpoint.Writer({})
    writer.save({member: {"epoch": 1} for member in members})
    writer.wait()
    write = type(members[0]).write

    def room_for_the_first_alone(self, name, data):
        if self is members[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(type(members[0]), "write", room_for_the_first_alone)
        for epoch in (2, 3, 4):
            writer.save({member: {"epoch": epoch} for member in members})
            writer.wait()
    assert [epochs(member) for member in members] == [[4, 1], [1]]
    writer.save({member: {"epoch": 5} for member in members})
    writer.close()
    assert [epochs(member) for member in members] == [[5, 1], [5, 1]]


def test_no_checkpoint_is_no_state(attempt):
    assert epochs(attempt) == []


def test_a_full_disk_is_a_complaint_and_training_goes_on(attempt, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = checkpoint.Writer({})
    with monkeypatch.context() as patch:
        patch.setattr(type(attempt), "write", no_space)
        writer.save({attempt: {"epoch": 1}})
        writer.wait()
    assert "No space left on device" in writer.complaint

    writer.save({attempt: {"epoch": 2}})
    writer.close()
    assert writer.complaint == ""
    assert epochs(attempt) == [2]


def test_a_stale_writer_leaves_a_newer_attempts_checkpoint_alone(tmp_path):
    store = Store(tmp_path)
    stale = store.begin("run")
    save(stale, 1)
    newer = store.begin("run")
    save(newer, 5)

    with pytest.raises(StaleAttempt):
        save(stale, 2)

    assert epochs(newer) == [5, 1]


def test_removing_leaves_nothing(attempt):
    save(attempt, 1, 2)
    checkpoint.remove(attempt.folder)

    assert epochs(attempt) == []
