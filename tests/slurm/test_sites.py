"""A real SLURM as real sites set it up: users' variables, banners, plugins, limits, odd answers."""

import os
import shutil
from pathlib import Path

import pytest

from common.jobs import Phase, Resources
from results.store import Store
from slurm import scheduler, status
from slurm.ledger import Ledger
from tests.slurm.sweeping import arrays, phases, training

pytestmark = pytest.mark.slurm


@pytest.fixture
def wrap(tmp_path, monkeypatch):
    """Puts a shell script in the place of one of SLURM's commands; `$real` is the command itself."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def wrap(name, script):
        real = shutil.which(name, path=os.environ["PATH"].partition(":")[2])
        (folder / name).write_text(f"#!/bin/sh\nreal={real}\n{script}\n")
        (folder / name).chmod(0o755)

    return wrap


def said(console):
    return Path(console.file.name).read_text()


# --- variables that SLURM's commands read


@pytest.mark.parametrize(
    "variables",
    [
        {"SBATCH_EXPORT": "NONE", "SLURM_EXPORT_ENV": "NONE"},
        {"SBATCH_MEM_PER_NODE": "20M"},
        {"SBATCH_TIMELIMIT": "1", "SLURM_TIMELIMIT": "1"},
        {"SBATCH_JOB_NAME": "mine", "SLURM_JOB_NAME": "mine"},
        {
            "SQUEUE_PARTITION": "high",
            "SQUEUE_USERS": "nobody",
            "SQUEUE_STATES": "FAILED",
            "SQUEUE_NAMES": "x",
        },
        {"SQUEUE_FORMAT": "%i", "SQUEUE_FORMAT2": "jobid", "SLURM_TIME_FORMAT": "relative"},
        {"SBATCH_WAIT": "1", "SBATCH_TEST_ONLY": "1"},
        {"SLURM_CLUSTERS": "elsewhere", "SBATCH_CLUSTERS": "elsewhere", "SQUEUE_CLUSTERS": "elsewhere"},
        {"SRUN_CPUS_PER_TASK": "7", "SLURM_NTASKS": "5", "SLURM_DISTRIBUTION": "nonsense"},
        {"SBATCH_PARTITION": "nowhere", "SBATCH_ACCOUNT": "x", "SBATCH_QOS": "x", "SBATCH_ARRAY_INX": "3"},
        {
            "SBATCH_COMMENT": "x",
            "SBATCH_REQUEUE": "0",
            "SBATCH_NO_REQUEUE": "1",
            "SBATCH_OUTPUT": "/dev/null",
        },
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_a_user_s_variables_change_nothing_that_is_submitted_or_seen(
    slurm, sweeps, bench, monkeypatch, variables
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    parent = bench.job("parent", "hog 30")
    child = bench.job("child", after=[parent])
    sweep = sweeps.start(parent, child, time=7, memory_gb=0.3)
    slurm.wait_until(lambda: len(arrays(bench)) == 2 and slurm.queue())
    main = min(slurm.queue(), key=int)
    shown = slurm.run("scontrol", "show", "job", main)
    assert f"JobName={Ledger(bench.runs).name}" in shown
    assert "TimeLimit=00:07:00" in shown
    assert "MinMemoryNode=307M" in shown
    assert "Requeue=1" in shown
    assert sweep.result(120).complete
    assert (bench.tries(parent), bench.tries(child)) == (1, 1)
    assert len(arrays(bench)) == 2


# --- what sbatch prints, and what becomes of the marks

BANNERS = {
    "before": 'echo "Welcome. Your last job 4711 went well."\n$real "$@"',
    "after": '$real "$@"\ncode=$?\necho "Quota: 17% used, job 4711"\nexit $code',
    "words": 'id=$($real "$@") || exit 1\necho "Submitted batch job $id on cluster two"',
    "number": 'echo 1\n$real "$@"\necho 1',
    "stderr": 'echo "sbatch: lua: job 4711" >&2\n$real "$@"',
    "nothing": '$real "$@" >/dev/null',
}
LOST = {
    "comment": '$real --comment=accounting "$@"',
    "name": '$real --job-name=site "$@"',
    "both": '$real --comment=accounting --job-name=site "$@"',
}


@pytest.mark.parametrize("script", [*BANNERS.values(), *LOST.values()], ids=[*BANNERS, *LOST])
def test_whatever_sbatch_prints_or_rewrites_children_wait_for_their_parents(sweeps, bench, wrap, script):
    wrap("sbatch", script)
    parents = [bench.job(f"p{i}", "train 3 0.3") for i in range(2)]
    child = bench.job("child", "learn", after=parents)
    assert sweeps.run(*parents, child).complete
    assert [bench.tries(job) for job in (*parents, child)] == [1, 1, 1], "a child before its parents fails"
    assert len(arrays(bench)) == 2


STRIPPED = 'for last; do :; done\nexec $real --parsable --comment=a --job-name=b < "$last"'


def test_a_job_whose_every_mark_is_lost_is_known_by_its_number_and_that_is_said(
    slurm, sweeps, bench, wrap, console
):
    wrap("sbatch", STRIPPED)
    parents = [bench.job(f"p{i}", "train 12 0.3") for i in range(2)]
    child = bench.job("child", "learn", after=parents)
    first = sweeps.start(*parents, child, wait=False)
    assert first.result(60).detached
    assert "took away the mark" in said(console)
    slurm.wait_until(training(bench, *parents))
    assert sweeps.run(*parents, child).complete, "a later process knows them too"
    assert [bench.tries(job) for job in (*parents, child)] == [1, 1, 1]
    assert len(arrays(bench)) == 2


# --- states and answers


def test_a_state_that_nobody_knows_is_a_living_one(sweeps, bench, wrap):
    wrap("squeue", "$real \"$@\" | sed 's/RUNNING/DREAMING/'")
    job = bench.job("job", "train 20 0.3")
    assert sweeps.run(job).complete
    assert bench.tries(job) == 1
    assert len(arrays(bench)) == 1


ALTERNATING = """echo x >> {calls}
case $(($(wc -l < {calls}) % 5)) in 0|2) exec $real "$@";; 1|3) exit 0;; *) {failing};; esac"""


@pytest.mark.parametrize(
    "failing",
    [
        "exit 1",
        'echo "slurm_load_jobs error: Transport endpoint is not connected" >&2; exit 1',
        'echo "slurm_load_jobs error: Zero Bytes were transmitted or received" >&2; exit 1',
    ],
    ids=["silent", "transport", "zero"],
)
def test_empty_and_failing_answers_never_add_up_to_a_job_that_disappeared(
    sweeps, bench, wrap, tmp_path, console, failing
):
    wrap("squeue", ALTERNATING.format(calls=tmp_path / "calls", failing=failing))
    job = bench.job("job", "until told")
    sweep = sweeps.start(job)
    while not (tmp_path / "calls").exists() or len((tmp_path / "calls").read_text().split()) < 20:
        assert not sweep.done()
    (bench.folder(job) / "told").touch()
    assert sweep.result(60).complete
    assert bench.tries(job) == 1
    assert "disappeared" not in said(console)


@pytest.mark.parametrize("cut", ["exit 0", '$real "$@" | head -n 1; exit 0'], ids=["empty", "short"])
def test_a_first_answer_that_is_cut_short_starts_nothing_again(slurm, sweeps, bench, wrap, tmp_path, cut):
    jobs = [bench.job(f"j{i}", "train 40 0.2") for i in range(2)]
    sweeps.run(*jobs, wait=False)
    slurm.wait_until(training(bench, *jobs))
    wrap("squeue", f'mkdir {tmp_path}/once 2>/dev/null && {{ {cut}; }}\nexec $real "$@"')
    assert sweeps.run(*jobs).complete
    assert [bench.tries(job) for job in jobs] == [1, 1]
    assert len(arrays(bench)) == 1


@pytest.mark.parametrize("damage", [lambda p: p.write_text('{"tok'), Path.unlink], ids=["torn", "removed"])
def test_while_nobody_knows_what_a_task_does_nothing_is_submitted(slurm, sweeps, bench, console, damage):
    job = bench.job("job", "train 60 0.2")
    sweeps.run(job, wait=False)
    slurm.wait_until(training(bench, job))
    damage(bench.runs / ".slurm" / "arrays" / f"{arrays(bench)[0].token}.json")
    assert sweeps.run(job).complete
    assert "nothing is submitted until they have ended" in said(console)
    assert bench.tries(job) == 1


def test_a_squeue_that_knows_an_option_not_says_so_in_its_own_words(slurm, sweeps, bench, wrap):
    wrap("squeue", 'exec $real --surely-not "$@"')
    with pytest.raises(ValueError, match=r"squeue: unrecognized option '--surely-not'") as refusal:
        sweeps.run(bench.job("job"))
    assert "\n" not in str(refusal.value)
    assert not slurm.queue()


@pytest.mark.parametrize(
    "words",
    [
        "Batch job submission failed: Transport endpoint is not connected",
        "Batch job submission failed: Socket timed out on send/recv operation",
        "Batch job submission failed: Zero Bytes were transmitted or received",
        "Batch job submission failed: Unable to contact slurm controller (connect failure)",
    ],
)
def test_what_passes_by_itself_is_waited_for_when_submitting(
    sweeps, bench, wrap, tmp_path, monkeypatch, console, words
):
    monkeypatch.setattr("harness.dispatch.cluster.HOLD_S", 1)
    wrap(
        "sbatch",
        f'mkdir {tmp_path}/once 2>/dev/null || exec $real "$@"\necho "sbatch: error: {words}" >&2\nexit 1',
    )
    job = bench.job("job")
    assert sweeps.run(job).complete
    assert words in said(console)
    assert len(arrays(bench)) == 1, "the second try was the same array"


# --- limits

LIMITED = """count=$(squeue -h -r -o %i | wc -l)
for last; do :; done
size=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$last")
if [ $((count + ${size:-0} + 1)) -gt 3 ]; then
  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2
  echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)" >&2
  exit 1
