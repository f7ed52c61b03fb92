"""Small image folders made of scikit-learn's two photographs."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

SIZES = ((97, 131), (120, 80), (64, 64), (83, 250))  # height, width


@cache
def photograph(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """One of the two sample photographs, cut differently for each number; [height, width, 3]."""
    rng = np.random.default_rng(number)
    image = load_sample_images().images[number % 2]
    top, left = rng.integers(0, image.shape[0] // 3), rng.integers(0, image.shape[1] // 3)
    part = image[top : top + 280, left : left + 400]
    return np.array(Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR))


def make_folder(root: Path, *, train: int = 12, test: int = 5) -> Path:
    """`root` with train/ and val/, classes `cat` and `dog`, PNG files of several sizes."""
    for part, count in (("train", train), ("val", test)):
        for number in range(count):
            folder = root / part / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photograph(number, *SIZES[number % len(SIZES)])).save(folder / f"{number:03}.png")
    return root
