"""The stream feed: batches decoded from the beton as they are needed, for data of any size."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.batches import Batch, SelectionFeed, to_device
from loaders.datasets import Augmentation, Dataset
from loaders.kernels import U64, gather, pad_crop_flip
from loaders.photographs import Crop, File, crop_photographs
from loaders.selection import Selection

SAMPLES_PER_TASK = 8  # that one thread decodes in one go
BATCHES_AHEAD = 3  # as in FFCV

Decode = Callable[[NDArray[np.uint8], NDArray[np.int64]], torch.Tensor]
"""From a beton's bytes and sample numbers [B] to their images, uint8 [B, H, W, 3]."""


class Reader(Protocol):
    """Reads a beton batch by batch, some batches ahead of their consumer."""

    def __init__(self, path: Path) -> None: ...

    def epoch(
        self, batches: Sequence[NDArray[np.int64]], decode: Decode
    ) -> AbstractContextManager[Iterator[torch.Tensor]]:
        """What `decode` makes of the samples of each batch; errors reach the consumer."""


class PrefetchReader:
    """Reads a beton without FFCV: a thread decodes some batches ahead."""

    def __init__(self, path: Path) -> None:
        self._file = np.memmap(path, np.uint8, mode="r")

    @contextmanager
    def epoch(self, batches: Sequence[NDArray[np.int64]], decode: Decode) -> Iterator[Iterator[torch.Tensor]]:
        """What `decode` makes of the samples of each batch; errors reach the consumer."""
        pending: deque[Future[torch.Tensor]] = deque()

        def decoded() -> Iterator[torch.Tensor]:
            for samples in batches:
                pending.append(thread.submit(decode, self._file, samples))
                if len(pending) > BATCHES_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            try:
                yield decoded()
            finally:
                for batch in pending:
                    batch.cancel()


class Decoder(Protocol):
    """Makes images of one size out of a beton's bytes."""

    shape: tuple[int, int, int]
    """Of one image: height, width and 3."""

    def decode(
        self,
        file: NDArray[np.uint8],
        samples: NDArray[np.int64],
        key: U64,
        epoch: U64,
        out: NDArray[np.uint8],
        pool: Executor | None,
    ) -> None:
        """Write the images of `samples` [B] to `out` [B, H, W, 3], using the threads of `pool` if given.

        Raises:
            ValueError: an image that cannot be decoded.
        """


class StreamFeed(SelectionFeed):
    """Batches that a Reader reads and a Decoder decodes."""

    def __init__(
        self,
        path: Path,
        dataset: Dataset,
        selection: Selection,
        *,
        device: torch.device,
        workers: int,
        reader: type[Reader],
        reduced: bool = False,
    ) -> None:
        """`reduced`: whether large boxes of JPEGs are decoded at reduced scale."""
        self._selection, self._device = selection, device
        self._decoder: Decoder
        if dataset.augmentation.kind == "pad-crop":
            self._decoder, self._threads = RawDecoder(selection, dataset.augmentation), 1
        else:
            self._decoder, self._threads = PhotographDecoder(path, selection, dataset, reduced), workers
        self._reader = reader(path)
        self._busy = threading.Lock()
        # numba cannot compile one function in two threads at once: compile now, before there are threads, by
        # decoding an image of each mode.
        _, firsts = np.unique(selection.index.modes[selection.samples], return_index=True)
        file = np.memmap(path, np.uint8, mode="r")
        self._decode(file, selection.samples[firsts], U64(0), U64(0), None)

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on; one epoch at a time."""
        parts = self._selection.parts(key, epoch, start)
        free = self._busy.acquire(blocking=False)
        assert free, "a feed has one epoch at a time"
        try:
            with self._pool() as pool:

                def decode(file: NDArray[np.uint8], samples: NDArray[np.int64]) -> torch.Tensor:
                    return self._decode(file, samples, U64(key), U64(epoch), pool)

                with self._reader.epoch(parts, decode) as images:
                    sizes = self._selection.sizes[start:]
                    yield to_device(self._batches(images, parts, sizes), self._device)
        finally:
            self._busy.release()

    def _pool(self) -> AbstractContextManager[Executor | None]:
        """Python's threads. Numba's belong to the whole process, forbid forks and take long to compile."""
        if self._threads == 1:
            return nullcontext()
        return ThreadPoolExecutor(self._threads, thread_name_prefix="decode")

    def _decode(
        self,
        file: NDArray[np.uint8],
        samples: NDArray[np.int64],
        key: U64,
        epoch: U64,
        pool: Executor | None,
    ) -> torch.Tensor:
        """A batch in memory of its own: a consumer may keep it."""
        shape, pinned = self._decoder.shape, self._device.type == "cuda"
        images = torch.empty((len(samples), *shape), dtype=torch.uint8, pin_memory=pinned)
        self._decoder.decode(file, samples, key, epoch, images.numpy(), pool)
        return images

    def _batches(
        self, images: Iterator[torch.Tensor], parts: Sequence[NDArray[np.int64]], sizes: Sequence[int]
    ) -> Iterator[Batch]:
        for batch, samples, whole in zip(images, parts, sizes, strict=True):
            targets = torch.from_numpy(self._selection.targets(samples))
            indices = torch.from_numpy(samples.copy())
            yield Batch(images=batch, targets=targets, indices=indices, whole=whole)


class RawDecoder:
    """Raw images of one size: padded, cropped and flipped in training, otherwise as they are."""

    def __init__(self, selection: Selection, augmentation: Augmentation) -> None:
        index = selection.index
        self.shape = (int(index.heights[0]), int(index.widths[0]), 3)
        self._starts, self._augmentation = index.starts, augmentation
        self._random = selection.train and augmentation.random

    def decode(
        self,
        file: NDArray[np.uint8],
        samples: NDArray[np.int64],
        key: U64,
        epoch: U64,
        out: NDArray[np.uint8],
        pool: Executor | None,
    ) -> None:
        """Write the images of `samples` [B] to `out` [B, H, W, 3]."""
        if self._random:
            pad, flip = self._augmentation.pad, self._augmentation.flip
            pad_crop_flip(file, self._starts, samples, key, epoch, pad, flip, out)
        else:
            gather(file, self._starts, samples, out)


class PhotographDecoder:
    """Images of any size, JPEG or raw: in training a random box, scaled and flipped, otherwise the centre."""

    def __init__(self, path: Path, selection: Selection, dataset: Dataset, reduced: bool) -> None:
        self._reduced = reduced
        self.shape = (dataset.image_size, dataset.image_size, 3)
        self._path, self._index, self._augmentation = path, selection.index, dataset.augmentation
        self._random = selection.train and dataset.augmentation.random

    def decode(
        self,
        file: NDArray[np.uint8],
        samples: NDArray[np.int64],
        key: U64,
        epoch: U64,
        out: NDArray[np.uint8],
        pool: Executor | None,
    ) -> None:
        """Write the images of `samples` [B] to `out` [B, S, S, 3].

        Raises:
            ValueError: an image that cannot be decoded.
        """
        index = self._index
        stored = File(file, index.starts, index.sizes, index.modes, index.heights, index.widths)
        flip, resize = self._augmentation.flip, self._augmentation.resize
        crop = Crop(self._random, key, epoch, flip, resize, self._reduced)
        parts = [slice(i, i + SAMPLES_PER_TASK) for i in range(0, len(samples), SAMPLES_PER_TASK)]
        run = map if pool is None else pool.map
        try:
            for _ in run(lambda part: crop_photographs(stored, samples[part], crop, out[part]), parts):
                pass
        except ValueError as error:
            raise ValueError(f"{self._path} is damaged: {error}") from error
