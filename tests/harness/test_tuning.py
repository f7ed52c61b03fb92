"""Hyperparameters chosen on held-out images: the study, its plan, its records, and what is refused."""

import re
from dataclasses import replace

import pytest

from harness import config, sweep
from harness.plan import Run, expand
from harness.tuning import Tuning
from results import leaderboard
from results.held_out import HeldOutStore
from results.store import Store
from results.tuned import Objective

STUDY = ("tune=pct-kl.lambda", "budget=3", "trials_at_once=2", "tune_seeds=100", "validation=0.3")
OBJECTIVE = ("objective=margin_new", "within=50")  # a margin has no ties
WORDS = ("methods=none,pct-kl", "epochs=1", "device=cpu", "cluster=inline", "seeds=0")


@pytest.fixture
def trained(monkeypatch):
    """Ids of the runs that were handed to jobs, in order."""
    ids, original = [], sweep.dispatch

    def dispatch(jobs, **how):
        ids.extend(run.id for job in jobs for run in job.runs)
        return original(jobs, **how)

    monkeypatch.setattr(sweep, "dispatch", dispatch)
    return ids


@pytest.fixture(scope="module")
def study(tmp_path_factory, betons):
    """A finished study: its words and its folder of records."""
    runs = tmp_path_factory.mktemp("study") / "runs"
    words = [*WORDS, *STUDY, *OBJECTIVE, f"runs={runs}", f"betons={betons}"]
    assert sweep.main(words) == 0
    return words, runs


def candidates(runs, **wanted):
    """Records of `pct-kl` in a folder, by lambda."""
    found = [record for record in Store(runs).records() if record.run["method"] == "pct-kl"]
    return {
        record.run["hyperparameters"]["lambda_"]: record
        for record in found
        if all(record.run.get(name) == value for name, value in wanted.items())
    }


def table(text):
    return text[text.index("digits: ") :]


def test_the_best_value_is_trained_on_all_images_with_the_seeds_of_the_table(study):
    _, runs = study
    trials = candidates(runs, trial=True)
    ((value, final),) = candidates(runs, seed=0).items()

    assert len(trials) == 3
    assert 1.0 in trials, "the value without tuning is tried, too"
    assert {record.run["seed"] for record in trials.values()} == {100}
    assert {record.run["split"]["validation"] for record in trials.values()} == {0.3}
    margins = {tried: HeldOutStore(runs).read(r.id).metrics["margin_new"] for tried, r in trials.items()}
    assert value == max(margins, key=margins.get)
    assert "validation" not in final.run["split"]


def test_a_record_says_what_was_chosen_and_on_what(study):
    _, runs = study
    ((value, record),) = candidates(runs, seed=0).items()

    tuned = record.tuned
    assert tuned.best.values == {"lambda": value}
    assert (tuned.search, tuned.validation, tuned.seeds) == ("tpe", 0.3, (100,))
    assert tuned.objective == Objective(metric="margin_new", within=50)
    assert len(tuned.trials) == 3
    assert tuned.default == {"lambda": 1.0}
    assert tuned.samples_old == 43
    for trial in tuned.trials:
        tried = HeldOutStore(runs).read(candidates(runs, trial=True)[trial.values["lambda"]].id)
        assert (trial.objective, trial.er_all) == (tried.metrics["margin_new"], tried.metrics["er_all"])


def test_how_a_value_was_found_is_no_part_of_a_runs_identity(study):
    words, runs = study
    ((value, record),) = candidates(runs, seed=0).items()
    by_hand = [word for word in words if word not in {*STUDY, *OBJECTIVE}]

    planned = expand(*config.read([*by_hand, f"pct-kl.lambda={value}"]).settings)

    assert record.id in {run.id for run in planned}
    assert all(run.tuned is None for run in planned)
    assert Run.from_content(record.run).tuned == record.run["tuned"]


def test_a_second_call_trains_nothing_and_prints_the_same_table(study, capsys, trained):
    words, runs = study
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}

    assert sweep.main(words) == 0
    first = capsys.readouterr().out
    assert sweep.main(words) == 0

    assert capsys.readouterr().out == first == table(first)
    assert trained == []
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before
    assert re.search(
        r"^pct-kl: lambda=\S+ (\(the default\) )?chosen from 3 trials, with New margin ", first, re.M
    )
    assert "Not tuned: none." in first


def test_tables_of_test_numbers_leave_trials_out(study, capsys):
    _, runs = study

    assert leaderboard.main([f"runs={runs}"]) == 0
    shown = capsys.readouterr().out
    assert len(re.findall("^pct-kl.*±?", shown, re.M)) == 2, "one row, and the line about it"
    assert "held out," not in shown
    assert "Not tuned: none." in shown

    assert leaderboard.main([f"runs={runs}", "metrics=validation"]) == 0
    assert len(re.findall(r"^pct-kl\[lambda=", capsys.readouterr().out, re.M)) == 3


def test_an_interrupted_study_goes_on_without_training_anything_twice(
    study, tmp_path, betons, trained, stop_after
):
    runs = tmp_path / "runs"
    words = [*WORDS, *STUDY, *OBJECTIVE, f"runs={runs}", f"betons={betons}"]
    codes, finished = [], []
    for _ in range(8):
        before = {record.id for record in Store(runs).records()}
        with stop_after(4):  # in every job with more steps, candidates' in each round among them
            codes.append(sweep.main(words))
        assert not before & set(trained), "done, and handed in again"
        del trained[:]
        finished.append(len(before))
        if codes[-1] == 0:
            break

    assert codes[-1] == 0
    assert codes.count(130) >= 3
    assert len(set(finished)) > 2, "each part goes on from the one before"
    assert {record.id for record in Store(runs).records()} == {r.id for r in Store(study[1]).records()}


