"""What one word stands for, and that one's own words win."""

import pytest

from harness import config
from harness.experiments import EXPERIMENTS
from harness.plan import expand
from tests.picture_folders import make_folder


def settings(*words):
    return config.read(words).settings


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_planned_on_every_dataset_of_it(name, tmp_path):
    for dataset in EXPERIMENTS[name].datasets:
        own = [f"data={make_folder(tmp_path)}", "old_classes=all"] if dataset == "folder" else []
        for setting in settings(f"experiment={name}", f"dataset={dataset}", *own):
            assert setting.dataset == dataset
            assert expand(setting)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_how_many_seeds_it_has(name):
    assert "seeds" in EXPERIMENTS[name].words
    if EXPERIMENTS[name].figure != "figure3":  # embeddings of one model each
        (setting, *_) = settings(f"experiment={name}")
        assert len(setting.seeds) == 5


def test_table_1_is_resnet18_to_resnet18_with_all_methods():
    (setting,) = settings("experiment=table1")

    assert (setting.dataset, setting.old_model.arch, setting.model.arch) == (
        "cifar100",
        "resnet18",
        "resnet18",
    )
    assert setting.model.stem == "imagenet"
    assert len(setting.variants) == 8
    assert (setting.recipe.epochs, setting.recipe.batch_size, setting.recipe.lr) == (100, 128, 0.1)


def test_table_1_on_imagenet_has_the_embedding_and_the_smaller_margin():
    (setting,) = settings("experiment=table1", "dataset=imagenet")

    assert setting.model.embedding == 128
    assert {dict(v.hyperparameters)["k"] for v in setting.variants if v.method.startswith("mpt")} == {1.5}
    assert (setting.recipe.epochs, setting.recipe.schedule, setting.recipe.weight_decay) == (90, "step", 1e-4)


def test_table_2_replaces_resnet18_by_resnet50():
    (setting,) = settings("experiment=table2")

    assert (setting.old_model.arch, setting.model.arch) == ("resnet18", "resnet50")


def test_figure_3_has_two_dimensions_and_on_glyphs_ten_classes():
    (setting,) = settings("experiment=figure3", "dataset=glyphs100")

    assert setting.model.embedding == setting.old_model.embedding == 2
    assert (setting.split.classes, setting.split.old_classes) == (10, 5)


def test_figure_4_sweeps_k_for_both_distances():
    (setting,) = settings("experiment=figure4")

    for method in ("mpt-kl", "mpt-lm"):
        ks = [dict(v.hyperparameters)["k"] for v in setting.variants if v.method == method]
        assert ks == sorted(set(ks))
        assert {0.0, 4.0} <= set(ks)


def test_ones_own_words_win():
    (setting,) = settings("experiment=table1", "methods=none", "epochs=3")

    assert [v.method for v in setting.variants] == ["none"]
    assert setting.recipe.epochs == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=table5"], "unknown experiment 'table5' (did you mean 'table4'?)"),
        (
            ["experiment=table4", "dataset=digits"],
            "experiment=table4 dataset=digits: must be cifar100 or glyphs100",
        ),
        (["classes=11"], "classes=11: digits has 10, and two are the fewest"),
    ],
)
def test_what_does_not_exist_is_refused(words, message):
    with pytest.raises(ValueError, match=r".") as error:
        config.read(words)

    assert str(error.value) == message
