"""From image files to betons: what is read, converted, reported and refused."""

import hashlib
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, features

from loaders.batches import Batch
from loaders.betons import Beton, ensure_beton
from loaders.datasets import DATASETS, Encoding, fingerprint, look_into
from loaders.encoding import encode_all
from loaders.feeds import Kind, open_feed
from loaders.glyphs import CHARACTERS, GlyphSource
from loaders.images import UnreadableError, read_image
from loaders.jpeg import decode_whole
from loaders.layout import JPEG, read_index
from loaders.layout import RAW as RAW_MODE
from loaders.sources import open_source
from loaders.stream import PrefetchReader, Reader
from tests.picture_folders import make_folder, photograph

FOLDER = DATASETS["folder"]
RAW = Encoding(write_mode="raw")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "pictures")


@pytest.fixture(scope="module")
def shared_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("pictures"), train=20)


def test_a_folder_is_numbered_as_image_folder_numbers_it(pictures: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    theirs = ImageFolder(pictures / "train")
    beton = ensure_beton(FOLDER, "train", data=pictures, betons=tmp_path, encoding=RAW)
    index, file = read_index(beton.path), np.memmap(beton.path, np.uint8, mode="r")
    assert beton.manifest.classes == tuple(theirs.classes) == ("cat", "dog")
    assert index.labels.tolist() == theirs.targets
    assert look_into(FOLDER, pictures).classes == 2
    for sample, (image, _) in enumerate(theirs):
        stored = file[index.starts[sample] :][: index.sizes[sample]]
        height, width = index.heights[sample], index.widths[sample]
        np.testing.assert_array_equal(stored.reshape(height, width, 3), np.asarray(image))


def test_resolution_is_bounded_and_a_share_is_stored_as_jpeg(pictures: Path, tmp_path: Path) -> None:
    encoding = Encoding(write_mode="proportion", max_resolution=100, jpeg_share=0.5)
    beton = ensure_beton(FOLDER, "train", data=pictures, betons=tmp_path, encoding=encoding)
    index = read_index(beton.path)
    assert index.heights.max() <= index.widths.max() == 100
    assert (33, 100) in set(zip(index.heights.tolist(), index.widths.tolist(), strict=True))
    assert 0 < (index.modes == JPEG).sum() < len(index)
    assert beton.manifest.encoding == "proportion-100-0.5-q90"


def test_another_encoding_or_another_file_is_other_data(pictures: Path) -> None:
    before = fingerprint(FOLDER, pictures)
    assert before == fingerprint(FOLDER, pictures)
    assert before != fingerprint(FOLDER, pictures, RAW)
    shutil.copy(pictures / "train/cat/000.png", pictures / "train/cat/new.png")
    assert before != fingerprint(FOLDER, pictures)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "LA", "1"])
def test_images_of_other_modes_become_rgb_and_are_counted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    Image.fromarray(photograph(0, 20, 30)).convert(mode).save(path)
    image = read_image(path)
    assert image.converted == mode
    np.testing.assert_array_equal(image.pixels, np.asarray(Image.open(path).convert("RGB")))


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    grey = (np.arange(600, dtype=np.uint16) * 109).reshape(20, 30)
    Image.fromarray(grey).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image.pixels[..., 1], grey >> 8)
    assert image.converted.startswith("I")


def test_a_png_named_jpeg_is_read_and_counted(tmp_path: Path) -> None:
    Image.fromarray(photograph(0, 20, 30)).save(tmp_path / "x.jpeg", format="PNG")
    assert read_image(tmp_path / "x.jpeg").converted == "PNG named .jpeg"


@pytest.mark.parametrize("damage", ["empty", "torn", "text"])
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(photograph(0, 60, 80)).save(path)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "torn": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(UnreadableError, match=rf"x\.jpg: {'empty' if damage == 'empty' else '.'}"):
        read_image(path)


