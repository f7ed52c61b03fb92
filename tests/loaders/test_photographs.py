"""Boxes out of photographs: the same pixels as torchvision's, whole JPEGs or parts."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from loaders import jpeg
from loaders.encoding import encode_jpeg, keep_jpeg, shrink
from loaders.kernels import U64
from loaders.layout import JPEG, RAW
from loaders.photographs import Crop, File, crop_photographs
from loaders.resize import Taps, fill_taps, flipped, random_box, resample
from tests.picture_folders import photograph

SIDE = 48
CENTRE = Crop(train=False, key=U64(0), epoch=U64(0), flip=False, resize=55, reduced=False)


def random_crop(key: int, epoch: int) -> Crop:
    return Crop(train=True, key=U64(key), epoch=U64(epoch), flip=True, resize=0, reduced=False)


def stored(images: list[NDArray[np.uint8]], *, as_jpeg: bool = False) -> File:
    """Images one after the other in memory, as in a beton."""
    blobs = [np.frombuffer(encode_jpeg(x, 90) if as_jpeg else x.tobytes(), np.uint8) for x in images]
    sizes = np.array([len(blob) for blob in blobs])
    shapes = np.array([image.shape[:2] for image in images])
    modes = np.full(len(images), JPEG if as_jpeg else RAW, np.uint8)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return File(np.concatenate(blobs), starts, sizes, modes, shapes[:, 0].copy(), shapes[:, 1].copy())


def resized_by_torchvision(
    image: NDArray[np.uint8], top: int, left: int, height: int, width: int
) -> NDArray[np.uint8]:
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)
    scaled = tv.resized_crop(tensor, top, left, height, width, [SIDE, SIDE], antialias=True)
    return scaled.permute(1, 2, 0).numpy()


def decoded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The pixels that are left of an image in its JPEG."""
    return np.array(Image.open(io.BytesIO(encode_jpeg(image, 90))))


def saved(image: NDArray[np.uint8], **options: object) -> NDArray[np.uint8]:
    """A JPEG by Pillow with any of its options."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", **options)  # type: ignore[arg-type]
    return np.frombuffer(data.getvalue(), np.uint8)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.abs(one.astype(np.int64) - other.astype(np.int64))


@pytest.fixture(scope="module")
def photographs() -> list[NDArray[np.uint8]]:
    return [photograph(n, *size) for n, size in enumerate([(375, 500), (500, 333), (97, 131), (30, 400)])]


@pytest.mark.parametrize("as_jpeg", [False, True])
def test_random_boxes_look_like_torchvisions(photographs: list[NDArray[np.uint8]], as_jpeg: bool) -> None:
    file = stored(photographs, as_jpeg=as_jpeg)
    samples = np.array([0, 1, 2, 3])
    out = np.empty((4, SIDE, SIDE, 3), np.uint8)
    mirrored = set()
    for epoch in range(8):
        key = U64(11), U64(epoch)
        crop_photographs(file, samples, random_crop(11, epoch), out)
        for sample, image in enumerate(photographs):
            seen = decoded(image) if as_jpeg else image
            box = random_box(*key, U64(sample), *image.shape[:2])
            wanted = resized_by_torchvision(seen, *box)
            mirrored.add(flipped(*key, U64(sample)))
            if flipped(*key, U64(sample)):
                wanted = wanted[:, ::-1]
            assert difference(out[sample], wanted).mean() < 0.5
            assert difference(out[sample], wanted).max() <= 2
    assert mirrored == {True, False}


@pytest.mark.parametrize("as_jpeg", [False, True])
def test_the_centre_looks_like_torchvisions(photographs: list[NDArray[np.uint8]], as_jpeg: bool) -> None:
    file = stored(photographs, as_jpeg=as_jpeg)
    out = np.empty((4, SIDE, SIDE, 3), np.uint8)
    crop_photographs(file, np.arange(4), CENTRE, out)
    for got, image in zip(out, photographs, strict=True):
        tensor = torch.from_numpy(decoded(image) if as_jpeg else image).permute(2, 0, 1)
        wanted = tv.center_crop(tv.resize(tensor, [55], antialias=True), [SIDE, SIDE])
        assert difference(got, wanted.permute(1, 2, 0).numpy()).mean() < 0.5


@given(st.data())
@settings(max_examples=60)
def test_any_box_of_any_image_is_scaled_as_torchvision_does(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    top, left = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
    size = data.draw(st.integers(1, 40))
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    most = 2 * (200 // size + 2)
    rows, columns = (
        Taps(np.empty(size, np.int64), np.empty(size, np.int64), np.empty((size, most), np.int32))
        for _ in range(2)
    )
    fill_taps(h, size, 0, False, rows)
    fill_taps(w, size, 0, False, columns)
    assert (rows.firsts + rows.counts <= h).all()
    assert all(weights[:n].sum() == 1 << 14 for weights, n in zip(rows.weights, rows.counts, strict=True))
    out = np.empty((size, size, 3), np.uint8)
    resample(image.reshape(-1), width, top, left, rows, columns, np.empty(3 * width + 64, np.int32), out)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    wanted = tv.resized_crop(tensor, top, left, h, w, [size, size], antialias=True).permute(1, 2, 0).numpy()
    assert difference(out, wanted).max() <= 2


def test_the_pixels_are_the_same_on_every_machine() -> None:
    """Whole numbers throughout: whatever makes the kernels faster must not change a byte."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    file = stored([pixels], as_jpeg=False)
    digest = hashlib.sha256()
    for size in (1, 7, 33, 100):
        out = np.empty((1, size, size, 3), np.uint8)
        for epoch in range(8):
            crop_photographs(file, np.arange(1), random_crop(5, epoch), out)
            digest.update(out.tobytes())
    assert digest.hexdigest()[:16] == "bccc6160e2e14780"


