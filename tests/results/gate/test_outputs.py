"""Where the answer goes: JSON, a summary, a page; a policy file; the library call."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from results.gate import GateReport, Layout, Policy, compare
from results.gate.command import main
from results.gate.outputs import as_json, as_junit
from results.gate.pages import as_html, as_markdown

EVIL = "<script>alert(1)</script>|`x`"


def frames(n=400):
    country = np.array(["DE", EVIL])[np.arange(n) % 2]
    old = pd.DataFrame({"id": [f"s{i:03d}" for i in range(n)], "target": EVIL, "prediction": EVIL})
    new = old.assign(country=country, prediction=np.where(np.arange(n) % 20 == 1, "cat", EVIL))
    old.loc[old.index % 10 == 5, "prediction"] = "cat"
    return old, new


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, frame in zip(("old", "new"), frames(), strict=True):
        frame.to_csv(f"{name}.csv", index=False)
    return tmp_path


POLICY = Policy(max_nfr=0.02, max_class_nfr=0.2, slices=("country",), max_slice_nfr=0.1)


def test_the_summary_holds_the_verdict_and_folds_the_rest_away():
    text = as_markdown(compare(*frames(), policy=POLICY), most=5)
    assert text.startswith("## ❌ FAIL: NFR 5.00% [3.08%, 7.62%]")
    assert "| max\\_nfr | 5.00% |" in text
    for summary in ("All metrics", "Worst slices", "Worst classes", "20 negative flips, the first 5"):
        assert f"<summary>{summary}</summary>" in text
    assert not re.search(r"(?<!\\)<script", text), "a class's name is text"
    assert text.count("<details>") == text.count("</details>")


def test_the_summary_fits_into_a_comment():
    n = 4000
    old = {"id": [f"{'long' * 200}{i}" for i in range(n)], "correct": np.ones(n, int)}
    report = compare(old, {**old, "correct": np.arange(n) % 2})
    assert len(as_markdown(report, most=2000)) < 65_536


def test_the_page_needs_no_network_and_shows_names_as_text():
    page = as_html(compare(*frames(), policy=POLICY))
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", page), "nothing is loaded from elsewhere"
    assert page.count("<script>") == 1, "only the filter"
    assert "&lt;script&gt;alert(1)" in page
    assert "<svg" in page
    assert page.count('data-negative="1"') == 20
    assert page.count('data-negative="0"') == 40
    assert "The update breaks a cap." in page


def test_the_page_without_caps_and_without_flips(tmp_path):
    old, _ = frames()
    page = as_html(compare(old, old))
    assert "No sample flips." in page
    assert "<svg" not in page


def test_json_is_versioned_and_says_everything():
    report = compare(*frames(), policy=POLICY)
    document = json.loads(as_json(report))
    assert document["schema_version"] == 2
    assert document["exit_code"] == 1
    assert [check["name"] for check in document["checks"]] == ["max_nfr", "max_class_nfr", "max_slice_nfr"]
    assert document["slices"][0]["column"] == "country"
    assert document["nfr_interval"] == [report.nfr.low, report.nfr.high]
    assert len(document["flips"]) == 60


def test_every_field_of_json_is_described_in_the_guide(pytestconfig):
    guide = (pytestconfig.rootpath / "docs" / "compare.md").read_text()
    for name in json.loads(as_json(compare(*frames(), policy=POLICY))):
        assert f"`{name}`" in guide, name


def test_an_undecided_that_the_policy_lets_pass_is_no_failure_of_junit():
    policy = Policy(max_nfr=0.05, undecided="pass")
    suite = ET.fromstring(as_junit(compare(*frames(), policy=policy)))
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    assert suite.find("testcase/system-out").text.startswith("UNDECIDED: ")


def test_all_outputs_are_written_by_the_command(files, capsys):
    words = ["max_nfr=2%", "slices=country", "max_slice_nfr=10%"]
    outputs = ["markdown=g.md", "html=g.html", "json=g.json", "junit=g.xml", "flips=g.csv"]
    assert main(["old=old.csv", "new=new.csv", *words, *outputs]) == 1
    assert {path.name for path in files.iterdir()} >= {"g.md", "g.html", "g.json", "g.xml", "g.csv"}
    assert "\x1b" not in capsys.readouterr().out


def test_the_flips_of_an_update_without_any_are_an_empty_table(files):
    assert main(["old=old.csv", "new=old.csv", "flips=g.csv"]) == 0
    assert (files / "g.csv").read_text().splitlines() == ["id,flip"]


# A policy file


def test_a_policy_file_holds_all_that_words_can_say(files, capsys):
    (files / "gate.toml").write_text(
        'max_nfr = "2%"\nmax_slice_nfr = 0.1\nslices = ["country"]\nlevel = 0.99\n'
        'undecided = "fail"\nshow = 2\n'
        '[columns]\nid = "id"\nprediction = "prediction"\n'
    )
    by_file = main(["old=old.csv", "new=new.csv", "policy=gate.toml"])
    said = capsys.readouterr().out
    words = ["max_nfr=2%", "max_slice_nfr=0.1", "slices=country", "level=0.99", "undecided=fail", "show=2"]
    assert main(["old=old.csv", "new=new.csv", *words]) == by_file
    assert capsys.readouterr().out == said
    assert "99 % interval" in said


@pytest.mark.parametrize(
    ("toml", "words", "complaint"),
    [
        ('max_nrf = "1%"', [], "policy=gate.toml: unknown setting 'max_nrf' (did you mean 'max_nfr'?)"),
        ('max_nfr = "1%"', ["max_nfr=50%"], "max_nfr= is set in gate.toml, and cannot be given again"),
        ("max_nfr = ", [], "policy=gate.toml: not TOML"),
        ("max_nfr = 2", [], "max_nfr=2: write 2% or a fraction below 1"),
        ("[max_nfr]\na = 1", [], "max_nfr must be text, a number or a list"),
        ('[columns]\nname = "a"', [], "columns.name: the roles are id, target"),
        ('level = "high"', [], "level=high: expected a number"),
        ("level = 1", [], "level=1.0: must lie between"),
    ],
)
def test_a_policy_that_is_none_is_refused_in_one_line(files, capsys, toml, words, complaint):
    (files / "gate.toml").write_text(toml)
    assert main(["old=old.csv", "new=new.csv", "policy=gate.toml", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err


def test_columns_and_runs_are_words_of_the_command(files, capsys):
    old, _ = frames()
    old.rename(columns={"id": "path", "target": "gold", "prediction": "guess"}).to_csv("old.csv", index=False)
    words = ["columns.id=path", "columns.target=gold", "columns.prediction=guess"]
    assert main(["old=old.csv,old.csv", "new=old.csv", "max_nfr=5%", *words]) == 0
    assert "2 runs of the old version, 1 of the new one" in capsys.readouterr().out
    assert main(["old=old.csv", "new=old.csv", "columns.id=nowhere"]) == 2
    assert "there are: path, gold, guess" in capsys.readouterr().err


def test_the_help_names_every_column_and_setting(capsys):
    assert main(["help"]) == 0
    out = capsys.readouterr().out
    for name in ("columns.id=", "max_slice_nfr=", "policy=", "markdown=", "undecided="):
        assert name in out


# The library call


def as_mapping(frame):
    return {name: frame[name].to_numpy() for name in frame}


@pytest.mark.parametrize("kind", [lambda frame: frame, pa.Table.from_pandas, as_mapping])
def test_the_call_takes_tables_of_any_kind_and_prints_nothing(kind, capsys):
    report = compare(*map(kind, frames()), policy=POLICY)
    assert isinstance(report, GateReport)
    assert report.verdict == "FAIL"
    assert report.metrics["nfr"] == 0.05
    assert report.slices[0].negative_flips == 20
    assert capsys.readouterr() == ("", "")


def test_the_call_takes_bare_arrays_in_one_order():
    report = compare(
        ["a", "b", "b"], np.array(["a", "a", "b"]), targets=["a", "b", "b"], layout=Layout(pair="order")
    )
    assert report.metrics["nfr"] == pytest.approx(1 / 3)


def test_a_list_of_tables_is_one_per_run():
    old, new = frames()
    assert compare([old, old], new).samples.old.runs == 2


def test_the_call_needs_neither_files_nor_torch():
    code = (
        "import sys; from results.gate import compare\n"
        "report = compare({'id': [1], 'correct': [1]}, {'id': [1], 'correct': [0]})\n"
        "assert report.metrics['nfr'] == 1\n"
        "print(sorted({'torch', 'matplotlib', 'jinja2', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
