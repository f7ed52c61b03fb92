"""What holds for every feed, on the digits."""

import hashlib
import os
import subprocess
import sys
import threading
from typing import TypedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.batches import Batch, Feed
from loaders.betons import Beton
from loaders.datasets import DATASETS
from loaders.feeds import Kind, available_reader, open_feed
from loaders.resident import DeviceImages, HostImages
from loaders.stream import PrefetchReader, Reader

DIGITS = DATASETS["digits"]


class How(TypedDict, total=False):
    """Arguments of `open_feed` that decide which feed it is."""

    kind: Kind
    reader: type[Reader]


STREAM: How = {"kind": "stream"}
WITHOUT_FFCV: How = {"kind": "stream", "reader": PrefetchReader}
RESIDENT: How = {"kind": "resident"}
TORCH: How = {"kind": "torch"}


@pytest.fixture(
    params=[STREAM, WITHOUT_FFCV, RESIDENT, TORCH], ids=["stream", "prefetch", "resident", "torch"]
)
def how(request: pytest.FixtureRequest) -> How:
    assert isinstance(request.param, dict)
    return request.param  # type: ignore[return-value]


def batches(feed: Feed, key: int = 1, epoch: int = 0, start: int = 0) -> list[Batch]:
    with feed.epoch(key, epoch, start) as stream:
        return list(stream)


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(a.images, b.images)


def test_evaluation_yields_every_sample_once_and_in_order(digits_to_test: Beton, how: How) -> None:
    feed = open_feed(digits_to_test, DIGITS, train=False, batch_size=200, **how)
    got = batches(feed)
    assert feed.samples == 1497
    assert feed.batches == len(got) == 8
    assert [len(b.indices) for b in got] == [200] * 7 + [97]
    assert torch.equal(torch.cat([b.indices for b in got]), torch.arange(1497))
    assert got[0].images.dtype == torch.uint8
    assert got[0].images.shape == (200, 8, 8, 3)


def test_training_yields_every_sample_once_in_a_new_order_each_epoch(train_digits: Beton, how: How) -> None:
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=70, **how)
    first, second = batches(feed, epoch=0), batches(feed, epoch=1)
    assert feed.batches == len(first) == 5
    assert [len(b.images) for b in first] == [b.whole for b in first] == [70, 70, 70, 70, 20]
    seen = torch.cat([b.indices for b in first])
    assert sorted(seen.tolist()) == list(range(300))
    assert not torch.equal(seen, torch.cat([b.indices for b in second]))


def test_a_last_batch_of_one_sample_joins_the_one_before(train_digits: Beton, how: How) -> None:
    """BatchNorm cannot train on a single sample."""
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=100, subset=np.arange(201), **how)
    assert feed.batches == 2
    assert [len(b.images) for b in batches(feed)] == [b.whole for b in batches(feed)] == [100, 101]
    assert [len(b.images) for b in batches(feed, start=1)] == [101]


def test_a_feed_opened_again_replays_an_epoch_whatever_the_workers(train_digits: Beton, how: How) -> None:
    one = open_feed(train_digits, DIGITS, train=True, batch_size=50, **how, workers=1)
    other = open_feed(train_digits, DIGITS, train=True, batch_size=50, **how)
    batches(other, epoch=3)
    assert_same(batches(one, key=7, epoch=2), batches(other, key=7, epoch=2))


def test_an_epoch_can_be_entered_in_the_middle(train_digits: Beton, how: How) -> None:
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=50, **how)
    assert_same(batches(feed, start=4), batches(feed)[4:])
    assert batches(feed, start=feed.batches) == []


def test_all_feeds_agree_on_what_is_evaluated(digits_to_test: Beton) -> None:
    stream, *others = (
        batches(open_feed(digits_to_test, DIGITS, train=False, batch_size=500, **how))
        for how in (STREAM, WITHOUT_FFCV, RESIDENT, TORCH)
    )
    for other in others:
        assert_same(stream, other)


@given(
    key=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 1000),
    batch_size=st.integers(1, 60),
    start=st.integers(0, 5),
    subset=st.sets(st.integers(0, 299), min_size=60),
    workers=st.integers(1, 4),
)
@settings(max_examples=25)
def test_stream_and_resident_feeds_give_the_same_pixels(
    train_digits: Beton, key: int, epoch: int, batch_size: int, start: int, subset: set[int], workers: int
) -> None:
    samples = np.array(sorted(subset))
    one, *others = (
        open_feed(
            train_digits,
            DIGITS,
            train=True,
            batch_size=batch_size,
            subset=samples,
            workers=workers,
            **how,
        )
        for how in (STREAM, WITHOUT_FFCV, RESIDENT)
    )
    wanted = batches(one, key, epoch, start)
    for other in others:
        assert_same(batches(other, key, epoch, start), wanted)


@given(st.data())
@settings(max_examples=50)
def test_cropping_by_index_as_on_a_gpu_gives_the_kernels_pixels(data: st.DataObject) -> None:
    height, width, pad = (data.draw(st.integers(1, 9)) for _ in range(3))
    key, epoch = (np.uint64(data.draw(st.integers(0, 2**64 - 1))) for _ in range(2))
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (7, height, width, 3), dtype=np.uint8)
    )
    samples = np.array(data.draw(st.lists(st.integers(0, 6), min_size=1)))
    one, other = HostImages(pixels), DeviceImages(pixels, pad)
    flip = data.draw(st.booleans())
    arguments, part = (samples, key, epoch, pad, flip), slice(data.draw(st.integers(0, 6)), None)
    assert torch.equal(one.augmented(*arguments)(part), other.augmented(*arguments)(part))
    assert torch.equal(one.plain(samples)(part), other.plain(samples)(part))


