"""The command itself: words to table, twice, interrupted, misused."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from harness import sweep
from results.store import Store

WORDS = ("methods=none,mpt-kl", "seeds=0,1", "epochs=2", "device=cpu", "cluster=local")


def command(*words, env=None):
    return [sys.executable, "-m", "harness.sweep", *words]


def call(*words, **kwargs):
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, check=False, **kwargs)


def table(text):
    """The printed table: from its title on."""
    return text[text.index("digits: ") :]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, betons):
    """A finished sweep's folder of records and what it printed."""
    runs = tmp_path_factory.mktemp("sweep") / "runs"
    first = call(*WORDS, f"runs={runs}", f"betons={betons}")
    assert first.returncode == 0, first.stderr
    return runs, first.stdout


def test_a_sweep_prints_the_table(finished):
    _, printed = finished
    shown = table(printed)

    for expected in (
        "old model",
        "none",
        "mpt-kl",
        "ER old",
        "ER all",
        "NFR",
        "Rel-NFR",
        "2 seeds",
        "755 test samples",
    ):
        assert expected in shown
    assert re.findall(r"^(old model|none|mpt-kl) ", shown, re.MULTILINE) == ["old model", "none", "mpt-kl"]
    assert len(re.findall(r"\d+\.\d\d±\d+\.\d\d", shown)) >= 2 * 4 + 1


def test_a_second_call_trains_nothing_and_prints_the_same_table(finished, betons):
    runs, printed = finished
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}

    again = call(*WORDS, f"runs={runs}", f"betons={betons}")

    assert again.returncode == 0
    assert again.stdout == table(printed)
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before


def test_a_wider_sweep_runs_only_what_is_new(finished, betons):
    runs, _ = finished

    same = call(*WORDS, f"runs={runs}", "plan=true")
    wider = call("methods=none,mpt-kl,pct-kl", *WORDS[1:], f"runs={runs}", "plan=true")

    assert "0 to do" in same.stdout
    assert len(re.findall(r" done ", same.stdout)) == 6, "a row for each job"
    assert "2 to do in 2 jobs" in wider.stdout
    assert "pct-kl" in wider.stdout


def test_a_plan_starts_nothing(tmp_path):
    runs = tmp_path / "runs"

    shown = call("plan=true", "methods=all", "seeds=0", f"runs={runs}")

    assert shown.returncode == 0
    assert "17 runs: 0 done, 17 to do in 10 jobs" in " ".join(shown.stdout.split())
    assert "nothing was started" in shown.stdout
    assert (
        "table: digits: resnet8 (cifar stem) -> resnet8 (cifar stem), 5 of 10 classes old; epochs=30"
        in shown.stdout
    )
    assert f"images: digits will be converted into {runs}/betons, about 1 MB" in shown.stdout
    assert "of training on one" in shown.stdout
    assert not runs.exists()


