"""Which samples of a beton a model is trained or tested on, in which batches, under which targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loaders.betons import Beton
from loaders.kernels import epoch_order
from loaders.layout import Index, read_index


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The samples that a feed yields, and the order and the targets that it yields them with."""

    index: Index
    samples: NDArray[np.int64]
    """Sample numbers, ascending."""
    ranks: NDArray[np.int64]
    """Target of each class; -1 for a class that does not take part."""
    train: bool
    batch_size: int
    """Samples of a batch in all processes together; the last of an epoch may differ."""
    shard: tuple[int, int] = (0, 1)
    """Which part of every training batch this process gets, out of how many."""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many samples each batch of an epoch has, in all processes together; the last has the rest.

        A rest that would leave a process without a sample, or BatchNorm with a single one, joins the batch
        before it.
        """
        full, rest = divmod(len(self.samples), self.batch_size)
        if self.train and 0 < rest < max(2, self.shard[1]):
            return (*[self.batch_size] * (full - 1), self.batch_size + rest)
        return (*[self.batch_size] * full, *([rest] if rest else []))

    def parts(self, key: int, epoch: int, start: int = 0) -> list[NDArray[np.int64]]:
        """The samples of an epoch's batches from number `start` on: this process's part of each."""
        part, parts = self.shard
        order = epoch_order(key, epoch, self.samples) if self.train else self.samples
        batches = np.split(order, np.cumsum(self.sizes)[:-1])[start:]
        return [np.array_split(batch, parts)[part] for batch in batches] if parts > 1 else batches

    def targets(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Targets of `samples`."""
        targets: NDArray[np.int64] = self.ranks[self.index.labels[samples]]
        return targets


def select(
    beton: Beton,
    train: bool,
    batch_size: int,
    subset: NDArray[np.int64] | None,
    ranks: NDArray[np.int64] | None,
    shard: tuple[int, int] = (0, 1),
) -> Selection:
    """The Selection for arguments of `open_feed`, checked against the beton.

    Raises:
        ValueError: too few training samples for a batch, or a batch that the processes cannot share equally.
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
        batch_size=batch_size,
        shard=shard if train else (0, 1),
    )


def class_ranks(classes: int, order: int | Sequence[int] | None) -> NDArray[np.int64]:
    """Position of each class in the class order, [classes].

    `order` is the seed of a permutation, or the labels that come first, the others following by index; None
    is the order by index.
    """
    labels = np.arange(classes, dtype=np.int64)
    if isinstance(order, int):
        labels = epoch_order(order, 0, labels)
    elif order is not None:
        first = np.array(order, dtype=np.int64)
        labels = np.concatenate([first, np.setdiff1d(labels, first)])
    ranks = np.empty_like(labels)
    ranks[labels] = np.arange(classes)
    return ranks


def samples_below(targets: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Sample numbers whose target is one of the first `classes`, ascending."""
    return np.flatnonzero(targets < classes).astype(np.int64)


def held_out(targets: NDArray[np.int64], classes: int, validation: float) -> NDArray[np.int64]:
    """The fraction `validation` of each of the first `classes`, held out from training, ascending.

    The choice is fixed, and a smaller part lies in a larger one. A class of two or more samples has some
    here, and every class keeps some to train on.
    """
    parts = [
        members[len(members) - _count_held_out(members, validation) :]
        for _, members in _shuffled_classes(targets, classes)
    ]
    return _ascending(parts)


def to_train_on(
    targets: NDArray[np.int64], shares: Sequence[float], *, validation: float = 0.0
) -> NDArray[np.int64]:
    """Of each class by position the fraction in `shares` of what `held_out` leaves of it, ascending.

    The choice is fixed, and a smaller share lies in a larger one. Every class keeps at least one sample.
    """
    parts = []
    for position, members in _shuffled_classes(targets, len(shares)):
        kept = members[: len(members) - _count_held_out(members, validation)]
        parts.append(kept[: max(1, round(shares[position] * len(kept)))])
    return _ascending(parts)


def _shuffled_classes(targets: NDArray[np.int64], classes: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each class with its sample numbers in a fixed random order: its front trains, its end is held out."""
    for position in range(classes):
        members = np.flatnonzero(targets == position).astype(np.int64)
        if len(members):
            yield position, epoch_order(0, 0, members)


def _count_held_out(members: NDArray[np.int64], validation: float) -> int:
    return min(max(1, round(validation * len(members))), len(members) - 1) if validation else 0


def _ascending(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