fi
exec $real "$@\""""


def test_an_array_above_a_limit_is_halved_and_the_rest_follows(sweeps, bench, wrap, monkeypatch):
    monkeypatch.setattr("harness.dispatch.cluster.HOLD_S", 1)
    wrap("sbatch", LIMITED)
    jobs = [bench.job(f"j{i}") for i in range(8)]
    child = bench.job("child", "learn", after=jobs)
    assert sweeps.run(*jobs, child).complete
    assert [bench.tries(job) for job in (*jobs, child)] == [1] * 9
    known = arrays(bench)
    assert sum(len(array.jobs) for array in known) == 9, "what was not taken leaves no file"
    batch = list(Ledger(bench.runs).batch_file("any").parent.iterdir())
    assert len(batch) == len(known)


# --- memory and further options


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"mem_per_cpu": "0.5", "memory_gb": None}, "MinMemoryCPU=512M"),
        ({"memory_gb": "none"}, "MinMemoryNode=0"),
        ({"extra.nice": "77"}, "Nice=77"),
        ({"extra.exclusive": "true"}, "OverSubscribe=NO"),
    ],
)
def test_what_the_profile_says_reaches_sbatch(slurm, sweeps, bench, options, shown):
    job = bench.job("job", "until told")
    sweep = sweeps.start(job, **options)
    slurm.wait_until(slurm.queue)
    assert shown in slurm.run("scontrol", "show", "job", *slurm.queue())
    (bench.folder(job) / "told").touch()
    assert sweep.result(60).complete


