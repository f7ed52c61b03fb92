"""What a person may ask of methods' hyperparameters, and what comes of it."""

import pytest

from harness import config, hyperparameters


def variants(*words):
    (setting,) = config.read(words).settings
    return setting.variants


@pytest.mark.parametrize("words", [("k=4", "mpt-kl.k=2"), ("mpt-kl.k=2", "k=4")])
def test_a_methods_own_word_wins_over_the_one_for_all_wherever_it_stands(words):
    (made,) = variants("methods=mpt-kl", *words)
    assert dict(made.hyperparameters)["k"] == 2.0


def test_hyperparameters_are_written_out_and_only_changes_are_shown():
    (variant,) = variants("methods=mpt-kl", "mpt-kl.k=2", "mpt-kl.tau=5")

    assert dict(variant.hyperparameters)["k"] == 2.0
    assert dict(variant.hyperparameters)["lambda_"] == 1.0
    assert dict(variant.shown) == {"k": 2.0}


def test_a_list_of_values_makes_a_variant_each():
    made = variants("methods=mpt-kl", "mpt-kl.k=0,1", "mpt-kl.lambda=0.5,2")

    assert [(dict(v.hyperparameters)["k"], dict(v.hyperparameters)["lambda_"]) for v in made] == [
        (0.0, 0.5), (0.0, 2.0), (1.0, 0.5), (1.0, 2.0)
    ]  # fmt: skip


def test_every_row_of_a_sweep_over_a_hyperparameter_names_its_value():
    made = variants("methods=mpt-kl", "k=2,4")

    assert [dict(variant.shown) for variant in made] == [{"k": 2.0}, {"k": 4.0}]


def test_a_bare_name_is_for_every_method_that_has_it_save_where_it_defines_the_method():
    made = {v.method: dict(v.hyperparameters) for v in variants("methods=all,ablations", "k=1")}

    assert made["mpt-kl"]["k"] == made["mpt-lm"]["k"] == made["mpt-nodistill"]["k"] == 1.0
    assert made["mpt-kl-nobias"]["k"] == made["mpt-lm-nobias"]["k"] == 0.0


def test_top_10_of_ten_classes_would_be_elodi_itself():
    made = {v.method: dict(v.hyperparameters) for v in variants("dataset=digits")}

    assert made["elodi-topk"]["top_k"] < 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["methods=none", "k=1"],
            "k=1: not a setting of methods=none (mpt-kl, mpt-lm, mpt-nodistill have it)",
        ),
        (["mpt-kl.k=nan"], "mpt-kl.k=nan: must be a finite number"),
        (["mpt-kl.k=1,1"], "mpt-kl.k: 1.0 is given twice"),
        (["mpt-kl.kk=1"], "unknown setting 'mpt-kl.kk' (did you mean 'k'?)"),
        (["mptkl.k=1"], "unknown method 'mptkl' in mptkl.k= (did you mean 'mpt-kl'?)"),
        (["methods=none", "mpt-kl.k=1"], "mpt-kl.k=1: mpt-kl is not among methods=none"),
        (["elodi.members=0"], "elodi.members=0: must be 1 or more"),
        (["pct-lm.reduction=sun"], "pct-lm.reduction=sun: expected one of mean, sum (did you mean 'sum'?)"),
    ],
)
def test_a_hyperparameter_that_cannot_be_meant_is_refused_in_one_line(words, message):
    with pytest.raises(ValueError, match=r".") as error:
        config.read(words)

    assert str(error.value) == message


def test_what_makes_a_method_what_it_is_has_a_default_and_no_range():
    assert hyperparameters.defaults("mpt-kl-nobias")["k"] == 0.0
    assert "k" in hyperparameters.ranges("mpt-kl")
    assert "k" not in hyperparameters.ranges("mpt-kl-nobias")
