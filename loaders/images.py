"""Image files of any format and mode, read as RGB pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.text import displayed


@dataclass(frozen=True, kw_only=True)
class RgbImage:
    """Pixels uint8 [H, W, 3], and what had to be converted to get them, if anything."""

    pixels: NDArray[np.uint8]
    converted: str = ""


class UnreadableError(Exception):
    """An image that cannot be read; the message names the file and the reason."""


def read_image(path: Path) -> RgbImage:
    """Read an image file.

    Raises:
        UnreadableError: empty, truncated, or not an image.
    """
    try:
        with Image.open(path) as image:
            expected = Image.registered_extensions().get(path.suffix.lower())
            named = "" if image.format in (expected, "MPO") else f"{image.format} named {path.suffix}"
            mode = image.mode
            if mode.startswith("I"):  # 16 bits, which Pillow would clip instead of scaling
                grey = np.asarray(image).astype(np.int64) >> 8
                pixels = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
            else:
                pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise errors of any class
        empty = path.is_file() and path.stat().st_size == 0
        reason = "empty" if empty else str(error) or type(error).__name__
        raise UnreadableError(f"{displayed(path)}: {reason}") from error
    converted = ", ".join(filter(None, (named, "" if mode == "RGB" else mode)))
    return RgbImage(pixels=pixels, converted=converted)
