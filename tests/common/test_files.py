import stat

import pytest

from common.files import remove_leftovers, write_atomically


def test_content_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two", durable=False)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_content_and_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"one")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_missing_or_in_the_way_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such folder: '.*nowhere'"):
        write_atomically(tmp_path / "nowhere" / "file", b"")
    with pytest.raises(IsADirectoryError, match="Is a folder"):
        write_atomically(tmp_path, b"")


def test_files_follow_the_umask_so_that_a_group_can_share_a_store(tmp_path):
    write_atomically(tmp_path / "file", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_leftovers_of_killed_writers_are_removed_and_files_are_not(tmp_path):
    (tmp_path / ".weights.pt.0123.tmp").write_bytes(b"half")
    (tmp_path / "record.json").write_bytes(b"{}")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
