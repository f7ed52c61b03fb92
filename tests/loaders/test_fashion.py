"""Fashion-MNIST's idx files: read, and told from others of the same names."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from loaders import fashion
from loaders.datasets import DATASETS
from loaders.sources import open_source

FASHION = DATASETS["fashion-mnist"]
IMAGES = np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
LABELS = np.array([9, 0, 3], np.uint8)


def idx(array: np.ndarray) -> bytes:
    sizes = np.array(array.shape, ">i4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_compressed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    for name, array in (("t10k-images-idx3-ubyte", IMAGES), ("t10k-labels-idx1-ubyte", LABELS)):
        content = idx(array)
        monkeypatch.setitem(fashion.SHA256, name, hashlib.sha256(content).hexdigest())
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    source = open_source(FASHION, "test", tmp_path)
    assert [source.classes[label] for label in source.labels] == ["Ankle boot", "T-shirt/top", "Dress"]
    np.testing.assert_array_equal(source.read(1).pixels, np.repeat(IMAGES[1][..., None], 3, axis=2))


def test_other_files_of_these_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds neither train-images-idx3-ubyte nor"):
        open_source(FASHION, "train", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte is not Fashion-MNIST's, or damaged"):
        open_source(FASHION, "train", tmp_path)