# --- held jobs


def test_a_held_job_is_told_with_its_reason_and_the_command_that_releases_it(
    slurm, sweeps, bench, console, capsys
):
    job = bench.job("job", "train 30 0.2")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    (slurm_id,) = slurm.queue()
    slurm.run("scontrol", "requeuehold", slurm_id)
    command = f"scontrol release {slurm_id}"
    slurm.wait_until(lambda: command in said(console))
    line = next(line for line in said(console).splitlines() if command in line)
    assert line.startswith("pending")
    assert "held" in line
    assert status.main([f"runs={bench.runs}"]) == 0
    assert command in capsys.readouterr().out
    slurm.run(*command.split())
    assert sweep.result(120).complete


def test_a_job_that_a_failing_prolog_holds_is_told(slurm, sweeps, bench, console):
    (slurm.root / "prolog-fails").touch()
    job = bench.job("job")
    sweep = sweeps.start(job)
    slurm.wait_until(lambda: "scontrol release" in said(console), 90)
    (slurm.root / "prolog-fails").unlink()
    slurm.run("scontrol", "update", "nodename=n[1-3]", "state=resume", check=False)
    for slurm_id in slurm.queue():
        slurm.run("scontrol", "release", slurm_id)
    assert sweep.result(120).complete
    assert bench.tries(job) == 1


