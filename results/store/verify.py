"""Checking a folder of records byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

from common.files import digest
from common.paths import RunFolder
from results.store.folder import Store
from results.store.records import BrokenRecord, Record


def problems(store: Store) -> Iterator[str]:
    """What is wrong with the store's records and their files, one line each; reads every byte."""
    for record in store.scan():
        if isinstance(record, BrokenRecord):
            yield str(record)
        else:
            yield from _problems_of(store, record)


def _problems_of(store: Store, record: Record) -> Iterator[str]:
    folder = store.folder(record.id)
    for name, expected in record.files.items():
        if digest((folder / name).read_bytes()) != expected:
            yield f"{folder / name}: its digest is not the one in record.json"
        elif name == record.file("predictions") and store.predictions(record).packed_right != record.right:
            yield f"{RunFolder(folder).record}: its right answers are not those of the predictions"
