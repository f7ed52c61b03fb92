"""Chains of updates: every method updates the model that it made in the step before."""

import numpy as np
import pytest

from results import figures, leaderboard, report
from results.chains import chain_numbers, chains
from results.comparisons import comparisons

WORDS = ("methods=none,mpt-kl", "chain=4,7,10", "seeds=0", "epochs=2")


def test_the_old_model_of_a_step_is_the_methods_own_candidate_of_the_step_before(bench):
    runs = bench.plan(*WORDS)
    by_id = {run.id: run for run in runs}
    last = {run.label: run for run in runs if run.role == "candidate" and run.split.classes == 10}

    for method in ("none", "mpt-kl"):
        before = by_id[last[method].parents[0]]
        assert (before.role, before.label, before.split.classes) == ("candidate", method, 7)
        assert by_id[before.parents[0]].role == "old"
        assert by_id[before.parents[0]].trained_classes == 4


def test_a_chain_shares_the_runs_of_its_first_step_with_the_same_update_alone(bench):
    alone = {run.id for run in bench.plan("methods=none,mpt-kl", "classes=7", "old_classes=4", *WORDS[2:])}

    assert alone <= {run.id for run in bench.plan(*WORDS)}


def test_flips_add_up_along_a_chain(bench):
    bench.run(*WORDS)
    runs = bench.plan(*WORDS)
    (chain,) = chains(bench.store, comparisons(bench.store, [run.document() for run in runs]))
    path = [run for run in runs if run.label in ("old", "none")]
    first, middle, last = (
        bench.store.predictions(bench.store.read(run.id))
        for run in sorted(path, key=lambda run: run.trained_classes)
    )
    right = [dict(zip(one.index.tolist(), one.right.tolist(), strict=True)) for one in (first, middle, last)]
    samples = first.index.tolist()

    def rate(before, after):
        return np.mean([right[before][i] and not right[after][i] for i in samples])

    numbers = next(row for row in chain_numbers(chain) if row["method"] == "none")

    assert chain.classes == (4, 7, 10)
    assert numbers["nfr_step_1"] == pytest.approx(rate(0, 1))
    assert numbers["nfr_step_2"] == pytest.approx(rate(1, 2))
    assert numbers["nfr_sum"] == pytest.approx(rate(0, 1) + rate(1, 2))
    assert numbers["nfr_since_first"] == pytest.approx(rate(0, 2))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["chain=4,3"], "chain=4,3: expected two rising counts or more"),
        (["chain=4"], "chain=4: expected two rising counts or more"),
        (["chain=4,7", "old_classes=4"], "leave classes= and old_classes= out"),
        (["chain=4,11"], "classes=11: digits has 10"),
    ],
)
def test_a_chain_that_makes_no_sense_is_refused(bench, words, complaint):
    with pytest.raises(ValueError, match=complaint):
        bench.plan(*words)


def test_leaderboard_report_and_figures_show_the_chain(bench, tmp_path, capsys):
    bench.run(*WORDS)

    assert leaderboard.main([f"runs={bench.runs}", f"export={tmp_path / 'tables.csv'}"]) == 0
    assert report.main([f"runs={bench.runs}", f"out={tmp_path / 'report.html'}"]) == 0
    assert figures.main([f"runs={bench.runs}", f"out={tmp_path / 'figures'}"]) == 0

    title = "digits: resnet8, chain of 4, 7, 10 classes"
    assert title in capsys.readouterr().out
    assert "nfr_since_first" in (tmp_path / "tables.csv").read_text()
    assert f"<h2>{title}</h2>" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "figures" / "digits-chain-1.png").is_file()


def test_an_ensemble_of_a_later_step_counts_the_networks_of_the_model_that_it_updates(bench):
    words = ("methods=none,ensemble-old-new", "chain=4,7,10", "seeds=0", "epochs=1")
    bench.run(*words)
    by_classes = {
        run.split.classes: bench.store.read(run.id)
        for run in bench.plan(*words)
        if run.label == "ensemble-old-new"
    }

    assert {classes: record.networks for classes, record in by_classes.items()} == {7: 2, 10: 3}
    assert by_classes[10].gmacs == pytest.approx(1.5 * by_classes[7].gmacs)


def test_a_chain_of_fine_tuning_chooses_nothing_on_images_that_an_earlier_model_saw(bench):
    words = ("chain=4,7,10", "init=old", "seeds=0")

    with pytest.raises(
        ValueError, match=r"methods=posthoc-bias: .* that earlier models saw: add validation=0\.1"
    ):
        bench.plan("methods=posthoc-bias", *words)
    assert "bcwi" not in {run.method for run in bench.plan("methods=none,rivals", *words)}
    runs = bench.plan("methods=posthoc-bias", "validation=0.2", *words)
    assert {run.split.validation for run in runs} == {0.2}
    assert {run.role for run in runs} == {"old", "candidate"}
