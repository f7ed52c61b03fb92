"""Feeds out of memory: images cropped and flipped on the device, or features in place of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.batches import Batch, Feed, SelectionFeed
from loaders.datasets import Augmentation
from loaders.kernels import U64, crop_and_flip, gather, pad_crop_flip
from loaders.selection import Selection

Images = Callable[[slice], torch.Tensor]
"""From a slice of the samples asked for to their images, uint8 [B, H, W, 3]."""


class FeatureFeed(SelectionFeed):
    """Batches whose `images` are features fp32 [B, D]; order and targets as with every other feed."""

    def __init__(self, features: NDArray[np.float32], selection: Selection, device: torch.device) -> None:
        """`features` [N, D] are those of all samples of the beton, by sample number."""
        assert len(features) == len(selection.index)
        self._selection, self._device = selection, device
        self._features = torch.from_numpy(features).to(device)

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on."""
        parts = self._selection.parts(key, epoch, start)
        samples = torch.from_numpy(_joined(parts)).to(self._device)
        sizes = self._selection.sizes[start:]
        yield _batches(self._selection, parts, sizes, self._device, lambda at: self._features[samples[at]])


class ResidentFeed(SelectionFeed):
    """Batches out of memory, with the pixels that `loaders.stream` gives."""

    def __init__(
        self, images: Feed, augmentation: Augmentation, selection: Selection, device: torch.device
    ) -> None:
        """`images` yields all samples of the beton, in order and without augmentation."""
        with images.epoch(0, 0) as batches:
            pixels = torch.cat([batch.images for batch in batches])
        self._selection, self._augmentation, self._device = selection, augmentation, device
        self._images: ImageMemory
        if device.type == "cpu":
            self._images = HostImages(pixels)
        else:
            self._images = DeviceImages(pixels.to(device), augmentation.pad)

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on."""
        parts, augmentation = self._selection.parts(key, epoch, start), self._augmentation
        order = _joined(parts)
        if self._selection.train and augmentation.random:
            images = self._images.augmented(order, U64(key), U64(epoch), augmentation.pad, augmentation.flip)
        else:
            images = self._images.plain(order)
        yield _batches(self._selection, parts, self._selection.sizes[start:], self._device, images)


def _joined(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _batches(
    selection: Selection,
    parts: Sequence[NDArray[np.int64]],
    sizes: Sequence[int],
    device: torch.device,
    images: Images,
) -> Iterator[Batch]:
    """The batches of these samples. Targets and indices go to the device at once: no batch waits for them."""
    order = _joined(parts)
    targets = torch.from_numpy(selection.targets(order)).to(device)
    indices = torch.from_numpy(order).to(device)
    begin = 0
    for part, whole in zip(parts, sizes, strict=True):
        at = slice(begin, begin + len(part))
        yield Batch(images=images(at), targets=targets[at], indices=indices[at], whole=whole)
        begin = at.stop


class ImageMemory(Protocol):
    """All images of a beton in memory."""

    def augmented(self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool) -> Images:
        """The images of `samples`, padded, cropped and flipped."""

    def plain(self, samples: NDArray[np.int64]) -> Images:
        """The images of `samples`, without augmentation."""


class HostImages:
    """Images in the host's memory, augmented by the stream feed's kernels."""

    def __init__(self, pixels: torch.Tensor) -> None:
        """`pixels` are uint8 [N, H, W, 3]."""
        self._shape = tuple(pixels.shape[1:])
        self._data = pixels.numpy().reshape(-1)
        self._starts = np.arange(len(pixels), dtype=np.int64) * pixels[0].numel()

    def augmented(self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool) -> Images:
        """The images of `samples`, padded, cropped and flipped."""

        def images(part: slice) -> torch.Tensor:
            out = np.empty((len(samples[part]), *self._shape), np.uint8)
            pad_crop_flip(self._data, self._starts, samples[part], key, epoch, pad, flip, out)
            return torch.from_numpy(out)

        return images

    def plain(self, samples: NDArray[np.int64]) -> Images:
        """The images of `samples`, without augmentation."""

        def images(part: slice) -> torch.Tensor:
            out = np.empty((len(samples[part]), *self._shape), np.uint8)
            gather(self._data, self._starts, samples[part], out)
            return torch.from_numpy(out)

        return images


class DeviceImages:
    """Images in a GPU's memory, with a black border: a crop is then a choice of rows and columns."""

    def __init__(self, pixels: torch.Tensor, pad: int) -> None:
        """`pixels` are uint8 [N, H, W, 3], on the device."""
        self._padded = torch.nn.functional.pad(pixels, (0, 0, pad, pad, pad, pad))
        height, width = pixels.shape[1:3]
        self._rows = torch.arange(height, device=pixels.device)
        self._columns = torch.arange(width, device=pixels.device)
        self._pad = pad

    def augmented(self, samples: NDArray[np.int64], key: U64, epoch: U64, pad: int, flip: bool) -> Images:
        """The images of `samples`, padded, cropped and flipped."""
        image, top, left, flipped = (
            torch.from_numpy(array).to(self._padded.device)
            for array in (samples, *crop_and_flip(key, epoch, samples, pad, flip))
        )

        def images(part: slice) -> torch.Tensor:
            columns = torch.where(flipped[part, None], self._columns.flip(0), self._columns)
            return self._crop(image[part], top[part, None] + self._rows, left[part, None] + columns)

        return images

    def plain(self, samples: NDArray[np.int64]) -> Images:
        """The images of `samples`, without augmentation."""
        image = torch.from_numpy(samples).to(self._padded.device)

        def images(part: slice) -> torch.Tensor:
            return self._crop(image[part], self._pad + self._rows[None], self._pad + self._columns[None])

        return images

    def _crop(self, image: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Pixels at `rows` [B or 1, H] and `columns` [B or 1, W] of each image [B]."""
        return self._padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]
