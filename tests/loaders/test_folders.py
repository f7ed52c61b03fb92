"""Which files of a folder are read, and that its fingerprint covers them all."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loaders.betons import ensure_beton
from loaders.datasets import DATASETS, Encoding, beton_bytes, digests, fingerprint, look_into
from loaders.layout import read_index
from loaders.sources import open_source
from tests.picture_folders import make_folder, photograph

FOLDER = DATASETS["folder"]


def picture(path: Path, value: int) -> None:
    """A BMP file: its size says nothing about its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path, format="BMP")


def pictures(root: Path, classes: tuple[str, ...] = ("cat", "dog"), value: int = 0) -> Path:
    for part in ("train", "val"):
        for number, name in enumerate(classes):
            picture(root / part / name / "1.bmp", value + number)
            picture(root / part / name / "2.bmp", value + 100 + number)
    return root


def numbered(data: Path) -> tuple[list[int], list[int]]:
    """Labels and grey values of the training images, in order."""
    source = open_source(FOLDER, "train", data)
    return source.labels.tolist(), [int(source.read(i).pixels[0, 0, 0]) for i in range(len(source.labels))]


def test_linked_folders_and_files_are_read_as_image_folder_reads_them(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    data, elsewhere = pictures(tmp_path / "data"), pictures(tmp_path / "elsewhere", ("owl",), 50)
    for part in ("train", "val"):
        (data / part / "bird").symlink_to(elsewhere / "train/owl")  # a class
        (data / part / "cat/more").symlink_to(elsewhere / "val/owl")  # a folder in a class
        (data / part / "dog/0.bmp").symlink_to(elsewhere / "val/owl/2.bmp")  # a file
        picture(data / part / "cat/a/9.BMP", 9)
    theirs = ImageFolder(data / "train")
    values = [int(np.asarray(image)[0, 0, 0]) for image, _ in theirs]
    assert numbered(data) == (theirs.targets, values)
    assert theirs.targets == [0] * 2 + [1] * 5 + [2] * 3
    assert look_into(FOLDER, data).train_samples == 10


def test_data_sets_that_differ_in_what_is_linked_have_their_own_fingerprints(tmp_path: Path) -> None:
    found = set()
    for name, value in (("first", 10), ("second", 20), ("third", 30)):
        classes = pictures(tmp_path / f"{name} classes", ("owl",), value)
        data = pictures(tmp_path / name)
        for part in ("train", "val"):
            (data / part / "owl").symlink_to(classes / part / "owl")
        found.add(fingerprint(FOLDER, data))
    assert len(found) == 3


def test_a_copy_of_a_linked_data_set_is_the_same_data(tmp_path: Path) -> None:
    data, elsewhere = pictures(tmp_path / "data"), pictures(tmp_path / "elsewhere", ("owl",))
    for part in ("train", "val"):
        (data / part / "owl").symlink_to(elsewhere / part / "owl")
    shutil.copytree(data, tmp_path / "copy")
    assert fingerprint(FOLDER, data) == fingerprint(FOLDER, tmp_path / "copy")


def test_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    data = pictures(tmp_path)
    (data / "train/cat/again").symlink_to(data / "train")
    (data / "train/dog/self").symlink_to("self")
    assert numbered(data) == ([0, 0, 0, 0, 1, 1], [0, 100, 1, 101, 1, 101])


def edit_in_place(path: Path) -> None:
    picture(path, 77)


def edit_and_hide(path: Path) -> None:
    """Same size, same modification time: only the inode's change time tells."""
    before = path.stat()
    picture(path, 77)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_another(path: Path) -> None:
    before = path.stat()
    picture(path.with_suffix(".new"), 77)
    os.utime(path.with_suffix(".new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [edit_in_place, edit_and_hide, replace_by_another])
@pytest.mark.parametrize("file", ["train/cat/1.bmp", "val/dog/2.bmp"])
def test_other_content_under_the_same_name_and_size_is_other_data(
    tmp_path: Path, change: Callable[[Path], None], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "SETTLED_NS", 0)  # so that the digests of these young files are kept
    data, betons = pictures(tmp_path / "data"), tmp_path / "betons"
    before, size = fingerprint(FOLDER, data, betons=betons), (data / file).stat().st_size
    first = ensure_beton(FOLDER, "train", data=data, betons=betons)
    change(data / file)
    assert (data / file).stat().st_size == size
    after = fingerprint(FOLDER, data, betons=betons)
    assert after != before
    assert after == fingerprint(FOLDER, data)
    assert ensure_beton(FOLDER, "train", data=data, betons=betons).path != first.path


def test_a_young_file_is_read_again(tmp_path: Path) -> None:
    """A second change within one tick of the file system's clock leaves all times as they are."""
    data, betons = pictures(tmp_path / "data"), tmp_path / "betons"
    before = fingerprint(FOLDER, data, betons=betons)
    edit_and_hide(data / "train/cat/1.bmp")
    assert fingerprint(FOLDER, data, betons=betons) != before


def test_a_second_look_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_NS", 0)
    data, betons = pictures(tmp_path / "data"), tmp_path / "betons"
    before = fingerprint(FOLDER, data, betons=betons)
    read = []
    monkeypatch.setattr(digests.hashlib, "file_digest", lambda file, _: read.append(file.name))
    assert fingerprint(FOLDER, data, betons=betons) == before
    assert not read


@pytest.mark.parametrize("damage", [b"", b"foreign", None])
def test_damaged_digests_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    monkeypatch.setattr(digests, "SETTLED_NS", 0)
    data, betons = pictures(tmp_path / "data"), tmp_path / "betons"
    before = fingerprint(FOLDER, data, betons=betons)
    (kept,) = (betons / "digests").iterdir()
    content = kept.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    kept.write_bytes(bytes(flipped) if damage is None else damage)
    assert fingerprint(FOLDER, data, betons=betons) == before
    assert kept.read_bytes() == content


@pytest.mark.parametrize("others", [False, True], ids=["fresh", "with the betons of another data set"])
def test_a_class_without_images_is_one_error_whatever_is_built(tmp_path: Path, others: bool) -> None:
    betons = tmp_path / "betons"
    if others:
        ensure_beton(FOLDER, "train", data=pictures(tmp_path / "two"), betons=betons)
    data = pictures(tmp_path / "three")
    for part in ("train", "val"):
        (data / part / "bird").mkdir()
        (data / part / "bird/1.gif").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"train/bird has no images$"):
        ensure_beton(FOLDER, "train", data=data, betons=betons)
    with pytest.raises(ValueError, match=r"train/bird has no images$"):
        look_into(FOLDER, data)


def test_a_link_to_nowhere_is_reported_and_not_lost(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    (data / "train/cat/gone.bmp").symlink_to(tmp_path / "nothing.bmp")
    (rejected,) = ensure_beton(FOLDER, "train", data=data, betons=tmp_path / "betons").manifest.rejected
    assert "train/cat/gone.bmp" in rejected
    before = fingerprint(FOLDER, data)
    picture(tmp_path / "nothing.bmp", 5)
    assert fingerprint(FOLDER, data) != before


def test_images_that_change_while_they_are_built_are_refused(tmp_path: Path) -> None:
    data, betons = pictures(tmp_path / "data"), tmp_path / "betons"

    def meddle(done: int, total: int) -> None:
        if done == total:
            picture(data / "train/dog/1.bmp", 200)

    with pytest.raises(ValueError, match=r"the images in .*data are not, or no longer, those of folder-1-"):
        ensure_beton(FOLDER, "train", data=data, betons=betons, report=meddle)
    assert not list(betons.rglob("train.json"))


def test_betons_stand_for_a_folder_that_is_not_here(tmp_path: Path) -> None:
    data, betons = pictures(tmp_path / "data"), tmp_path / "betons"
    for part in ("train", "test"):
        ensure_beton(FOLDER, part, data=data, betons=betons)  # type: ignore[arg-type]
    assert look_into(FOLDER, None, betons).classes == 2
    assert fingerprint(FOLDER, betons=betons) == fingerprint(FOLDER, data)
    other = pictures(tmp_path / "other", value=9)
    for part in ("train", "test"):
        ensure_beton(FOLDER, part, data=other, betons=betons)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"folder needs data=FOLDER: .* holds several data sets"):
        look_into(FOLDER, None, betons)


def test_the_wrong_number_of_images_is_refused_before_one_is_read(tmp_path: Path) -> None:
    data = pictures(tmp_path)
    picture(data / "train/cat/1.bmp", 0)
    small = replace(FOLDER, name="imagenet", classes=2, train_samples=4, test_samples=5)
    with pytest.raises(ValueError, match=r"imagenet has 5 test images, but 4 were found in .*val \("):
        look_into(small, data)
    assert look_into(replace(small, test_samples=4), data).train_samples == 4


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(write_mode="original"),
        Encoding(),
        Encoding(write_mode="jpg", max_resolution=100),
        Encoding(write_mode="proportion", max_resolution=60, jpeg_share=0.5),
    ],
)
def test_disk_space_is_known_before_anything_is_built(tmp_path: Path, encoding: Encoding) -> None:
    data = make_folder(tmp_path / "data", train=24)
    for number in range(20):
        image = Image.fromarray(photograph(number, 280, 350))
        image.save(data / f"train/cat/{number}.jpg", quality=85)
    (data / "train/dog/torn.jpg").write_bytes(b"")
    guess = beton_bytes(FOLDER, data, encoding, look_into(FOLDER, data))
    assert guess is not None
    betons = [
        ensure_beton(FOLDER, part, data=data, betons=tmp_path / "betons", encoding=encoding)
        for part in ("train", "test")
    ]
    stored = sum(int(read_index(beton.path).sizes.sum()) for beton in betons)
    assert 0.7 * stored < guess < 1.4 * stored


def test_disk_space_of_fixed_images_follows_from_their_number() -> None:
    cifar = DATASETS["cifar10"]
    assert beton_bytes(cifar, None, cifar.encoding(), look_into(cifar, None)) == 60_000 * 3 * 32 * 32


def test_disk_space_of_images_that_are_elsewhere_is_not_known() -> None:
    imagenet = DATASETS["imagenet"]
    assert beton_bytes(imagenet, None, imagenet.encoding(), look_into(imagenet, None)) is None
