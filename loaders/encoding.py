"""From pixels to the bytes that a beton stores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.datasets import Encoding
from loaders.kernels import U64, sample_hash
from loaders.layout import JPEG, MAX_SIDE, RAW, StoredImage
from loaders.sources import Source, UnreadableError

LARGEST_IMAGE = 1 << 26  # bytes, where nothing bounds the resolution


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One sample: its image, or why there is none, and what had to be converted."""

    image: StoredImage | None
    problem: str = ""
    converted: str = ""


def encode(source: Source, encoding: Encoding, index: int) -> Encoded:
    """One image of a source as `encoding` wants it stored."""
    try:
        picture = source.read(index)
    except UnreadableError as error:
        return Encoded(image=None, problem=str(error))
    pixels = shrink(picture.pixels, encoding.max_resolution)
    height, width, channels = pixels.shape
    assert channels == 3
    as_jpeg = encoding.write_mode == "jpg" or (
        encoding.write_mode == "proportion"
        and sample_hash(U64(0), U64(0), U64(index), U64(0)) < encoding.jpeg_share * 2.0**64
    )
    data = encode_jpeg(pixels, encoding.jpeg_quality) if as_jpeg else pixels.tobytes()
    if max(height, width) > MAX_SIDE or len(data) > LARGEST_IMAGE:
        return Encoded(image=None, problem=f"sample {index}: {width}x{height} pixels; set max_resolution")
    stored = StoredImage(mode=JPEG if as_jpeg else RAW, height=height, width=width, data=data)
    return Encoded(image=stored, converted=picture.converted)


def shrink(pixels: NDArray[np.uint8], max_resolution: int) -> NDArray[np.uint8]:
    """The image with its longer side at most `max_resolution` pixels, as FFCV's writer makes it."""
    height, width, _ = pixels.shape
    ratio = max_resolution / max(height, width)
    if max_resolution == 0 or ratio >= 1:
        return pixels
    import cv2

    size = (max(1, int(ratio * width)), max(1, int(ratio * height)))
    shrunk: NDArray[np.uint8] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return shrunk


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG with a restart marker at every MCU: `loaders.jpeg` can decode parts of it."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    made, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert made
    return data.tobytes()


def largest_bytes(source: Source, encoding: Encoding) -> int:
    """A bound of the bytes of one stored image."""
    if encoding.max_resolution:
        return 4 * encoding.max_resolution**2
    return source.largest or LARGEST_IMAGE
