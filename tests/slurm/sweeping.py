"""Sweeps of the stand-in's Jobs on the tests' SLURM, and what came of them."""

import threading
from concurrent.futures import Future

from harness.dispatch.dispatcher import dispatch
from slurm import profile
from slurm.ledger import Ledger

QUICK = {"poll_s": "1", "memory_gb": "0.5", "time": "10"}


class Sweeps:
    """Starts sweeps of the stand-in's Jobs in threads; no exit waits for one that a failed test leaves."""

    def __init__(self, bench, console):
        self._bench = bench
        self._console = console
        self._threads = []

    def start(self, *jobs, wait=True, **options):
        settings = {"runs": self._bench.runs, "cluster": "slurm", "console": self._console, "wait": wait}
        wanted = profile.load(
            None,
            {key: str(value) for key, value in {**QUICK, **options}.items() if value is not None},
            roles=(),
            archs=(),
        )
        outcome = Future()

        def work():
            try:
                outcome.set_result(dispatch(jobs, profile=wanted, program="tests.standin", **settings))
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

    def run(self, *jobs, **options):
        return self.start(*jobs, **options).result(180)


def phases(outcome):
    return [state.phase for state in outcome.states.values()]


def epochs(bench, job):
    return [int(line) for line in bench.lines(job, "epochs.txt")]


def once(bench, job, count):
    """Every epoch was counted exactly once: nothing was lost, nothing done twice."""
    return epochs(bench, job) == list(range(1, count + 1))


def training(bench, *jobs):
    return lambda: all(len(epochs(bench, job)) >= 2 for job in jobs)


def arrays(bench):
    ledger = Ledger(bench.runs)
    return ledger.arrays()
