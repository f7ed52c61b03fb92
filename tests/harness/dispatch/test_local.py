"""Jobs as processes of this machine: order, failures, retries, stopping."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from common.jobs import JobState, Phase, Resources
from common.paths import RecordsFolder
from common.signals import DISPATCHER, StopSignals
from harness.dispatch import disk
from harness.dispatch.dispatcher import choose, dispatch
from harness.dispatch.machine import Machine, Places
from harness.dispatch.view import View
from results.store import Store
from tests.standin_jobs import ROOT

TWO_CORES = Machine(cpus=2, memory_gb=8)


@pytest.fixture
def run(bench, console):
    def run(*jobs, machine=TWO_CORES, cluster="local"):
        return dispatch(
            jobs, runs=bench.runs, cluster=cluster, console=console, machine=machine, program="tests.standin"
        )

    return run


def phases(outcome):
    return [state.phase for state in outcome.states.values()]


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def said(console):
    return Path(console.file.name).read_text()


@pytest.mark.parametrize("cluster", ["local", "inline"])
def test_children_run_after_their_parents_and_all_leave_records(bench, run, cluster):
    old = bench.job("old")
    reference = bench.job("reference")
    candidate = bench.job("candidate", after=[old, reference], size=3)
    outcome = run(old, reference, candidate, cluster=cluster)
    assert outcome.complete
    assert not outcome.interrupted
    assert all(Store(bench.runs).read(run.id) for job in (old, reference, candidate) for run in job.runs)
    starts = [float(bench.lines(job, "tries.txt")[0].split()[0]) for job in (old, reference, candidate)]
    assert max(starts) == starts[2]


def test_a_failed_job_blocks_its_descendants_and_no_one_else(bench, run, console):
    bad = bench.job("bad", "fail bug")
    child = bench.job("child", after=[bad])
    grandchild = bench.job("grandchild", after=[child])
    sibling = bench.job("sibling")
    outcome = run(bad, child, grandchild, sibling)
    assert phases(outcome) == [Phase.FAILED, Phase.BLOCKED, Phase.BLOCKED, Phase.DONE]
    assert outcome.states[bad.id].note == "bug: as the script says"
    assert bad.title in outcome.states[child.id].note
    assert str(bench.folder(bad) / "log.txt") in outcome.states[child.id].note
    assert bench.tries(bad) == 1, "a bug is not tried again"
    assert bench.tries(child) == 0
    last_words = said(console).splitlines()[-2:]
    assert last_words[0].startswith(f"failed {bad.title}: bug: as the script says; log: {bench.runs}")
    assert last_words[1] == "2 job(s) blocked by these"


def test_a_failed_reference_costs_those_alone_who_learn_from_it(bench, run):
    old, bad = bench.job("old"), bench.job("bad", "fail bug")
    cohort = bench.job("cohort", "learn", after=[old, bad], size=2, learning=1)
    learner = bench.job("learner", after=[old, bad])
    outcome = run(old, bad, cohort, learner)
    assert phases(outcome) == [Phase.DONE, Phase.FAILED, Phase.BLOCKED, Phase.BLOCKED]
    learning, plain = (Store(bench.runs).read(run.id) for run in cohort.runs)
    assert learning is None
    assert plain is not None


def test_what_a_job_prints_is_in_its_log_alone(bench, run, capfd):
    job = bench.job("printing")
    run(job)
    assert "try 1: train" in (bench.folder(job) / "log.txt").read_text()
    assert "try 1" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("number", "cause", "tries"), [(signal.SIGKILL, "node", 4), (signal.SIGSEGV, "bug", 1)]
)
def test_an_end_by_a_signal_is_recorded_as_a_failure(bench, run, number, cause, tries):
    job = bench.job("shot", f"die {int(number)}", size=2)
    outcome = run(job)
    assert phases(outcome) == [Phase.FAILED]
    assert bench.tries(job) == tries
    for member in job.runs:
        failure = Store(bench.runs).failure(member.id)
        assert failure is not None
        assert failure.cause == cause
        assert signal.Signals(number).name in failure.message
        assert failure.log == str(bench.folder(job) / "log.txt")


def test_a_job_that_was_killed_once_goes_on_from_its_checkpoint(bench, run):
    job = bench.job("killed", "train 3 0", f"die {int(signal.SIGKILL)}", "train 3 0")
    (bench.folder(job) / "script.txt").write_text(f"die {int(signal.SIGKILL)}\ntrain 3 0")
    (bench.folder(job) / "checkpoint.txt").write_text("2")
    assert run(job).complete
    assert bench.lines(job, "epochs.txt") == ["3"]


@pytest.mark.parametrize(
    ("cause", "tries"), [("bug", 1), ("data", 1), ("memory", 2), ("timeout", 6), ("node", 4)]
)
def test_the_cause_decides_how_often_a_job_is_tried(bench, run, cause, tries):
    job = bench.job("failing", f"fail {cause}")
    assert phases(run(job)) == [Phase.FAILED]
    assert bench.tries(job) == tries


def test_a_job_that_ran_out_of_memory_gets_twice_as_much(bench, run, monkeypatch):
    asked, take = [], Places.take

    def noted(places, key, wanted):
        asked.append(wanted.memory_gb)
        return take(places, key, wanted)

    monkeypatch.setattr(Places, "take", noted)
    needs = Resources(cpus=1, gpus=0, memory_gb=3, minutes=1)
    assert run(bench.job("greedy", "fail memory", "train 1 0", resources=needs)).complete
    assert asked == [3, 6]


def test_a_preempted_job_resumes_for_free(bench, run):
    job = bench.job("preempted", *["exit 75"] * 7, "train 1 0")
    assert run(job).complete
    assert bench.tries(job) == 8


def test_an_exit_without_a_record_is_a_failure_whatever_its_code(bench, run):
    liar = bench.job("liar", "exit 0")
    outcome = run(liar)
    assert phases(outcome) == [Phase.FAILED]
    assert "without a record" in outcome.states[liar.id].note


def test_a_record_counts_whatever_the_exit_code(bench, run):
    job = bench.job("odd", "train 1 0")
    assert run(job).complete
    (bench.folder(job) / "script.txt").write_text("exit 3")
    assert run(job).complete


def test_a_job_that_ran_into_a_full_disk_starts_again_when_there_is_room(bench, run, console, monkeypatch):
    monkeypatch.setattr(disk, "LOOK_S", 0.1)
    monkeypatch.setattr(
        disk, "trouble_of", lambda folder: "" if disk.NO_ROOM in said(console) else disk.NO_ROOM
    )
    job = bench.job("full", "exit 3", "train 1 0")
    assert run(job).complete
    assert bench.tries(job) == 2


def spans(bench, *jobs):
    return [float(bench.lines(job, "tries.txt")[0].split()[0]) for job in jobs]


def test_a_job_per_gpu_and_each_sees_its_own(bench, run):
    gpu = Resources(cpus=8, gpus=1, memory_gb=64, minutes=1)
    jobs = [bench.job(f"gpu{i}", "train 1 0.3", resources=gpu) for i in range(3)]
    assert run(*jobs, machine=Machine(cpus=2, memory_gb=8, gpus=("A", "B"))).complete
    seen = [bench.lines(job, "tries.txt")[0].split()[1] for job in jobs]
    assert sorted(seen[:2]) == ["A", "B"]
    starts = spans(bench, *jobs)
    assert starts[2] - min(starts) >= 0.3, "the third waited for a free GPU"


def test_jobs_share_gpus_evenly_where_that_is_asked_for():
    places = Places(Machine(cpus=2, memory_gb=8, gpus=("A", "B"), jobs_per_gpu=2))
    gpu, both = (Resources(cpus=8, gpus=count, memory_gb=64, minutes=1) for count in (1, 2))
    seen = [(places.take(str(i), gpu) or {}).get("CUDA_VISIBLE_DEVICES") for i in range(5)]
    assert seen == ["A", "B", "A", "B", None]
    places.free("1")
    assert places.take("both", both) is None, "A is taken twice"
    places.free("2")
    assert places.take("both", both) == {"CUDA_VISIBLE_DEVICES": "A,B"}


def test_a_job_that_wants_more_gpus_than_there_are_is_refused_in_one_line(bench, run):
    job = bench.job("greedy", resources=Resources(cpus=1, gpus=1, memory_gb=1, minutes=1))
    with pytest.raises(ValueError, match=r"wants 1 GPU.* this machine has 0"):
        run(job)


def test_a_job_too_large_for_the_machine_runs_alone(bench, run):
    large = Resources(cpus=64, gpus=0, memory_gb=1000, minutes=1)
    jobs = [
        bench.job("large", "train 1 0.3", resources=large),
        bench.job("small", "train 1 0"),
    ]
    assert run(*jobs).complete
    first, second = spans(bench, *jobs)
    assert second - first >= 0.3


# A sweep in a process of its own, which can be interrupted and killed like a person's.
SWEEP = """
import sys
import threading
from pathlib import Path
from rich.console import Console
from harness import jobfile
from harness.dispatch.dispatcher import dispatch
from harness.dispatch.machine import Machine
if __name__ == "__main__":
    runs = Path(sys.argv[1])
    jobs = [jobfile.read(runs / "jobs" / name)[0] for name in sys.argv[2:]]
    machine = Machine(cpus=2, memory_gb=8)
    outcome = dispatch(
        jobs, runs=runs, cluster="local", console=Console(), machine=machine, program="tests.standin"
    )
    print(*[state.phase.value for state in outcome.states.values()])
    sys.exit(130 if outcome.interrupted else 0)
