"""The real sweep on a real SLURM under fire: its numbers are those of the undisturbed one."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from results.store import Store

pytestmark = pytest.mark.slurm
WORDS = ("methods=none,mpt-kl", "dataset=digits", "seeds=0", "epochs=40", "device=cpu")


@pytest.fixture
def sweep(tmp_path):
    """Starts the command; both sweeps of a test share the images."""

    def start(runs, *words):
        given = dict(word.split("=") for word in (*WORDS, *words))  # the later win
        said = [f"{key}={value}" for key, value in given.items()]
        command = [sys.executable, "-m", "harness.sweep", *said, f"runs={runs}", f"betons={tmp_path}/betons"]
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return start


def numbers(runs):
    """All that the table is made of, bit for bit."""
    store = Store(runs)
    return {record.id: (record.metrics, store.predictions(record).to_bytes()) for record in store.records()}


def training(runs):
    """Process ids of the programs that are in the middle of their training."""
    found = []
    for path in (runs / "jobs").glob("*/progress.json"):
        progress = json.loads(path.read_text())
        if progress["state"] == "training" and progress["epoch"] >= 5 and psutil.pid_exists(progress["pid"]):
            found.append(progress["pid"])
    return found


def test_the_table_after_preemption_requeue_and_murder_is_the_undisturbed_one(slurm, sweep, tmp_path):
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    output, _ = sweep(calm, "cluster=local").communicate(timeout=300)
    assert len(numbers(calm)) == 4, output
    process = sweep(stormy, "cluster=slurm", "slurm.poll_s=1", "slurm.memory_gb=3")
    slurm.wait_until(lambda: training(stormy), 120)
    slurm.run("sbatch", "-p", "high", "-N3", "-o", "/dev/null", "--wrap", "sleep 1")
    slurm.wait_until(lambda: "high" not in slurm.run("squeue", "-h", "-o", "%P"))
    slurm.wait_until(lambda: training(stormy), 120)
    os.kill(training(stormy)[0], signal.SIGKILL)
    slurm.wait_until(lambda: training(stormy), 120)
    running = slurm.run("squeue", "-h", "-t", "R", "-o", "%i").split()
    slurm.run("scontrol", "requeue", ",".join(running))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert numbers(stormy) == numbers(calm)
    attempts = [len(list((stormy / run / "attempts").iterdir())) for run in numbers(stormy)]
    assert max(attempts) >= 2, "it was disturbed"


def test_one_model_trained_on_two_nodes_has_one_record_with_every_sample_once(slurm, sweep, tmp_path):
    runs = tmp_path / "wide"
    words = (
        "methods=none",
        "epochs=3",
        "cluster=slurm",
        "slurm.nodes=2",
        "slurm.memory_gb=3",
        "slurm.poll_s=1",
    )
    output, _ = sweep(runs, *words).communicate(timeout=300)
    store = Store(runs)
    records = list(store.records())
    assert len(records) == 2, output
    for record in records:
        assert record.environment["processes"] == 2
        index = store.predictions(record).index.tolist()
        assert len(index) == len(set(index)) == (755 if record.run["role"] == "old" else 1497)
