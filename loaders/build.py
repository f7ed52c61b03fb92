"""Write a dataset's betons ahead of time, for instance dataset=imagenet data=/path.

A sweep builds what is missing by itself; this command does it ahead of time, where the cores are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from common import cli
from common.registry import load_plugins
from common.text import disk_space
from loaders.betons import Beton, Report, ensure_beton, file_digest, is_built
from loaders.datasets import (
    DATASETS,
    PART_FOLDERS,
    Contents,
    Dataset,
    Encoding,
    WriteMode,
    beton_bytes,
    find,
    fingerprint,
    look_into,
    prepared,
)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of a build; what is left out is the dataset's own."""

    dataset: str | None = None
    """Which dataset; it must be given."""
    data: Path | None = None
    """Folder of the dataset's own files, where it needs one."""
    download: bool = False
    """Download missing data (CIFAR)."""
    plugins: tuple[str, ...] = ()
    """Your own modules that add datasets."""
    betons: Path = Path("runs/betons")
    """Folder of the betons."""
    image_size: int | None = None
    """Side in pixels of what networks will see: a folder of 64 or less is stored raw, in its own size."""
    write_mode: WriteMode | None = None
    """How to store photographs: as they are (the default), as pixels, as new JPEGs, or a share of them as new
    JPEGs."""
    max_resolution: int | None = None
    """Bound on the longer side in pixels; 0 keeps the size."""
    jpeg_quality: int | None = None
    """Quality of the JPEGs, 1 to 100."""
    jpeg_share: float | None = None
    """Share of JPEGs where write_mode is proportion."""
    workers: int | None = None
    """Processes that encode (default: the cores of this process)."""
    verify: bool = False
    """Compare whole files with their checksums, also those that were built before."""

    def __post_init__(self) -> None:
        load_plugins(self.plugins, (DATASETS,), (str(Path.cwd()),))
        self.entry  # noqa: B018  # raises for one that does not exist
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers={self.workers}: must be 1 or more")

    @property
    def entry(self) -> Dataset:
        """The dataset's entry."""
        if self.dataset is None:
            raise ValueError(f"dataset= is missing (known: {', '.join(DATASETS)})")
        return prepared(find(self.dataset), image_size=self.image_size)

    @property
    def encoding(self) -> Encoding:
        """How the images are to be stored."""
        return self.entry.encoding(
            write_mode=self.write_mode,
            max_resolution=self.max_resolution,
            jpeg_quality=self.jpeg_quality,
            jpeg_share=self.jpeg_share,
        )


@cli.command
def main(argv: Sequence[str]) -> int:
    """Build both parts of a dataset, and print what they hold."""
    config = cli.parse(BuildConfig, argv, prog="python -m loaders.build", description=__doc__ or "")
    console = Console(highlight=False)
    contents = look_into(config.entry, config.data, config.betons)
    identity = fingerprint(config.entry, config.data, config.encoding, contents)
    _announce(config, contents, identity)
    for part in PART_FOLDERS:
        with _progress(f"{config.dataset} {part}") as (report, waiting):
            beton = ensure_beton(
                config.entry,
                part,
                data=config.data,
                betons=config.betons,
                encoding=config.encoding,
                identity=identity,
                download=config.download,
                workers=config.workers,
                report=report,
                waiting=waiting,
            )
        if config.verify and file_digest(beton.path) != beton.manifest.sha256:
            raise ValueError(
                f"{beton.path} is damaged: delete {beton.path.with_suffix('.json')}, build again"
            )
        _describe(beton, console)
    return 0


def _announce(config: BuildConfig, contents: Contents, identity: str) -> None:
    """Say on stderr how much space a folder of images will take, unless its betons are there."""
    if not config.entry.of_folders:
        return
    needed = beton_bytes(config.entry, config.data, config.encoding, contents)
    paths = [config.betons / identity / f"{part}.beton" for part in PART_FOLDERS]
    if needed is not None and not all(map(is_built, paths)):
        print(f"{config.dataset} will take about {disk_space(needed)} in {config.betons}", file=sys.stderr)


@contextmanager
def _progress(name: str) -> Iterator[tuple[Report, Callable[[], None]]]:
    """A progress bar that appears with the first report: of images done, or of another process at work."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(name, total=None)

    def report(done: int, total: int) -> None:
        progress.start()
        progress.update(task, description=name, completed=done, total=total)

    def waiting() -> None:
        progress.start()
        progress.update(task, description=f"{name}: another process is building it")

    try:
        yield report, waiting
    finally:
        if progress.live.is_started:
            progress.stop()


def _describe(beton: Beton, console: Console) -> None:
    manifest = beton.manifest
    images, classes, megabytes = sum(manifest.counts), len(manifest.classes), manifest.bytes / 1e6
    console.print(
        f"{manifest.dataset} {manifest.part}: {images:,} images of {classes} classes, "
        f"{megabytes:,.1f} MB ({manifest.encoding})"
    )
    console.print(f"  {beton.path}", soft_wrap=True)
    for kind, count in manifest.converted.items():
        console.print(f"  converted: {count:,} {kind}")
    for problem in manifest.rejected:
        console.print(f"  left out: {problem}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
