"""What networks are fed with: words that change images, and channel statistics."""

import numpy as np
import pytest
from PIL import Image

from harness import config, sweep
from harness.data import channel_statistics
from harness.plan import Run, expand
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from loaders.feeds import open_feed


def run_of(*words):
    return expand(*config.read([*words, "methods=none", "seeds=0"]).settings)[-1]


def test_words_about_images_are_part_of_a_run_and_the_usual_ones_are_not():
    usual = run_of()

    assert run_of("augmentation=pad-crop", "image_size=8", "statistics=dataset").id == usual.id
    assert not {"augmentation", "image_size", "statistics"} & usual.content()["recipe"].keys()
    others = [
        run_of("augmentation=none"),
        run_of("statistics=auto"),
        run_of("augmentation=resized-crop"),
        run_of("augmentation=resized-crop", "image_size=16"),
    ]
    assert len({usual.id, *(run.id for run in others)}) == 5
    for run in others:
        assert Run.from_content(run.content()) == run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["image_size=16"], "image_size=16: digits has images of 8 pixels (augmentation=resized-crop scales"),
        (["augmentation=crop"], "augmentation=crop: expected one of"),
        (
            ["dataset=cifar100", "arch=vit_b_32", "augmentation=none"],
            "augmentation=none: vit_b_32 learns from features of the images as they are",
        ),
    ],
)
def test_images_that_cannot_be_had_are_refused_in_one_line(words, message, tmp_path, capsys):
    assert sweep.main([*words, "methods=none", f"runs={tmp_path}", "plan=true"]) == 2
    assert message in capsys.readouterr().err


def test_statistics_are_those_of_the_pixels(betons):
    digits = DATASETS["digits"]
    feed = open_feed(
        ensure_beton(digits, "train", betons=betons), digits, train=False, batch_size=90, kind="stream"
    )

    mean, std = channel_statistics(feed)

    with feed.epoch(0, 0) as batches:
        pixels = np.concatenate([batch.images.numpy() for batch in batches]) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)))
    np.testing.assert_allclose(std, pixels.std((0, 1, 2)))
    np.testing.assert_allclose(mean, digits.mean, atol=0.003)


def test_a_folder_of_small_images_is_trained_on(bench, tmp_path):
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in "abcd":
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(8):
                image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / part / name / f"{number}.png")
    words = (
        "dataset=folder",
        f"data={tmp_path}",
        "image_size=8",
        "statistics=auto",
        "arch=resnet8",
        "epochs=1",
        "batch_size=8",
        "seeds=0",
        "methods=none",
    )

    (record,) = bench.run(*words).values()

    assert record.metrics["samples_all"] == 32
    assert record.run["recipe"]["image_size"] == 8
    assert record.run["recipe"]["statistics"] == "auto"
