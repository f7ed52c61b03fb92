"""A real SLURM, and all that goes wrong on one. After any fault: each run one record, nothing twice."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from bench import Bench
from rich.console import Console

from harness.plan import Resources
from results.store import Store
from slurm import cancel, dispatch, logs, profile, scheduler, status
from slurm.desk import Desk
from slurm.states import Phase

pytestmark = pytest.mark.slurm
TESTS = Path(__file__).parent
QUICK = {"poll_s": "1", "memory_gb": "0.5", "time": "10"}


class Sweeps:
    """Starts sweeps of the stand-in's Jobs in threads; no exit waits for one that a failed test leaves."""

    def __init__(self, bench, console):
        self._bench = bench
        self._console = console
        self._threads = []

    def start(self, *jobs, wait=True, **wishes):
        settings = {"runs": self._bench.runs, "cluster": "slurm", "console": self._console, "wait": wait}
        wanted = profile.load(None, {**QUICK, **{key: str(value) for key, value in wishes.items()}})
        outcome = Future()

        def work():
            try:
                outcome.set_result(dispatch.dispatch(jobs, profile=wanted, program="standin", **settings))
            except BaseException as error:  # noqa: BLE001  # raised where the outcome is awaited
                outcome.set_exception(error)

        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()
        return outcome

    def end(self, slurm):
        """Without its jobs a sweep that a failed test left behind ends; it would disturb the next test."""
        if any(thread.is_alive() for thread in self._threads):
            slurm.clear()
        for thread in self._threads:
            thread.join(30)

    def run(self, *jobs, **wishes):
        return self.start(*jobs, **wishes).result(180)


@pytest.fixture
def sweeps(slurm, bench, console):
    started = Sweeps(bench, console)
    yield started
    started.end(slurm)


def phases(outcome):
    return [state.phase for state in outcome.states.values()]


def epochs(bench, job):
    return [int(line) for line in bench.lines(job, "epochs.txt")]


def once(bench, job, count):
    """Every epoch was counted exactly once: nothing was lost, nothing done twice."""
    return epochs(bench, job) == list(range(1, count + 1))


def training(bench, *jobs):
    return lambda: all(len(epochs(bench, job)) >= 2 for job in jobs)


def ids(slurm):
    """Ids in the queue with the states, as squeue tells them."""
    lines = slurm.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
    return dict(line.split() for line in lines)


def arrays(bench):
    desk = Desk(bench.runs)
    return [desk.read(path.stem) for path in sorted((desk.root / "arrays").glob("*.json"))]


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
    assert sorted(len(array.slips) for array in arrays(bench)) == [1, 1, 2, 11], "MaxArraySize is 11"
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
    assert [array.request.memory_gb for array in arrays(bench) if array.slips[0].job == parent.id] in (
        [0.5, 1.0],
        [1.0, 0.5],
    )


