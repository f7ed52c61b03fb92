"""Several processes train what one would: same batches, same augmentation, every test sample once."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import models
from harness.compute import ComputeConfig
from harness.distributed import World
from harness.engine import Normalise, predict
from harness.plan import Model
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from loaders.feeds import open_feed
from results.predictions import Predictions

WORKER = Path(__file__).parent / "ddp_worker.py"
FAILING = Path(__file__).parent / "ddp_failing.py"


def torchrun(processes, *command, fails=False):
    call = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        *command,
    ]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=WORKER.parent.parent.parent)
    assert (done.returncode != 0) == fails, done.stderr[-3000:]


@pytest.mark.parametrize(("batch_size", "processes", "last"), [(50, 2, [25, 25]), (72, 8, [2] * 4 + [1] * 4)])
def test_the_parts_of_a_batch_are_the_batch(betons, batch_size, processes, last):
    digits = DATASETS["digits"]
    beton = ensure_beton(digits, "train", betons=betons)

    def batches(shard):
        feed = open_feed(beton, digits, train=True, batch_size=batch_size, shard=shard)
        with feed.epoch(3, 1, start=2) as stream:
            return list(stream)

    whole, parts = batches((0, 1)), [batches((rank, processes)) for rank in range(processes)]

    assert {len(whole)} == {len(part) for part in parts}
    assert [len(part[-1].targets) for part in parts] == last
    for number, batch in enumerate(whole):
        for name in ("images", "targets", "indices"):
            together = torch.cat([getattr(part[number], name) for part in parts])
            assert torch.equal(together, getattr(batch, name))
        assert {part[number].whole for part in parts} == {len(batch.targets)}


def test_no_process_is_left_without_a_sample(betons):
    digits = DATASETS["digits"]
    beton = ensure_beton(digits, "train", betons=betons)
    feeds = [
        open_feed(beton, digits, train=True, batch_size=100, subset=np.arange(203), shard=(rank, 4))
        for rank in range(4)
    ]

    for rank, feed in enumerate(feeds):
        with feed.epoch(1, 0) as batches:
            assert [(len(batch.targets), batch.whole) for batch in batches] == [
                (25, 100),
                (26 if rank < 3 else 25, 103),
            ]


def test_a_batch_that_cannot_be_shared_equally_is_refused(betons):
    digits = DATASETS["digits"]

    with pytest.raises(ValueError, match="batch_size=50: 3 processes cannot share it equally"):
        open_feed(
            ensure_beton(digits, "train", betons=betons), digits, train=True, batch_size=50, shard=(0, 3)
        )


def test_test_samples_are_divided_without_a_rest():
    samples = np.arange(7)

    parts = [World(rank=rank, size=3).share(samples) for rank in range(3)]

    assert np.array_equal(np.concatenate(parts), samples)


def answers_of(weights, betons):
    """What a resnet8 of these weights says of the test digits, in one process."""
    digits, compute = DATASETS["digits"], ComputeConfig(device=torch.device("cpu"))
    network = models.build(Model(arch="resnet8", stem="cifar"), 10, 0)
    network.load_state_dict(weights)
    feed = open_feed(ensure_beton(digits, "test", betons=betons), digits, train=False, batch_size=256)
    logits, targets, indices = predict(network, feed, Normalise(digits.mean, digits.std, compute), compute)
    return Predictions.from_logits(index=indices.numpy(), target=targets.numpy(), logits=logits.numpy())


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one(tmp_path, betons):
    for processes in (1, 2):
        torchrun(processes, str(WORKER), str(tmp_path), str(betons))

    one, two = (torch.load(tmp_path / f"{processes}.pt", weights_only=True) for processes in (1, 2))

    # Sums of gradients in another order: rounding, after twelve steps.
    for weights, others in zip(one["weights"], two["weights"], strict=True):
        for name, value in weights.items():
            torch.testing.assert_close(value, others[name], rtol=1e-3, atol=1e-4)
    for history, other in zip(one["history"], two["history"], strict=True):
        for entry, other_entry in zip(history, other, strict=True):
            assert entry == pytest.approx(other_entry, rel=1e-3)
    assert torch.equal(one["answers"][2], two["answers"][2])
    assert torch.equal(one["answers"][1], two["answers"][1])


@pytest.mark.slow
def test_a_job_of_two_processes_leaves_one_record_with_every_sample_once(bench):
    words = ("seeds=0", "epochs=2", "methods=none")
    (old, folder), (candidate, candidate_folder) = bench.jobs(*words)

    torchrun(2, "-m", "harness.execute", str(folder))
    torchrun(2, "-m", "harness.execute", str(candidate_folder))

    record = bench.store.read(candidate.runs[0].id)
    assert record.environment["processes"] == 2
    assert record.attempt == 1
    predictions = bench.store.predictions(record)
    assert sorted(predictions.index.tolist()) == list(range(1497))
    assert len(bench.store.predictions(bench.store.read(old.runs[0].id))) == 755
    again = answers_of(bench.weights(record), bench.betons)
    rounding = 1e-4  # of a batch of 256 against two parts of it
    np.testing.assert_allclose(predictions.margin, again.margin, rtol=0, atol=rounding)


@pytest.mark.slow
def test_the_process_that_fails_is_the_one_that_is_heard(bench, tmp_path):
    bench.betons = tmp_path / "betons"  # so that the first process is told to stop while it builds
    (job, folder), *_ = bench.jobs("seeds=0", "epochs=2", "methods=none")

    torchrun(2, str(FAILING), str(folder), fails=True)

    failure = bench.store.failure(job.runs[0].id)
    assert (failure.cause, failure.message) == ("data", "train.beton is damaged: image 7 cannot be decoded")
    assert failure.log.endswith("log.rank1.txt")
