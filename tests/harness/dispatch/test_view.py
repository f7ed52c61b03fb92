"""The live view and its plain form."""

import io

import pytest
from rich.console import Console

from common.jobs import JobState, Phase
from common.jobtable import duration
from common.paths import RecordsFolder
from common.progress import Progress, ProgressWriter
from harness.dispatch.view import View


def screen(jobs, states, runs, *, height=24, width=80):
    """What a terminal of that size shows at one moment."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    view = View([job.ref for job in jobs], records=RecordsFolder(runs), console=console)
    view.show(states)
    with console.capture() as capture:
        console.print(view.render())
    return capture.get().splitlines()


def test_thirty_jobs_fit_a_small_terminal_and_what_matters_is_there(bench):
    jobs = [bench.job(f"j{i}") for i in range(30)]
    phases = [Phase.DONE] * 5 + [Phase.WAITING] * 20 + [Phase.RUNNING] * 3 + [Phase.FAILED, Phase.BLOCKED]
    states = {job.id: JobState(phase=phase) for job, phase in zip(jobs, phases, strict=True)}
    writer = ProgressWriter(bench.job_folder(jobs[25]))
    writer.say(state="training", epoch=7, epochs=20, images_per_s=1234.5, eta_s=75)
    lines = screen(jobs, states, bench.runs)
    text = "\n".join(lines)
    assert len(lines) < 24
    assert all(len(line) <= 80 for line in lines)
    for expected in ("5 of 30 jobs done", "training", "7/20", "1,234", "1m15s", "failed", "blocked"):
        assert expected in text
    hidden = int(lines[-1].split()[1])
    assert sum("waiting" in line for line in lines[1:-1]) + hidden == 20


def test_a_job_that_has_said_nothing_yet_is_shown_as_running(bench):
    job = bench.job("quiet")
    (bench.folder(job) / "progress.json").write_text('{"state": "trai')
    assert any(
        "running" in line for line in screen([job], {job.id: JobState(phase=Phase.RUNNING)}, bench.runs)
    )


def test_progress_of_a_newer_program_is_read_as_far_as_it_is_known(bench):
    job = bench.job("newer")
    (bench.folder(job) / "progress.json").write_text('{"epoch": 3, "mood": "good", "eta_s": null}')
    progress = Progress.read(bench.job_folder(job))
    assert progress is not None
    assert progress.epoch == 3
    assert progress.eta_s is None


def test_without_a_terminal_each_change_is_one_line(bench, console, tmp_path):
    job = bench.job("plain")
    with View([job.ref], records=RecordsFolder(bench.runs), console=console) as view:
        for phase in (Phase.WAITING, Phase.RUNNING, Phase.RUNNING, Phase.FAILED, Phase.FAILED):
            view.show({job.id: JobState(phase=phase, note="bug: no" if phase is Phase.FAILED else "")})
    console.file.flush()
    running, failed = (tmp_path / "console.txt").read_text().splitlines()
    assert running.split() == ["running", *job.title.split()]
    assert "bug: no" in failed
    assert str(bench.folder(job) / "log.txt") in failed


def test_a_queue_s_reasons_are_no_news_but_a_way_back_into_it_is(bench, console, tmp_path):
    job = bench.job("queued")
    with View([job.ref], records=RecordsFolder(bench.runs), console=console) as view:
        for phase, note in [
            (Phase.WAITING, "to be submitted"),
            (Phase.PENDING, "Priority"),
            (Phase.PENDING, "Resources"),
            (Phase.RUNNING, ""),
            (Phase.PENDING, "suspended"),
            (Phase.WAITING, "again after memory"),
        ]:
            view.show({job.id: JobState(phase=phase, note=note)})
    console.file.flush()
    lines = (tmp_path / "console.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["running", "pending", "waiting"]


def test_a_job_that_was_suspended_before_anybody_saw_it_run_is_news(bench, console, tmp_path):
    job = bench.job("suspended")
    with View([job.ref], records=RecordsFolder(bench.runs), console=console) as view:
        view.show({job.id: JobState(phase=Phase.PENDING, note="Priority")})
        view.show({job.id: JobState(phase=Phase.PENDING, note="suspended", node="n1")})
    console.file.flush()
    assert "(suspended)" in (tmp_path / "console.txt").read_text()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0s"), (59.4, "59s"), (187, "3m07s"), (18120, "5h02m"), (183600, "2d03h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
