"""A real SLURM: what is submitted, waited for, left and adopted; nothing twice, nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.jobs import Phase, Resources
from results.store import Store
from slurm import cancel
from slurm.ledger import Ledger
from tests.slurm.sweeping import arrays, once, phases, training

pytestmark = pytest.mark.slurm

# --- arrays and dependencies


def test_arrays_hold_jobs_of_one_shape_and_children_wait_for_their_own_parents_alone(slurm, sweeps, bench):
    quick = bench.job("quick", "train 1 0")
    slow = bench.job("slow", "until told")
    child = bench.job("child", after=[quick])
    others = [bench.job(f"other{i}") for i in range(11)]
    large = bench.job("large", resources=Resources(cpus=1, gpus=0, memory_gb=1, minutes=9, nodes=2))
    sweep = sweeps.start(quick, slow, *others, child, large)
    slurm.wait_until(lambda: Store(bench.runs).read(child.id), 120)
    assert Store(bench.runs).read(slow.id) is None
    (bench.folder(slow) / "told").touch()
    assert sweep.result(180).complete
    assert sorted(len(array.jobs) for array in arrays(bench)) == [1, 1, 2, 11], "MaxArraySize is 11"
    assert all(bench.tries(job) == 1 for job in (quick, slow, child, *others))


def test_a_failed_parent_blocks_its_children_and_leaves_nothing_queued(slurm, sweeps, bench):
    bad, sibling = bench.job("bad", "fail bug"), bench.job("sibling")
    child = bench.job("child", after=[bad, sibling])
    grandchild = bench.job("grandchild", after=[child])
    outcome = sweeps.run(bad, sibling, child, grandchild)
    assert phases(outcome) == [Phase.FAILED, Phase.DONE, Phase.BLOCKED, Phase.BLOCKED]
    assert str(bench.folder(bad) / "log.txt") in outcome.states[child.id].note
    assert bench.tries(bad) == 1
    slurm.wait_until(lambda: not slurm.queue(), 20)


def test_a_job_that_may_be_tried_again_takes_its_children_along(sweeps, bench):
    parent = bench.job("parent", "fail memory", "train 1 0")
    child = bench.job("child", after=[parent])
    assert sweeps.run(parent, child).complete
    assert (bench.tries(parent), bench.tries(child)) == (2, 1)
    assert [array.request.memory_gb for array in arrays(bench) if array.jobs[0].id == parent.id] in (
        [0.5, 1.0],
        [1.0, 0.5],
    )


def test_jobs_run_the_code_as_it_was_at_submission(sweeps, bench):
    job = bench.job("code")
    assert sweeps.run(job).complete
    log = (bench.folder(job) / "log.txt").read_text()
    code = arrays(bench)[0].code.path
    assert Path(code).parent == Ledger(bench.runs).code
    assert f"code {code}/harness/__init__.py" in log
    assert not log.split("__init__.py ")[1].startswith("None")


def test_a_run_on_two_nodes_finds_its_peers(slurm, sweeps, bench):
    job = bench.job("wide", "gather", resources=Resources(cpus=1, gpus=0, memory_gb=2, minutes=5, nodes=2))
    assert sweeps.run(job, memory_gb=2).complete
    assert (bench.folder(job) / "total.txt").read_text() == "3 of 2"


# --- attach, detach, adopt


SWEEP = """
import sys
from pathlib import Path
from rich.console import Console
from harness import jobfile
from harness.dispatch.dispatcher import dispatch
from slurm import profile
if __name__ == "__main__":
    runs = Path(sys.argv[1])
    jobs = [jobfile.read(runs / "jobs" / name)[0] for name in sys.argv[2:]]
    options = {"poll_s": "1", "memory_gb": "0.5", "time": "10"}
    outcome = dispatch(
        jobs,
        runs=runs,
        cluster="auto",
        console=Console(),
        profile=profile.load(None, options, roles=(), archs=()),
        program="tests.standin",
    )
    print("detached" if outcome.detached else "complete" if outcome.complete else "incomplete")
