"""The torch feed: torchvision's transforms in the processes of a DataLoader, the baseline to compare with."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils import data
from torchvision.transforms import v2

from loaders.batches import Batch, SelectionFeed, to_device
from loaders.datasets import Dataset
from loaders.kernels import DRAW_BOX, U64, sample_hash
from loaders.layout import JPEG, Index
from loaders.selection import Selection


class TorchFeed(SelectionFeed):
    """Batches from a plain DataLoader, with torchvision's augmentation and pixels."""

    def __init__(
        self, path: Path, dataset: Dataset, selection: Selection, *, device: torch.device, workers: int
    ) -> None:
        self._selection, self._device, self._workers = selection, device, workers
        self._path, self._transform = path, transform(dataset, train=selection.train)

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on."""
        selection = self._selection
        loader = data.DataLoader(
            _Images(self._path, selection.index, self._transform, key, epoch),
            batch_sampler=[part.tolist() for part in selection.parts(key, epoch, start)],
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
        )
        batches = self._batches(loader, selection.sizes[start:])
        try:
            yield to_device(batches, self._device)
        finally:
            batches.close()  # ends the DataLoader's processes too

    def _batches(
        self, loader: data.DataLoader[tuple[torch.Tensor, int]], sizes: Sequence[int]
    ) -> Generator[Batch]:
        for (images, samples), whole in zip(loader, sizes, strict=True):
            targets = torch.from_numpy(self._selection.targets(samples.numpy()))
            yield Batch(images=images, targets=targets, indices=samples, whole=whole)


def transform(dataset: Dataset, *, train: bool) -> v2.Transform:
    """The dataset's augmentation as torchvision's transforms, from a PIL image to uint8 [3, H, W]."""
    augmentation, size = dataset.augmentation, dataset.image_size
    train = train and augmentation.random
    steps: list[v2.Transform] = []
    if augmentation.kind == "pad-crop" and train:
        steps.append(v2.RandomCrop(size, padding=augmentation.pad))
    elif augmentation.kind == "resized-crop":
        evaluation = [v2.Resize(augmentation.resize), v2.CenterCrop(size)]
        steps += [v2.RandomResizedCrop(size)] if train else evaluation
    if train and augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose([*steps, v2.PILToTensor()])


class _Images(data.Dataset[tuple[torch.Tensor, int]]):
    """One epoch's images. Each has its own seed, so that the number of workers changes nothing."""

    def __init__(self, path: Path, index: Index, steps: v2.Transform, key: int, epoch: int) -> None:
        self._path, self._index, self._steps = path, index, steps
        self._key, self._epoch = U64(key), U64(epoch)

    @cached_property
    def _file(self) -> NDArray[np.uint8]:
        return np.memmap(self._path, np.uint8, mode="r")

    def __getitem__(self, sample: int) -> tuple[torch.Tensor, int]:
        index = self._index
        stored = self._file[index.starts[sample] : index.starts[sample] + index.sizes[sample]]
        if index.modes[sample] == JPEG:
            image: Image.Image = Image.open(io.BytesIO(stored.tobytes()))
        else:
            image = Image.fromarray(stored.reshape(index.heights[sample], index.widths[sample], 3))
        torch.manual_seed(int(sample_hash(self._key, self._epoch, U64(sample), DRAW_BOX)) >> 1)
        return self._steps(image).permute(1, 2, 0), sample
