"""FFCV as the reader of a stream feed: its loader runs our decoders in its thread, some batches ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.ffcv_patches import Compiler, Loader, Operation, PipelineSpec, State, StoppableEpoch
from loaders.stream import Decode

_making_a_loader = threading.Lock()  # FFCV's compiler is switched off for the whole process meanwhile


class _Decoder(Operation):
    """An operation of FFCV that decodes a whole batch of images.

    FFCV calls what `generate_code` returns with (samples, memory, metadata, storage). `decode` is looked up
    at each call, so that a new epoch compiles nothing.
    """

    decode: Decode

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        """No memory of FFCV's: it would be overwritten by a later batch."""
        return previous_state, None

    def generate_code(self) -> Callable[..., torch.Tensor]:
        """The function that FFCV calls for a batch."""
        return lambda samples, memory, metadata, storage: self.decode(storage[0], samples)


class FfcvReader:
    """Reads a beton through FFCV's memory manager, graph and thread."""

    def __init__(self, path: Path) -> None:
        self._decoder = _Decoder()
        with _making_a_loader:
            Compiler.set_enabled(False)  # our kernels are compiled already, and shared by all feeds
            try:
                self._loader: Any = Loader(
                    str(path),
                    batch_size=1,  # for buffers that we do not use: batches come cut
                    num_workers=1,
                    os_cache=True,
                    drop_last=False,
                    pipelines={"image": PipelineSpec("image", decoder=self._decoder), "label": None},
                )
            finally:
                Compiler.set_enabled(True)

    @contextmanager
    def epoch(self, batches: Sequence[NDArray[np.int64]], decode: Decode) -> Iterator[Iterator[torch.Tensor]]:
        """What `decode` makes of the samples of each batch."""
        self._decoder.decode = decode
        epoch = StoppableEpoch(self._loader, batches)
        try:
            yield (images for (images,) in epoch)
        finally:
            epoch.stop()
