"""Which classes are old, and which samples a model is trained and tested on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loaders.kernels import epoch_order


def class_ranks(classes: int, order_seed: int | None) -> NDArray[np.int64]:
    """Position of each class in the class order, [classes]; by index, or a permutation by `order_seed`."""
    order = np.arange(classes, dtype=np.int64)
    if order_seed is not None:
        order = epoch_order(order_seed, 0, order)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(classes)
    return ranks


def samples_below(targets: NDArray[np.int64], classes: int, share: float = 1.0) -> NDArray[np.int64]:
    """Sample numbers whose target is one of the first `classes`, ascending; of each class that `share`.

    Which samples stay is fixed: a smaller share is a subset of a larger one. At least one a class stays.
    """
    kept = [
        epoch_order(0, 0, members)[: max(1, round(share * len(members)))]
        for position in range(classes)
        if len(members := np.flatnonzero(targets == position).astype(np.int64))
    ]
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)