@pytest.mark.parametrize("error", [RuntimeError("Failed to decode image"), MemoryError(), KeyError("x")])
def test_an_error_of_any_decoder_leaves_the_image_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Pillow raises RuntimeError for a damaged AVIF file and MemoryError for a damaged JPEG 2000 file."""

    def fail(*_: object) -> None:
        raise error

    Image.fromarray(photograph(0, 20, 30)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(UnreadableError, match=r"x\.png: (Failed to decode image|MemoryError|'x')"):
        read_image(tmp_path / "x.png")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_file_named_jpg_is_left_out(tmp_path: Path) -> None:
    """After Pillow's issue 6252: a download site served AVIF under the name of a JPEG."""
    Image.fromarray(photograph(0, 60, 80)).save(tmp_path / "x.jpg", format="AVIF")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableError, match=r"x\.jpg: ."):
        read_image(tmp_path / "x.jpg")


def test_names_that_are_not_utf8_are_read_and_shown_with_escapes(pictures: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        folder = pictures / part / os.fsdecode(b"caf\xe9")
        (pictures / part / "cat").rename(folder)
        next(folder.iterdir()).rename(folder / os.fsdecode(b"\xff.png"))
    (pictures / "train" / os.fsdecode(b"caf\xe9/\xff.png")).write_bytes(b"")
    beton = ensure_beton(FOLDER, "train", data=pictures, betons=tmp_path / "betons")
    assert beton.manifest.classes == ("caf\\xe9", "dog")
    (rejected,) = beton.manifest.rejected
    assert rejected.endswith("train/caf\\xe9/\\xff.png: empty")
    assert sum(ensure_beton(FOLDER, "test", data=pictures, betons=tmp_path / "betons").manifest.counts) == 5


def test_one_unreadable_image_is_left_out_and_reported(pictures: Path, tmp_path: Path) -> None:
    (pictures / "train/cat/004.png").write_bytes(b"")
    beton = ensure_beton(FOLDER, "train", data=pictures, betons=tmp_path)
    assert len(beton.manifest.rejected) == 1
    assert beton.manifest.rejected[0].endswith("train/cat/004.png: empty")
    assert beton.manifest.counts == (5, 6)
    assert len(read_index(beton.path)) == 11


def test_a_folder_with_many_unreadable_images_is_refused(pictures: Path, tmp_path: Path) -> None:
    for name in ("000", "004"):
        (pictures / f"train/cat/{name}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"more than 1 of 12 images cannot be read.*000\.png: empty"):
        ensure_beton(FOLDER, "train", data=pictures, betons=tmp_path / "betons")
    assert not list((tmp_path / "betons").rglob("*.beton"))


def test_several_processes_encode_as_one_does(shared_pictures: Path) -> None:
    source = open_source(FOLDER, "train", shared_pictures)
    encoding = Encoding(write_mode="proportion", max_resolution=100)
    alone = list(encode_all(source, encoding, workers=1))
    assert len(alone) == 20
    assert list(encode_all(source, encoding, workers=2, chunk=3)) == alone


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no data", "folder needs data=FOLDER"),
        ("no val", r"lacks the folder val/"),
        ("class missing", r"val lacks the class folder 'dog', which train/ has"),
        ("class too many", r"train lacks the class folder 'bird' and 1 more"),
        ("no images", r"train/cat has no images"),
        ("imagenet", r"has 2 class folders, imagenet 1000"),
    ],
)
def test_a_wrong_layout_is_one_line(pictures: Path, tmp_path: Path, damage: str, message: str) -> None:
    data, dataset = (None if damage == "no data" else pictures), FOLDER
    if damage == "no val":
        shutil.rmtree(pictures / "val")
    elif damage == "class missing":
        shutil.rmtree(pictures / "val/dog")
    elif damage == "class too many":
        (pictures / "val/bird").mkdir()
        (pictures / "val/cow").mkdir()
    elif damage == "no images":
        for path in (pictures / "train/cat").iterdir():
            path.unlink()
    elif damage == "imagenet":
        dataset = DATASETS["imagenet"]
    with pytest.raises(ValueError, match=message) as error:
        ensure_beton(dataset, "train", data=data, betons=tmp_path / "betons")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="closed"):
        ensure_beton(DATASETS["digits"], "train", betons=tmp_path / "closed")


