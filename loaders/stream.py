"""The stream feed: FFCV reads the beton, our operations decode; the only file that imports FFCV."""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.compiled import Whole
from loaders.datasets import Dataset
from loaders.feeds import Batch, Selection, SelectionFeed
from loaders.jpeg import decoder_handle
from loaders.kernels import U64, gather, pad_crop_flip
from loaders.photographs import File, centre_crops, random_resized_crops
from loaders.transfer import to_device

with warnings.catch_warnings(), mock.patch("numba.typed.Dict", dict):
    # FFCV imports distutils, which warns, keeps two constants in a typed dictionary that numba compiles
    # for three seconds, and sets torch's threads to one.
    warnings.simplefilter("ignore")
    _threads = torch.get_num_threads()
    from ffcv.loader import Loader
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.memory_managers.os_cache import OSCacheContext, OSCacheManager
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.operation import Operation
    from ffcv.pipeline.pipeline_spec import PipelineSpec
    from ffcv.pipeline.state import State
    from ffcv.reader import Reader

    torch.set_num_threads(_threads)

SAMPLES_A_TASK = 8
_making_a_loader = threading.Lock()


def _leave_threads_alone(threads: int) -> None:
    """In place of FFCV's, which sets torch's threads too, for every epoch and in two threads."""
    Compiler.num_threads = threads


def _compile_reader(manager: OSCacheManager) -> Callable[..., Any]:
    """In place of FFCV's, which declares all of numba's byte arrays read-only, for the whole process."""

    def read(address: Whole, storage: Any) -> Any:
        data, starts, sizes = storage
        return data[address : address + sizes[np.searchsorted(starts, address)]]

    compiled: Callable[..., Any] = Compiler.compile(read)
    return compiled


def _keep_allocations(manager: OSCacheManager, reader: Reader) -> None:
    """In place of FFCV's, which makes a set for every sample: on ImageNet ten seconds and a gigabyte."""
    order = np.argsort(reader.alloc_table["ptr"])
    manager.reader, manager.context = reader, OSCacheContext(manager)
    manager.ptrs, manager.sizes = reader.alloc_table["ptr"][order], reader.alloc_table["size"][order]


Compiler.set_num_threads = _leave_threads_alone
OSCacheManager.__init__ = _keep_allocations
OSCacheManager.compile_reader = _compile_reader


