import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

from loaders.betons import Beton, ensure_beton
from loaders.datasets import DATASETS, find
from loaders.layout import FIELD, HEADER, SAMPLE, BetonWriter, read_index

DIGITS = DATASETS["digits"]


@pytest.fixture
def copied(train_digits: Beton, betons: Path, tmp_path: Path) -> Path:
    """A beton that a test may damage."""
    shutil.copytree(betons, tmp_path / "betons")
    return tmp_path / "betons" / train_digits.path.relative_to(betons)


@pytest.mark.usefixtures("ffcv")
def test_the_file_format_is_that_of_ffcv(train_digits: Beton) -> None:
    from ffcv.fields import IntField, RGBImageField
    from ffcv.reader import Reader
    from ffcv.types import FieldDescType, HeaderType, get_metadata_type

    assert HeaderType == HEADER
    assert FieldDescType == FIELD
    assert get_metadata_type([RGBImageField(), IntField()]) == SAMPLE
    reader = Reader(str(train_digits.path))
    assert reader.field_names == ["image", "label"]
    assert reader.num_samples == DIGITS.train_samples


@pytest.mark.usefixtures("ffcv")
def test_stock_ffcv_reads_our_betons(digits_to_test: Beton) -> None:
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader

    pipelines = {"image": [SimpleRGBImageDecoder()], "label": [IntDecoder()]}
    loader = Loader(str(digits_to_test.path), batch_size=1497, num_workers=1, pipelines=pipelines)
    ((images, labels),) = loader
    index, file = read_index(digits_to_test.path), digits_to_test.path.read_bytes()
    assert labels[:, 0].tolist() == index.labels.tolist()
    for image, start in zip(images, index.starts, strict=True):
        assert image.tobytes() == file[start : start + image.nbytes]


def test_the_parts_of_the_digits_are_all_digits_once(train_digits: Beton, digits_to_test: Beton) -> None:
    from sklearn.datasets import load_digits

    def images(beton: Beton) -> list[bytes]:
        index, file = read_index(beton.path), beton.path.read_bytes()
        return [file[i : i + n] for i, n in zip(index.starts, index.sizes, strict=True)]

    stored = images(train_digits) + images(digits_to_test)
    grey = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    assert sorted(stored) == sorted(np.repeat(image, 3).tobytes() for image in grey)
    assert sum(train_digits.manifest.counts) == DIGITS.train_samples
    assert min(digits_to_test.manifest.counts) > 100


def test_the_manifest_says_what_is_in_the_file(train_digits: Beton) -> None:
    manifest = train_digits.manifest
    assert manifest.classes == tuple("0123456789")
    assert manifest.bytes == train_digits.path.stat().st_size
    labels = read_index(train_digits.path).labels
    assert manifest.counts == tuple(np.bincount(labels).tolist())


EDITS = {
    "schema": 1,
    "dataset": "cifar10",
    "version": 2,
    "encoding": "jpg-q90",
    "classes": list("1023456789"),
    "converted": {"L": 3},
    "rejected": ["x.png: empty"],
    "seal": "",
}


@pytest.mark.parametrize("field", EDITS)
def test_an_edit_of_the_manifest_is_noticed(copied: Path, field: str) -> None:
    path = copied.with_suffix(".json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {field: EDITS[field]}))
    with pytest.raises(ValueError, match=r"train\.json was changed.*delete .*train\.json"):
        ensure_beton(DIGITS, "train", betons=copied.parent.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\x00", b'{"schema": 2}', b'{"schema": "2"}'])
def test_a_damaged_manifest_names_the_file_to_delete(copied: Path, content: bytes) -> None:
    copied.with_suffix(".json").write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.json is not the manifest of a beton: delete .*train\.json"):
        ensure_beton(DIGITS, "train", betons=copied.parent.parent)


def test_a_manifest_without_a_seal_of_an_older_release_stays_readable(copied: Path) -> None:
    """Schema 1, by Python's encoder: escapes for everything but ASCII, one space of indentation."""
    path = copied.with_suffix(".json")
    content = json.loads(path.read_text()) | {"schema": 1, "rejected": ["Zoë.png: empty"]}
    del content["seal"]
    path.write_text(json.dumps(content, indent=1))
    beton = ensure_beton(DIGITS, "train", betons=copied.parent.parent)
    assert beton.manifest.rejected == ("Zoë.png: empty",)


def test_two_builds_give_the_same_bytes(train_digits: Beton, tmp_path: Path) -> None:
    again = ensure_beton(DIGITS, "train", betons=tmp_path)
    assert again.path.read_bytes() == train_digits.path.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "image", "label", "manifest", "other part", "newer"])
def test_a_damaged_beton_is_refused_in_one_line_that_says_how_to_repair_it(copied: Path, damage: str) -> None:
    content, manifest = bytearray(copied.read_bytes()), copied.with_suffix(".json")
    if damage == "truncated":
        del content[-100:]
    elif damage == "image":
        content[read_index(copied).starts[3] + 1] ^= 1
    elif damage == "label":
        content[HEADER.itemsize + 2 * FIELD.itemsize + SAMPLE.itemsize - 8] ^= 1
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-20])
    elif damage == "other part":
        manifest.write_text(manifest.read_text().replace('"train"', '"test"'))
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 99}))
    copied.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.(beton|json).*delete .*train\.json") as error:
        ensure_beton(DIGITS, "train", betons=copied.parent.parent)
    assert "\n" not in str(error.value)
    manifest.unlink()
    ensure_beton(DIGITS, "train", betons=copied.parent.parent)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BetonWriter, "finish", full)
    with pytest.raises(OSError, match=r"No space left.*train\.beton"):
        ensure_beton(DIGITS, "train", betons=tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] in ([], ["train.lock"])


def test_what_a_killed_build_left_is_removed_and_built_again(tmp_path: Path) -> None:
    folder = ensure_beton(DIGITS, "train", betons=tmp_path).path.parent
    (folder / "train.json").unlink()  # killed between the two
    (folder / ".train.beton.x.tmp").write_bytes(b"half")
    ensure_beton(DIGITS, "train", betons=tmp_path)
    assert not list(folder.glob(".*"))


def _build(
    betons: Path, barrier: "multiprocessing.synchronize.Barrier", built: "multiprocessing.Queue[int]"
) -> None:
    reports: list[int] = []
    barrier.wait()
    ensure_beton(DIGITS, "train", betons=betons, report=lambda done, total: reports.append(done))
    built.put(len(reports))


def test_of_two_processes_that_miss_a_beton_one_builds_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, built = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build, args=(tmp_path, barrier, built)) for _ in range(2)]
    for process in processes:
        process.start()
    assert sorted(built.get(timeout=60) for _ in processes) == [0, DIGITS.train_samples]
    for process in processes:
        process.join()


def test_a_misspelt_dataset_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        find("digit")