def test_cifar_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cifar100 needs data=FOLDER with cifar-100-python\.tar\.gz"):
        open_source(DATASETS["cifar100"], "train", None)
    with pytest.raises(ValueError, match=r"has no intact cifar-10-python\.tar\.gz"):
        open_source(DATASETS["cifar10"], "train", tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"torn")  # and no try to load it from the network
    with pytest.raises(ValueError, match=r"has no intact cifar-10-python\.tar\.gz"):
        open_source(DATASETS["cifar10"], "train", tmp_path)


def test_cifar_is_read_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = [3, 99, 0, 1, 2, 50]
    batch = {"data": images.transpose(0, 3, 1, 2).reshape(6, -1), "fine_labels": labels}
    for name, content in (
        ("train", batch),
        ("meta", {"fine_label_names": [f"class {n}" for n in range(100)]}),
    ):
        (folder / name).write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="cifar100 has 50,000 train images, but 6 were found"):
        ensure_beton(DATASETS["cifar100"], "train", data=tmp_path, betons=tmp_path / "betons")
    small = replace(DATASETS["cifar100"], train_samples=6)
    beton = ensure_beton(small, "train", data=tmp_path, betons=tmp_path / "betons")
    feed = open_feed(beton, small, train=False, batch_size=10)
    with feed.epoch(0, 0) as batches:
        (got,) = batches
    np.testing.assert_array_equal(got.images.numpy(), images)
    assert got.targets.tolist() == labels
    assert beton.manifest.classes[99] == "class 99"


def test_glyphs100_has_the_shape_of_cifar100() -> None:
    parts = [open_source(DATASETS["glyphs100"], part, None) for part in ("train", "test")]  # type: ignore[arg-type]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[500] * 100, [100] * 100]
    assert len(set(CHARACTERS)) == 100
    assert parts[0].read(0).pixels.shape == (32, 32, 3)


def test_glyphs100_has_these_bytes_on_every_machine() -> None:
    digest = hashlib.sha256()
    for part in ("train", "test"):
        source = GlyphSource(1, part, 10_000)  # type: ignore[arg-type]
        for index in range(150):
            digest.update(source.read(index).pixels.tobytes())
    assert digest.hexdigest() == "d9f21cd0a0e21af6e0625a544f5a6bd552f54d6909b8c4acad81fa136680cd92"


def stored_pixels(beton: Beton) -> list[tuple[int, NDArray[np.uint8]]]:
    """Mode and pixels of each image of a beton."""
    index, file = read_index(beton.path), np.memmap(beton.path, np.uint8, mode="r")
    found = []
    for start, size, mode, *shape in zip(
        index.starts, index.sizes, index.modes, index.heights, index.widths, strict=True
    ):
        data = file[start : start + size]
        pixels = decode_whole(data.tobytes()) if mode == JPEG else np.array(data.reshape(*shape, 3))
        assert pixels.shape == (*shape, 3)
        found.append((int(mode), pixels))
    return found


@pytest.fixture
def every_kind(pictures: Path) -> Path:
    """A folder whose class `cat` has images of every kind, by name."""
    cats, image = pictures / "train/cat", Image.open(pictures / "train/cat/000.png")
    for path in cats.iterdir():
        path.unlink()
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(cats / "baseline.jpg", exif=turned)
    image.convert("L").save(cats / "grey.jpg")
    image.convert("CMYK").save(cats / "printed.jpg")
    image.save(cats / "progressive.jpg", progressive=True)
    image.save(cats / "real.png")
    image.save(cats / "really a jpeg.png", format="JPEG", keep_rgb=True)
    return pictures