def test_a_dependency_that_can_never_be_met_is_told(slurm, sweeps, bench, console, wrap):
    keep = "for last; do :; done\nsed -i 's/kill-on-invalid-dep=yes/kill-on-invalid-dep=no/' \"$last\""
    wrap("sbatch", f'{keep}\nexec $real "$@"')
    parent = bench.job("parent", "fail memory", "train 1 0")
    child = bench.job("child", "learn", after=[parent])
    sweep = sweeps.start(parent, child)
    slurm.wait_until(lambda: "DependencyNeverSatisfied" in said(console))
    line = next(line for line in said(console).splitlines() if "DependencyNeverSatisfied" in line)
    assert "scancel" in line
    slurm.run(*line[line.index("scancel") :].split()[:2])
    assert sweep.result(120).complete
    assert (bench.tries(parent), bench.tries(child)) == (2, 1)


# --- where code lies, and what is checked


def test_changed_code_is_not_run_and_copied_again(slurm, sweeps, bench, console):
    blocker = slurm.run("sbatch", "--parsable", "-N3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60")
    job = bench.job("job")
    sweep = sweeps.start(job)
    slurm.wait_until(lambda: len(slurm.queue()) == 2)
    changed = Path(arrays(bench)[0].code.path) / "slurm" / "worker.py"
    changed.write_text(changed.read_text() + f"\nPath('{bench.runs}/owned').touch()\n")
    slurm.run("scancel", blocker.strip())
    assert sweep.result(120).complete
    assert "this is not the code that was submitted" in said(console)
    assert not (bench.runs / "owned").exists()
    assert bench.tries(job) == 1


def test_in_a_shared_folder_the_code_lies_in_the_owners_home(sweeps, bench, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    bench.runs.mkdir(exist_ok=True)
    bench.runs.chmod(0o777)
    job = bench.job("job")
    assert sweeps.run(job).complete
    assert Path(arrays(bench)[0].code.path).is_relative_to(tmp_path / "state")
    private = Ledger(bench.runs).private
    assert private.stat().st_mode & 0o777 == 0o700
    assert not list((bench.runs / ".slurm").rglob("*.py"))


# --- folders that go


def test_a_folder_of_records_that_is_removed_is_said(slurm, sweeps, bench):
    job = bench.job("job", "train 200 0.1")
    sweep = sweeps.start(job)
    slurm.wait_until(training(bench, job))
    shutil.rmtree(bench.runs, ignore_errors=True)
    shutil.rmtree(bench.runs, ignore_errors=True)
    with pytest.raises(OSError, match="The folder of records was removed"):
        sweep.result(60)


def test_a_worker_that_cannot_open_its_log_says_so_in_one_line(sweeps, bench):
    job = bench.job("job")
    (bench.folder(job) / "log.txt").mkdir()
    outcome = sweeps.run(job)
    assert phases(outcome) == [Phase.FAILED]
    assert "its log cannot be written" in outcome.states[job.id].note
    assert Store(bench.runs).failure(job.runs[0].id) is not None


def test_two_cores_per_node_are_one_too_many_and_that_is_one_line(sweeps, bench):
    greedy = bench.job("greedy", resources=Resources(cpus=2, gpus=0, memory_gb=1, minutes=9))
    with pytest.raises(ValueError, match=r"^sbatch: [^\n]+$"):
        sweeps.run(greedy)
    assert arrays(bench) == [], "what was refused leaves no file"
    assert scheduler.queue([os.getuid()]) is not None