@given(st.integers(0, 2**64 - 1), st.integers(0, 1000), st.integers(1, 3000), st.integers(1, 3000))
def test_a_random_box_lies_within_the_image(key: int, epoch: int, height: int, width: int) -> None:
    top, left, h, w = random_box(U64(key), U64(epoch), U64(0), height, width)
    assert 0 <= top <= top + h <= height
    assert 0 <= left <= left + w <= width
    assert h > 0
    assert w > 0


def test_random_boxes_are_as_large_and_as_long_as_torchvisions() -> None:
    boxes = np.array([random_box(U64(1), U64(0), U64(i), 400, 400) for i in range(4000)])
    share, ratio = boxes[:, 2] * boxes[:, 3] / 160_000, boxes[:, 3] / boxes[:, 2]
    assert 0.075 < share.min() < 0.1
    assert abs(np.median(share[(ratio > 0.9) & (ratio < 1.1)]) - 0.54) < 0.05
    assert 0.74 < ratio.min() < ratio.max() < 1.35
    assert abs(np.median(np.log(ratio))) < 0.02


@pytest.mark.parametrize("train", [True, False])
def test_large_boxes_of_jpegs_are_decoded_at_reduced_scale(train: bool) -> None:
    """What is left of the box is at least twice as large as the target; smaller boxes stay as they are."""
    large, small = photograph(0, 400, 500), photograph(1, 90, 120)
    file, out = stored([large, small], as_jpeg=True), np.empty((2, 2, 24, 24, 3), np.uint8)
    for epoch in range(4):
        crop = Crop(train=train, key=U64(3), epoch=U64(epoch), flip=True, resize=28, reduced=True)
        for one, reduced in zip(out, (True, False), strict=True):
            crop_photographs(file, np.arange(2), crop._replace(reduced=reduced), one)
        boxes = [random_box(U64(3), U64(epoch), U64(n), *x.shape[:2]) for n, x in enumerate([large, small])]
        for number, (_, _, height, width) in enumerate(boxes):
            side = min(height, width) / 24 if train else min((large, small)[number].shape[:2]) / 28
            differs = difference(*out[:, number])
            assert (differs.any()) == (side >= 4)
            assert differs.mean() < 1.5


