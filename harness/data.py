"""The images of a Run: FFCV files (betons), built where they are missing, and the feeds on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.paths import RecordsFolder
from common.progress import ProgressWriter
from harness.architectures import ARCHITECTURES
from harness.backbones import features
from harness.compute import ComputeConfig
from harness.distributed import ALONE, World
from harness.engine import Normalise
from harness.plan import Run
from harness.recipes import draws, images_of
from harness.settings import Runtime
from loaders.batches import Feed
from loaders.betons import Beton, ensure_beton
from loaders.datasets import PART_FOLDERS, Dataset, Encoding, Loader, Part, fingerprint
from loaders.feeds import open_feed
from loaders.layout import read_index
from loaders.resident import FeatureFeed
from loaders.selection import class_ranks, held_out, samples_below, select, to_train_on

EVALUATION_BATCH = 256
MEASURED = 10_000  # training images, at most, on which statistics=auto is measured
Channels = tuple[float, float, float]
THUMBNAIL = 96  # pixels of the longer side of images kept for a report


@dataclass(frozen=True, kw_only=True)
class Data:
    """The feeds of one stream, and what belongs to them."""

    train: Feed | None
    """None for a model that was not trained here."""
    test: Feed
    test_targets: NDArray[np.int64]
    """[N] position in the class order of every test sample's class; -1 for a class that takes no part."""
    normalise: Callable[[Tensor], Tensor]
    """From what the feeds yield to what networks take."""
    class_names: tuple[str, ...]
    """By position in the class order, all that the run's split has."""
    dataset: Dataset
    test_beton: Beton
    validation: Feed | None = None
    """The held-out part of the training images, without augmentation; None where nothing is held out."""

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
    runtime: Runtime,
    encoding: Encoding,
    compute: ComputeConfig,
    *,
    cpus: int,
    progress: ProgressWriter,
    check: Callable[[], None],
    world: World = ALONE,
) -> Data:
    """Build what is missing and open the feeds for `run`, and all that share its stream.

    Args:
        run: one of them.
        runtime: where files are and how to load.
        encoding: the one under which the images have the fingerprint that the run names.
        compute: where the batches go.
        cpus: cores that this process may use.
        progress: told how far it is.
        check: called now and then while images are built or features computed; it may raise to end that.
        world: the processes that train together.

    Raises:
        ValueError: the data is not there, or not as it was when the run was planned.
    """
    dataset = images_of(run.dataset, run.seen)
    _require_unchanged(run, dataset, runtime, encoding, world)
    report = _reporter(progress, check)
    betons = {part: _beton(run, part, dataset, runtime, encoding, report) for part in PART_FOLDERS}
    progress.say(state="starting", message="")  # no longer building
    names = betons["test"].manifest.classes
    ranks = class_ranks(len(names), run.split.class_order)
    pretrained = run.model.is_known and ARCHITECTURES[run.model.arch].backbone is not None
    workers, recipe = runtime.workers or cpus, run.recipe
    assert pretrained or not recipe or recipe.draws == draws(runtime.loader), "planned with another loader"

    def feed(part: Part, subset: NDArray[np.int64], batch_size: int, *, train: bool, kind: Loader) -> Feed:
        beton, shard = betons[part], (world.rank, world.size)
        if not train:
            subset = world.share(subset)
        if pretrained:
            found = features(
                run.model,
                beton,
                dataset,
                weights=runtime.weights,
                folder=RecordsFolder(runtime.runs).features,
                device=compute.device,
                workers=workers,
                report=report,
            )
            return FeatureFeed(found, select(beton, train, batch_size, subset, ranks, shard), compute.device)
        return open_feed(
            beton,
            dataset,
            train=train,
            batch_size=batch_size,
            subset=subset,
            ranks=ranks,
            device=compute.device,
            workers=workers,
            kind=kind,
            shard=shard,
        )

    def statistics() -> tuple[Channels, Channels]:
        if run.seen.statistics is None:
            return dataset.mean, dataset.std
        # Of all classes, old or new: the same for all models of a setting.
        held = held_out(labels["train"], split.classes, split.validation)
        some = np.setdiff1d(samples_below(labels["train"], split.classes), held)
        some = some[:: -(-len(some) // MEASURED)]
        return channel_statistics(
            open_feed(
                betons["train"],
                dataset,
                train=False,
                batch_size=EVALUATION_BATCH,
                subset=some,
                ranks=ranks,
                workers=workers,
                kind="stream",
            )
        )

    labels = {part: ranks[read_index(beton.path).labels] for part, beton in betons.items()}
    split, classes = run.split, run.trained_classes
    share = split.train_data * (split.old_data if run.role == "old" else 1.0)
    shares = [share * (split.new_data if c >= split.old_classes else 1.0) for c in range(classes)]
    trained = to_train_on(labels["train"], shares, validation=split.validation)
    held = held_out(labels["train"], classes, split.validation)
    if split.validation and not len(held):
        raise ValueError(f"validation={split.validation:g}: no class has two training images")
    order = np.argsort(ranks)[: run.split.classes]
    return Data(
        train=feed("train", trained, recipe.batch_size, train=True, kind=runtime.loader) if recipe else None,
        test=feed(
            "test",
            samples_below(labels["test"], classes),
            EVALUATION_BATCH,
            train=False,
            kind=runtime.loader,
        ),
        test_targets=labels["test"],
        # Read once: a second copy of all training images on the device would not pay.
        validation=feed(
            "train",
            held,
            EVALUATION_BATCH,
            train=False,
            kind="torch" if runtime.loader == "torch" else "stream",
        )
        if len(held)
        else None,
        normalise=torch.nn.Identity() if pretrained else Normalise(*statistics(), compute),
        class_names=tuple(names[c] for c in order),
        dataset=dataset,
        test_beton=betons["test"],
    )


def channel_statistics(feed: Feed) -> tuple[Channels, Channels]:
    """Mean and deviation of a feed's pixels in [0, 1], for each channel; the same however it is read."""
    count, totals, squares = 0, torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    with feed.epoch(0, 0) as batches:
        for batch in batches:
            pixels = batch.images.reshape(-1, 3).long()
            count += len(pixels)
            totals += pixels.sum(0)
            squares += (pixels * pixels).sum(0)
    means = [total / count / 255 for total in totals.tolist()]
    variances = [
        square / count / 255**2 - mean**2 for square, mean in zip(squares.tolist(), means, strict=True)
    ]
    red, green, blue = (
        max(variance, 0) ** 0.5 or 1.0 for variance in variances
    )  # 1 for images of one colour
    return (means[0], means[1], means[2]), (red, green, blue)


def _require_unchanged(
    run: Run, dataset: Dataset, runtime: Runtime, encoding: Encoding, world: World
) -> None:
    """Refuse images that are not those that the run was planned with; a folder is walked once per job."""
    same = world.first and (
        fingerprint(dataset, runtime.data, encoding, betons=runtime.betons_folder) == run.data
    )
    if not world.from_first(same):
        raise ValueError(
            f"the images of {dataset.name} in {runtime.data} have changed since {run.data} was planned"
        )


def _beton(
    run: Run,
    part: Part,
    dataset: Dataset,
    runtime: Runtime,
    encoding: Encoding,
    report: Callable[[str], None],
) -> Beton:
    return ensure_beton(
        dataset,
        part,
        data=runtime.data,
        betons=runtime.betons_folder,
        encoding=encoding,
        identity=run.data,
        download=runtime.download,
        report=lambda done, total: report(f"building {part}.beton: {done} of {total}"),
        waiting=lambda: report(f"another process is building {part}.beton"),
    )


def _reporter(progress: ProgressWriter, check: Callable[[], None]) -> Callable[[str], None]:
    """What is told of every small step before training: it listens for a stop, and reports now and then."""

    def report(message: str) -> None:
        check()
        if progress.due():
            progress.say(state="starting", message=message)

    return report
