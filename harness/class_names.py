"""Classes given by name: which are old, and in which order, as positions that a Split holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from common.text import displayed, nearest
from loaders.datasets import Dataset, folder_classes


def names_of(dataset: Dataset, identity: str, data: Path | None, betons: Path) -> tuple[str, ...]:
    """Names of a dataset's classes in the order of their labels.

    Args:
        dataset: its entry.
        identity: fingerprint of its images.
        data: folder of its own files, where it needs one.
        betons: folder of the betons.

    Raises:
        ValueError: neither its files nor its betons are here.
    """
    manifest = betons / identity / "test.json"
    if manifest.is_file():
        content = msgspec.json.decode(manifest.read_bytes(), type=dict[str, object])
        return msgspec.convert(content["classes"], tuple[str, ...])
    if dataset.of_folders:
        return tuple(displayed(name) for name in folder_classes(dataset, data))
    from loaders.sources import open_source  # imports numba, and torchvision for some

    return open_source(dataset, "test", data, betons / "downloads").classes


def read_names(key: str, text: str, known: Sequence[str]) -> tuple[int, ...]:
    """Labels of the classes that `text` names: with commas between, or in a file, one per line.

    Raises:
        ValueError: no such class or file, or a class that is named twice.
    """
    names = text.split(",")
    if text not in known and len(names) == 1 and Path(text).is_file():
        lines = Path(text).read_text(errors="backslashreplace").splitlines()
        names = [line.strip() for line in lines if line.strip()]
    labels = {name: label for label, name in enumerate(known)}
    for name in names:
        if name not in labels:
            raise ValueError(f"{key}={text}: there is no class '{name}'{nearest(name, known)}")
        if names.count(name) > 1:
            raise ValueError(f"{key}={text}: {name} is named twice")
    return tuple(labels[name] for name in names)


def shortest_order(first: Sequence[int], classes: int, known: int) -> tuple[int, ...] | None:
    """The shortest beginning of a class order that means the same; None for the order by index.

    Args:
        first: labels of the first classes; the others follow by index.
        classes: how many classes take part.
        known: how many there are.
    """

    def spelt_out(beginning: Sequence[int]) -> list[int]:
        chosen = set(beginning)
        return [*beginning, *(label for label in range(known) if label not in chosen)][:classes]

    wanted = spelt_out(first)
    length = next(n for n in range(len(first) + 1) if spelt_out(first[:n]) == wanted)
    return tuple(first[:length]) or None
