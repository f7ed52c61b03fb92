"""A real SLURM: what people are told, what they may cancel, and how seldom the scheduler is asked."""

import os
import shutil
import time
from pathlib import Path

import pytest

from common.jobs import Phase, Resources
from slurm import cancel, logs, status
from tests.slurm.sweeping import arrays, phases, training

pytestmark = pytest.mark.slurm


def test_a_job_that_may_not_fit_its_time_limit_says_so_beforehand(sweeps, bench, console):
    job = bench.job("job", resources=Resources(cpus=1, gpus=0, memory_gb=1, minutes=300))
    assert sweeps.run(job, time=10).complete
    note = Path(console.file.name).read_text().splitlines()[1]
    assert "wants 300 min and gets 10" in note


def test_a_cancelled_job_is_not_started_again_behind_ones_back(slurm, sweeps, bench):
    job = bench.job("job", "train 200 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    assert cancel.main([f"runs={bench.runs}"]) == 0
    outcome = sweep.result(60)
    assert phases(outcome) == [Phase.FAILED]
    assert "cancelled" in outcome.states[job.id].note
    assert not slurm.queue()


@pytest.mark.parametrize("by_hand", [False, True], ids=["slurm.cancel", "scancel"])
def test_cancelled_jobs_that_had_not_begun_stay_cancelled(slurm, sweeps, bench, by_hand):
    slurm.run("scontrol", "update", "nodename=n[1-3]", "state=drain", "reason=test")
    parent = bench.job("parent", "train 1 0")
    child = bench.job("child", after=[parent])
    sweep = sweeps.start(parent, child)
    slurm.wait_until(lambda: len(slurm.queue()) == 2)
    if by_hand:
        slurm.run("scancel", min(slurm.queue(), key=lambda slurm_id: int(slurm_id.partition("_")[0])))
    else:
        assert cancel.main([f"runs={bench.runs}"]) == 0
    outcome = sweep.result(60)
    assert phases(outcome) == [Phase.FAILED, Phase.BLOCKED if by_hand else Phase.FAILED]
    assert "cancelled" in outcome.states[parent.id].note
    slurm.wait_until(lambda: not slurm.queue(), 20)
    slurm.run("scontrol", "update", "nodename=n[1-3]", "state=resume")
    assert sweeps.run(parent, child).complete, "the same command submits them again"


def test_what_keeps_a_program_from_starting_is_in_its_message_and_its_log(sweeps, bench, capsys):
    job = bench.job("job")
    outcome = sweeps.run(job, setup="no-such-command || exit 3")
    assert phases(outcome) == [Phase.FAILED]
    assert "no-such-command: command not found" in outcome.states[job.id].note
    assert logs.main([job.runs[0].id, f"runs={bench.runs}"]) == 0
    assert "no-such-command: command not found" in capsys.readouterr().out


def test_a_refused_array_tells_of_the_others_that_are_queued(slurm, sweeps, bench, capsys):
    parent = bench.job("parent", "until told")
    greedy = bench.job("greedy", resources=Resources(cpus=2, gpus=0, memory_gb=1, minutes=9))  # nodes have 1
    with pytest.raises(ValueError, match=r"sbatch: [^\n]+; 1 other job\(s\) are queued and go on") as refusal:
        sweeps.run(parent, greedy)
    assert str(refusal.value).count("sbatch: error") == 0
    assert capsys.readouterr().err == ""


def test_status_tells_of_failures_and_of_what_they_block(slurm, sweeps, bench, capsys):
    bad = bench.job("bad", "fail bug")
    child = bench.job("child", after=[bad])
    sweeps.run(bad, child)
    slurm.wait_until(lambda: not slurm.queue(), 20)  # SLURM takes its time to drop the child
    assert status.main([f"runs={bench.runs}"]) == 0
    shown = capsys.readouterr().out
    log = bench.folder(bad) / "log.txt"
    assert f"failed {bad.title}: bug: as the script says; log: {log}" in shown
    assert "blocked" in shown


def test_status_and_logs_tell_of_a_running_sweep(slurm, sweeps, bench, capsys):
    job = bench.job("job", "train 30 0.1")
    child = bench.job("child", after=[job])
    sweep = sweeps.start(job, child)
    slurm.wait_until(training(bench, job))
    assert status.main([f"runs={bench.runs}"]) == 0
    shown = capsys.readouterr().out
    assert "training" in shown
    assert "for its parents" in shown
    assert logs.main([job.runs[0].id, f"runs={bench.runs}"]) == 0
    assert "try 1: train" in capsys.readouterr().out
    assert sweep.result(60).complete


def test_the_scheduler_is_asked_once_an_interval(slurm, sweeps, bench, tmp_path, monkeypatch):
    for name in ("squeue", "sacct"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho x >> {tmp_path}/calls\nexec {shutil.which(name)} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    jobs = [bench.job(f"j{i}", "train 10 0.1") for i in range(6)]
    began = time.monotonic()
    assert sweeps.run(*jobs, poll_s=2).complete
    looks = 1 + (time.monotonic() - began) / 2
    submissions = len(arrays(bench))  # each is looked for once
    assert len((tmp_path / "calls").read_text().split()) <= looks + 1 + submissions


def test_a_sweep_that_runs_inside_a_job_asks_for_what_its_own_jobs_need(slurm, sweeps, bench, monkeypatch):
    for name, value in {
        "SLURM_JOB_ID": "1",
        "SLURM_CPUS_PER_TASK": "64",
        "SBATCH_PARTITION": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert sweeps.run(bench.job("job")).complete
    assert os.environ["SLURM_CPUS_PER_TASK"] == "64"
