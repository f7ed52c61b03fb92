"""Feeds: the same batches for the same (key, epoch), whichever feed, however many workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.betons import Beton
from loaders.datasets import Dataset, Loader
from loaders.kernels import epoch_order
from loaders.layout import Index, read_index

Kind = Loader
RESIDENT_SHARE = 0.1  # of the memory: several jobs may share it
RESIDENT_READ = 1024  # images read at a time


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images uint8 [B, H, W, 3], targets int64 [B] and sample indices int64 [B], on the feed's device."""

    images: torch.Tensor
    targets: torch.Tensor
    indices: torch.Tensor

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All three."""
        return self.images, self.targets, self.indices


class Feed(Protocol):
    """Batches of one part of a dataset."""

    @property
    def samples(self) -> int:
        """How many samples an epoch draws from."""

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""

    def epoch(self, key: int, epoch: int, start: int = 0) -> AbstractContextManager[Iterator[Batch]]:
        """The batches of one epoch from number `start` on; left early, nothing stays behind.

        In training the last partial batch is dropped and (key, epoch) decides order and augmentation; in
        evaluation every sample comes once, in order, as it is.
        """


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which samples of a beton a feed yields, in which batches, under which targets."""

    index: Index
    samples: NDArray[np.int64]
    """Sample numbers, ascending."""
    ranks: NDArray[np.int64]
    """Target of each class; -1 for a class that does not take part."""
    train: bool
    batch_size: int
    """Of this process: the whole batch, or its equal part of it."""
    shard: tuple[int, int] = (0, 1)
    """Which part of every training batch, of how many."""

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(len(self.samples), self.batch_size * self.shard[1])
        return whole + (rest > 0 and not self.train)

    def order(self, key: int, epoch: int, start: int = 0) -> NDArray[np.int64]:
        """The epoch's samples from batch `start` on, this process's part of each batch."""
        part, parts = self.shard
        order = epoch_order(key, epoch, self.samples) if self.train else self.samples
        order = order[start * self.batch_size * parts : self.batches * self.batch_size * parts]
        if parts == 1:
            return order
        return np.ascontiguousarray(order.reshape(-1, parts, self.batch_size)[:, part]).reshape(-1)

    def targets(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets of `samples`."""
        targets: NDArray[np.int64] = self.ranks[self.index.labels[samples]]
        return targets


class SelectionFeed:
    """What the feeds of a Selection have in common: how long an epoch is."""

    _selection: Selection

    @property
    def samples(self) -> int:
        """How many samples an epoch draws from."""
        return len(self._selection.samples)

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return self._selection.batches


def open_feed(
    beton: Beton,
    dataset: Dataset,
    *,
    train: bool,
    batch_size: int,
    subset: NDArray[np.int64] | None = None,
    ranks: NDArray[np.int64] | None = None,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    kind: Kind = "auto",
    shard: tuple[int, int] = (0, 1),
) -> Feed:
    """Open a feed on a beton.

    Args:
        beton: what `ensure_beton` gave.
        dataset: its entry.
        train: augmented and in random order, without the last partial batch; else in order and complete.
        batch_size: samples in a batch.
        subset: the sample numbers that take part; all by default.
        ranks: target of each class (its position in the class order); its number by default.
        device: where the batches lie.
        workers: threads that decode; by default, and at most, the cores this process was given.
        shard: of processes that train together, this one and their number: it gets its equal part of every
            training batch. Evaluation is divided by `subset`.
        kind: `stream` decodes from the file, `resident` keeps all images on the device, `torch` is the
            plain DataLoader to compare with; `auto` takes `resident` where the images fit.

    Raises:
        ValueError: fewer samples than a batch, or images that the dataset's augmentation cannot take.
    """
    selection = select(beton, train, batch_size, subset, ranks, shard)
    index, where, threads = selection.index, torch.device(device), available_workers(workers)
    if dataset.augmentation.kind == "pad-crop" and not index.uniform:
        raise ValueError(f"{beton.path}: {dataset.name} needs raw images of one size")
    if kind == "torch":
        from loaders.baseline import TorchFeed

        return TorchFeed(beton.path, dataset, selection, device=where, workers=threads)
    from loaders.stream import StreamFeed  # imports FFCV: a second that the others need not pay

    if kind == "stream" or (kind == "auto" and not _fits(dataset, index, where)):
        return StreamFeed(beton.path, dataset, selection, device=where, workers=threads)
    if dataset.augmentation.kind != "pad-crop":
        raise ValueError(f"loader=resident: {dataset.name} has images of many sizes (use loader=stream)")
    from loaders.resident import ResidentFeed

    everything = select(beton, False, RESIDENT_READ, None, None)
    read = StreamFeed(beton.path, dataset, everything, device=torch.device("cpu"), workers=threads)
    return ResidentFeed(read, dataset.augmentation, selection, where)


def _fits(dataset: Dataset, index: Index, device: torch.device) -> bool:
    """Whether the images are of one size and take a small part of the device's memory."""
    if dataset.augmentation.kind != "pad-crop":
        return False
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(index.sizes.sum()) < RESIDENT_SHARE * memory


def available_workers(asked: int | None) -> int:
    """`asked`, or as many as there are cores for this process, whichever is smaller; at least one."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(asked or cores, cores))


def select(
    beton: Beton,
    train: bool,
    batch_size: int,
    subset: NDArray[np.int64] | None,
    ranks: NDArray[np.int64] | None,
    shard: tuple[int, int] = (0, 1),
) -> Selection:
    """What `open_feed` is asked for, checked against the beton.

    Raises:
        ValueError: fewer samples than a batch, or a batch that the processes cannot share equally.
    """
    parts = shard[1] if train else 1
    if batch_size % parts:
        raise ValueError(f"batch_size={batch_size}: {parts} processes cannot share it equally")
    index = read_index(beton.path)
    samples = np.arange(len(index), dtype=np.int64) if subset is None else np.unique(subset).astype(np.int64)
    if ranks is None:
        ranks = np.arange(len(beton.manifest.classes), dtype=np.int64)
    assert batch_size > 0
    assert len(ranks) == len(beton.manifest.classes)
    assert len(samples)
    assert samples[0] >= 0
    assert samples[-1] < len(index)
    assert (ranks[index.labels[samples]] >= 0).all(), "a sample of a class without a rank"
    if train and len(samples) < batch_size:
        raise ValueError(f"batch_size={batch_size}: {beton.path} has {len(samples)} samples to train on")
    return Selection(
        index=index,
        samples=samples,
        ranks=np.asarray(ranks, np.int64),
        train=train,
        batch_size=batch_size // parts,
        shard=shard if train else (0, 1),
    )
