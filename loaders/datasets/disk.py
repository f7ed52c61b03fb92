"""How much disk space the betons of a dataset will take, before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from loaders.datasets.base import Dataset, Encoding
from loaders.datasets.folders import Contents

# Measured on 200 photographs from ImageNet, see docs/performance.md.
MARKED: Final = 1.06  # bytes of a JPEG with restart markers, by those of its file
JPEG_HEADER: Final = 623  # bytes
JPEG_BYTES: Final = {50: 0.14, 75: 0.21, 85: 0.28, 90: 0.34, 95: 0.49, 100: 0.88}  # by pixel and quality


def beton_bytes(dataset: Dataset, data: Path | None, encoding: Encoding, contents: Contents) -> int | None:
    """Bytes that both parts will take, within some per cent; None where the images are not known yet.

    For a folder, the sizes of all files and the headers of some decide.
    """
    if not dataset.of_folders:
        images = (dataset.train_samples or 0) + (dataset.test_samples or 0)
        return 3 * images * dataset.image_size**2
    if data is None or not contents.examples:
        return None
    before = after = 0.0
    for name in contents.examples:
        try:
            size = (data / name).stat().st_size
            after += _stored_bytes(data / name, size, encoding)
        except OSError:  # left out and reported when it is read
            continue
        before += size
    return round(contents.bytes * after / before) if before else None


def _stored_bytes(path: Path, size: int, encoding: Encoding) -> float:
    """What one image will take, by its header.

    Raises:
        OSError: it is no image.
    """
    from PIL import Image  # planning other datasets needs no images

    with Image.open(path) as image:
        jpeg = image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L")
        width, height = image.size
    if encoding.write_mode == "original" and jpeg:
        return MARKED * size
    shrunk = min(1.0, encoding.max_resolution / max(width, height)) if encoding.max_resolution else 1.0
    pixels = width * height * shrunk**2
    share = {"jpg": 1.0, "proportion": encoding.jpeg_share}.get(encoding.write_mode, 0.0)
    per_pixel = float(np.interp(encoding.jpeg_quality, list(JPEG_BYTES), list(JPEG_BYTES.values())))
    return share * (JPEG_HEADER + pixels * per_pixel) + (1 - share) * 3 * pixels
