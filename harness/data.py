"""The images of a Run: its betons, built where they are missing, and the feeds on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.progress import ProgressWriter
from harness.distributed import ALONE, World
from harness.engine import Normalise, Numerics
from harness.features import features
from harness.jobfile import Execution
from harness.plan import Run
from harness.recipes import ARCHITECTURES
from loaders.batches import Feed
from loaders.betons import Beton, ensure_beton
from loaders.datasets import DATASETS, Dataset, Encoding, Part, fingerprint
from loaders.feeds import open_feed
from loaders.layout import read_index
from loaders.resident import FeatureFeed
from loaders.selection import class_ranks, samples_below, select

EVALUATION_BATCH = 256
THUMBNAIL = 96  # pixels of the longer side of images kept for a report


@dataclass(frozen=True, kw_only=True)
class Data:
    """The feeds of one stream, and what belongs to them."""

    train: Feed
    test: Feed
    normalise: Callable[[Tensor], Tensor]
    """From what the feeds yield to what networks take."""
    class_names: tuple[str, ...]
    """By position in the class order, all that the run's split has."""
    dataset: Dataset
    test_beton: Beton

    def thumbnails(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Test images by sample index, as networks see them but small, uint8 [G, H, W, 3]."""
        size = self.dataset.image_size
        if not len(indices):
            return np.empty((0, size, size, 3), dtype=np.uint8)
        feed = open_feed(self.test_beton, self.dataset, train=False, batch_size=len(indices), subset=indices)
        with feed.epoch(0, 0) as batches:
            (batch,) = batches
        images = batch.images
        if size > THUMBNAIL:
            pixels = images.permute(0, 3, 1, 2).float()
            small = torch.nn.functional.interpolate(pixels, THUMBNAIL, mode="bilinear", antialias=True)
            images = small.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        place = {int(index): row for row, index in enumerate(batch.indices)}
        return images.numpy()[[place[int(index)] for index in indices]]


def open_data(
    run: Run,
    execution: Execution,
    numerics: Numerics,
    cpus: int,
    progress: ProgressWriter,
    check: Callable[[], None],
    world: World = ALONE,
) -> Data:
    """Build what is missing and open the feeds for `run`, and all that share its stream.

    `check` is called now and then while images are built or features computed, and may raise to end it.

    Raises:
        ValueError: the data is not there, or not as it was when the run was planned.
    """
    dataset = DATASETS[run.dataset]
    betons = {part: _beton(run, part, dataset, execution, progress, check) for part in ("train", "test")}
    names = betons["test"].manifest.classes
    ranks = class_ranks(len(names), run.split.class_order)
    pretrained = ARCHITECTURES[run.model.arch].pretrained is not None
    workers = execution.workers or cpus

    def feed(part: Part) -> Feed:
        train, beton = part == "train", betons[part]
        share = run.split.old_data if train else 1.0
        subset = samples_below(ranks[read_index(beton.path).labels], run.trained_classes, share)
        batch_size = run.recipe.batch_size if train else EVALUATION_BATCH
        shard = (world.rank, world.size)
        if not train:
            subset = world.share(subset)
        if pretrained:
            found = features(
                run.model,
                beton,
                dataset,
                weights=Path(execution.weights) if execution.weights else None,
                folder=Path(execution.runs) / "features",
                device=numerics.device,
                workers=workers,
                report=_reporter(progress, check),
            )
            return FeatureFeed(found, select(beton, train, batch_size, subset, ranks, shard), numerics.device)
        return open_feed(
            beton,
            dataset,
            train=train,
            batch_size=batch_size,
            subset=subset,
            ranks=ranks,
            device=numerics.device,
            workers=workers,
            kind="torch" if run.recipe.draws == "torchvision" else execution.loader,
            shard=shard,
        )

    order = np.argsort(ranks)[: run.split.classes]
    return Data(
        train=feed("train"),
        test=feed("test"),
        normalise=torch.nn.Identity() if pretrained else Normalise(dataset.mean, dataset.std, numerics),
        class_names=tuple(names[c] for c in order),
        dataset=dataset,
        test_beton=betons["test"],
    )


def _beton(
    run: Run,
    part: str,
    dataset: Dataset,
    execution: Execution,
    progress: ProgressWriter,
    check: Callable[[], None],
) -> Beton:
    data = Path(execution.data) if execution.data else None
    report = _reporter(progress, check)
    return ensure_beton(
        dataset,
        "train" if part == "train" else "test",
        data=data,
        betons=Path(execution.betons),
        encoding=_encoding(run, dataset, data, execution),
        download=execution.download,
        report=lambda done, total: report(f"building {part}.beton: {done} of {total}"),
        waiting=lambda: report(f"another process builds {part}.beton"),
    )


def _reporter(progress: ProgressWriter, check: Callable[[], None]) -> Callable[[str], None]:
    """What is told of every small step before training: it listens for a stop, and speaks now and then."""

    def report(message: str) -> None:
        check()
        if progress.due():
            progress.say(state="starting", message=message)

    return report


def _encoding(run: Run, dataset: Dataset, data: Path | None, execution: Execution) -> Encoding:
    """The encoding under which the images have the fingerprint that the run was planned with."""
    for encoding in execution.encodings:
        if fingerprint(dataset, data, encoding) == run.data:
            return encoding
    raise ValueError(f"the images of {dataset.name} in {data} have changed since {run.data} was planned")
