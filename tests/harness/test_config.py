"""What a person may ask for, and what comes of it."""

import json
import re

import pytest
from PIL import Image

from harness import config
from harness.plan import Run, expand
from loaders.selection import class_ranks
from methods import METHODS


def variants(*words):
    (setting,) = config.read(words).settings
    return setting.variants


def test_all_are_the_papers_eight_and_ablations_and_rivals_come_on_request():
    assert len(variants("methods=all")) == 8
    assert [v.method for v in variants("methods=all,ablations")] == list(METHODS)[:11]
    assert not {v.method for v in variants("methods=rivals")} & {v.method for v in variants("methods=all")}
    assert [v.method for v in variants("methods=mpt-nodistill,none")] == ["none", "mpt-nodistill"]


def test_dataset_and_architecture_bring_the_recipe_and_a_word_overrides_it():
    (setting,) = config.read(["dataset=digits", "lr=0.5", "epochs=7"]).settings

    assert (setting.recipe.lr, setting.recipe.epochs, setting.recipe.batch_size) == (0.5, 7, 50)
    assert setting.old_recipe == setting.recipe
    (setting,) = config.read(["schedule=cosine-step", "momentum=0.8"]).settings
    assert (setting.recipe.schedule, setting.recipe.momentum) == ("cosine-step", 0.8)


def test_old_and_new_architecture_may_differ():
    (setting,) = config.read(["arch=resnet50", "old_arch=resnet18"]).settings

    assert (setting.old_model.arch, setting.model.arch) == ("resnet18", "resnet50")


@pytest.mark.parametrize(("asked", "count"), [("0.5", 5), ("0.3", 3), ("7", 7), ("all", 10)])
def test_old_classes_are_a_fraction_or_a_count_or_all(asked, count):
    (setting,) = config.read([f"old_classes={asked}"]).settings

    assert setting.split.old_classes == count


def folder_of(root, names):
    for part in ("train", "val"):
        for number, name in enumerate(names):
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(root / part / name / "1.png")
    return ["dataset=folder", f"data={root}", f"runs={root / 'runs'}", "epochs=1", "batch_size=1"]


def split_of(*words):
    (setting,) = config.read(list(words)).settings
    return setting.split


def test_old_classes_by_name_come_first(tmp_path):
    words = folder_of(tmp_path, ["ant", "bee", "cat", "dog", "eel"])
    (tmp_path / "names.txt").write_text("dog\n\nbee\n")
    split = split_of(*words, "old_classes=bee,dog")

    assert (split.old_classes, split.class_order) == (2, (1, 3))
    assert class_ranks(5, split.class_order).tolist() == [2, 0, 3, 1, 4]
    assert split == split_of(*words, "old_classes=dog,bee")
    assert split == split_of(*words, f"old_classes={tmp_path / 'names.txt'}")


def test_a_run_with_classes_by_name_can_be_sent_to_another_process(tmp_path):
    run = run_of(*folder_of(tmp_path, ["ant", "bee", "cat"]), "old_classes=ant,cat")

    assert Run.from_content(json.loads(json.dumps(run.content()))) == run


def run_of(*words):
    return expand(config.read([*words, "methods=none", "seeds=0"]).settings[0])[-1]


def test_equal_splits_have_equal_ids_however_they_are_given(tmp_path):
    words = folder_of(tmp_path, ["ant", "bee", "cat", "dog", "eel"])
    (tmp_path / "all.txt").write_text("bee\ndog\nant\ncat\neel\n")
    (tmp_path / "sorted.txt").write_text("ant\nbee\ncat\n")

    named = run_of(*words, "old_classes=bee,dog")
    assert named.id == run_of(*words, "old_classes=2", f"class_order={tmp_path / 'all.txt'}").id
    by_index = run_of(*words, "old_classes=2")
    assert by_index.id == run_of(*words, "old_classes=bee,ant").id
    assert by_index.id == run_of(*words, "old_classes=2", f"class_order={tmp_path / 'sorted.txt'}").id
    assert by_index.id != named.id


def test_a_list_of_counts_is_still_a_table_each():
    assert [s.split.old_classes for s in config.read(["old_classes=3,0.5,all"]).settings] == [3, 5, 10]
    assert [s.split.class_order for s in config.read(["class_order=1,2"]).settings] == [1, 2]
    assert config.read(["class_order=none"]).settings[0].split.class_order is None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("old_classes=bee,dgo", "old_classes=bee,dgo: there is no class 'dgo' (did you mean 'dog'?)"),
        ("old_classes=bee,bee", "old_classes=bee,bee: bee is named twice"),
        ("old_classes=bee", "old_classes=1: must lie in 2..5 (or a fraction, or all)"),
        ("class_order=nowhere.txt", "class_order=nowhere.txt: there is no class 'nowhere.txt'"),
    ],
)
def test_a_wrong_class_name_is_one_line(tmp_path, asked, message):
    words = folder_of(tmp_path, ["ant", "bee", "cat", "dog", "eel"])

    with pytest.raises(ValueError, match=re.escape(message)):
        config.read([*words, asked])
    with pytest.raises(ValueError, match="class_order=1: old_classes=bee,dog says which come first"):
        config.read([*words, "old_classes=bee,dog", "class_order=1"])