def test_reduced_scale_changes_real_photographs_by_less_than_a_grey_level(
    imagenet_photographs: list[Path],
) -> None:
    """On average by less than 0.7 for boxes that are decoded at reduced scale."""
    kept = [keep_jpeg(path.read_bytes()) for path in imagenet_photographs[::6]]
    blobs = [np.frombuffer(image.data, np.uint8) for image in kept]
    sizes = np.array([len(blob) for blob in blobs])
    heights, widths = np.array([image.height for image in kept]), np.array([image.width for image in kept])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    modes = np.full(len(kept), JPEG, np.uint8)
    file = File(np.concatenate(blobs), starts, sizes, modes, heights, widths)
    crop = Crop(train=True, key=U64(3), epoch=U64(0), flip=True, resize=0, reduced=True)
    out = np.empty((2, len(kept), 64, 64, 3), np.uint8)
    for one, reduced in zip(out, (True, False), strict=True):
        crop_photographs(file, np.arange(len(kept)), crop._replace(reduced=reduced), one)
    differences = difference(*out).mean(axis=(1, 2, 3))
    assert (differences > 0).sum() > 10
    assert differences[differences > 0].mean() < 0.7


SAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]


def assert_a_part_is_the_same(
    image: NDArray[np.uint8],
    sampling: str,
    top: int,
    bottom: int,
    left: int,
    right: int,
    reduction: int = 1,
) -> None:
    """Rows and columns count after the reduction."""
    height, width = image.shape[:2]
    options = {} if sampling == "grey" else {"subsampling": sampling}
    blob = saved(image, quality=95, restart_marker_blocks=1, **options)
    whole = jpeg.decode(blob, height, width, np.empty(3 * height * width, np.uint8), reduction)
    part = np.empty(len(blob) + jpeg.HEADROOM, np.uint8)
    box = (top, min(bottom * reduction, height) / reduction, left, min(right * reduction, width) / reduction)
    size, y, x, h, w = jpeg.cut(blob, *(int(edge * reduction) for edge in box), reduction, part)
    assert 0 < size <= len(blob)
    pixels = jpeg.decode(part[:size], h, w, np.empty(3 * h * w, np.uint8), reduction)
    y, x = y // reduction, x // reduction
    np.testing.assert_array_equal(
        pixels[top - y : bottom - y, left - x : right - x], whole[top:bottom, left:right]
    )


@given(st.data())
@settings(max_examples=150)
def test_a_part_of_a_jpeg_has_the_pixels_of_the_whole(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    sampling = data.draw(st.sampled_from(SAMPLINGS))
    assert_a_part_is_the_same(photograph(1, height, width), sampling, top, bottom, left, right)


@given(st.data())
@settings(max_examples=150)
def test_a_part_has_the_pixels_of_the_whole_at_reduced_scale_too(data: st.DataObject) -> None:
    reduction = data.draw(st.sampled_from([2, 4, 8]))
    height, width = (data.draw(st.integers(8 * reduction, 20 * reduction)) for _ in range(2))
    tall, wide = -(-height // reduction), -(-width // reduction)
    top, left = data.draw(st.integers(0, tall - 6)), data.draw(st.integers(0, wide - 6))
    bottom, right = data.draw(st.integers(top + 6, tall)), data.draw(st.integers(left + 6, wide))
    sampling = data.draw(st.sampled_from([*SAMPLINGS, "grey"]))
    image = photograph(1, height, width)
    image = image[..., 1] if sampling == "grey" else image
    assert_a_part_is_the_same(image, sampling, top, bottom, left, right, reduction)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("width", range(46, 54))
def test_a_part_of_the_last_few_columns_is_interpolated_as_in_the_whole(sampling: str, width: int) -> None:
    """libjpeg-turbo takes chroma of one or two columns as it is; found by Hypothesis."""
    image = np.random.default_rng(0).integers(0, 256, (20, width, 3), dtype=np.uint8)
    for left in range(width - 6, width):
        assert_a_part_is_the_same(image, sampling, 0, 20, left, width)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("edge", [15, 16, 17, 32])
def test_a_part_that_ends_at_an_mcu_has_its_neighbours_colour(sampling: str, edge: int) -> None:
    """Chroma is interpolated across MCUs, so those beside the box are decoded too."""
    image = np.random.default_rng(0).integers(0, 256, (80, 96, 3), dtype=np.uint8)
    assert_a_part_is_the_same(image, sampling, edge, 48, 0, 96)
    assert_a_part_is_the_same(image, sampling, 0, 80, edge, 48)
    assert_a_part_is_the_same(image, sampling, 0, 16 + edge, 0, 16 + edge)


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 4}, {"progressive": True}])
def test_a_jpeg_without_a_marker_at_every_mcu_is_not_cut(options: dict[str, object]) -> None:
    blob = saved(photograph(0, 60, 70), **options)
    assert jpeg.cut(blob, 10, 20, 10, 20, 1, np.empty(len(blob) + jpeg.HEADROOM, np.uint8))[0] == 0


