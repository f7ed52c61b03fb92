import csv
import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from results.finished import finished_comparisons
from results.leaderboard import main, tables
from results.store import Failure, Store
from results.tables import show
from tests.results.store_making import diverge, finish, plan

GOLDEN = Path(__file__).parent / "golden"
METHODS = ("none", "pct-kl", "mpt-kl")


def documents(runs) -> list[dict]:
    return [run.document() for run in runs]


def printed(store, runs, *, styled=False, **more) -> str:
    system = "standard" if styled else None
    console = Console(file=StringIO(), width=60, force_terminal=styled, color_system=system)
    show(tables(store, documents(runs), **more), console)
    return console.file.getvalue()


def line_of(text, start) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_old_model_comes_first_then_each_method_then_retrained_plain_models(finished_store):
    lines = printed(finished_store, plan()).splitlines()
    starts = [
        line.split("  ")[0]
        for line in lines
        if line.startswith(("old", *METHODS, "plain, retrained")) and ":" not in line
    ]
    assert starts == ["old model", "none", "pct-kl", "mpt-kl", "plain, retrained"]


def test_a_table_tells_its_setting_counts_and_where_the_records_lie(finished_store):
    text = printed(finished_store, plan())
    assert "digits: resnet18 (imagenet stem) -> resnet18 (imagenet stem), 3 of 6 classes old" in text
    assert f"120 test samples of old classes, 240 in all; 3 seeds; records in {finished_store.root}" in text
    assert "Recipe: epochs=2 batch_size=8 lr=0.1 weight_decay=0.0005" in text


def test_the_table_is_as_ever(finished_store):
    said = printed(finished_store, plan()).replace(str(finished_store.root), "runs")
    lines = [line.rstrip() for line in said.splitlines() if not line.startswith("Recipe:")]
    assert lines == (GOLDEN / "table.txt").read_text().splitlines()


def test_the_numbers_are_means_and_standard_deviations_over_seeds_in_percent(finished_store):
    text = printed(finished_store, plan(), columns=("nfr",))
    nfr = [
        100 * record.metrics["nfr"] for record in finished_store.records() if record.run["method"] == "mpt-kl"
    ]
    mean = sum(nfr) / 3
    std = (sum((value - mean) ** 2 for value in nfr) / 2) ** 0.5
    assert f"{mean:.2f}±{std:.2f}" in line_of(text, "mpt-kl")


def unwrapped(text):
    """What a terminal shows, without styles, on one line."""
    return " ".join(re.sub(r"\x1b\[\d+m", "", text).split())


def test_what_is_not_separated_from_the_best_is_bold(store):
    runs = plan(methods=("none", "pct-kl", "mpt-kl"))
    for run in runs:
        finish(store, run, accuracy={"none": 0.5, "pct-kl": 0.94, "mpt-kl": 0.95})
    text = printed(store, runs, styled=True, columns=("er_all",))
    bold = "\x1b[1m"
    assert bold in line_of(text, "mpt-kl")
    assert bold in line_of(text, "pct-kl")
    assert bold not in line_of(text, "none")


def test_two_seeds_give_no_rank_and_no_bold_and_say_what_their_differences_are(store):
    runs = plan(seeds=(0, 1))
    for run in runs:
        finish(store, run)
    text = printed(store, runs, styled=True, columns=("nfr",))
    assert "\x1b[1m" not in line_of(text, "mpt-kl")
    assert line_of(text, "mpt-kl").split()[1] == "-"
    assert "differences are between these models, not between methods" in unwrapped(text)
    assert "Rank:" not in text


def test_the_footer_says_what_more_seeds_would_tell_apart(store):
    runs = plan(seeds=range(10), references=0)
    for run in runs:
        finish(store, run)
    text = printed(store, runs)
    said = line_of(text, "10 seeds tell 3 methods apart from about")
    now, later = (float(word) for word in re.findall(r"(?:about|from) (\d+\.\d+)", said))
    assert "20 from" in said
    assert 0 < later < now
    assert "NFR - plain: plain is No Treatment;" in text


def test_a_method_that_varies_far_more_than_the_others_is_marked_and_the_mark_explained(store):
    methods = (*METHODS, "pct-naive", "elodi", "elodi-topk")
    for run in plan(methods=methods, seeds=range(4)):
        finish(store, run, accuracy={"pct-kl": 0.2} if run.seed == 3 else None)
    text = printed(store, plan(methods=methods, seeds=range(4)))
    marked = [line for line in text.splitlines() if "†" in line]
    assert [line.split()[:2] for line in marked] == [["pct-kl", "†"], ["†", "NFR"]]
    assert "†" not in printed(store, plan(methods=methods, seeds=range(3)))