"""


@pytest.fixture
def process(slurm, bench, tmp_path):
    """Starts a sweep as a process of its own, for signals and sudden deaths."""
    started = []

    def start(*jobs, path=""):
        script = tmp_path / "sweep.py"
        script.write_text(SWEEP)
        command = [sys.executable, str(script), str(bench.runs), *(job.id for job in jobs)]
        environment = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}"}
        started.append(
            subprocess.Popen(
                command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_ctrl_c_detaches_and_the_same_call_adopts(slurm, process, sweeps, bench):
    job, child = bench.job("job", "train 40 0.1"), None
    child = bench.job("child", after=[job])
    first = process(job, child)
    slurm.wait_until(training(bench, job))
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=30)
    assert "a SLURM controller answers" in output.splitlines()[0]
    assert "The same command comes back" in output.replace("\n", " ")
    assert output.splitlines()[-1] == "detached"
    assert len(slurm.queue()) == 2
    assert sweeps.run(job, child).complete
    assert once(bench, job, 40)
    assert (bench.tries(job), bench.tries(child)) == (1, 1)


def test_without_wait_it_returns_once_all_is_queued(slurm, sweeps, bench):
    parent = bench.job("parent", "train 10 0.1")
    child = bench.job("child", after=[parent])
    outcome = sweeps.run(parent, child, wait=False)
    assert outcome.detached
    slurm.wait_until(lambda: not slurm.queue())
    assert all(Store(bench.runs).read(job.id) for job in (parent, child))


def test_two_people_with_the_same_sweep_get_one_run_each(process, bench):
    jobs = [bench.job(f"j{i}", "train 5 0.1") for i in range(4)]
    child = bench.job("child", after=jobs)
    both = [process(*jobs, child), process(*jobs, child)]
    assert [one.communicate(timeout=90)[0].splitlines()[-1] for one in both] == ["complete"] * 2
    assert [bench.tries(job) for job in (*jobs, child)] == [1] * 5


FATAL_SBATCH = """#!/bin/sh
echo x >> {calls}
[ $(wc -l < {calls}) = {fatal} ] || exec {sbatch} "$@"
[ {after} = 0 ] || {sbatch} "$@"
kill -9 $PPID
"""


@pytest.mark.parametrize("after", [0, 1], ids=["before", "after"])
@pytest.mark.parametrize("fatal", [1, 2])
def test_a_submitter_killed_around_sbatch_leaves_nothing_twice_and_nothing_out(
    slurm, process, sweeps, bench, tmp_path, fatal, after
):
    parents = [bench.job(f"p{i}", "train 20 0.1") for i in range(3)]
    child = bench.job("child", after=parents)
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    sbatch = shutil.which("sbatch")
    program.write_text(FATAL_SBATCH.format(calls=tmp_path / "calls", fatal=fatal, after=after, sbatch=sbatch))
    program.chmod(0o755)
    first = process(*parents, child, path=program.parent)
    assert first.wait(30) == -signal.SIGKILL
    assert sweeps.run(*parents, child).complete
    assert [bench.tries(job) for job in (*parents, child)] == [1] * 4
    assert len(arrays(bench)) == (2 if after else 3), "what had been submitted was adopted"


@pytest.mark.parametrize("words", ["Socket timed out on send/recv operation", "something unheard of"])
def test_an_sbatch_that_submits_and_denies_it_is_not_asked_again(
    slurm, sweeps, bench, tmp_path, monkeypatch, words
):
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null\necho "sbatch: error: {words}" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    jobs = [bench.job(f"j{i}") for i in range(3)]
    child = bench.job("child", after=jobs)
    assert sweeps.run(*jobs, child).complete
    assert [bench.tries(job) for job in (*jobs, child)] == [1] * 4


def test_what_sbatch_refuses_for_good_is_one_clear_line(sweeps, bench):
    with pytest.raises(ValueError, match="Invalid partition"):
        sweeps.run(bench.job("job"), partition="nowhere")


def test_strange_jobs_are_left_alone(slurm, sweeps, bench):
    blocker = slurm.run("sbatch", "--parsable", "-N3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60")
    job = bench.job("job")
    sweeps.run(job, wait=False)
    ledger = Ledger(bench.runs)
    # Another folder's array with the same name, another token: an id that was used again.
    strange = slurm.run(
        "sbatch", "--parsable", "-J", ledger.name, "--comment=abc", "-o", "/dev/null", "--wrap", "sleep 90"
    )
    sweep = sweeps.start(job)
    time.sleep(3)
    slurm.run("scancel", blocker.strip())
    assert sweep.result(90).complete
    assert bench.tries(job) == 1
    assert cancel.main([f"runs={bench.runs}"]) == 0
    assert strange.strip() in slurm.queue()