def wait_for(condition, process, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "the sweep ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants_gone(runs, timeout=60):
    """Whether no process works on the folder any more."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if not subprocess.run(["pgrep", "-f", str(runs)], capture_output=True, check=False).stdout:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("how", "send"),
    [(signal.SIGINT, os.kill), (signal.SIGTERM, os.killpg), (signal.SIGKILL, os.kill)],
    ids=["Ctrl-C", "everybody told to end", "killed"],
)
def test_an_interrupted_sweep_goes_on_and_ends_with_the_same_table(how, send, finished, tmp_path, betons):
    runs = tmp_path / "runs"
    words = (*WORDS, f"runs={runs}", f"betons={betons}")
    process = subprocess.Popen(
        command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for(lambda: list(runs.glob("*/record.json")), process)
    send(process.pid, how)
    code = process.wait(timeout=120)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert not list(runs.glob("*/failure.json"))
    assert not all(Store(runs).read(run) for run in (path.name for path in finished[0].glob("digits-*")))

    again = call(*words)

    assert again.returncode == 0, again.stderr
    numbers = re.findall(r"\d+\.\d\d±\d+\.\d\d", table(again.stdout))
    assert numbers == re.findall(r"\d+\.\d\d±\d+\.\d\d", table(finished[1]))


def main(*words):
    return sweep.main([*words])


@pytest.mark.parametrize(
    "words",
    [
        ["metods=none"],
        ["methods=mpt"],
        ["dataset=digit"],
        ["arch=resnet19"],
        ["lr=fast"],
        ["mpt-kl.k=nan"],
        ["methods="],
        ["epochs"],
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(words, capsys):
    assert main(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", captured.err)


@pytest.mark.parametrize(
    ("dataset", "complaint"),
    [
        ("imagenet", "lacks the folder train/"),
        ("folder", "lacks the folder train/"),
        ("cifar100", "holds neither cifar-100-python.tar.gz nor cifar-100-python"),
    ],
)
def test_data_that_is_not_there_is_one_line_before_anything_starts(dataset, complaint, tmp_path, capsys):
    words = (f"dataset={dataset}", f"runs={tmp_path / 'runs'}", "seeds=0", "device=cpu")

    assert main(*words, f"data={tmp_path}") == 2
    assert re.fullmatch(rf"error: [^\n]*{complaint}[^\n]*\n", capsys.readouterr().err)
    assert main(*words, f"data={tmp_path / 'nowhere'}") == 2
    assert re.fullmatch(r"error: data=[^\n]+nowhere[^\n]+\n", capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    assert main("runs=" + str(tmp_path / "file" / "runs"), "seeds=0") == 2
    assert re.fullmatch(r"error: runs=[^\n]+\n", capsys.readouterr().err)


def test_a_record_of_a_newer_schema_is_refused_and_left_alone(finished, tmp_path, capsys, betons):
    runs = tmp_path / "runs"
    source = next(finished[0].glob("digits-*-old-s0-*"))
    target = runs / source.name
    target.mkdir(parents=True)
    record = json.loads((source / "record.json").read_text()) | {"schema": 99}
    (target / "record.json").write_text(json.dumps(record))

    assert main(*WORDS, f"runs={runs}", f"betons={betons}") == 2

    assert re.fullmatch(r"error: \S+record.json: its schema is 99[^\n]+\n", capsys.readouterr().err)
    assert json.loads((target / "record.json").read_text())["schema"] == 99


def test_a_truncated_beton_is_named_with_the_way_out(tmp_path, betons, capfd):
    words = (
        "methods=none",
        "seeds=0",
        "epochs=1",
        f"runs={tmp_path / 'runs'}",
        f"betons={tmp_path / 'betons'}",
    )
    assert call(*words).returncode == 0
    beton = next((tmp_path / "betons").rglob("train.beton"))
    os.truncate(beton, beton.stat().st_size - 100)

    failed = call(*words, "lr=0.05")

    assert failed.returncode == 1
    assert "train.beton" in failed.stdout
    assert "delete" in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr


def test_help_lists_what_there_is(capsys):
    assert main("--help") == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 60
    assert {"methods=all", "epochs=", "track=none", "mpt-kl-nobias", "imagenet"} <= set(
        re.split(r"[\s,]+", short)
    )
    assert main("--help", "all") == 0
    shown = capsys.readouterr().out
    for expected in (
        "methods=all",
        "mpt-kl-nobias",
        "lambda=0.4",
        "digits",
        "resnet50",
        "seeds=0,1,2",
        "plan=false",
    ):
        assert expected in shown


def test_an_experiment_ends_in_its_figure(tmp_path, betons):
    runs = tmp_path / "runs"

    done = call(
        "experiment=figure4",
        "dataset=digits",
        "k=0,4",
        "seeds=0",
        "epochs=1",
        f"runs={runs}",
        f"betons={betons}",
    )

    assert done.returncode == 0, done.stderr
    assert f"figure4: {runs}/figures/figure4-digits-1.png" in done.stdout
    assert (runs / "figures" / "figure4-digits-1.png").read_bytes().startswith(b"\x89PNG")
    assert (runs / "figures" / "figure4-digits-1.svg").exists()