def test_all_classes_may_have_any_order():
    split = split_of("old_classes=all", "classes=4", "class_order=3")

    assert (split.old_classes, split.class_order) == (4, 3)


def test_values_that_mean_the_same_make_one_table():
    assert len(config.read(["lr=0.1,0.10,0.2"]).settings) == 2


def test_torchvisions_loader_has_crops_of_its_own_and_so_runs_of_its_own():
    ours, theirs = (config.read([f"loader={loader}"]).settings[0] for loader in ("stream", "torch"))
    assert ours.recipe.draws == "counter"
    assert theirs.recipe.draws == theirs.old_recipe.draws == "torchvision"
    with pytest.raises(ValueError, match="loader=resident: imagenet has images of many sizes"):
        config.read(["dataset=imagenet", "loader=resident"])


def test_precision_auto_is_bf16_where_jobs_get_a_gpu(monkeypatch):
    assert config.read([]).settings[0].precision == "fp32"
    monkeypatch.setattr(config, "has_gpus", lambda cluster: True)
    assert config.read([]).settings[0].precision == "bf16"
    assert config.read(["device=cpu"]).settings[0].precision == "fp32"
    assert [setting.precision for setting in config.read(["precision=fp32,fp16"]).settings] == [
        "fp32",
        "fp16",
    ]


def test_an_encoding_that_a_dataset_cannot_have_is_refused():
    with pytest.raises(ValueError, match="write_mode=jpg: digits is stored raw"):
        config.read(["dataset=digits", "write_mode=jpg"])
    with pytest.raises(ValueError, match="jpeg_quality=0: must lie in"):
        config.read(["dataset=imagenet", "jpeg_quality=0"])


def test_a_list_of_a_single_setting_makes_a_table_each():
    settings = config.read(["lr=0.1,0.2", "seeds=0,1"]).settings

    assert [(s.recipe.lr, s.seeds) for s in settings] == [(0.1, (0, 1)), (0.2, (0, 1))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["metods=none"], "unknown setting 'metods' (did you mean 'methods'?)"),
        (
            ["schedule=steps"],
            "schedule=steps: expected one of cosine, cosine-step, step (did you mean 'step'?)",
        ),
        (["momentum=1"], "momentum=1.0: must be a finite number in [0, 1)"),
        (["methods=mpt"], "unknown method 'mpt' (did you mean 'mpt-lm'?)"),
        (["methods=none,none"], "methods: none is given twice"),
        (["data=pictures"], "data=pictures: dataset=digits brings its own images (yours: dataset=folder)"),
        (["dataset=digit"], "unknown dataset 'digit' (did you mean 'digits'?)"),
        (["arch=resnet19"], "unknown architecture 'resnet19' (did you mean 'resnet18'?)"),
        (["stem=imagenet"], "stem=imagenet: resnet8 has cifar"),
        (["lr=-1"], "lr=-1.0: must be a finite number above 0"),
        (["lr=nan"], "lr=nan: must be a finite number above 0"),
        (["epochs=0"], "epochs=0: must be a finite number above 0"),
        (["seeds=-1"], "seeds=-1: must be 0 or more"),
        (["seeds=1,1"], "seeds: 1 is given twice"),
        (["old_classes=11"], "old_classes=11: must lie in 2..10 (or a fraction, or all)"),
        (["old_classes=1"], "old_classes=1: must lie in 2..10 (or a fraction, or all)"),
        (["old_classes=2.5"], "old_classes=2.5: a count of classes must be a whole number"),
        (["old_data=0"], "old_data=0.0: must lie in (0, 1]"),
        (["old_classes=inf"], "old_classes=inf: expected a fraction of the classes or a count"),
        (["class_order=-1"], "class_order=-1: must be 0 or more"),
        (["cohort=1,4"], "cohort=1,4: takes one value for the whole sweep"),
        (["batch_size=200"], "batch_size=200: the old model is trained on about 150 images"),
        (["cohort=many"], "cohort=many: expected auto or a whole number above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(words, message):
    with pytest.raises(ValueError, match=r".") as error:
        config.read(words)

    assert str(error.value) == message


def test_an_embedding_of_width_0_is_none():
    (usual,) = config.read(["dataset=imagenet", "methods=none"]).settings
    (without,) = config.read(["dataset=imagenet", "methods=none", "embedding=0"]).settings

    assert (usual.model.embedding, without.model.embedding) == (128, None)
