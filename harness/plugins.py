"""Modules that a person names by `plugins=`: they add methods, datasets and architectures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from common import cli
from common.registry import load_plugins
from harness.architectures import ARCHITECTURES
from harness.settings import Runtime
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


def load_named(words: Mapping[str, str]) -> None:
    """Load the modules that `plugins=` names, before anything is looked up.

    Raises:
        ValueError: one that cannot be imported.
    """
    if "plugins" in words:
        names = cli.value("plugins", words["plugins"], cli.settings(Runtime)["plugins"].hint)
        load(names, (str(Path.cwd()),))
