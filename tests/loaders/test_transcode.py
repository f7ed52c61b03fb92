"""Restart markers in JPEGs: the coefficients stay, and what cannot be kept is refused."""

import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from loaders import jpeg
from loaders.encoding import keep_jpeg
from loaders.transcode import OtherCodingError, UnsupportedError, add_restart_markers
from tests.picture_folders import photograph

SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]


def saved(image: Image.Image, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG", **options)
    return data.getvalue()


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(photograph(height * width, height, width)).convert(mode)


def decoded(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def cuttable(content: bytes) -> bool:
    blob = np.frombuffer(content, np.uint8)
    return jpeg.cut(blob, 0, 1, 0, 1, 1, np.empty(len(blob) + jpeg.HEADROOM, np.uint8))[0] > 0


@pytest.fixture(scope="session")
def coefficients(cannot: Callable[[str], None]) -> Callable[[bytes], bytes]:
    """All coefficients of a JPEG, as jpegtran writes them."""
    tool = shutil.which("jpegtran")
    if tool is None:
        cannot("jpegtran is not installed (Debian: libjpeg-turbo-progs)")

    def written(content: bytes) -> bytes:
        command = [str(tool), "-optimize", "-copy", "none"]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout

    return written


@given(st.data())
@settings(max_examples=60)
def test_no_pixel_changes(data: st.DataObject) -> None:
    image = picture(
        data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70)), data.draw(st.sampled_from(["RGB", "L"]))
    )
    options = {
        "quality": data.draw(st.sampled_from([1, 30, 75, 95, 100])),
        "optimize": data.draw(st.booleans()),
        "restart_marker_blocks": data.draw(st.sampled_from([0, 1, 2, 7])),
    }
    if image.mode == "RGB":
        options["subsampling"] = data.draw(st.sampled_from(SAMPLINGS))
    content = saved(image, **options)
    marked = add_restart_markers(content)
    np.testing.assert_array_equal(decoded(marked), decoded(content))
    assert cuttable(marked)


@pytest.mark.parametrize("sampling", [*SAMPLINGS, None])
@pytest.mark.parametrize("quality", [20, 96])
def test_every_coefficient_is_the_one_that_jpegtran_reads(
    coefficients: Callable[[bytes], bytes], sampling: str | None, quality: int
) -> None:
    if sampling is None:
        content = saved(picture(203, 310, "L"), quality=quality)
    else:
        content = saved(picture(203, 310), quality=quality, subsampling=sampling)
    assert coefficients(add_restart_markers(content)) == coefficients(content)


def test_real_photographs_keep_their_coefficients_and_grow_by_less_than_eight_per_cent(
    coefficients: Callable[[bytes], bytes], imagenet_photographs: list[Path]
) -> None:
    before = after = 0
    for path in imagenet_photographs[::4]:
        content = path.read_bytes()
        marked = add_restart_markers(content)
        assert coefficients(marked) == coefficients(content)
        before, after = before + len(content), after + len(marked)
    assert after < 1.08 * before


def test_the_tables_are_as_good_as_jpegtrans(coefficients: Callable[[bytes], bytes]) -> None:
    content = saved(picture(203, 310), quality=90)
    command = ["jpegtran", "-optimize", "-restart", "1B", "-copy", "none"]
    theirs = subprocess.run(command, input=content, capture_output=True, check=True).stdout
    assert len(add_restart_markers(content)) <= len(theirs)


def test_it_is_done_only_once() -> None:
    marked = add_restart_markers(saved(picture(60, 90), quality=80))
    assert add_restart_markers(marked) == marked


def test_codes_have_at_most_sixteen_bits() -> None:
    """Where one symbol is very frequent, the rarest of many would get longer ones."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    flat = np.full((1024, 1024, 3), 99, np.uint8)
    flat[:64, :64] = noise
    content = saved(Image.fromarray(flat), quality=100, subsampling="4:4:4")
    np.testing.assert_array_equal(decoded(add_restart_markers(content)), decoded(content))


def test_metadata_goes_and_what_decides_about_colour_stays() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation, which torchvision's ImageFolder ignores
    with_metadata = saved(picture(40, 50), exif=exif, comment=b"x" * 999, icc_profile=b"y" * 999)
    marked = add_restart_markers(with_metadata)
    assert len(marked) < len(with_metadata) - 1900
    np.testing.assert_array_equal(decoded(marked), decoded(with_metadata))
    as_rgb = saved(picture(40, 50), keep_rgb=True)
    np.testing.assert_array_equal(decoded(add_restart_markers(as_rgb)), decoded(as_rgb))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(picture(40, 50), progressive=True), "progressive"),
        (saved(picture(40, 50, "CMYK")), "4 components"),
        (saved(picture(40, 50))[:500], "damaged"),
        (saved(picture(40, 50))[:-2], "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"", "damaged"),
        (b"BM not a JPEG", "damaged"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason) as error:
        add_restart_markers(content)
    assert isinstance(error.value, OtherCodingError) == (reason == "progressive")


@given(st.data())
@settings(max_examples=200)
def test_a_damaged_jpeg_is_not_kept_or_has_the_pixels_that_pillow_sees(data: st.DataObject) -> None:
    content = bytearray(saved(picture(48, 64), quality=90))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(2, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        kept = keep_jpeg(bytes(content))
    except UnsupportedError:
        return
    np.testing.assert_array_equal(decoded(kept.data), decoded(bytes(content)))
