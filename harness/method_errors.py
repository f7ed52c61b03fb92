"""Errors of a method's own code, which is anybody's: they end its run and no other."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from methods import Method


class MethodFailed(RuntimeError):  # noqa: N818 - a state of one run
    """A method raised an error: what, and on which line of it."""


@contextmanager
def blamed_on(method: Method) -> Iterator[None]:
    """Turn an error of the block into a MethodFailed; a lack of memory stays what it is."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a method is anybody's code
        traceback.print_exception(error)
        raise MethodFailed(_where_it_failed(method, error)) from error


def _where_it_failed(method: Method, error: Exception) -> str:
    """The error in one line, with the last line of the method's own code that led to it."""
    files = {inspect.getsourcefile(cls) for cls in type(method).__mro__ if cls is not object}
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename in files] or frames
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line})"
