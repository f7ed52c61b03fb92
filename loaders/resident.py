"""The resident feed: all images of one size on the device, cropped and flipped there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.datasets import Augmentation
from loaders.feeds import Batch, Feed, Selection, SelectionFeed
from loaders.kernels import U64, crop_and_flip, gather, pad_crop_flip


class ResidentFeed(SelectionFeed):
    """Batches out of memory; `loaders.stream` gives the same pixels."""

    def __init__(
        self, images: Feed, augmentation: Augmentation, selection: Selection, device: torch.device
    ) -> None:
        """`images` yields all samples of the beton as they are, in order."""
        with images.epoch(0, 0) as batches:
            pixels = torch.cat([batch.images for batch in batches])
        self._selection, self._augmentation, self._device = selection, augmentation, device
        self._gather = (
            _OnCpu(pixels) if device.type == "cpu" else _OnDevice(pixels.to(device), augmentation.pad)
        )

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on."""
        yield self._batches(U64(key), U64(epoch), self._selection.order(key, epoch, start))

    def _batches(self, key: U64, epoch: U64, order: NDArray[np.int64]) -> Iterator[Batch]:
        size, augmentation = self._selection.batch_size, self._augmentation
        for begin in range(0, len(order), size):
            samples = order[begin : begin + size]
            if self._selection.train:
                images = self._gather.augmented(samples, key, epoch, augmentation.pad, augmentation.flip)
            else:
                images = self._gather.plain(samples)
            yield Batch(
                images=images,
                targets=torch.from_numpy(self._selection.targets(samples)).to(self._device),
                indices=torch.from_numpy(samples.copy()).to(self._device),
            )


class _OnCpu:
    """The kernels of the stream feed, on memory instead of a file."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self._shape = tuple(pixels.shape[1:])
        self._data = pixels.numpy().reshape(-1)
        self._starts = np.arange(len(pixels), dtype=np.int64) * pixels[0].numel()

    def augmented(
        self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool
    ) -> torch.Tensor:
        """Padded, cropped and flipped."""
        out = np.empty((len(samples), *self._shape), np.uint8)
        pad_crop_flip(self._data, self._starts, samples, key, epoch, pad, flip, out)
        return torch.from_numpy(out)

    def plain(self, samples: NDArray[np.int64]) -> torch.Tensor:
        """As they are."""
        out = np.empty((len(samples), *self._shape), np.uint8)
        gather(self._data, self._starts, samples, out)
        return torch.from_numpy(out)


class _OnDevice:
    """The same by indexing: with a black border about every image, a crop is a choice of rows and columns."""

    def __init__(self, pixels: torch.Tensor, pad: int) -> None:
        self._height, self._width = pixels.shape[1:3]
        self._padded = torch.nn.functional.pad(pixels, (0, 0, pad, pad, pad, pad))
        self._pad = pad

    def augmented(
        self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool
    ) -> torch.Tensor:
        """Padded, cropped and flipped."""
        tops, lefts, flips = crop_and_flip(key, epoch, samples, pad, flip)
        columns = np.arange(self._width)
        mirrored = np.where(flips[:, None], columns[::-1], columns)
        return self._crop(samples, tops[:, None] + np.arange(self._height), lefts[:, None] + mirrored)

    def plain(self, samples: NDArray[np.int64]) -> torch.Tensor:
        """As they are."""
        rows, columns = np.arange(self._height) + self._pad, np.arange(self._width) + self._pad
        count = (len(samples), 1)
        return self._crop(samples, np.tile(rows, count), np.tile(columns, count))

    def _crop(
        self, samples: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> torch.Tensor:
        """Pixels at `rows` [B, H] and `columns` [B, W] of each sample."""
        device = self._padded.device
        image, row, column = (torch.from_numpy(array).to(device) for array in (samples, rows, columns))
        return self._padded[image[:, None, None], row[:, :, None], column[:, None, :]]
