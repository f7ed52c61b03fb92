import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from results.gate.command import main

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["cat", "=1+1", "[red]bird", "<b>fish</b>"]


def rows(count, answer) -> str:
    lines = [f"s{i:03d},{NAMES[i % 4]},{answer(i)},{0.5 + i / 1000}" for i in range(count)]
    return "\n".join(["id,target,prediction,confidence", *lines]) + "\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """200 samples: the old model errs on each tenth, the new one on each fifth that follows."""
    monkeypatch.chdir(tmp_path)
    old = rows(200, lambda i: NAMES[i % 4] if i % 10 else NAMES[(i + 1) % 4])
    new = rows(200, lambda i: NAMES[i % 4] if i % 20 != 1 else NAMES[(i + 1) % 4])
    (tmp_path / "old.csv").write_text(old)
    (tmp_path / "new.csv").write_text(new)
    (tmp_path / "ids.txt").write_text("s002\ns003\n")
    return tmp_path


def call(*words) -> int:
    return main(["old=old.csv", "new=new.csv", *words])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["max_nfr=20%"], 0),
        (["max_nfr=0.2"], 0),
        (["max_nfr=1%"], 1),
        (["max_nfr=5%"], 3),
        (["max_nfr=5%", "critical=ids.txt"], 3),
        (["max_rel_nfr=50%"], 1),
        (["max_class_nfr=70%"], 0),
        (["critical=ids.txt"], 0),
    ],
)
def test_the_exit_code_is_the_verdict(files, capsys, words, code):
    assert call(*words) == code
    assert capsys.readouterr().err == ""


def test_the_verdict_and_the_numbers_are_as_ever(files, capsys):
    call("max_nfr=5%", "critical=ids.txt")
    drawn = re.compile(r"(Rel-NFR.*)\[.*\]")  # from numpy's random stream, which may change
    said = [drawn.sub(r"\1", line).rstrip() for line in capsys.readouterr().out.splitlines()]
    assert said == (GOLDEN / "gate.txt").read_text().splitlines()


def test_json_holds_everything_that_is_printed(files):
    call("max_nfr=5%", "critical=ids.txt", "json=gate.json")
    document = json.loads((files / "gate.json").read_text())
    assert document["verdict"] == "UNDECIDED"
    assert [check["name"] for check in document["checks"]] == ["max_nfr", "critical"]
    assert document["metrics"]["nfr"] == 0.05
    assert (document["negative_flips"], document["positive_flips"]) == (10, 20)
    assert len(document["flips"]) == 30
    assert document["classes"][0]["class"] == "=1+1"


def test_junit_tells_a_ci_system_what_failed(files):
    call("max_nfr=1%", "critical=ids.txt", "max_class_nfr=70%", "junit=gate.xml")
    suite = ET.parse(files / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failure = {case.get("name"): case.find("failure") for case in suite}
    assert failure["max_nfr"].get("type") == "FAIL"
    assert "against a cap of 1.00%" in failure["max_nfr"].get("message")
    assert failure["critical"] is None


def test_the_flips_come_most_confident_first_and_without_formulas(files):
    call("flips=flips.csv")
    flips = list(csv.DictReader((files / "flips.csv").read_text().splitlines()))
    negative = [row for row in flips if row["flip"] == "negative"]
    assert len(negative) == 10
    assert [row["id"] for row in negative[:2]] == ["s181", "s161"]
    assert {row["target"] for row in negative} == {"'=1+1"}


def test_class_names_are_shown_as_they_are(files, capsys):
    call()
    out = capsys.readouterr().out
    assert "[red]bird" in out
    assert "=1+1" in out


def test_escape_sequences_do_not_reach_the_terminal(files, capsys):
    text = (files / "new.csv").read_text()
    for name in ("old.csv", "new.csv"):
        (files / name).write_text((files / name).read_text().replace("cat", "\x1b[31mcat"))
    assert text
    call()
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["max_nfr=1"], "write 1% or a fraction below 1"),
        (["max_nfr=-1%"], "must be 0 or more"),
        (["max_nfr=nan"], "must be 0 or more"),
        (["max_nfr=low"], "expected a rate such as 1% or 0.01"),
        (["critical=nowhere.txt"], "nowhere.txt"),
        (["critical=empty.txt"], "names no sample"),
        (["critical=binary.txt"], "binary.txt: not a text file"),
        (["json=nowhere/gate.json"], "nowhere: No such folder"),
        (["show=-1"], "must be 0 or more"),
        (["old_classes=zebra"], "of class 'zebra'"),
        (["max_nrf=1%"], "did you mean 'max_nfr'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(files, capsys, words, message):
    (files / "empty.txt").write_text("\n")
    (files / "binary.txt").write_bytes(b"\xff\xfe\xb3")
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_files_must_be_named_and_exist(files, capsys):
    assert main(["old=old.csv"]) == 2
    assert main(["old=old.csv", "new=nowhere.csv"]) == 2
    assert main(["old=old.csv", "new=nowhere"]) == 2
    err = capsys.readouterr().err
    assert "old= and new= must name two files" in err
    assert "error: nowhere.csv: No such file\n" in err
    assert "error: nowhere: No such file\n" in err


def test_old_classes_may_be_a_file_of_names(files, capsys):
    (files / "names.txt").write_text("\n".join(NAMES))
    assert call("old_classes=names.txt") == 0
    assert "200 samples of 4 old classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["max_rel_nfr=40"], "max_rel_nfr=40: write 40% or a fraction"),
        (["max_nfr=5"], "max_nfr=5: write 5% or a fraction"),
        (["flips=old.csv"], "flips=old.csv: would overwrite the file of old="),
        (["critical=ids.txt", "json=./ids.txt"], "json=ids.txt: would overwrite the file of critical="),
        (["json=out", "junit=out"], "junit=out: would overwrite the file of json="),
    ],
)
def test_words_that_would_do_harm_are_refused(files, capsys, words, complaint):
    before = {path: path.read_bytes() for path in files.iterdir()}
    assert call(*words) == 2
    assert complaint in capsys.readouterr().err
    assert {path: path.read_bytes() for path in files.iterdir()} == before


def test_both_versions_may_be_in_one_file(files, capsys):
    (files / "both.csv").write_text("id,target,v1,v2\n1,0,0,0\n2,1,1,0\n")
    words = ["old=both.csv", "new=both.csv", "old.prediction=v1", "new.prediction=v2"]
    assert main([*words, "max_nfr=10%"]) == 3
    assert "1 negative flip," in capsys.readouterr().out
    assert main([*words, "old.predicton=v1"]) == 2
    assert "columns.predicton: the roles are id, target" in capsys.readouterr().err
