"""Curves in TensorBoard, MLflow and Weights & Biases, read back with each tool's own reader."""

import sys

import pytest

from common.paths import RecordsFolder
from harness.tracking import flat, open_tracker

RUN = {
    "id": "digits-resnet8-none-s3-0123456789ab",
    "label": "none",
    "seed": 3,
    "dataset": "digits",
    "recipe": {"lr": 0.1, "epochs": 2},
    "model": {"weights": None},
    "parents": ["old", "reference"],
}


def trained(kind, runs):
    """Two epochs, then the second one again, as after an interruption."""
    records = RecordsFolder(runs)
    for start, losses in ((0, (1.0, 0.75)), (1, (0.5,))):
        tracker = open_tracker(kind, RUN, records, start=start)
        for epoch, loss in enumerate(losses, start):
            tracker.log(epoch, {"loss": loss, "train_accuracy": 1 - loss})
        tracker.close()


def test_nothing_is_tracked_by_default(tmp_path):
    trained("none", tmp_path)

    assert not list(tmp_path.iterdir())


def test_tensorboard_shows_the_curves_of_a_resumed_run_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trained("tensorboard", tmp_path)

    events = accumulator.EventAccumulator(str(tmp_path / "tracking" / "tensorboard" / RUN["id"]))
    events.Reload()

    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 1.0), (1, 0.5)]
    assert "run/text_summary" in events.Tags()["tensors"]


def test_mlflow_keeps_a_resumed_run_as_one_run_with_its_identity(tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking")
    # The light client knows files and servers; the database that is the default needs all of MLflow.
    place = (tmp_path / "mlflow").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    trained("mlflow", tmp_path)

    client = tracking.MlflowClient(place)
    experiment = client.get_experiment_by_name("negative-flips").experiment_id
    (run,) = client.search_runs([experiment])

    assert run.data.tags["run_id"] == RUN["id"]
    assert run.data.params["recipe.lr"] == "0.1"
    assert run.data.metrics["loss"] == 0.5


def test_what_mlflow_refuses_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")

    with pytest.raises(ValueError, match=r"track=mlflow: .*MLFLOW_TRACKING_URI names another place"):
        open_tracker("mlflow", RUN, RecordsFolder(tmp_path), start=0)


def test_wandb_gets_the_curves_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    trained("wandb", tmp_path)

    files = list((tmp_path / "tracking" / "wandb").glob(f"offline-run-*-{RUN['id']}/*.wandb"))
    assert files
    assert all(file.stat().st_size for file in files)


def test_a_library_that_is_missing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(ValueError, match=r"track=wandb: .*\(pip install wandb\)"):
        open_tracker("wandb", RUN, RecordsFolder(tmp_path), start=0)


def test_a_runs_content_is_flattened_for_tools_that_know_no_nesting():
    assert flat(RUN)["recipe.epochs"] == 2
    assert flat(RUN)["parents"] == "old, reference"
    assert "model.weights" not in flat(RUN)