def test_a_jpeg_that_cannot_be_cut_is_decoded_whole(photographs: list[NDArray[np.uint8]]) -> None:
    file = stored(photographs[:1], as_jpeg=True)
    plain = saved(photographs[0], quality=90, subsampling="4:2:0")
    other = file._replace(data=plain, sizes=np.array([len(plain)]))
    one, two = np.empty((1, SIDE, SIDE, 3), np.uint8), np.empty((1, SIDE, SIDE, 3), np.uint8)
    crop_photographs(file, np.array([0]), random_crop(1, 2), one)
    crop_photographs(other, np.array([0]), random_crop(1, 2), two)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("keep", [0.2, 0.7])
def test_a_damaged_jpeg_is_reported_by_its_number(photographs: list[NDArray[np.uint8]], keep: float) -> None:
    file = stored(photographs, as_jpeg=True)
    data = file.data.copy()
    data[int(file.starts[2] + keep * file.sizes[2]) : file.starts[2] + file.sizes[2]] = 0
    out = np.empty((4, SIDE, SIDE, 3), np.uint8)
    broken = file._replace(data=data)
    with pytest.raises(ValueError, match="image 2 cannot be decoded"):
        crop_photographs(broken, np.arange(4), CENTRE, out)


def test_a_jpeg_of_another_size_than_the_index_says_is_an_error(photographs: list[NDArray[np.uint8]]) -> None:
    file = stored(photographs[:1], as_jpeg=True)
    taller = file._replace(heights=file.heights + 40)
    with pytest.raises(ValueError, match="image 0 cannot be decoded"):
        crop_photographs(taller, np.arange(1), CENTRE, np.empty((1, SIDE, SIDE, 3), np.uint8))


def test_raw_images_and_jpegs_may_be_mixed(photographs: list[NDArray[np.uint8]]) -> None:
    raw, jpegs = stored(photographs), stored(photographs, as_jpeg=True)
    mixed = File(
        np.concatenate([raw.data, jpegs.data]),
        *(np.concatenate(pair) for pair in zip(raw[1:], jpegs[1:], strict=True)),
    )
    mixed.starts[4:] += len(raw.data)
    samples = np.array([5, 0, 2, 7, 1])
    out, alone = np.empty((5, SIDE, SIDE, 3), np.uint8), np.empty((1, SIDE, SIDE, 3), np.uint8)
    crop_photographs(mixed, samples, random_crop(1, 2), out)
    for sample, got in zip(samples, out, strict=True):
        crop_photographs(mixed, np.array([sample]), random_crop(1, 2), alone)
        np.testing.assert_array_equal(got, alone[0])


SHRINKING = [((90, 120), 45), ((90, 120), 30), ((97, 131), 100), ((211, 64), 63), ((300, 1), 7), ((5, 4), 4)]


@pytest.mark.parametrize(("shape", "most"), SHRINKING)
def test_images_are_shrunk_to_the_bytes_of_opencv(shape: tuple[int, int], most: int) -> None:
    """FFCV's writer uses OpenCV's INTER_AREA."""
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    got = shrink(image, most)
    assert most - 1 <= max(got.shape) <= most
    wanted = cv2.resize(image, (got.shape[1], got.shape[0]), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(got, wanted)


def test_jpegs_have_the_bytes_of_opencv_too() -> None:
    cv2 = pytest.importorskip("cv2")
    image = photograph(3, 97, 131)
    options = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    wanted = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
    assert encode_jpeg(image, 90) == wanted


def test_shrunk_images_have_the_same_bytes_on_every_machine() -> None:
    digest = hashlib.sha256()
    for shape, most in SHRINKING:
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        digest.update(shrink(image, most).tobytes())
    assert digest.hexdigest()[:16] == "44e4a246f978ca98"