def test_original_photographs_have_the_pixels_of_image_folder(every_kind: Path, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    beton = ensure_beton(FOLDER, "train", data=every_kind, betons=tmp_path / "betons")
    assert beton.manifest.encoding == "original"
    theirs = ImageFolder(every_kind / "train")
    for (_, ours), (image, _) in zip(stored_pixels(beton), theirs, strict=True):
        np.testing.assert_array_equal(ours, np.asarray(image))


@pytest.mark.parametrize("tool", [True, False])
def test_what_is_no_jpeg_of_a_usual_kind_is_stored_raw_and_counted(
    every_kind: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: bool
) -> None:
    if not tool:
        monkeypatch.setattr(shutil, "which", lambda *_: None)
    elif shutil.which("jpegtran") is None:
        pytest.skip("jpegtran is not installed")
    beton = ensure_beton(FOLDER, "train", data=every_kind, betons=tmp_path / "betons")
    modes = [mode for mode, _ in stored_pixels(beton)]
    progressive = JPEG if tool else RAW_MODE
    assert modes[:6] == [JPEG, JPEG, RAW_MODE, progressive, RAW_MODE, JPEG]
    counted = {"JPEG of 4 components, CMYK": 1}
    if not tool:
        counted["progressive JPEG (jpegtran would keep it)"] = 1
    assert beton.manifest.converted == counted


def test_a_torn_jpeg_is_left_out_of_original_photographs(every_kind: Path, tmp_path: Path) -> None:
    path = every_kind / "train/cat/baseline.jpg"
    path.write_bytes(path.read_bytes()[:900])
    beton = ensure_beton(FOLDER, "train", data=every_kind, betons=tmp_path / "betons")
    (rejected,) = beton.manifest.rejected
    assert "baseline.jpg: image file is truncated" in rejected


def test_one_large_image_needs_no_large_file(every_kind: Path, tmp_path: Path) -> None:
    before = ensure_beton(FOLDER, "train", data=every_kind, betons=tmp_path / "one").path.stat().st_size
    Image.fromarray(photograph(0, 1100, 1000)).save(every_kind / "train/dog/large.png")
    beton = ensure_beton(FOLDER, "train", data=every_kind, betons=tmp_path / "two")
    assert before < 6e6
    assert beton.path.stat().st_size < 18e6
    assert stored_pixels(beton)[-1][1].shape == (1100, 1000, 3)


@pytest.mark.parametrize("setting", ["max_resolution", "jpeg_quality", "jpeg_share"])
def test_original_photographs_take_no_setting_that_changes_them(setting: str) -> None:
    with pytest.raises(ValueError, match=rf"{setting}=1: original photographs are kept as they are"):
        FOLDER.encoding(**{setting: 1})
    assert FOLDER.encoding(**{setting: 1, "write_mode": "proportion"}).write_mode == "proportion"


@pytest.mark.usefixtures("ffcv")
def test_stock_ffcv_reads_original_photographs(every_kind: Path, tmp_path: Path) -> None:
    from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
    from ffcv.loader import Loader

    beton = ensure_beton(FOLDER, "train", data=every_kind, betons=tmp_path / "betons")
    pipelines = {"image": [CenterCropRGBImageDecoder((32, 32), ratio=1)], "label": [IntDecoder()]}
    loader = Loader(str(beton.path), batch_size=12, num_workers=1, pipelines=pipelines)
    ((images, _),) = loader
    for seen, (_, pixels) in zip(images, stored_pixels(beton), strict=True):
        height, width, _ = pixels.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        centre = Image.fromarray(pixels[top : top + side, left : left + side])
        wanted = np.asarray(centre.resize((32, 32), Image.Resampling.BOX))
        assert np.abs(seen.astype(float) - wanted).mean() < 4  # FFCV decodes with a fast DCT


def test_evaluation_sees_real_photographs_as_torchvision_does(
    imagenet_photographs: list[Path], tmp_path: Path
) -> None:
    """Torchvision crops the original files: no difference of more than 0.2 grey levels on average."""
    from torchvision.transforms import v2

    chosen = imagenet_photographs[::5]
    for part in ("train", "val"):
        (tmp_path / "data" / part / "all").mkdir(parents=True)
        for path in chosen[: None if part == "val" else 1]:
            (tmp_path / "data" / part / "all" / path.name).symlink_to(path)
    beton = ensure_beton(FOLDER, "test", data=tmp_path / "data", betons=tmp_path / "betons")
    steps = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    feed = open_feed(beton, FOLDER, train=False, batch_size=len(chosen))
    with feed.epoch(0, 0) as batches:
        (batch,) = batches
    for ours, path in zip(batch.images, chosen, strict=True):
        theirs = steps(Image.open(path).convert("RGB")).permute(1, 2, 0)
        assert (ours.float() - theirs.float()).abs().mean() < 0.7  # at reduced scale
    theirs = torch.stack([steps(Image.open(path).convert("RGB")) for path in chosen])
    assert (batch.images.permute(0, 3, 1, 2).float() - theirs.float()).abs().mean() < 0.2


@pytest.fixture(scope="module")
def photographs(shared_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Beton]:
    """The pictures as betons, half of them JPEGs."""
    betons = tmp_path_factory.mktemp("betons")
    encoding = Encoding(write_mode="proportion", max_resolution=130)
    return {
        part: ensure_beton(FOLDER, part, data=shared_pictures, betons=betons, encoding=encoding)  # type: ignore[arg-type]
        for part in ("train", "test")
    }


def all_batches(beton: Beton, kind: Kind, *, train: bool, workers: int | None = None) -> list[Batch]:
    feed = open_feed(beton, FOLDER, train=train, batch_size=9, kind=kind, workers=workers)
    with feed.epoch(5, 1) as batches:
        return list(batches)


def test_photographs_come_the_same_whatever_the_workers(photographs: dict[str, Beton]) -> None:
    one, many = (all_batches(photographs["train"], "stream", train=True, workers=n) for n in (1, None))
    assert [len(b.images) for b in one] == [9, 9, 2]
    assert one[0].images.shape == (9, 224, 224, 3)
    for a, b in zip(one, many, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.images, b.images)


@pytest.mark.parametrize("train", [True, False])
def test_photographs_come_the_same_without_ffcv(photographs: dict[str, Beton], train: bool) -> None:
    beton = photographs["train"]
    ffcv, own = (
        open_feed(beton, FOLDER, train=train, batch_size=9, kind="stream", reader=reader)
        for reader in (None, PrefetchReader)
    )
    with ffcv.epoch(5, 1) as one, own.epoch(5, 1) as other:
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.targets, b.targets)