"""


@pytest.fixture
def sweep(bench, tmp_path):
    """Starts a sweep of jobs as a process in a group of its own; ended at the latest with the test."""
    started = []

    def start(*jobs):
        script = tmp_path / "sweep.py"
        script.write_text(SWEEP)
        path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        process = subprocess.Popen(
            [sys.executable, str(script), str(bench.runs), *(job.id for job in jobs)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_ctrl_c_stops_all_with_checkpoints_and_the_next_call_goes_on(bench, sweep, run):
    jobs = [bench.job("a", "train 60 0.05"), bench.job("b", "train 60 0.05")]
    waiting = bench.job("c", "train 1 0", after=jobs)
    process = sweep(*jobs, waiting)
    wait_until(lambda: all(len(bench.lines(job, "epochs.txt")) > 2 for job in jobs))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped stopped stopped" in output
    assert "the same command continues from here" in output
    assert "Traceback" not in output
    assert run(*jobs, waiting).complete
    for job in jobs:
        assert bench.lines(job, "epochs.txt") == [str(epoch) for epoch in range(1, 61)], "no epoch twice"


def test_a_second_ctrl_c_kills_a_job_that_does_not_stop(bench, sweep):
    deaf = bench.job("deaf", "deaf 600")
    process = sweep(deaf)
    wait_until(lambda: bench.lines(deaf, "deaf.txt"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.splitlines()[-1] == "stopped", "that is no failure of the job"
    assert Store(bench.runs).failure(deaf.id) is None


def test_jobs_stop_by_themselves_when_the_sweep_is_killed(bench, sweep, run):
    job = bench.job("orphan", "train 60 0.05")
    process = sweep(job)
    wait_until(lambda: len(bench.lines(job, "epochs.txt")) > 2)
    process.kill()
    process.wait()
    wait_until(lambda: is_quiet(bench.folder(job) / "epochs.txt"))
    assert len(bench.lines(job, "epochs.txt")) < 60
    assert run(job).complete
    assert bench.lines(job, "epochs.txt") == [str(epoch) for epoch in range(1, 61)]


def is_quiet(path):
    before = path.read_text()
    time.sleep(0.3)
    return path.read_text() == before


def test_a_signal_that_nohup_hides_stays_hidden():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(DISPATCHER) as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.count() == 0
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.count() == 1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, old)


def test_auto_takes_this_machine_where_no_controller_answers_and_says_why(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose("auto") == ("local", "SLURM is not installed here")
    with pytest.raises(ValueError, match=r"cluster=slurm: SLURM is not installed here \(cluster=local"):
        choose("slurm")
    for name in ("scontrol", "sbatch"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'Slurmctld(primary) at head is DOWN'\n")
        (tmp_path / name).chmod(0o755)
    assert choose("auto") == ("local", "SLURM is installed, but no controller answers")


def test_the_first_line_says_where_jobs_run(bench, run, console):
    assert run(bench.job("job")).complete
    assert said(console).splitlines()[0] == "cluster=local (2 cores, 8 GB)"


# --- what the kernel's OOM killer, other people and old disks do


def fork_server(process):
    """The process that starts jobs for a sweep."""
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if "forkserver import main" in " ".join(child.cmdline()))


def test_a_fork_server_that_is_killed_is_started_again(bench, sweep):
    running = bench.job("running", "train 40 0.05")
    later = bench.job("later", after=[running])
    process = sweep(running, later)
    wait_until(lambda: len(bench.lines(running, "epochs.txt")) > 2)
    fork_server(process).kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.splitlines()[-1] == "done done"
    assert "Traceback" not in output
    assert bench.lines(running, "epochs.txt") == [str(epoch) for epoch in range(1, 41)], "no epoch twice"


def test_a_job_whose_log_cannot_be_opened_is_one_line(bench, sweep):
    job = bench.job("job")
    log = bench.folder(job) / "log.txt"
    log.mkdir()
    output, _ = sweep(job).communicate(timeout=60)
    assert output.count(f"error: {log}: Is a directory") == 1
    assert "data: its log could not be opened" in output
    assert "Traceback" not in output


def test_a_folder_of_records_that_is_removed_is_said(bench, run, tmp_path):
    job = bench.job("job", "train 200 0.05")

    def remove():
        wait_until(lambda: bench.tries(job))
        bench.runs.rename(tmp_path / "away")

    remover = threading.Thread(target=remove)
    remover.start()
    with pytest.raises(OSError, match="The folder of records was removed"):
        run(job)
    remover.join()


def test_names_cannot_steer_the_terminal(bench, run, console):
    job = bench.job("job", "fail bug")
    state = JobState(phase=Phase.RUNNING, node="n\x1b[2J1", note="a\x1b]0;b")
    with View([job.ref], records=RecordsFolder(bench.runs), console=console) as view:
        view.show({job.id: state})
    assert "\x1b" not in said(console)
    assert "n?[2J1" in said(console)
