"""The digits as betons, built once for all tests of a worker."""

from pathlib import Path

import pytest

from loaders.betons import Beton, ensure_beton
from loaders.datasets import DATASETS


@pytest.fixture(scope="session")
def betons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("betons")


@pytest.fixture(scope="session")
def train_digits(betons: Path) -> Beton:
    return ensure_beton(DATASETS["digits"], "train", betons=betons)


@pytest.fixture(scope="session")
def digits_to_test(betons: Path) -> Beton:
    return ensure_beton(DATASETS["digits"], "test", betons=betons)
