"""A stand-in for `harness.execute` that trains nothing: it counts, writes checkpoints and records.

Each try of a Job follows the next line of its folder's `script.txt` (the last one for ever after):

    train EPOCHS PAUSE   count EPOCHS epochs from the checkpoint on, PAUSE seconds each, then a record
    learn                a record for every run whose parents have theirs; for others as `fail parent`
    fail CAUSE           failure.json and exit code 1
    die SIGNAL           end by a signal
    deaf PAUSE           ignore SIGTERM for PAUSE seconds
    exit CODE            just that
    until FILE           wait for a file in the folder, then as `train 1 0`
    late PAUSE           start for PAUSE seconds without listening to signals, then as `train 1 0`
    hog MEGABYTES        take so much memory for a while, then as `train 1 0`
    gather               sum the ranks of all processes of the run; rank 0 makes the record

Every epoch that is counted leaves a line in `epochs.txt`, every try one in `tries.txt`.
"""

import os
import signal
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import harness
from common.exits import INTERRUPTED
from common.files import write_atomically
from common.paths import JobFolder
from common.progress import ProgressWriter
from harness import jobfile
from results.store import Failure, Record, Store


class Told(Exception):  # noqa: N818
    """SIGTERM or SIGUSR1 has arrived."""


def run_job(folder: Path) -> int:
    script = (folder / "script.txt").read_text().splitlines()
    tries = _append(folder / "tries.txt", f"{time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
    action, *words = script[min(tries, len(script)) - 1].split()
    print(
        f"try {tries}: {action}, code {harness.__file__} {os.environ.get('NEGATIVE_FLIPS_COMMIT')}",
        flush=True,
    )
    signal.signal(signal.SIGTERM, _told)
    signal.signal(signal.SIGUSR1, _told)
    try:
        return ACTIONS[action](folder, *words)
    except Told:
        return INTERRUPTED


def _told(number, frame):
    raise Told


def _append(path, line):
    with path.open("a") as file:
        file.write(line + "\n")
    return len(path.read_text().splitlines())


@contextmanager
def _undisturbed():
    """An epoch is counted and kept, or neither: signals wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _train(folder, epochs, pause):
    job, runtime, _ = jobfile.read(folder)
    checkpoint = folder / "checkpoint.txt"
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for epoch in range(done + 1, int(epochs) + 1):
        time.sleep(float(pause))
        with _undisturbed():
            _append(folder / "epochs.txt", str(epoch))
            write_atomically(checkpoint, str(epoch).encode(), durable=False)
        _progress(folder, epoch, int(epochs))
    for run in job.runs:
        attempt = Store(runtime.runs).begin(run.id)
        now = datetime.now(UTC).isoformat()
        record = Record(
            run=run.document(),
            state="done",
            attempt=attempt.number,
            finished=now,
            metrics={"epochs": int(epochs)},
        )
        attempt.publish(record)
    return 0


def _progress(folder, epoch, epochs):
    writer = ProgressWriter(JobFolder(folder))
    writer.say(state="training", epoch=epoch, epochs=epochs, images_per_s=1000.0, eta_s=1.0)


def _learn(folder):
    job, runtime, _ = jobfile.read(folder)
    store = Store(runtime.runs)
    orphans = [run for run in job.runs if not all(store.read(parent) for parent in run.parents)]
    now = datetime.now(UTC).isoformat()
    for run in job.runs:
        if run not in orphans:
            attempt = store.begin(run.id)
            attempt.publish(
                Record(run=run.document(), state="done", attempt=attempt.number, finished=now, metrics={})
            )
    return _fail(folder, "parent", orphans) if orphans else 0


def _fail(folder, cause, runs=None):
    job, runtime, _ = jobfile.read(folder)
    for run in runs or job.runs:
        attempt = Store(runtime.runs).begin(run.id)
        attempt.fail(Failure(attempt=attempt.number, cause=cause, message="as the script says"))
    return 1


def _die(folder, number):
    os.kill(os.getpid(), int(number))
    time.sleep(60)
    return 1


def _deaf(folder, pause):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _append(folder / "deaf.txt", "now")
    time.sleep(float(pause))
    return 1


def _late(folder, pause):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    _append(folder / "late.txt", "now")
    time.sleep(float(pause))
    return _train(folder, 1, 0)


def _until(folder, name):
    while not (folder / name).exists():
        time.sleep(0.05)
    return _train(folder, 1, 0)


def _exit(folder, code):
    return int(code)


def _hog(folder, megabytes):
    block = b"x" * (int(megabytes) * 2**20)
    time.sleep(4)
    del block
    return _train(folder, 1, 0)


def _gather(folder):
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    total = torch.tensor([distributed.get_rank() + 1])
    distributed.all_reduce(total)
    distributed.destroy_process_group()
    if os.environ["RANK"] == "0":
        (folder / "total.txt").write_text(f"{total.item()} of {os.environ['WORLD_SIZE']}")
        return _train(folder, 1, 0)
    return 0


ACTIONS = {
    "until": _until,
    "late": _late,
    "hog": _hog,
    "gather": _gather,
    "train": _train,
    "learn": _learn,
    "fail": _fail,
    "die": _die,
    "deaf": _deaf,
    "exit": _exit,
}

if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1])))
