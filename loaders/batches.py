"""What a feed is, what it yields, and how its batches reach a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch

from loaders.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images uint8 [B, H, W, 3], targets int64 [B] and sample indices int64 [B], on the feed's device."""

    images: torch.Tensor
    targets: torch.Tensor
    indices: torch.Tensor
    whole: int
    """How many samples the batch has in all processes that share it."""

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images, targets and indices."""
        return self.images, self.targets, self.indices


class Feed(Protocol):
    """Batches of one part of a dataset."""

    @property
    def samples(self) -> int:
        """How many samples an epoch draws from."""

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""

    @property
    def class_counts(self) -> torch.Tensor:
        """How many samples of each target it draws from, int64 [C], on the feed's device."""

    def epoch(self, key: int, epoch: int, start: int = 0) -> AbstractContextManager[Iterator[Batch]]:
        """The batches of one epoch from number `start` on; leaving early leaves no thread or process behind.

        Every sample comes once; the last batch may be smaller. In training, (key, epoch) decides order and
        augmentation; in evaluation, samples come in order and without augmentation.
        """


class SelectionFeed:
    """What all feeds on a Selection have in common: the length of an epoch."""

    _selection: Selection
    _device: torch.device

    @property
    def samples(self) -> int:
        """How many samples an epoch draws from."""
        return len(self._selection.samples)

    @property
    def batches(self) -> int:
        """How many batches an epoch has."""
        return len(self._selection.sizes)

    @property
    def class_counts(self) -> torch.Tensor:
        """How many samples of each target it draws from, int64 [C], on the feed's device."""
        targets = torch.from_numpy(self._selection.targets(self._selection.samples))
        return targets.bincount().to(self._device)


def to_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on `device`; on a GPU, the next one is copied while the current one is in use."""
    return batches if device.type == "cpu" else _one_ahead(batches, device)


def _one_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    previous: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(copies):
            # The host need not wait: torch keeps pinned memory until the copy from it is done.
            images, targets, indices = (
                tensor.pin_memory().to(device, non_blocking=True) for tensor in batch.tensors
            )
            copied = copies.record_event()
        if previous is not None:
            yield _ready(*previous)
        previous = Batch(images=images, targets=targets, indices=indices, whole=batch.whole), copied
    if previous is not None:
        yield _ready(*previous)


def _ready(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """`batch`, once the current stream waits for its copy and is registered as a user of its memory."""
    current = torch.cuda.current_stream(batch.images.device)
    current.wait_event(copied)
    for tensor in batch.tensors:
        tensor.record_stream(current)
    return batch
