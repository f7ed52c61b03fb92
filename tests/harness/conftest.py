import contextlib
import io
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import config, jobfile
from harness.engine import Cohort
from harness.execute import run_job
from harness.plan import expand
from harness.sweep import make_jobs
from results.store import Store


class Bench:
    """Runs sweeps in this process, job by job, on a folder of records of its own."""

    def __init__(self, runs: Path, betons: Path) -> None:
        self.runs = runs
        self.store = Store(runs)
        self.betons = betons

    def plan(self, *words):
        """Runs of the sweep that the words ask for."""
        sweep = config.read([*words, f"runs={self.runs}", f"betons={self.betons}", "device=cpu"])
        return list(expand(*sweep.settings))

    def jobs(self, *words):
        """Jobs that the words ask for and that are still to be done, with their folders."""
        sweep = config.read([*words, f"runs={self.runs}", f"betons={self.betons}", "device=cpu"])
        runs = list(expand(*sweep.settings))
        left = [run for run in runs if self.store.read(run.id) is None]
        runtime = replace(sweep.config.runtime, checkpoint_s=0.0)
        return [
            (job, jobfile.write(job, runtime, sweep.images[job.runs[0].data].encoding))
            for job in make_jobs(left, sweep)
        ]

    def do(self, folder):
        """Exit code of the job in `folder`."""
        return run_job(folder)

    def run(self, *words):
        """Do all that is missing; gives back candidates' records by label and seed."""
        for _, folder in self.jobs(*words):
            assert run_job(folder) == 0
        return {
            (run.label, run.seed): self.store.read(run.id)
            for run in self.plan(*words)
            if run.role == "candidate"
        }

    def weights(self, record):
        """The final weights of a done run, by name."""
        return torch.load(io.BytesIO(self.store.content(record, "weights")), weights_only=True)


@pytest.fixture(scope="session")
def betons(tmp_path_factory):
    return tmp_path_factory.mktemp("betons")


@pytest.fixture
def bench(tmp_path, betons):
    return Bench(tmp_path / "runs", betons)


@pytest.fixture
def other_bench(tmp_path, betons):
    return Bench(tmp_path / "other-runs", betons)


@pytest.fixture
def stop_after(monkeypatch):
    """A context in which a signal arrives after so many steps of training."""

    @contextlib.contextmanager
    def stopping(steps):
        original = Cohort.train

        def train(self):
            for done, position in enumerate(original(self), start=1):
                if done == steps:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield position

        with monkeypatch.context() as patch:
            patch.setattr(Cohort, "train", train)
            yield

    return stopping
