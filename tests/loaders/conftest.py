"""The digits as betons, built once for all tests of a worker, and real photographs where there are some."""

import os
import tarfile
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


@pytest.fixture(scope="session")
def imagenet_photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEG files from ImageNet, of the tar file that IMAGENET_PHOTOS names or of one beside the checkout."""
    asked = os.environ.get("IMAGENET_PHOTOS")
    places = [folder / "shared/data/imagenet-photos.tar" for folder in Path(__file__).parents]
    archive = Path(asked) if asked else next(filter(Path.is_file, places), None)
    if archive is None:  # they may not be redistributed, so not all of CI has them
        pytest.skip("no photographs: IMAGENET_PHOTOS=FILE names a tar file of JPEG files from ImageNet")
    folder = tmp_path_factory.mktemp("photographs")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def ffcv() -> None:
    """Imported without its warnings."""
    pytest.importorskip("loaders.ffcv_patches", reason="FFCV is not installed")
