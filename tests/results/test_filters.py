import csv
import io
import json

import pytest
from pyarrow import parquet

from results.filters import Filters
from results.finished import finished_comparisons
from results.leaderboard import main
from results.store import Failure
from tests.results.store_making import diverge, finish, plan


@pytest.fixture
def settings(store):
    """Two settings that differ in their epochs, of two seeds; with two values of k."""
    runs = [
        run
        for epochs in (2, 30)
        for run in plan(methods=("none", "mpt-kl[k=2]", "mpt-kl[k=10]"), seeds=(0, 1), epochs=epochs)
    ]
    for run in runs:
        finish(store, run)
    return store


def tables_of(store, **wanted):
    """(epochs, seeds, labels) of each table that passes the filters."""
    finished = finished_comparisons(
        store.root, Filters({name: tuple(values.split(",")) for name, values in wanted.items()})
    )
    return sorted(
        (
            comparison.candidate_run["recipe"]["epochs"],
            comparison.old.seeds,
            [row.label for row in finished.shown(comparison).candidates],
        )
        for comparison in finished.comparisons
    )


def test_a_recipe_chooses_tables(settings):
    labels = ["none", "mpt-kl[k=2]", "mpt-kl[k=10]"]
    assert tables_of(settings) == [(2, 2, labels), (30, 2, labels)]
    assert tables_of(settings, epochs="30") == [(30, 2, labels)]
    assert tables_of(settings, epochs="2,30", arch="resnet18", old_classes="3") == tables_of(settings)
    assert tables_of(settings, **{"old.epochs": "2"}) == [(2, 2, labels)]


def test_seeds_choose_runs(settings):
    assert [seeds for _, seeds, _ in tables_of(settings, seeds="1")] == [1, 1]


def test_hyperparameters_and_methods_hide_rows(settings):
    assert [labels for *_, labels in tables_of(settings, k="2.0", epochs="2")] == [["mpt-kl[k=2]"]]
    assert [labels for *_, labels in tables_of(settings, methods="none", epochs="2")] == [["none"]]
    finished = finished_comparisons(settings.root, Filters({"k": ("2",)}))
    assert [len(comparison.candidates) for comparison in finished.comparisons] == [3, 3]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("arch=resnet19", "arch=resnet19: no such candidate (did you mean 'resnet18'?)"),
        ("colums=nfr", "unknown setting 'colums' (did you mean 'columns'?)"),
        ("qqq=1", "unknown setting 'qqq': no setting of this command (--help)"),
        ("epoch=2", "unknown setting 'epoch' (did you mean 'epochs'?)"),
        ("epochs=two", "epochs=two: no such candidate"),
        ("epochs=", "epochs= has no value"),
        ("seeds=7", "seeds=7: no such candidate"),
    ],
)
def test_a_filter_of_nothing_is_one_line(settings, capsys, word, message):
    assert main([f"runs={settings.root}", word]) == 2
    assert message in capsys.readouterr().err


def test_filters_that_exclude_each_other_say_so(settings, capsys):
    assert main([f"runs={settings.root}", "methods=none", "k=2"]) == 2
    assert "no finished candidate with methods=none hyperparameters.k=2" in capsys.readouterr().err


@pytest.fixture
def per_run(store, tmp_path):
    """The rows of a store with done, diverged, failed and missing runs, as CSV and as Parquet."""
    runs = plan(methods=("none", "mpt-kl[k=2]"), seeds=(0, 1, 2))
    for run in runs:
        if run.method == "mpt-kl" and run.seed == 0:
            diverge(store, run, "NaN")
        elif run.method == "mpt-kl" and run.seed == 1:
            store.begin(run.id).fail(Failure(attempt=1, cause="memory", message="out of memory"))
            job = store.root / "jobs" / "job"
            job.mkdir(parents=True)
            (job / "job.json").write_text(json.dumps({"job": {"runs": [run.document()]}}))
        else:
            finish(store, run)
    files = [tmp_path / "runs.csv", tmp_path / "runs.parquet"]
    assert main([f"runs={store.root}", f"per_run={files[0]},{files[1]}"]) == 0
    rows = list(csv.DictReader(io.StringIO(files[0].read_text())))
    return store, {row["id"]: row for row in rows}, parquet.read_table(files[1]).to_pylist()


def test_a_row_per_run_tells_everything_about_it(per_run):
    store, rows, _ = per_run
    done = [record for record in store.records() if record.state == "done"]
    for record in done:
        row, run = rows[record.id], record.run
        assert (row["state"], row["method"], row["seed"]) == ("done", run["method"], str(run["seed"]))
        assert (row["epochs"], row["arch"]) == ("2", "resnet18")
        assert row["old_classes"] == str(run["split"]["old_classes"])
        for name, value in record.metrics.items():
            assert float(row[name]) == value
        assert row["train_hours"] == "0.01"
    assert len(rows) == len(done) + 2


def test_a_diverged_run_is_a_row_with_its_hyperparameters_and_no_metric(per_run):
    _, rows, _ = per_run
    (row,) = (row for row in rows.values() if row["state"] == "diverged")
    assert (row["hyperparameters.k"], row["reason"], row["nfr"]) == ("2.0", "NaN", "")
    assert row["old.epochs"] == "2"


def test_a_run_that_failed_is_a_row_with_the_reason(per_run):
    _, rows, _ = per_run
    (row,) = (row for row in rows.values() if row["state"] == "failed")
    assert (row["method"], row["seed"], row["reason"]) == ("mpt-kl", "1", "memory: out of memory")


def test_csv_and_parquet_hold_the_same_with_types(per_run):
    _, rows, typed = per_run
    assert {row["id"] for row in typed} == set(rows)
    for row in typed:
        assert isinstance(row["seed"], int)
        assert row["nfr"] is None or isinstance(row["nfr"], float)
        for name, value in row.items():
            assert rows[row["id"]][name] == ("" if value is None else str(value)), name


def test_per_run_files_have_two_formats(store, capsys):
    assert main([f"runs={store.root}", "per_run=runs.xlsx"]) == 2
    assert "the suffix must be one of .csv, .parquet" in capsys.readouterr().err


def test_a_range_of_seeds_is_each_of_them(store, capsys):
    for run in plan(methods=("none",), seeds=range(4)):
        finish(store, run)
    assert main([f"runs={store.root}", "seeds=1..3"]) == 0
    assert "3 seeds" in capsys.readouterr().out
    assert main([f"runs={store.root}", "seeds=1..4"]) == 2
    assert "seeds=4: no such candidate" in capsys.readouterr().err
