"""Folders of images, and the identity of the images that a run sees."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from common.text import displayed
from loaders.datasets.base import Dataset, Encoding, Part
from loaders.datasets.digests import ImageFile, Signature, content_digests

PART_FOLDERS: Mapping[Part, str] = {"train": "train", "test": "val"}  # of a folder of images
EXAMPLES = 200  # files that stand for all where disk space is estimated
# Those of torchvision.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What there is of a dataset."""

    classes: int
    train_samples: int
    listing: str | None = None
    """Digest of a folder's class names and of names and content of its images; None for fixed content."""
    bytes: int = 0
    """Of all files of a folder."""
    examples: tuple[str, ...] = ()
    """Some of the files, by their paths under the folder."""
    built: Mapping[str, str] | None = None
    """Fingerprint by encoding of the betons that stand for a folder that is not here."""


def look_into(dataset: Dataset, data: Path | None, betons: Path | None = None) -> Contents:
    """Find out what there is; everything but a folder of images is known already.

    A folder is walked, and the content of its files is read where it is not known yet.

    Args:
        dataset: its entry.
        data: folder of its images, where it needs one.
        betons: folder of the betons, which also keeps digests of files; without `data`, what was built there
            is all that is known of a folder.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    if dataset.of_folders and data is None and betons is not None and (built := _built(dataset, betons)):
        return built
    if dataset.classes and dataset.train_samples and (data is None or not dataset.of_folders):
        return Contents(classes=dataset.classes, train_samples=dataset.train_samples)  # enough for a plan
    classes = folder_classes(dataset, data)
    assert data is not None
    files = {part: class_files(dataset, part, data, classes) for part in PART_FOLDERS}
    everything = [file for part in files.values() for group in part for file in group]
    digests = content_digests(data, everything, None if betons is None else betons / "digests")
    content = hashlib.sha256(repr([displayed(name) for name in classes]).encode())
    for file, digest in zip(everything, digests, strict=True):
        content.update(os.fsencode(file.path) + b"\0" + digest.hex().encode() + b"\n")
    return Contents(
        classes=len(classes),
        train_samples=sum(map(len, files["train"])),
        listing=content.hexdigest(),
        bytes=sum(file.signature.size for file in everything if file.signature is not None),
        examples=tuple(file.path for file in everything[:: -(-len(everything) // EXAMPLES)]),
    )


def fingerprint(
    dataset: Dataset,
    data: Path | None = None,
    encoding: Encoding | None = None,
    contents: Contents | None = None,
    betons: Path | None = None,
) -> str:
    """Identity of the images and labels that a run sees, such as `digits-1-3fa94c01d2`.

    Datasets of fixed content are named by their version and sizes alone; a folder of images by its class
    names and by the names and the content of its files.

    Args:
        dataset: its entry.
        data: folder of its images, where it needs one.
        encoding: how they are stored, if not in the dataset's own way.
        contents: what `look_into` found, so that nothing is looked at twice.
        betons: folder of the betons, see `look_into`.

    Raises:
        ValueError: a folder that does not hold what the dataset needs.
    """
    contents = contents or look_into(dataset, data, betons)
    encoding = encoding or dataset.encoding()
    if contents.built is not None:
        if encoding.label not in contents.built:
            raise ValueError(
                f"{dataset.name} needs data=FOLDER: it is not built as {encoding.label} "
                f"(built: {', '.join(sorted(contents.built))})"
            )
        return contents.built[encoding.label]
    content = [dataset.name, dataset.version, dataset.train_samples, dataset.test_samples, encoding.label]
    if contents.listing is not None:
        content.append(contents.listing)
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return f"{dataset.name}-{dataset.version}-{digest[:10]}"


def require_files(dataset: Dataset, data: Path) -> None:
    """Check that `data` may hold the dataset, by names alone.

    Raises:
        ValueError: it cannot.
    """
    if dataset.of_folders:
        folder_classes(dataset, data)
    elif dataset.files and not any((data / name).exists() for name in dataset.files):
        raise ValueError(f"data={data} holds neither {' nor '.join(dataset.files)}")


def folder_classes(dataset: Dataset, data: Path | None) -> tuple[str, ...]:
    """Names of the class folders under `data`, sorted; they must be the same for both parts.

    Raises:
        ValueError: not an image folder with train/ and val/, or not as many classes as the dataset has.
    """
    if data is None:
        raise ValueError(f"{dataset.name} needs data=FOLDER, a folder with train/ and val/")
    if not data.is_dir():
        raise ValueError(f"data={data} is not a directory")
    names: dict[str, tuple[str, ...]] = {}
    for name in PART_FOLDERS.values():
        if not (data / name).is_dir():
            raise ValueError(f"{data} lacks the folder {name}/: {dataset.name} needs train/ and val/")
        names[name] = tuple(sorted(p.name for p in (data / name).iterdir() if p.is_dir()))  # links too
    if not names["train"]:
        raise ValueError(f"{data / 'train'} has no class folders")
    for part, other in (("train", "val"), ("val", "train")):
        if missing := sorted(set(names[other]) - set(names[part])):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(
                f"{data / part} lacks the class folder '{displayed(missing[0])}'{more}, which {other}/ has"
            )
    if dataset.classes not in (None, len(names["train"])):
        raise ValueError(
            f"{data} has {len(names['train'])} class folders, {dataset.name} {dataset.classes} "
            "(dataset=folder takes any number)"
        )
    return names["train"]


def class_files(
    dataset: Dataset, part: Part, data: Path, classes: tuple[str, ...]
) -> tuple[tuple[ImageFile, ...], ...]:
    """The images of one part by class: the same files in the same order as torchvision's ImageFolder.

    Links are followed; only a link to a folder that it lies in is not, which would never end.

    Raises:
        ValueError: a class without images, or not as many images as the dataset has.
        OSError: a folder that cannot be read.
    """
    found = []
    for name in classes:
        folders = sorted(_image_folders(data, f"{PART_FOLDERS[part]}/{name}", frozenset()))
        found.append(tuple(file for _, files in folders for file in files))
        if not found[-1]:
            raise ValueError(f"{displayed(data / PART_FOLDERS[part] / name)} has no images")
    known = dataset.train_samples if part == "train" else dataset.test_samples
    total = sum(map(len, found))
    if known not in (None, total):
        raise ValueError(
            f"{dataset.name} has {known:,} {part} images, but {total:,} were found in "
            f"{data / PART_FOLDERS[part]} (dataset=folder takes any number)"
        )
    return tuple(found)


def _image_folders(
    data: Path, folder: str, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, list[ImageFile]]]:
    """`folder`, a path under `data`, and all folders in it, each with its images sorted by name."""
    here = (data / folder).stat()
    if (here.st_dev, here.st_ino) in above:
        return
    above |= {(here.st_dev, here.st_ino)}
    images, folders = [], []
    with os.scandir(data / folder) as entries:
        for entry in entries:
            status = _status(entry)
            path = f"{folder}/{entry.name}"
            if status is not None and stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                if status is None:  # it is left out, and reported, when images are read
                    images.append(ImageFile(path, None))
                elif stat.S_ISREG(status.st_mode):
                    images.append(ImageFile(path, Signature.of(status)))
    yield folder, sorted(images, key=lambda image: image.path)
    for path in folders:
        yield from _image_folders(data, path, above)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """What an entry is, or what it links to; None for a link that leads nowhere."""
    try:
        return entry.stat()
    except OSError:
        if entry.is_symlink():
            return None
        raise


class _Built(msgspec.Struct):
    """What is needed of a beton's manifest here."""

    dataset: str
    version: int
    fingerprint: str
    encoding: str
    counts: list[int]


def _built(dataset: Dataset, betons: Path) -> Contents | None:
    """What the betons of a dataset say about it, where its files are not here; None if there are none.

    Raises:
        ValueError: betons of different images.
    """
    found: dict[str, _Built] = {}
    for path in sorted(betons.glob(f"{dataset.name}-{dataset.version}-*/train.json")):
        if not path.with_name("test.json").is_file():
            continue
        try:
            made = msgspec.json.decode(path.read_bytes(), type=_Built)
        except msgspec.DecodeError:  # damaged: said where it is opened
            continue
        other = next(
            (o for o in found.values() if o.encoding == made.encoding or o.counts != made.counts), None
        )
        if other is not None:
            raise ValueError(
                f"{dataset.name} needs data=FOLDER: {betons} holds several data sets "
                f"({other.fingerprint}, {made.fingerprint})"
            )
        found[made.encoding] = made
    if not found:
        return None
    counts = next(iter(found.values())).counts
    return Contents(
        classes=len(counts),
        train_samples=sum(counts),
        built={encoding: made.fingerprint for encoding, made in found.items()},
    )
