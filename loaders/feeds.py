"""Opening a feed: whichever kind and however many workers, (key, epoch) gives the same batches."""

from __future__ import annotations

import os
import sys
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.batches import Feed
from loaders.betons import Beton
from loaders.datasets import ORIGINAL, Dataset, Loader
from loaders.layout import Index
from loaders.resident import ResidentFeed
from loaders.selection import Selection, select
from loaders.stream import PrefetchReader, Reader, StreamFeed

Kind = Loader
RESIDENT_SHARE = 0.1  # of the memory: several jobs may share it
RESIDENT_READ = 1024  # images read at a time


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
    reader: type[Reader] | None = None,
) -> Feed:
    """Open a feed on a beton.

    Args:
        beton: as returned by `ensure_beton`.
        dataset: its entry.
        train: augmented and in random order; otherwise in order.
        batch_size: samples in a batch; the last of an epoch has what is left.
        subset: sample numbers that take part; all by default.
        ranks: target of each class (its position in the class order); its number by default.
        device: where the batches lie.
        workers: threads that decode; at most, and by default, the cores that this process may use.
        shard: this process's number and the number of processes that train together: each gets an equal part
            of every full training batch. Evaluation is divided by `subset`.
        kind: `stream` decodes from the file, `resident` keeps all images on the device, `torch` is the
            plain DataLoader to compare with. `auto` is `resident` where the images fit, else `stream`.
        reader: what reads the file; by default FFCV, where it is installed. The batches are the same.

    Raises:
        ValueError: fewer samples than a batch, or images that the dataset's augmentation cannot take.
    """
    selection = select(beton, train, batch_size, subset, ranks, shard)
    index, where, threads = selection.index, torch.device(device), available_workers(workers)
    if dataset.augmentation.kind == "pad-crop":
        _require_size(beton, dataset, index)
    if kind == "torch":
        from loaders.baseline import TorchFeed  # torchvision's transforms take most of a second to import

        return TorchFeed(beton.path, dataset, selection, device=where, workers=threads)
    read_by = reader or available_reader()

    def stream(chosen: Selection, to: torch.device) -> StreamFeed:
        reduced = beton.manifest.encoding == ORIGINAL.label
        return StreamFeed(
            beton.path, dataset, chosen, device=to, workers=threads, reader=read_by, reduced=reduced
        )

    if kind == "stream" or (kind == "auto" and not _fits(dataset, index, where)):
        return stream(selection, where)
    if dataset.augmentation.kind != "pad-crop":
        raise ValueError(f"loader=resident: {dataset.name} has images of many sizes (use loader=stream)")
    images = stream(select(beton, False, RESIDENT_READ, None, None), torch.device("cpu"))
    return ResidentFeed(images, dataset.augmentation, selection, where)


@cache
def available_reader() -> type[Reader]:
    """FFCV where it can be imported; otherwise our own, and one line on stderr, once a process, says why."""
    try:
        from loaders.ffcv_reader import FfcvReader  # takes a second, and the torch feed does not need it
    except (ImportError, OSError) as error:
        reason = str(error).partition("\n")[0]
        print(f"FFCV is not available ({reason}): the same batches are read without it", file=sys.stderr)
        return PrefetchReader
    return FfcvReader


def available_workers(asked: int | None) -> int:
    """`asked`, or the number of cores that this process may use, whichever is smaller; at least one."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(asked or cores, cores))


def _require_size(beton: Beton, dataset: Dataset, index: Index) -> None:
    """Refuse images of another size than the dataset's.

    Raises:
        ValueError: it has some, or has JPEGs.
    """
    size = dataset.image_size
    other = np.flatnonzero((index.heights != size) | (index.widths != size))
    if len(other):
        height, width = index.heights[other[0]], index.widths[other[0]]
        raise ValueError(
            f"image_size={size}: {len(other):,} of {len(index):,} {beton.manifest.part} images have other "
            f"sizes, such as {width}x{height} (augmentation=resized-crop scales them)"
        )
    if not index.uniform:
        raise ValueError(f"{beton.path}: {dataset.name} needs raw images")


def _fits(dataset: Dataset, index: Index, device: torch.device) -> bool:
    """Whether the images have one size and take a small part of the device's memory."""
    if dataset.augmentation.kind != "pad-crop":
        return False
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(index.sizes.sum()) < RESIDENT_SHARE * memory
