"""The resident feed: all images of one size on the device, cropped and flipped there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        self._images = (
            _OnCpu(pixels) if device.type == "cpu" else _OnDevice(pixels.to(device), augmentation.pad)
        )

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on."""
        yield self._batches(U64(key), U64(epoch), self._selection.order(key, epoch, start))

    def _batches(self, key: U64, epoch: U64, order: NDArray[np.int64]) -> Iterator[Batch]:
        """What differs between epochs goes to the device at once, so that no batch waits for a copy."""
        size, augmentation = self._selection.batch_size, self._augmentation
        targets = torch.from_numpy(self._selection.targets(order)).to(self._device)
        indices = torch.from_numpy(order.copy()).to(self._device)
        if self._selection.train:
            images = self._images.augmented(order, key, epoch, augmentation.pad, augmentation.flip)
        else:
            images = self._images.plain(order)
        for begin in range(0, len(order), size):
            part = slice(begin, begin + size)
            yield Batch(images=images(part), targets=targets[part], indices=indices[part])


Images = Callable[[slice], torch.Tensor]
"""uint8 [B, H, W, 3] of a part of the samples asked for."""


class _OnCpu:
    """The kernels of the stream feed, on memory instead of a file."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self._shape = tuple(pixels.shape[1:])
        self._data = pixels.numpy().reshape(-1)
        self._starts = np.arange(len(pixels), dtype=np.int64) * pixels[0].numel()

    def augmented(self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool) -> Images:
        """Padded, cropped and flipped."""

        def images(part: slice) -> torch.Tensor:
            out = np.empty((len(samples[part]), *self._shape), np.uint8)
            pad_crop_flip(self._data, self._starts, samples[part], key, epoch, pad, flip, out)
            return torch.from_numpy(out)

        return images

    def plain(self, samples: NDArray[np.int64]) -> Images:
        """As they are."""

        def images(part: slice) -> torch.Tensor:
            out = np.empty((len(samples[part]), *self._shape), np.uint8)
            gather(self._data, self._starts, samples[part], out)
            return torch.from_numpy(out)

        return images


class _OnDevice:
    """The same by indexing: with a black border about every image, a crop is a choice of rows and columns."""

    def __init__(self, pixels: torch.Tensor, pad: int) -> None:
        self._padded = torch.nn.functional.pad(pixels, (0, 0, pad, pad, pad, pad))
        height, width = pixels.shape[1:3]
        self._rows = torch.arange(height, device=pixels.device)
        self._columns = torch.arange(width, device=pixels.device)
        self._pad = pad

    def augmented(self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool) -> Images:
        """Padded, cropped and flipped."""
        image, top, left, flipped = (
            torch.from_numpy(array).to(self._padded.device)
            for array in (samples, *crop_and_flip(key, epoch, samples, pad, flip))
        )

        def images(part: slice) -> torch.Tensor:
            columns = torch.where(flipped[part, None], self._columns.flip(0), self._columns)
            return self._crop(image[part], top[part, None] + self._rows, left[part, None] + columns)

        return images

    def plain(self, samples: NDArray[np.int64]) -> Images:
        """As they are."""
        image = torch.from_numpy(samples).to(self._padded.device)

        def images(part: slice) -> torch.Tensor:
            return self._crop(image[part], self._pad + self._rows[None], self._pad + self._columns[None])

        return images

    def _crop(self, image: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Pixels at `rows` [B or 1, H] and `columns` [B or 1, W] of each image [B]."""
        return self._padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]
