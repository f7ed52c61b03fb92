"""Galleries of a report: what the worst flips of each method look like, small enough for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from results.artifacts import Gallery, worst_flips
from results.comparisons import Comparison, Row
from results.figures import class_names
from results.metrics import Pair, pair
from results.store import Store

LARGEST_ICON = 96
"""Images with no side longer than this, in pixels, are kept as they are."""
PHOTOGRAPH = 200
"""The longer side, in pixels, to which larger images are reduced."""


@dataclass(frozen=True, kw_only=True)
class ShownPrediction:
    """What one of the two models says about a flipped sample."""

    model: str
    name: str
    """Of the predicted class."""
    right: bool
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class ShownFlip:
    """A flipped sample with its image."""

    sample: int
    target: str
    url: str
    """The image, as a data URL."""
    photograph: bool
    """Whether the image was reduced; smaller ones are shown pixel by pixel."""
    predictions: tuple[ShownPrediction, ...]
    """The old model's, then the new one's."""


@dataclass(frozen=True, kw_only=True)
class ShownGallery:
    """The worst flips of one method, in the first seed that has images."""

    label: str
    seed: int
    open: bool = False
    """Whether the page shows it without a click."""
    negative: tuple[ShownFlip, ...]
    positive: tuple[ShownFlip, ...]


def galleries(store: Store, comparison: Comparison, *, most: int) -> tuple[ShownGallery, ...]:
    """Galleries of all rows, up to `most` flips of each kind; the first and the lowest NFR's are open."""
    names = class_names(comparison)
    found = [
        (row, gallery)
        for row in comparison.candidates
        if (gallery := _gallery(store, comparison, row, names, most))
    ]
    if not found:
        return ()
    best = min(found, key=lambda item: _nfr(item[0]))[0]
    return tuple(replace(gallery, open=row in (best, found[0][0])) for row, gallery in found)


def _nfr(row: Row) -> float:
    summary = row.summary("nfr")
    return summary.mean if summary else 1.0


def _gallery(
    store: Store, comparison: Comparison, row: Row, names: Sequence[str], most: int
) -> ShownGallery | None:
    for seed, record in row.records.items():
        old = comparison.old_records(row).get(seed)
        if old is None or record.file("gallery") is None:
            continue
        gallery = Gallery.from_bytes(store.content(record, "gallery"))
        images = dict(zip(gallery.index.tolist(), gallery.images, strict=True))
        both = pair(store.predictions(old), store.predictions(record))
        flips = worst_flips(both.old, both.new)
        return ShownGallery(
            label=row.label,
            seed=seed,
            negative=tuple(_flips(flips.negative.tolist(), both, images, names))[:most],
            positive=tuple(_flips(flips.positive.tolist(), both, images, names))[:most],
        )
    return None


def _flips(
    indices: Sequence[int], both: Pair, images: Mapping[int, NDArray[np.uint8]], names: Sequence[str]
) -> Iterator[ShownFlip]:
    position = {index: i for i, index in enumerate(both.old.index.tolist())}
    for index in indices:
        if index not in images:
            continue
        i = position[index]
        target = int(both.old.target[i])
        photograph = max(images[index].shape[:2]) > LARGEST_ICON
        yield ShownFlip(
            sample=index,
            target=names[target],
            url=_photograph(images[index]) if photograph else _icon(images[index]),
            photograph=photograph,
            predictions=tuple(
                ShownPrediction(
                    model=model,
                    name=names[int(predictions.prediction[i])],
                    right=int(predictions.prediction[i]) == target,
                    confidence=None if predictions.confidence is None else float(predictions.confidence[i]),
                )
                for model, predictions in (("old", both.old), ("new", both.new))
            ),
        )


def _icon(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return data_url("image/png", buffer.getvalue())


def _photograph(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    small = Image.fromarray(image)
    small.thumbnail((PHOTOGRAPH, PHOTOGRAPH))
    small.save(buffer, format="JPEG", quality=80)
    return data_url("image/jpeg", buffer.getvalue())


def data_url(kind: str, content: bytes) -> str:
    """The content of a file as an URL that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
