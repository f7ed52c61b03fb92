"""Numba kernels: how they are compiled, the random draws of every sample, and crop and flip in one pass.

Every random choice is `sample_hash(key, epoch, sample, draw)`, a hash without state: neither the order of
the batches, nor the number of workers, nor an interruption can change a pixel. All kernels release the GIL
and are compiled once per machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Int = Any
"""An integer inside a kernel: an int for Python, an int64 for numba."""
U64 = np.uint64

# What each draw of a sample decides.
DRAW_ORDER: Final = U64(0)
DRAW_TOP: Final = U64(1)
DRAW_LEFT: Final = U64(2)
DRAW_FLIP: Final = U64(3)
DRAW_BOX: Final = U64(8)  # and those after it

_ONE: Final = U64(1)
_TWO: Final = U64(2)
_GAMMA: Final = U64(0x9E3779B97F4A7C15)
_MIX_1: Final = U64(0xBF58476D1CE4E5B9)
_MIX_2: Final = U64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32, _S63 = U64(27), U64(30), U64(31), U64(32), U64(63)

_config: Any = numba.config


def kernel(function: Function) -> Function:
    """Compile `function` on its first call, without the GIL, and cache the machine code on disk.

    numba invalidates its cache only when the function's own file changes, and would keep code that it inlined
    from another file. So the cache folder is named after the content of all files with kernels.
    """
    compiled: Any = numba.njit(nogil=True)(function)
    before, _config.CACHE_DIR = _config.CACHE_DIR, _cache_folder()
    try:
        compiled.enable_caching()
    finally:
        _config.CACHE_DIR = before
    result: Function = compiled
    return result


@cache
def _cache_folder() -> str:
    here = Path(__file__).parent
    sources = [path.read_bytes() for path in sorted(here.glob("*.py"))]
    digest = hashlib.sha256(b"".join(source for source in sources if b"@kernel" in source))
    name = f"kernels-{digest.hexdigest()[:12]}"
    if _config.CACHE_DIR:
        return str(Path(_config.CACHE_DIR) / name)
    if os.access(here, os.W_OK):
        return str(here / "__pycache__" / name)
    return str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "negative-flips" / name)


@kernel
def _mix(z: U64) -> U64:
    """SplitMix64's output function (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@kernel
def sample_hash(key: U64, epoch: U64, sample: U64, draw: U64) -> U64:
    """64 random bits for one decision about one sample in one epoch."""
    z = _mix(U64(key) + _GAMMA)
    z = _mix(z ^ (U64(epoch) + _GAMMA))
    z = _mix(z ^ (U64(sample) * _GAMMA + _ONE))
    return _mix(z ^ (U64(draw) * _GAMMA + _MIX_2))


@kernel
def below(bits: U64, bound: Int) -> Int:
    """An integer in [0, bound) from 64 random bits, for bounds below 2^32."""
    return np.int64(((bits >> _S32) * U64(bound)) >> _S32)


@kernel
def order_hashes(key: U64, epoch: U64, samples: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hash of each of `samples`; the epoch visits them in the order of their hashes."""
    hashes = np.empty(len(samples), dtype=np.uint64)
    for i in range(len(samples)):
        hashes[i] = sample_hash(key, epoch, U64(samples[i]), DRAW_ORDER)
    return hashes


def epoch_order(key: int, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """`samples` in this epoch's random order."""
    order: NDArray[np.int64] = samples[np.argsort(order_hashes(U64(key), U64(epoch), samples), kind="stable")]
    return order


@kernel
def crop_and_flip(
    key: U64, epoch: U64, samples: NDArray[np.int64], pad: Int, flip: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For each sample the crop's top and left in the padded image (0..2 pad) and whether it is flipped."""
    tops = np.empty(len(samples), dtype=np.int64)
    lefts = np.empty(len(samples), dtype=np.int64)
    flips = np.zeros(len(samples), dtype=np.bool_)
    for i in range(len(samples)):
        sample = U64(samples[i])
        tops[i] = below(sample_hash(key, epoch, sample, DRAW_TOP), 2 * pad + 1)
        lefts[i] = below(sample_hash(key, epoch, sample, DRAW_LEFT), 2 * pad + 1)
        flips[i] = flip and (sample_hash(key, epoch, sample, DRAW_FLIP) >> _S63) == _ONE
    return tops, lefts, flips


@kernel
def shift_image(pixels: NDArray[np.uint8], top: Int, left: Int, flip: bool, out: NDArray[np.uint8]) -> None:
    """Write `pixels` [H * W * 3], shifted by (-top, -left) over black, then mirrored, to `out` [H, W, 3]."""
    height, width, _ = out.shape
    first, last = max(0, -left), min(width, width - left)  # columns of the crop that the image covers
    flat = out.reshape(-1)
    if top != 0 or left != 0:
        flat[:] = 0
    if first >= last:
        return
    three, count = U64(3), U64(last - first)
    for y in range(max(0, -top), min(height, height - top)):
        # Unsigned indices need no code for counting from the end, so the loops are vectorised.
        source = U64(((y + top) * width + left + first) * 3)
        if flip:
            to = U64((y * width + width - 1 - first) * 3)
            for x in range(count):
                a, b = source + three * x, to - three * x
                flat[b], flat[b + _ONE], flat[b + _TWO] = pixels[a], pixels[a + _ONE], pixels[a + _TWO]
        else:
            to = U64((y * width + first) * 3)
            for x in range(three * count):
                flat[to + x] = pixels[source + x]


@kernel
def pad_crop_flip(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    samples: NDArray[np.int64],
    key: U64,
    epoch: U64,
    pad: Int,
    flip: bool,
    out: NDArray[np.uint8],
) -> None:
    """Gather, pad, crop and flip raw images in one pass.

    `data` holds the bytes of sample `s` from `starts[s]` on. `samples` [B] go to `out` [B, H, W, 3].
    """
    size = out.shape[1] * out.shape[2] * 3
    tops, lefts, flips = crop_and_flip(key, epoch, samples, pad, flip)
    for i in range(len(samples)):
        start = starts[samples[i]]
        shift_image(data[start : start + size], tops[i] - pad, lefts[i] - pad, flips[i], out[i])


@kernel
def gather(
    data: NDArray[np.uint8], starts: NDArray[np.int64], samples: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Copy the raw images of `samples` [B] to `out` [B, H, W, 3]."""
    size = out.shape[1] * out.shape[2] * 3
    for i in range(len(samples)):
        start = starts[samples[i]]
        out[i].reshape(-1)[:] = data[start : start + size]
