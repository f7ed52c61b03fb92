"""Modules that a person names by `plugins=`: they add methods, datasets and architectures."""

from __future__ import annotations

from collections.abc import Iterable

from common.registry import load_plugins
from harness.architectures import ARCHITECTURES
from loaders.datasets import DATASETS
from methods import METHODS


def load(modules: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Import these modules and take their `METHODS`, `DATASETS` and `ARCHITECTURES`.

    Args:
        modules: their names.
        folders: where to look for those that Python does not find by itself.

    Raises:
        ValueError: a module that cannot be imported, or that has no entries.
    """
    load_plugins(modules, (METHODS, DATASETS, ARCHITECTURES), folders)
