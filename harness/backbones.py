"""What a frozen backbone makes of a dataset: computed once, kept on disk, named by all that decides it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.files import digest, locked, write_atomically
from harness.compute import ComputeConfig
from harness.engine import Normalise, predict
from harness.models import backbone
from harness.plan import Model
from loaders.batches import Batch, Feed
from loaders.betons import Beton
from loaders.datasets import Dataset
from loaders.feeds import open_feed

VERSION = 1
# The backbones' own normalisation: torchvision's for ImageNet.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 128


def features(
    model: Model,
    beton: Beton,
    dataset: Dataset,
    *,
    weights: Path | None,
    folder: Path,
    device: torch.device,
    workers: int,
    report: Callable[[str], None],
) -> NDArray[np.float32]:
    """Features [N, D] of all images of a beton, each as in evaluation; kept in `folder`.

    `report` is told how far it is, batch by batch, and may raise to end it.

    Raises:
        ValueError: the backbone's weights cannot be had.
    """
    what = f"features of {beton.manifest.part} images by {model.arch}"
    identity = [VERSION, model.arch, model.weights, beton.manifest.sha256]
    name = f"{model.arch}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"
    path = folder / f"{name}.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock", lambda: report(f"another process computes {what}")):
        found = _read(path)
        if found is None:
            feed = open_feed(
                beton, dataset, train=False, batch_size=BATCH, device=device, workers=workers, kind="auto"
            )
            reported = _Reported(feed, lambda done: report(f"{what}: {done} of {feed.samples}"))
            found = _compute(model, reported, weights, device)
            _write(path, found)
    return found


class _Reported:
    """A feed that tells how many samples it has yielded."""

    def __init__(self, feed: Feed, report: Callable[[int], None]) -> None:
        self.samples, self.batches, self.class_counts = feed.samples, feed.batches, feed.class_counts
        self._feed, self._report = feed, report

    @contextmanager
    def epoch(self, key: int, epoch: int, start: int = 0) -> Iterator[Iterator[Batch]]:
        """The feed's batches, with a report before each."""
        with self._feed.epoch(key, epoch, start) as batches:
            yield self._batches(batches)

    def _batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        done = 0
        for batch in batches:
            self._report(done)
            yield batch
            done += len(batch.targets)


def _compute(model: Model, feed: Feed, weights: Path | None, device: torch.device) -> NDArray[np.float32]:
    compute = ComputeConfig(device=device)  # fp32: others will use these numbers
    network = compute.place(backbone(model, weights))
    answers, _, indices = predict(network, feed, Normalise(MEAN, STD, compute), compute)
    assert torch.equal(indices, torch.arange(len(indices))), "evaluation is in sample order"
    return answers.numpy()


def _read(path: Path) -> NDArray[np.float32] | None:
    """The features in `path`; None where there are none, or where they are not what was written."""
    try:
        data = path.read_bytes()
        expected = path.with_suffix(".sha256").read_text()
    except FileNotFoundError:
        return None
    if digest(data) != expected:
        return None
    found: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def _write(path: Path, found: NDArray[np.float32]) -> None:
    data = io.BytesIO()
    np.save(data, found, allow_pickle=False)
    write_atomically(path, data.getvalue())
    write_atomically(path.with_suffix(".sha256"), digest(data.getvalue()).encode())
