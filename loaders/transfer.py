"""Batches on their way to a GPU: the next one is copied while the one before it is trained on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from loaders.feeds import Batch


def to_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on `device`; a GPU gets them one ahead, on a stream of their own."""
    return batches if device.type == "cpu" else _one_ahead(batches, device)


def _one_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    before: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(copies):
            # From pinned memory, which torch keeps until the copy is done, the host need not wait.
            images, targets, indices = (
                tensor.pin_memory().to(device, non_blocking=True) for tensor in batch.tensors
            )
            copied = copies.record_event()
        if before is not None:
            yield _handed_over(*before)
        before = Batch(images=images, targets=targets, indices=indices), copied
    if before is not None:
        yield _handed_over(*before)


def _handed_over(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """`batch` for the stream that trains, which waits for the copy and is known to use its memory."""
    trains = torch.cuda.current_stream(batch.images.device)
    trains.wait_event(copied)
    for tensor in batch.tensors:
        tensor.record_stream(trains)
    return batch