def test_a_sample_looks_the_same_in_any_subset(train_digits: Beton, how: How) -> None:
    """Order and pixels depend on the sample's number, not on the subset or the batch size."""
    few = open_feed(train_digits, DIGITS, train=True, batch_size=10, subset=np.arange(0, 300, 3), **how)
    all_ = open_feed(train_digits, DIGITS, train=True, batch_size=100, **how)
    pixels = {int(i): x for b in batches(all_) for i, x in zip(b.indices, b.images, strict=True)}
    for batch in batches(few):
        for index, image in zip(batch.indices, batch.images, strict=True):
            assert torch.equal(image, pixels[int(index)])


def test_targets_are_positions_in_the_class_order(digits_to_test: Beton, how: How) -> None:
    plain = batches(open_feed(digits_to_test, DIGITS, train=False, batch_size=1497))[0]
    ranks = np.array([-1, 4, 3, 2, 1, 0, -1, -1, -1, -1])
    subset = np.flatnonzero(ranks[plain.targets.numpy()] >= 0)
    feed = open_feed(digits_to_test, DIGITS, train=False, batch_size=2000, subset=subset, ranks=ranks, **how)
    (batch,) = batches(feed)
    assert batch.indices.tolist() == subset.tolist()
    assert batch.targets.tolist() == ranks[plain.targets.numpy()[subset]].tolist()


def test_a_held_batch_is_never_overwritten(train_digits: Beton, how: How) -> None:
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=10, **how)
    with feed.epoch(1, 0) as stream:
        held = [(batch, batch.images.clone()) for batch in stream]
    assert len(held) == 30
    for batch, copy in held:
        assert torch.equal(batch.images, copy)


@pytest.mark.parametrize("taken", [0, 1, 5, 6])
def test_leaving_early_leaves_no_thread(train_digits: Beton, how: How, taken: int) -> None:
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=50, **how)
    batches(feed)
    before = set(threading.enumerate())
    with feed.epoch(1, 0) as stream:
        for _ in range(taken):
            next(stream)
    left = set(threading.enumerate()) - before
    for thread in left:  # torch's queues let theirs end by themselves, which takes a moment
        thread.join(timeout=10 if how is TORCH else 0)
    assert not [thread for thread in left if thread.is_alive()]
    assert len(batches(feed)) == 6


def test_an_error_inside_an_epoch_comes_out_and_leaves_no_thread(train_digits: Beton, how: How) -> None:
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=50, **how)
    before = set(threading.enumerate())

    def stumble() -> None:
        with feed.epoch(1, 0) as stream:
            next(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(timeout=10 if how is TORCH else 0)
    assert not [thread for thread in left if thread.is_alive()]


def test_the_number_of_torchs_threads_does_not_change(train_digits: Beton, how: How) -> None:
    before = torch.get_num_threads()
    batches(open_feed(train_digits, DIGITS, train=True, batch_size=50, workers=1, **how))
    assert torch.get_num_threads() == before


def test_more_workers_than_cores_are_no_error(train_digits: Beton, how: How) -> None:
    workers = len(os.sched_getaffinity(0)) + 7
    batches(open_feed(train_digits, DIGITS, train=True, batch_size=50, workers=workers, **how))


def test_too_few_samples_for_a_batch_are_refused(train_digits: Beton) -> None:
    with pytest.raises(ValueError, match=r"batch_size=301.*300 samples"):
        open_feed(train_digits, DIGITS, train=True, batch_size=301)


def test_small_images_stay_resident_by_default(train_digits: Beton) -> None:
    assert type(open_feed(train_digits, DIGITS, train=True, batch_size=50)).__name__ == "ResidentFeed"


def test_without_ffcv_a_stream_feed_has_the_same_batches_and_says_so_once(train_digits: Beton) -> None:
    """In a fresh process where FFCV and what only FFCV brings cannot be imported."""
    code = f"""
import sys
sys.modules["ffcv"] = sys.modules["cv2"] = None
import hashlib, pathlib
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from loaders.feeds import open_feed
betons = pathlib.Path({str(train_digits.path.parent.parent)!r})
beton = ensure_beton(DATASETS["digits"], "train", betons=betons)
for _ in range(2):
    feed = open_feed(beton, DATASETS["digits"], train=True, batch_size=50, kind="stream")
with feed.epoch(7, 2) as batches:
    print(hashlib.sha256(b"".join(batch.images.numpy().tobytes() for batch in batches)).hexdigest())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    feed = open_feed(train_digits, DIGITS, train=True, batch_size=50, **STREAM)
    images = b"".join(batch.images.numpy().tobytes() for batch in batches(feed, key=7, epoch=2))
    assert done.stdout.strip() == hashlib.sha256(images).hexdigest()
    assert done.stderr.count("\n") == 1
    assert "FFCV is not available" in done.stderr


def test_ffcv_reads_where_it_is_installed() -> None:
    pytest.importorskip("loaders.ffcv_reader")
    assert available_reader().__name__ == "FfcvReader"