def test_missing_runs_are_shown_with_their_reason(store):
    runs = plan(methods=("none", "pct-kl", "mpt-kl", "elodi"))
    for run in runs:
        if run.method == "elodi" and run.seed == 0:
            store.begin(run.id).fail(
                Failure(attempt=1, cause="memory", message="out of memory\nmore", log="jobs/a/log.txt")
            )
        elif run.method == "mpt-kl" and run.seed == 2:
            diverge(store, run, "the loss is NaN")
        elif run.method != "elodi":
            finish(store, run)
    text = printed(store, runs, styled=False)
    assert line_of(text, "mpt-kl (2 of 3 seeds)").split()[5] == "-"  # no rank
    assert "mpt-kl: seed 2 diverged (the loss is NaN)" in text
    assert "failed/missing" in line_of(text, "elodi (0 of 3 seeds)")
    assert "elodi: seed 0 failed (memory: out of memory; log: jobs/a/log.txt); seeds 1, 2 not run yet" in text


def test_an_incomplete_row_is_never_bold(store):
    runs = plan()
    for run in runs:
        if run.method == "mpt-kl" and run.seed == 2:
            diverge(store, run, "NaN")
        else:
            finish(store, run)
    text = printed(store, runs, styled=True, columns=("nfr",))
    assert "\x1b[1m" not in line_of(text, "mpt-kl (2")
    assert "\x1b[1m" in line_of(text, "pct-kl")


def test_a_label_is_never_read_as_markup(store):
    runs = plan(methods=("none", "mpt-kl[k=2]"), seeds=(0,))
    for run in runs:
        if run.role == "candidate" and run.method == "none":
            diverge(store, run, "[red]NaN[/red] [/oops]")
        else:
            finish(store, run)
    text = printed(store, runs)
    assert "mpt-kl[k=2]" in text
    assert "[red]NaN[/red] [/oops]" in text


def test_nothing_run_yet_is_a_table_of_missing_runs(store):
    text = printed(store, plan())
    assert "missing" in line_of(text, "none (0 of 3 seeds)")
    assert "Plain, retrained" not in text


def test_tables_that_would_look_the_same_say_what_tells_them_apart(store):
    runs = [*plan(seeds=(0,)), *plan(seeds=(0,), data="digits-2")]
    for run in runs:
        finish(store, run)
    titles = [table.title for table in tables(store, documents(runs))]
    assert titles[0].endswith(f"images {runs[0].data}")
    assert titles[1].endswith("images digits-2")


def test_without_the_nfr_there_is_no_row_of_plain_models(finished_store):
    assert "lain, retrained" not in printed(finished_store, plan(), columns=("churn",))


def test_costs_count_what_a_method_needs_and_its_own_share(store):
    runs = plan(methods=("none", "mpt-kl"), seeds=(0,), references=2)
    for run in runs:
        run = replace(run, parents=run.parents[:1]) if run.method == "none" else run
        finish(store, run)
    seconds = {"old": 36.0, "reference 0": 72.0, "reference 1": 108.0, "none": 180.0, "mpt-kl": 180.0}
    for record in list(store.records()):
        alone = {"none": 120.0, "mpt-kl": 252.0}.get(record.run["label"])
        timings = {"train_s": 2 * seconds[record.run["label"]], "train_share_s": seconds[record.run["label"]]}
        timings |= {} if alone is None else {"train_alone_s": alone}
        environment = {"processes": 2, "networks": 1, "gmacs": 1.8}
        edited = replace(record, timings=timings, environment=environment)
        (store.folder(record.id) / "record.json").write_bytes(edited.to_bytes())

    (comparison,) = finished_comparisons(store.root).comparisons
    costs = {
        row.label: [
            row.summary(name).mean for name in ("train_hours_alone", "train_hours", "networks", "gmacs")
        ]
        for row in comparison.rows
    }

    assert costs == {
        "old model": [pytest.approx(2 * 36 / 3600), pytest.approx(2 * 36 / 3600), 1, 1.8],
        "none": [pytest.approx(2 * (120 + 36) / 3600), pytest.approx(2 * 180 / 3600), 1, 1.8],
        "mpt-kl": [pytest.approx(2 * (252 + 36 + 72 + 108) / 3600), pytest.approx(2 * 180 / 3600), 1, 1.8],
    }


