"""An old model that was not trained here, from its file to its record."""

from __future__ import annotations

from pathlib import Path

from common.files import digest
from harness.compute import ComputeConfig
from harness.data import Data
from harness.given_predictions import checked_predictions, read_answers
from harness.given_weights import load_network
from harness.plan import Run
from harness.publisher import Account, Recorder
from harness.resources import gmacs
from harness.settings import Runtime
from results import metrics
from results.store import Attempt


def check(run: Run, runtime: Runtime) -> None:
    """Read the file of a given old model, as far as that needs no images.

    Raises:
        ValueError: it is not what the run asks for, in one line.
    """
    path, content = _file(run, runtime)
    if path == runtime.old_weights:
        load_network(run, path, content)
    else:
        read_answers(run, path)


def publish(
    run: Run,
    runtime: Runtime,
    data: Data,
    compute: ComputeConfig,
    recorder: Recorder,
    attempt: Attempt | None,
) -> None:
    """Write the record of a given old model: its weights are tested here, its predictions checked.

    All processes take part.

    Raises:
        ValueError: the file is not what the run asks for.
    """
    path, content = _file(run, runtime)
    if path == runtime.old_weights:
        network = compute.place(load_network(run, path, content))
        costs = {"networks": 1, "gmacs": gmacs(run.model, data.dataset.image_size)}
        recorder.test(run, network, attempt, Account(timings={}, environment=costs))
        return
    predictions = checked_predictions(run, path, data)
    if attempt is not None:
        name = attempt.name("predictions.npz")
        recorder.write(
            run,
            attempt,
            Account(timings={}, environment={}),
            state="done",
            metrics=metrics.alone(predictions, on="old"),
            files={name: attempt.write(name, predictions.to_bytes())},
        )


def _file(run: Run, runtime: Runtime) -> tuple[Path, bytes]:
    """Where the file lies, and its content, which is what the run was planned with."""
    assert run.given is not None
    path = runtime.old_weights if run.given.kind == "weights" else runtime.old_predictions
    assert path is not None, "planned with a file"
    content = path.read_bytes()
    if digest(content) != run.given.sha256:
        raise ValueError(f"old_{run.given.kind}={path}: the file has changed since the run was planned")
    return path, content