def test_jobs_run_the_code_as_it_was_at_submission(sweeps, bench):
    job = bench.job("code")
    assert sweeps.run(job).complete
    log = (bench.folder(job) / "log.txt").read_text()
    code = arrays(bench)[0].code.path
    assert Path(code).parent == bench.runs / ".slurm" / "code"
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
from slurm import dispatch, profile
if __name__ == "__main__":
    runs = Path(sys.argv[1])
    jobs = [jobfile.read(runs / "jobs" / name)[0] for name in sys.argv[2:]]
    wishes = {"poll_s": "1", "memory_gb": "0.5", "time": "10"}
    outcome = dispatch.dispatch(
        jobs,
        runs=runs,
        cluster="auto",
        console=Console(),
        profile=profile.load(None, wishes),
        program="standin",
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


def test_submitit_s_folder_may_vanish_and_strange_jobs_are_left_alone(slurm, sweeps, bench):
    blocker = slurm.run("sbatch", "--parsable", "-N3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60")
    job = bench.job("job")
    sweeps.run(job, wait=False)
    desk = Desk(bench.runs)
    shutil.rmtree(desk.pickles())
    # Another folder's array with the same name, another token: an id that was used again.
    strange = slurm.run(
        "sbatch", "--parsable", "-J", desk.name, "--comment=abc", "-o", "/dev/null", "--wrap", "sleep 90"
    )
    sweep = sweeps.start(job)
    time.sleep(3)
    slurm.run("scancel", blocker.strip())
    assert sweep.result(90).complete
    assert bench.tries(job) == 1
    assert cancel.main([f"runs={bench.runs}"]) == 0
    assert strange.strip() in slurm.queue()


# --- what clusters do


def test_a_preempted_job_writes_a_checkpoint_and_goes_on(slurm, sweeps, bench):
    job = bench.job("job", "train 80 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    slurm.run("sbatch", "-p", "high", "-N3", "-o", "/dev/null", "--wrap", "sleep 3")
    slurm.wait_until(lambda: bench.tries(job) == 2)
    assert sweep.result(120).complete
    assert once(bench, job, 80)


def test_a_requeued_job_goes_on_from_its_checkpoint(slurm, sweeps, bench):
    job = bench.job("job", "train 60 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    slurm.run("scontrol", "requeue", *slurm.queue())
    assert sweep.result(120).complete
    assert once(bench, job, 60)
    assert bench.tries(job) == 2


def test_a_job_at_its_time_limit_queues_again(slurm, sweeps, bench):
    job = bench.job("job", "train 55 1")
    outcome = sweeps.run(job, time=1, warning_s=15)
    assert outcome.complete
    assert once(bench, job, 55)
    assert bench.tries(job) >= 2


def test_a_node_whose_daemons_and_tasks_die_is_replaced(slurm, sweeps, bench):
    job = bench.job("job", "train 100 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    node = slurm.run("squeue", "-h", "-o", "%N").strip()
    slurm.kill_node(node)
    slurm.end_strays(node)
    assert sweep.result(180).complete
    assert once(bench, job, 100)
    assert bench.tries(job) == 2


def test_a_task_that_outlives_its_lost_node_does_no_harm(slurm, sweeps, bench):
    job = bench.job("job", "train 300 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    node = slurm.run("squeue", "-h", "-o", "%N").strip()
    slurm.kill_node(node)
    assert sweep.result(180).complete
    record = Store(bench.runs).read(job.id)
    assert record is not None
    attempts = sorted((bench.runs / job.id / "attempts").iterdir())
    assert record.attempt == len(attempts), "the newest attempt's result counts"


def test_a_suspended_job_waits_and_goes_on(slurm, sweeps, bench, console):
    job = bench.job("job", "train 60 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    (slurm_id,) = slurm.queue()
    slurm.run("scontrol", "suspend", slurm_id)
    slurm.wait_until(lambda: "suspended" in Path(console.file.name).read_text())
    slurm.run("scontrol", "resume", slurm_id)
    assert sweep.result(120).complete
    assert once(bench, job, 60)
    assert bench.tries(job) == 1


def test_a_program_that_is_killed_is_tried_again(slurm, sweeps, bench):
    job = bench.job("job", f"die {int(signal.SIGKILL)}", "train 1 0")
    torn = bench.runs / job.id / ".record.json.torn.tmp"
    torn.parent.mkdir()
    torn.write_text('{"schema": 1, "ru')
    assert sweeps.run(job).complete
    assert bench.tries(job) == 2
    assert not torn.exists()


def test_a_controller_that_goes_and_comes_back_costs_nothing(slurm, sweeps, bench, console):
    jobs = [bench.job("a", "train 80 0.1"), bench.job("b", "train 80 0.1")]
    child = bench.job("child", after=jobs)
    sweep = sweeps.start(*jobs, child)
    slurm.wait_until(training(bench, *jobs))
    slurm.stop_controller()
    slurm.wait_until(lambda: "SLURM does not answer" in Path(console.file.name).read_text())
    assert not sweep.done()
    slurm.start_controller()
    assert sweep.result(120).complete
    assert "failed" not in Path(console.file.name).read_text()
    assert all(bench.tries(job) == 1 for job in (*jobs, child))


def test_a_queue_that_forgets_ended_jobs_and_no_accounting_suffice(sweeps, bench, monkeypatch):
    queue = scheduler.queue

    def forgetful(name):
        return [entry for entry in queue(name) or [] if entry.live]

    monkeypatch.setattr(scheduler, "queue", forgetful)
    assert scheduler.final_states(["1"]) == {}, "this SLURM has no accounting"
    job = bench.job("job", "fail memory", "train 1 0")
    assert sweeps.run(job).complete
    assert bench.tries(job) == 2


def test_memory_is_doubled_once(sweeps, bench):
    job = bench.job("job", "hog 150")
    assert sweeps.run(job, memory_gb=0.15).complete
    assert bench.tries(job) == 2


def test_a_job_that_never_has_enough_memory_fails_and_says_so(sweeps, bench):
    job = bench.job("job", "hog 900")
    outcome = sweeps.run(job, memory_gb=0.1)
    assert phases(outcome) == [Phase.FAILED]
    assert bench.tries(job) == 2
    failure = Store(bench.runs).failure(job.id)
    assert failure is not None
    assert failure.cause == "memory"


def test_a_second_try_that_sbatch_refuses_ends_its_job_alone(sweeps, bench):
    greedy, sibling = bench.job("greedy", "fail memory"), bench.job("sibling", "train 60 0.1")
    outcome = sweeps.run(greedy, sibling, memory_gb=2.5)
    assert phases(outcome) == [Phase.FAILED, Phase.DONE], "a node has 4000 MB"
    assert "sbatch" in outcome.states[greedy.id].note


def test_a_bad_node_is_avoided_and_named(slurm, sweeps, bench, tmp_path):
    job = bench.job("job")
    outcome = sweeps.run(job, setup='[ "$SLURMD_NODENAME" = n1 ] && exit 3')
    assert outcome.complete
    excluded = {array.request.exclude for array in arrays(bench)}
    assert excluded == {(), ("n1",)}


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


def test_status_tells_of_failures_and_of_what_they_block(sweeps, bench, capsys):
    bad = bench.job("bad", "fail bug")
    child = bench.job("child", after=[bad])
    sweeps.run(bad, child)
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
    assert len((tmp_path / "calls").read_text().split()) <= looks + 1


@pytest.fixture
def small_disk(tmp_path, cannot):
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=False).returncode:
        cannot("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_waited_for(slurm, small_disk, tmp_path):
    bench = Bench(small_disk / "runs")
    job = bench.job("job", "train 40 0.1")
    with (tmp_path / "said.txt").open("w+") as file:
        sweep = Sweeps(bench, Console(file=file, width=160)).start(job)
        slurm.wait_until(training(bench, job))
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(bytes(60 * 2**20))
        slurm.wait_until(lambda: "no room on the disk" in Path(file.name).read_text())
        assert not list((bench.runs / job.id).glob("record.json"))
        ballast.unlink()
        assert sweep.result(120).complete
    assert Store(bench.runs).read(job.id) is not None


def test_a_sweep_that_runs_inside_a_job_asks_for_what_its_own_jobs_need(slurm, sweeps, bench, monkeypatch):
    for name, value in {
        "SLURM_JOB_ID": "1",
        "SLURM_CPUS_PER_TASK": "64",
        "SBATCH_PARTITION": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert sweeps.run(bench.job("job")).complete
    assert os.environ["SLURM_CPUS_PER_TASK"] == "64"
