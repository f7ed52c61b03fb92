"""FFCV 1.0.2, patched on import: other files take FFCV's classes from here.

Each patch replaces something that would slow down or break the rest of the process. Numbers are those of
FFCV's issues at github.com/libffcv/ffcv; patches without one were never reported there.
"""

from __future__ import annotations

import queue
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba.typed
import numpy as np
import torch

from loaders.kernels import Int


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Undo three side effects of importing FFCV.

    It imports distutils, which warns. It keeps two constants in a typed dictionary, for which numba compiles
    three seconds; a plain one does. And it sets torch's threads to one (#255).
    """
    threads, typed_dictionary = torch.get_num_threads(), numba.typed.Dict
    numba.typed.Dict = dict
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        numba.typed.Dict = typed_dictionary
        torch.set_num_threads(threads)


with _quiet_import():
    from ffcv.loader import Loader, epoch_iterator
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.memory_managers.os_cache import OSCacheContext, OSCacheManager
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.operation import Operation
    from ffcv.pipeline.pipeline_spec import PipelineSpec
    from ffcv.pipeline.state import State
    from ffcv.reader import Reader

__all__ = ["Compiler", "Loader", "Operation", "PipelineSpec", "State", "StoppableEpoch"]


def _set_num_threads(threads: int) -> None:
    """FFCV's own also sets torch's threads, which training needs, at every epoch (#13)."""
    Compiler.num_threads = threads


def _init_manager(manager: OSCacheManager, reader: Reader) -> None:
    """FFCV's own makes a set for every sample and page: for ImageNet ten seconds and a gigabyte (#113)."""
    order = np.argsort(reader.alloc_table["ptr"])
    manager.reader, manager.context = reader, OSCacheContext(manager)
    manager.ptrs, manager.sizes = reader.alloc_table["ptr"][order], reader.alloc_table["size"][order]


def _compile_reader(manager: OSCacheManager) -> Callable[..., Any]:
    """FFCV's own marks numba's type of all byte arrays as read-only, for the whole process."""

    def read(address: Int, storage: Any) -> Any:
        data, starts, sizes = storage
        return data[address : address + sizes[np.searchsorted(starts, address)]]

    compiled: Callable[..., Any] = Compiler.compile(read)
    return compiled


_equal_parts = epoch_iterator.chunks


def _batches(order: Any, size: int) -> Any:
    """FFCV's own cuts an order into equal parts; ours, a list of batches, is cut already."""
    return order if isinstance(order, list) else _equal_parts(order, size)


epoch_iterator.chunks = _batches
Compiler.set_num_threads = _set_num_threads
OSCacheManager.__init__ = _init_manager
OSCacheManager.compile_reader = _compile_reader


class StoppableEpoch(EpochIterator):
    """FFCV's thread of one epoch: its errors reach the consumer, and it can be ended early (#345, #393)."""

    failure: BaseException | None = None

    def run(self) -> None:
        """Decode the epoch's batches into the queue."""
        try:
            super().run()
        except BaseException as failure:  # noqa: BLE001  # raised again where the batch is awaited
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
        """End the thread and wait for it."""
        self.close()
        while self.is_alive():  # its last `put` waits for room in the queue, without looking at the event
            try:
                self.output_queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self.join()
