"""Compiling kernels once per machine, and again when any of them changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])
Whole = Any
"""A whole number inside a kernel: an int for Python, an int64 for numba."""

_config: Any = numba.config

_SOURCES = ("compiled.py", "drawing.py", "jpeg.py", "kernels.py", "photographs.py", "resize.py")


def kernel(function: Function) -> Function:
    """Compile on the first call, without the GIL, and keep the result on disk.

    numba looks for changes in a function's own file only, and would go on using what it once inlined from
    another: so the folder's name is made of all files with kernels.
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
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((here / name).read_bytes())
    name = f"kernels-{digest.hexdigest()[:12]}"
    if _config.CACHE_DIR:
        return str(Path(_config.CACHE_DIR) / name)
    if os.access(here, os.W_OK):
        return str(here / "__pycache__" / name)
    return str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "negative-flips" / name)
