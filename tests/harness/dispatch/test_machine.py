"""What a machine offers, from what its tools and the environment say."""

import os

import pytest

from harness.dispatch.machine import Machine


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Makes nvidia-smi tell of GPUs with these ids; none is a machine without the tool."""

    def gpus(*uuids):
        monkeypatch.setenv("PATH", str(tmp_path))
        if uuids:
            lines = "\n".join(f"echo {uuid}" for uuid in uuids)
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}\n")
            (tmp_path / "nvidia-smi").chmod(0o755)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield gpus
    assert os.environ["PATH"] == str(tmp_path)


@pytest.mark.parametrize("visible", [None, "", "-1", "NoDevFiles", "0", "0,1", "GPU-a"])
def test_where_there_is_no_gpu_no_variable_makes_one(gpus, monkeypatch, visible):
    gpus()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Machine.here().gpus == ()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ("GPU-aa", "GPU-bb")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0", ("0",)),
        (" 1, 0 ", ("1", "0")),
        ("2", ()),
        ("0,2,1", ("0",)),
        ("0,-1,1", ("0",)),
        ("GPU-b", ("GPU-b",)),
        ("GPU-x", ()),
        ("MIG-1/2", ("MIG-1/2",)),
    ],
)
def test_the_variable_chooses_among_the_gpus_that_are_there_as_cuda_reads_it(
    gpus, monkeypatch, visible, expected
):
    gpus("GPU-aa", "GPU-bb")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Machine.here().gpus == expected
