"""`python -m loaders.build`, as somebody types it."""

from pathlib import Path

import pytest

from loaders.betons import is_built
from loaders.build import main
from tests.picture_folders import make_folder


def test_a_build_says_what_it_made_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, betons = make_folder(tmp_path / "pictures"), tmp_path / "betons"
    (data / "train/cat/000.png").write_bytes(b"")
    words = ["dataset=folder", f"data={data}", f"betons={betons}", "write_mode=jpg", "max_resolution=100"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "folder train: 11 images of 2 classes" in said
    assert "(jpg-100-q90)" in said
    assert f"left out: {data / 'train/cat/000.png'}: empty" in said
    assert len([path for path in betons.rglob("*.beton") if is_built(path)]) == 2
    assert main([*words, "verify=true"]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "dataset= is missing"),
        (["dataset=digit"], "did you mean 'digits'"),
        (["dataset=digits", "worker=2"], "did you mean 'workers'"),
        (["dataset=digits", "workers=0"], "workers=0"),
        (["dataset=digits", "write_mode=jpg"], "digits is stored raw"),
        (["dataset=digits", "jpeg_quality=101"], "jpeg_quality=101"),
        (["dataset=imagenet"], "imagenet needs data="),
        (["dataset=folder", "data=/nowhere"], "data=/nowhere is not a directory"),
        (["dataset=cifar10"], "cifar10 needs data="),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"betons={tmp_path}"]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


def test_a_damaged_beton_is_found_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=digits", f"betons={tmp_path}"]
    assert main(words) == 0
    next(tmp_path.rglob("test.beton")).write_bytes(b"foreign")
    assert main([*words, "verify=true"]) == 2
    assert "test.beton is damaged" in capsys.readouterr().err