def test_records_that_do_not_tell_what_a_run_takes_alone_count_its_share(finished_store):
    (comparison,) = finished_comparisons(finished_store.root).comparisons
    row = comparison.candidates[0]

    assert row.summary("train_hours_alone").mean == pytest.approx(4 * 36 / 3600)
    assert row.summary("train_hours").mean == pytest.approx(36 / 3600)
    assert row.summary("networks") is None


def test_seeds_made_with_different_code_are_told(store, command, monkeypatch):
    for run in plan():
        with monkeypatch.context() as patch:
            if (run.label, run.seed) == ("mpt-kl", 1):
                patch.setattr("harness.plan.code_digest", lambda method: "other")
            finish(store, run)

    _, out, _ = command()

    assert "mpt-kl: its seeds were made with different code of mpt-kl" in out
    assert out.count("different code") == 1


def test_two_settings_make_two_tables(store):
    runs = [*plan(seeds=(0,)), *plan(seeds=(0,), epochs=3)]
    for run in runs:
        finish(store, run)
    assert [table.footer[-1].split()[1] for table in tables(store, documents(runs))] == [
        "epochs=2",
        "epochs=3",
    ]


@pytest.fixture
def command(finished_store, capsys):
    def call(*words) -> tuple[int, str, str]:
        code = main([f"runs={finished_store.root}", *words])
        return code, *capsys.readouterr()

    return call


def test_the_command_prints_what_the_sweep_prints(command, finished_store):
    code, out, _ = command()
    assert code == 0
    assert line_of(out, "mpt-kl") == line_of(printed(finished_store, plan()), "mpt-kl")


def test_filters_change_no_rank_and_no_number(command):
    _, whole, _ = command()
    _, part, _ = command("methods=mpt-kl", "dataset=digits")
    assert line_of(part, "mpt-kl").split() == line_of(whole, "mpt-kl").split()
    assert "pct-kl" not in part


@pytest.mark.parametrize(("column", "highest_first"), [("pfr", True), ("nfr", False)])
def test_sorting_puts_the_best_first(command, column, highest_first):
    _, out, _ = command(f"sort={column}", f"columns={column}")
    shown = [
        float(line.split()[2].partition("±")[0]) for line in out.splitlines() if line.startswith(METHODS)
    ]
    assert shown == sorted(shown, reverse=highest_first)
    assert len(shown) == 3


def test_exports_hold_the_same_numbers(command, finished_store, tmp_path):
    paths = [tmp_path / f"table.{ending}" for ending in ("md", "tex", "csv", "json")]
    command("columns=nfr", f"export={','.join(map(str, paths))}")
    as_json = json.loads(paths[3].read_text())
    rows = list(csv.DictReader(StringIO(paths[2].read_text())))
    best = as_json[2]
    shown = f"{100 * best['nfr']:.2f}"
    assert [row["method"] for row in rows] == ["old model", "none", "mpt-kl", "pct-kl", "plain, retrained"]
    assert float(rows[2]["nfr"]) == best["nfr"]
    assert best["nfr_minus_plain"] < 0 < best["nfr_minus_plain_se"]
    assert f"**{shown}±" in paths[0].read_text()
    assert rf"\textbf{{{shown}$\pm$" in paths[1].read_text()


def test_a_broken_record_is_reported_and_its_run_is_missing(command, finished_store):
    record = next(r for r in finished_store.records() if r.run["method"] == "pct-kl")
    (finished_store.folder(record.id) / "record.json").write_bytes(b"{")
    code, out, err = command()
    assert code == 0
    assert "warning" in err
    assert record.id in err
    assert "pct-kl" in out


def test_runs_of_jobs_without_a_record_are_missing_runs(command, finished_store):
    job = finished_store.root / "jobs" / "some-job"
    job.mkdir(parents=True)
    more = plan(methods=("elodi",))
    (job / "job.json").write_text(json.dumps({"job": {"runs": documents(more)}}))
    for number, odd in enumerate(({"id": "x"}, {**documents(more)[0], "id": "x/y"}, "x")):
        foreign = job.with_name(f"foreign-{number}")
        foreign.mkdir()
        (foreign / "job.json").write_text(json.dumps({"job": {"runs": [odd]}}))
    _, out, err = command()
    assert "missing" in line_of(out, "elodi (0 of 3 seeds)")
    assert all(f"foreign-{number}/job.json" in err for number in range(3))


