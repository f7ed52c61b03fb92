"""Fashion-MNIST's images from its idx files (Xiao, Rasul and Vollgraf 2017), compressed or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.files import digest
from loaders.datasets import Dataset, Part
from loaders.sources import ArraySource, Source

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PREFIX = {"train": "train", "test": "t10k"}
# SHA-256 of the files' content, uncompressed: MNIST's files have the same names and sizes.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def fashion_mnist(dataset: Dataset, part: Part, data: Path | None, download: Path | None) -> Source:
    """One part of Fashion-MNIST; without `data`, from Debian's package where that is installed."""
    packaged = Path(dataset.packaged)
    folder = data or (packaged if packaged.is_dir() else None)
    if folder is None:
        if download is None:
            raise ValueError(
                f"{dataset.name} needs data=FOLDER, Debian's {dataset.name} package, or download=true"
            )
        from torchvision.datasets import FashionMNIST  # imports torch

        try:
            FashionMNIST(str(download), train=True, download=True)
        except RuntimeError as error:
            raise ValueError(f"{dataset.name} could not be downloaded ({error})") from error
        folder = download / "FashionMNIST" / "raw"
    grey = read_idx(folder, f"{PREFIX[part]}-images-idx3-ubyte")
    labels = read_idx(folder, f"{PREFIX[part]}-labels-idx1-ubyte").astype(np.int64)
    rgb = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=3))
    return ArraySource(rgb, labels, CLASSES)


def read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """The array in one of Fashion-MNIST's files.

    Raises:
        ValueError: it is not there, or holds anything else.
    """
    plain, packed = folder / name, folder / f"{name}.gz"
    try:
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds neither {name} nor {name}.gz") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{packed} is damaged ({error})") from error
    if digest(content) != SHA256[name]:
        raise ValueError(f"{folder / name} is not Fashion-MNIST's, or damaged")
    dimensions = content[3]  # after the magic number's type, big-endian sizes follow
    shape = np.frombuffer(content, ">i4", dimensions, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape.tolist())
