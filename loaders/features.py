"""The feature feed: what a frozen network made of every image, in the place of the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from loaders.feeds import Batch, Selection, SelectionFeed


class FeatureFeed(SelectionFeed):
    """Batches whose `images` are features fp32 [B, D]; order and targets as with every other feed."""

    def __init__(self, features: NDArray[np.float32], selection: Selection, device: torch.device) -> None:
        """`features` [N, D] are of all samples of the beton, by sample number."""
        assert len(features) == len(selection.index)
        self._selection, self._device = selection, device
        self._features = torch.from_numpy(features).to(device)

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The batches of one epoch from number `start` on."""
        yield self._batches(self._selection.order(key, epoch, start))

    def _batches(self, order: NDArray[np.int64]) -> Iterator[Batch]:
        size = self._selection.batch_size
        targets = torch.from_numpy(self._selection.targets(order)).to(self._device)
        indices = torch.from_numpy(order.copy()).to(self._device)
        for begin in range(0, len(order), size):
            part = slice(begin, begin + size)
            yield Batch(images=self._features[indices[part]], targets=targets[part], indices=indices[part])