def test_photographs_are_evaluated_as_torchvision_does(photographs: dict[str, Beton]) -> None:
    (ours,) = all_batches(photographs["test"], "stream", train=False)
    (theirs,) = all_batches(photographs["test"], "torch", train=False)
    assert ours.indices.tolist() == list(range(5))
    assert torch.equal(ours.targets, theirs.targets)
    assert (ours.images.float() - theirs.images.float()).abs().mean() < 1.5


def test_torchs_own_random_boxes_replay_too(photographs: dict[str, Beton]) -> None:
    one, many = (all_batches(photographs["train"], "torch", train=True, workers=n) for n in (1, 2))
    for a, b in zip(one, many, strict=True):
        assert torch.equal(a.images, b.images)


def test_photographs_of_many_sizes_do_not_stay_resident(photographs: dict[str, Beton]) -> None:
    with pytest.raises(ValueError, match="loader=resident: folder has images of many sizes"):
        open_feed(photographs["train"], FOLDER, train=True, batch_size=4, kind="resident")


@pytest.mark.parametrize("reader", [None, PrefetchReader])
def test_an_image_that_cannot_be_decoded_ends_the_epoch_with_its_number(
    photographs: dict[str, Beton], tmp_path: Path, reader: type[Reader] | None
) -> None:
    beton = photographs["train"]
    index, content = read_index(beton.path), bytearray(beton.path.read_bytes())
    bad = int(np.flatnonzero(index.modes == JPEG)[-1])
    content[index.starts[bad] + 700 : index.starts[bad] + index.sizes[bad]] = bytes(
        int(index.sizes[bad]) - 700
    )
    torn = tmp_path / "train.beton"
    torn.write_bytes(content)
    feed = open_feed(
        Beton(path=torn, manifest=beton.manifest),
        FOLDER,
        train=False,
        batch_size=9,
        kind="stream",
        reader=reader,
    )
    with (
        pytest.raises(ValueError, match=rf"train\.beton is damaged: image {bad} cannot be decoded"),
        feed.epoch(5, 1) as batches,
    ):
        list(batches)