def test_a_run_that_was_there_before_learns_how_its_value_was_chosen(study):
    words, runs = study
    ((_, record),) = candidates(runs, seed=0).items()
    tuning, store = Tuning(config.read(words)), Store(runs)
    for _ in tuning.rounds(runs):
        pass
    path = store.paths(record.id).record
    kept = path.read_bytes()
    content = {name: value for name, value in record.run.items() if name != "tuned"}
    path.write_bytes(replace(record, run=content).to_bytes())
    assert store.read(record.id).tuned is None

    sweep.note_tuning(expand(*tuning.settings), store)

    assert path.read_bytes() == kept


def planned(*words):
    return Tuning(config.read(["epochs=1", "device=cpu", *words])).planned()


def test_every_candidate_of_a_trial_is_marked_as_one():
    runs = planned("methods=none,ensemble-old-new", "tune=ensemble-old-new.share", "budget=2")

    assert {run.method for run in runs if run.role == "candidate"} == {"none", "ensemble-old-new"}
    assert all(run.trial for run in runs if run.role == "candidate")


@pytest.mark.parametrize("search", ["tpe", "random", "grid"])
def test_every_tuned_method_has_the_same_budget(search):
    runs = planned(
        "methods=none,pct-kl,mpt-kl", "tune=pct-kl.lambda,k,mpt-kl.lambda", "budget=12", f"search={search}"
    )

    for method in ("pct-kl", "mpt-kl"):
        for seed in (1000, 1001):
            trials = [r for r in runs if r.method == method and r.seed == seed]
            assert len(trials) == 12
    assert {run.split.validation for run in runs} == {0.1}


def test_a_plan_shows_budget_trainings_and_time_and_starts_nothing(tmp_path, capsys):
    words = (
        "methods=none,mpt-kl",
        "tune=k",
        "budget=5",
        "seeds=0",
        f"runs={tmp_path / 'runs'}",
        "device=cpu",
    )

    assert sweep.main([*words, "plan=true"]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "tuning: mpt-kl: k from 0 to 8" in shown
    assert "5 trials of each: search=tpe, 4 at once, tune_seeds=1000,1001, 10% of the training" in shown
    assert "16 runs: 0 done, 16 to do in 6 jobs" in shown  # 2 x (old, reference, none, 5 trials)
    assert "mpt-kl[k=?]" in shown
    assert "4 runs: 0 done, 4 to do in 3 jobs" in shown
    assert "of training on one CPU core" in shown
    assert not (tmp_path / "runs").exists()


def test_a_plan_knows_what_is_done(study, capsys):
    words, _ = study

    assert sweep.main([*words, "plan=true"]) == 0

    shown = " ".join(capsys.readouterr().out.split())
    assert "5 runs: 5 done, 0 to do in 0 jobs, nothing to train" in shown
    assert "3 runs: 3 done, 0 to do" in shown


def test_every_table_of_a_sweep_has_a_search_of_its_own():
    runs = planned("methods=none,pct-kl", "tune=pct-kl.lambda", "lr=0.05,0.1", "budget=4", "tune_seeds=7")

    assert len([run for run in runs if run.method == "pct-kl"]) == 2 * 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tune=mpt-kl.kk"], "tune=mpt-kl.kk: no such hyperparameter"),
        (["tune=mpt.k"], "tune=mpt.k: unknown method 'mpt' (did you mean"),
        (["tune=pct-lm.lambda"], "tune=pct-lm.lambda: pct-lm is not among methods=none,mpt-kl,elodi"),
        (
            ["tune=elodi.members"],
            "tune=elodi.members: has no range to search; ensemble_weight, old_weight can be tuned",
        ),
        (["tune=lr"], "tune=lr: all models of a table share lr"),
        (["tune=k,mpt-kl.k"], "tune=mpt-kl.k: mpt-kl.k is given twice"),
        (["tune=k", "mpt-kl.k=2"], "tune=mpt-kl.k: k has a value already"),
        (
            ["tune=k", "mpt-kl.lambda=1,2"],
            "tune=mpt-kl.k: give mpt-kl one value of each other hyperparameter",
        ),
        (["tune=k", "budget=1"], "budget=1: two trials are the fewest to choose from"),
        (["tune=k", "budget=4,8"], "budget=4,8: takes one value for the whole sweep"),
        (["tune=k", "tune_seeds=0"], "tune_seeds=0: also among seeds="),
        (["tune=k", "validation=0"], "validation=0: tune= chooses on held-out training images"),
        (
            ["tune=k", "metrics=validation"],
            "metrics=validation: tune= trains its table on all training images",
        ),
        (["tune=k", "objective=nfrr"], "objective=nfrr: no such metric (did you mean 'nfr'?)"),
        (["tune=k", "objective=er_old_model"], "objective=er_old_model: no such metric"),
        (["tune=k", "within=-1"], "within=-1: must be 0 or more points"),
        (["tune=k", "chain=4,7,10"], "tune=: not along a chain="),
        (["tune=k", "search=best"], "search=best: expected one of tpe, random, grid"),
        (
            ["tune=k,mpt-kl.lambda", "search=grid", "budget=11"],
            "budget=11: no grid over k, lambda has that many",
        ),
        (["tune="], "tune= has no value"),
        (["budget=20"], "budget=20: nothing is tuned (tune=mpt-kl.k does)"),
        (["tune=none.k"], "tune=none.k: nothing about none can be tuned"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(words, message, tmp_path, capsys):
    assert sweep.main(["methods=none,mpt-kl,elodi", *words, f"runs={tmp_path / 'runs'}"]) == 2

    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert re.fullmatch(r"error: [^\n]+\n", captured.err)
