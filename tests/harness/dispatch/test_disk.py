"""Disks that are full, read-only or gone."""

import os
import subprocess
import time

import pytest

from harness.dispatch import disk


@pytest.fixture
def small_disk(tmp_path, cannot):
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], check=False).returncode:
        cannot("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_with_room_has_no_trouble_and_no_probe_is_left(tmp_path):
    assert disk.trouble_of(tmp_path) == ""
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said(small_disk):
    (small_disk / "ballast").write_bytes(bytes(10 * 2**20))
    assert disk.trouble_of(small_disk) == disk.NO_ROOM
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_a_read_only_disk_is_named_as_such_and_waited_for(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert disk.trouble_of(small_disk) == f"{small_disk} cannot be written to: Read-only file system"
    assert not list(small_disk.iterdir())
    space = disk.DiskSpace(small_disk)
    space.wait("job")
    assert space.waits("job")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert not disk.DiskSpace(small_disk).waits("job")


def test_probes_of_killed_processes_are_removed_and_those_of_living_ones_stay(tmp_path):
    old, new = tmp_path / ".probe-1", tmp_path / ".probe-2"
    old.touch()
    new.touch()
    past = time.time() - 2 * disk.STALE_S
    os.utime(old, (past, past))
    assert disk.trouble_of(tmp_path) == ""
    assert list(tmp_path.iterdir()) == [new]


def test_a_folder_of_records_that_is_gone_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="The folder of records was removed"):
        disk.trouble_of(tmp_path / "gone")