class _Decoder(Operation):
    """An operation of FFCV that makes a batch of images of one size out of the file.

    FFCV calls what `generate_code` returns with (samples, memory, metadata, storage). `key`, `epoch` and
    `pool` are read at each call, so that a new epoch compiles nothing.
    """

    key = U64(0)
    epoch = U64(0)
    pool: Executor | None = None
    """Threads to decode with; None: FFCV's own."""
    pinned = False
    """Whether batches go to a GPU."""

    def __init__(
        self, path: Path, dataset: Dataset, selection: Selection, shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self._path, self._augmentation, self._train = path, dataset.augmentation, selection.train
        self._index, self.shape = selection.index, shape

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        """What comes out; FFCV's memory is not used, for it would write a later batch into the same."""
        return replace(previous_state, shape=self.shape, dtype=np.dtype(np.uint8)), None

    def generate_code(self) -> Callable[..., torch.Tensor]:
        """The function that FFCV calls for a batch."""

        def decode(samples: NDArray[np.int64], memory: None, metadata: Any, storage: Any) -> torch.Tensor:
            out = torch.empty((len(samples), *self.shape), dtype=torch.uint8, pin_memory=self.pinned)
            self.decode(storage[0], samples, out.numpy())
            return out

        return decode

    def decode(self, file: NDArray[np.uint8], samples: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill `out` [B, H, W, 3] with `samples` [B]."""
        raise NotImplementedError


class RawDecoder(_Decoder):
    """Raw images of one size: in training padded, cropped and flipped, else as they are."""

    def decode(self, file: NDArray[np.uint8], samples: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill `out` [B, H, W, 3] with `samples` [B]."""
        starts = self._index.starts
        if self._train:
            pad, flip = self._augmentation.pad, self._augmentation.flip
            pad_crop_flip(file, starts, samples, self.key, self.epoch, pad, flip, out)
        else:
            gather(file, starts, samples, out)


class PhotographDecoder(_Decoder):
    """Images of any size, JPEG or raw: in training a random box, scaled and flipped, else the centre."""

    def decode(self, file: NDArray[np.uint8], samples: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Fill `out` [B, S, S, 3] with `samples` [B].

        Raises:
            ValueError: an image that cannot be decoded.
        """
        index = self._index
        stored = File(file, index.starts, index.sizes, index.modes, index.heights, index.widths)

        def decode_some(part: slice) -> Whole:
            handle = decoder_handle()
            if self._train:
                return random_resized_crops(
                    stored, samples[part], self.key, self.epoch, self._augmentation.flip, handle, out[part]
                )
            return centre_crops(stored, samples[part], self._augmentation.resize, handle, out[part])

        parts = [slice(i, i + SAMPLES_A_TASK) for i in range(0, len(samples), SAMPLES_A_TASK)]
        run = map if self.pool is None else self.pool.map
        for bad in run(decode_some, parts):
            if bad >= 0:
                raise ValueError(f"{self._path} is damaged: image {bad} cannot be decoded")


class _Epoch(EpochIterator):
    """FFCV's thread of one epoch, with its errors brought to the consumer and an end that frees it."""

    failure: BaseException | None = None

    def run(self) -> None:
        """Decode the epoch's batches into the queue."""
        try:
            super().run()
        except BaseException as failure:  # noqa: BLE001  # raised again where the batch was awaited
            self.failure = failure
            self.output_queue.put(None)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except StopIteration:
            if self.failure is not None:
                raise self.failure from None
            raise

    def stop(self) -> None:
        """End the thread, wherever it is, and wait for it."""
        self.close()
        while self.is_alive():  # its last `put` waits for room, without looking at the event
            try:
                self.output_queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self.join()


class StreamFeed(SelectionFeed):
    """Batches decoded from the file as they are needed; for data of any size."""

    def __init__(
        self, path: Path, dataset: Dataset, selection: Selection, *, device: torch.device, workers: int
    ) -> None:
        self._selection, self._device = selection, device
        self._workers = workers
        self._decoder: _Decoder
        if dataset.augmentation.kind == "pad-crop":
            shape = (int(selection.index.heights[0]), int(selection.index.widths[0]), 3)
            self._decoder = RawDecoder(path, dataset, selection, shape)
        else:
            side = dataset.image_size
            self._decoder = PhotographDecoder(path, dataset, selection, (side, side, 3))
        self._busy = threading.Lock()
        self._decoder.pinned = device.type == "cuda"
        with _making_a_loader:
            # Our operations are compiled already and shared by all feeds: FFCV shall call them as they are.
            Compiler.set_enabled(False)
            try:
                self._loader = Loader(
                    str(path),
                    batch_size=selection.batch_size,
                    num_workers=1,
                    os_cache=True,
                    drop_last=False,
                    pipelines={"image": PipelineSpec("image", decoder=self._decoder), "label": None},
                )
            finally:
                Compiler.set_enabled(True)
            self._compile(path)

    def _compile(self, path: Path) -> None:
        """Decode one image before there are threads: numba cannot compile the same thing in two at once."""
        file = np.memmap(path, np.uint8, mode="r")
        samples = self._selection.samples[:1]
        self._decoder.decode(file, samples, np.empty((1, *self._decoder.shape), np.uint8))

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on; one epoch at a time."""
        order = self._selection.order(key, epoch, start)
        free = self._busy.acquire(blocking=False)
        assert free, "a feed has one epoch at a time"
        self._decoder.key, self._decoder.epoch = U64(key), U64(epoch)
        try:
            with self._threads() as self._decoder.pool:
                decoded = _Epoch(self._loader, order)
                try:
                    yield to_device(self._batches(decoded, order), self._device)
                finally:
                    decoded.stop()
        finally:
            self._busy.release()

    def _threads(self) -> AbstractContextManager[Executor | None]:
        """Our own threads: numba's are shared by the process, forbid a fork and take long to compile."""
        if self._workers == 1 or isinstance(self._decoder, RawDecoder):
            return nullcontext()
        return ThreadPoolExecutor(self._workers, thread_name_prefix="decode")

    def _batches(self, decoded: _Epoch, order: NDArray[np.int64]) -> Iterator[Batch]:
        size = self._selection.batch_size
        for number, (images,) in enumerate(decoded):
            samples = order[number * size : (number + 1) * size]
            yield Batch(
                images=images,
                targets=torch.from_numpy(self._selection.targets(samples)),
                indices=torch.from_numpy(samples.copy()),
            )