def test_a_damaged_job_description_changes_no_row(command, finished_store):
    """Records win over it; of the runs without a record, those that it garbles are named and left out."""
    runs = [run for run in plan() if run.role == "candidate"]
    lost = next(run for run in runs if run.method == "mpt-kl" and run.seed == 1)
    (finished_store.folder(lost.id) / "record.json").unlink()
    folder = finished_store.root / "jobs" / "candidates"
    folder.mkdir(parents=True)
    description = json.dumps({"job": {"runs": documents(runs)}}).encode()
    (folder / "job.json").write_bytes(description)
    _, whole, _ = command()
    assert "mpt-kl: seed 1 not run yet" in whole
    (folder / "job.json").unlink()
    _, without, _ = command()
    for place in range(0, len(description), 61):
        damaged = bytearray(description)
        damaged[place] ^= 1
        (folder / "job.json").write_bytes(damaged)
        code, out, err = command()
        assert code == 0
        assert (out == whole) or (out == without and "left out" in err), description[place - 20 : place + 20]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["columns=nfr,chrun"], "did you mean 'churn'"),
        (["sort=best"], "unknown column 'best'"),
        (["export=table.xls"], "the suffix must be one of .md, .tex, .csv, .json"),
        (["methods=magic"], "methods=magic: no such candidate"),
        (["dataset=cifar"], "dataset=cifar: no such candidate"),
        (["colour=red"], "unknown setting 'colour'"),
        (["export=/no/such/table.md"], "export=/no/such/table.md: no such folder: /no/such"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, words, message):
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert main([f"runs={tmp_path / 'nowhere'}"]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_a_newer_record_is_refused_by_name(command, finished_store):
    record = next(finished_store.records())
    path = finished_store.folder(record.id) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    code, _, err = command()
    assert code == 2
    assert "record.json: its schema is 99" in err


def test_an_empty_store_has_no_table(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert main([f"runs={Store(tmp_path / 'runs').root}"]) == 2
    assert "no finished candidate yet" in capsys.readouterr().err


def test_a_run_that_cannot_start_names_the_parent_that_failed(store):
    runs = plan(methods=("none",), seeds=(0, 1))
    reference = next(run for run in runs if run.role == "reference")
    for run in runs:
        if run is reference:
            failure = Failure(attempt=1, cause="bug", message="KeyError: 'x'", log="jobs/r/log.txt")
            store.begin(run.id).fail(failure)
        elif run.role == "old" and run.seed == 1:
            diverge(store, run, "NaN")
        elif run.role != "candidate":
            finish(store, run)
    text = printed(store, runs)
    assert "seed 0 missing (reference 0 failed: bug: KeyError: 'x'; log: jobs/r/log.txt)" in text
    assert "seed 1 missing (old diverged)" in text


def test_what_keeps_several_methods_from_running_is_said_once(store):
    runs = plan(methods=("none", "pct-kl"), seeds=(0,))
    old = next(run for run in runs if run.role == "old")
    store.begin(old.id).fail(Failure(attempt=1, cause="data", message="no such folder", log="l.txt"))
    text = printed(store, runs)
    assert "none, pct-kl: seed 0 missing (old failed: data: no such folder; log: l.txt)" in text
    assert text.count("no such folder") == 2, "once of the old model itself, once of all that wait for it"


def test_without_no_treatment_there_is_no_difference_to_it(store):
    runs = plan(methods=("pct-kl", "mpt-kl"))
    for run in runs:
        finish(store, run)
    assert "NFR - plain" not in printed(store, runs)


@pytest.mark.parametrize("role", ["candidate", "old"])
def test_a_damaged_record_leaves_a_missing_run_in_the_one_table(store, capsys, role):
    runs = plan(methods=("none", "mpt-kl"))
    for run in runs:
        finish(store, run)
    (victim, *_) = (run for run in runs if run.role == role and run.seed == 1)
    path = store.folder(victim.id) / "record.json"
    path.write_bytes(path.read_bytes()[:300])
    assert main([f"runs={store.root}"]) == 0
    said = capsys.readouterr()
    assert said.out.count("of 6 classes old") == 1
    assert f"{'none' if role == 'candidate' else 'old model'} (2 of 3 seeds)" in said.out
    assert f"left out: {path}" in said.err
