"""What can be asked for by name: built in, from an installed package, or from a module named by `plugins=`.

A package adds entries by entry points: in the group `negative_flips.methods`, `negative_flips.datasets` or
`negative_flips.architectures`, the name is the one to ask for and the value is where its entry lies
(`my_package.flips:ENTRY`). A module named by `plugins=` has its entries in `METHODS`, `DATASETS` or
`ARCHITECTURES`, mappings by name. Entries of packages are imported when they are used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from common.text import nearest

GROUPS = ("negative_flips.methods", "negative_flips.datasets", "negative_flips.architectures")
"""Of entry points."""

Entry = TypeVar("Entry")


class Registry(MutableMapping[str, Entry]):
    """Entries of one kind by name."""

    def __init__(
        self,
        kind: type[Entry],
        what: str,
        *,
        attribute: str,
        builtin: Mapping[str, Entry],
        resolve: Callable[[str], Entry | None] = lambda name: None,
    ) -> None:
        """`resolve` may make entries for names that are not listed, such as those with a prefix."""
        self._kind = kind
        self._what = what
        self._resolve = resolve
        self._entries = dict(builtin)
        self.attribute = attribute
        """Name of the mapping in a module that is named by `plugins=`."""
        self.group = f"negative_flips.{attribute.lower()}"
        """Group of entry points."""
        self.builtin = tuple(builtin)
        """Names that come with this package."""

    def find(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            ValueError: there is none; the message gives the nearest name.
        """
        try:
            return self[name]
        except KeyError:
            raise ValueError(f"unknown {self._what} '{name}'{nearest(name, self)}") from None

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            if name in self._points:
                self._entries[name] = self._load(self._points[name])
            elif (made := self._resolve(name)) is not None:
                self._entries[name] = made
        return self._entries[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._entries[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._entries, *self._points]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._points

    def add(self, name: str, entry: Any, source: str) -> None:
        """Take an entry from elsewhere.

        Raises:
            ValueError: not an entry of this registry, or a name that is taken.
        """
        if not isinstance(entry, self._kind):
            kind = f"{self._kind.__module__}.{self._kind.__name__}"
            raise ValueError(f"{source}: {self._what} '{name}' is not a {kind}")
        if self._entries.get(name, entry) != entry:
            raise ValueError(f"{source}: the {self._what} '{name}' exists already")
        self._entries[name] = entry

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        """Entry points of installed packages; built-in names cannot be replaced."""
        found = {point.name: point for point in entry_points(group=self.group)}
        return {name: point for name, point in found.items() if name not in self.builtin}

    def _load(self, point: EntryPoint) -> Entry:
        source = f"plugin {point.dist.name if point.dist else point.value}"
        try:
            entry = point.load()
        except Exception as error:  # somebody else's module may raise anything
            raise ValueError(f"{source}: {self._what} '{point.name}' {_not_imported(error)}") from error
        if not isinstance(entry, self._kind):
            kind = f"{self._kind.__module__}.{self._kind.__name__}"
            raise ValueError(f"{source}: {self._what} '{point.name}' is not a {kind}")
        return entry


def load_plugins(
    modules: Iterable[str], registries: Sequence[Registry[Any]], folders: Iterable[str] = ()
) -> None:
    """Import modules and take their entries.

    Args:
        modules: their names, as `plugins=` has them.
        registries: those that the entries may belong to.
        folders: where to look for modules that Python does not find by itself.

    Raises:
        ValueError: a module that cannot be imported, or that has no entries.
    """
    sys.path += [folder for folder in folders if folder not in sys.path]
    for name in modules:
        module = _imported(name)
        found = [(registry, getattr(module, registry.attribute, None)) for registry in registries]
        if not any(isinstance(entries, Mapping) for _, entries in found):
            known = ", ".join(registry.attribute for registry, _ in found)
            raise ValueError(f"plugins={name}: it has no mapping named {known}")
        for registry, entries in found:
            for entry_name, entry in (entries or {}).items():
                registry.add(entry_name, entry, f"plugins={name}")


def plugin_versions() -> dict[str, str]:
    """Versions of the installed packages that add entries, by name."""
    points = (point for group in GROUPS for point in entry_points(group=group))
    return {point.dist.name: point.dist.version for point in points if point.dist}


def plugin_folders(modules: Iterable[str]) -> tuple[str, ...]:
    """Folders from which these modules were imported, for a process that may start in another one."""
    files = [(name, sys.modules[name].__file__) for name in modules]
    folders = [Path(file).absolute().parents[_depth(name, file)] for name, file in files if file]
    return tuple(dict.fromkeys(map(str, folders)))


def _depth(name: str, file: str) -> int:
    return name.count(".") + (Path(file).stem == "__init__")


def _imported(name: str) -> ModuleType:
    if name.endswith(".py"):
        raise ValueError(f"plugins={name}: leave .py out (plugins={name.removesuffix('.py')})")
    try:
        return importlib.import_module(name)
    except Exception as error:  # somebody else's module may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            file = f"{name.replace('.', '/')}.py"
            raise ValueError(
                f"plugins={name}: no such module (neither {file} in this folder nor one installed)"
            ) from error
        raise ValueError(f"plugins={name}: {_not_imported(error)}") from error


def _not_imported(error: Exception) -> str:
    return f"could not be imported ({type(error).__name__}: {error})"


def load_object(path: str) -> Any:
    """What lies at `module:name`.

    Raises:
        ValueError: there is no such module or name.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}: {_not_imported(error)}") from error
