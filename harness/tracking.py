"""Curves in the tool where people keep them: TensorBoard, MLflow or Weights & Biases (`track=`).

Each run is one run there too, under its own id, with its content as parameters or text. Nothing is read
back: records remain the only source of tables.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from common.paths import RecordsFolder

Kind = Literal["none", "tensorboard", "mlflow", "wandb"]
PROJECT = "negative-flips"
_MODULES: Mapping[Kind, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


class Tracker(Protocol):
    """Where the curves of one run go."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Values after epoch `epoch`, counted from 0; logging an epoch again replaces what was logged."""

    def close(self) -> None:
        """Write what is left."""


def require(kind: Kind) -> None:
    """Check that a tracker's library is installed.

    Raises:
        ValueError: it is not; one line that says how to install it.
    """
    if kind == "none":
        return
    try:
        importlib.import_module(_MODULES[kind])
    except ImportError as error:
        raise ValueError(f"track={kind}: {error} (pip install {_MODULES[kind]})") from error


def open_tracker(kind: Kind, run: Mapping[str, Any], records: RecordsFolder, *, start: int) -> Tracker:
    """A tracker for one run.

    Args:
        kind: which tool.
        run: content of the run, with its "id" and "label".
        records: the folder of records; local files go to its subfolder `tracking/`, unless the tool's own
            environment variables (`MLFLOW_TRACKING_URI`, `WANDB_DIR`) name another place.
        start: the epoch from which training continues; 0 for a new run.

    Raises:
        ValueError: the tool's library is not installed.
    """
    require(kind)
    return _OPENERS[kind](run, records.root / "tracking", start)


class _Nothing:
    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


class _TensorBoard:
    def __init__(self, run: Mapping[str, Any], folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Whatever an interrupted attempt logged from `start` on is hidden.
        self._writer = SummaryWriter(str(folder / "tensorboard" / run["id"]), purge_step=start)
        table = "\n".join(f"| {name} | {value} |" for name, value in flat(run).items())
        self._writer.add_text("run", f"| | |\n|---|---|\n{table}", 0)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, run: Mapping[str, Any], folder: Path, start: int) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        own = f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._error = MlflowException
        try:
            self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", own))
            self._id = self._resumed(run, start)
        except MlflowException as error:
            raise ValueError(f"track=mlflow: {error} (MLFLOW_TRACKING_URI names another place)") from error

    def _resumed(self, run: Mapping[str, Any], start: int) -> str:
        """MLflow's id of the run, which is made unless training continues in one that is there."""
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        known = self._client.search_runs([experiment], f"tags.run_id = '{run['id']}'") if start else []
        if known:
            return str(known[0].info.run_id)
        tags = {"run_id": run["id"], "mlflow.runName": f"{run['label']} s{run['seed']}"}
        made = str(self._client.create_run(experiment, tags=tags).info.run_id)
        for name, value in flat(run).items():
            self._client.log_param(made, name, value)
        return made

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        try:
            for name, value in values.items():
                self._client.log_metric(self._id, name, value, step=epoch)
        except self._error as error:  # a server that is away must not end the training
            print(f"track=mlflow: epoch {epoch} was not logged: {error}", flush=True)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class _Wandb:
    def __init__(self, run: Mapping[str, Any], folder: Path, start: int) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        # One process trains several runs, so each is a run of its own and none is the global one.
        self._run = wandb.init(
            project=PROJECT,
            id=run["id"],
            name=f"{run['label']} s{run['seed']}",
            group=run["dataset"],
            config=flat(run),
            resume="allow",
            dir=str(folder),
            reinit="create_new",
        )

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self._run.log({**values}, step=epoch)

    def close(self) -> None:
        self._run.finish()


_OPENERS: Mapping[Kind, Callable[[Mapping[str, Any], Path, int], Tracker]] = {
    "none": lambda run, folder, start: _Nothing(),
    "tensorboard": _TensorBoard,
    "mlflow": _Mlflow,
    "wandb": _Wandb,
}


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str | float | int | bool]:
    """Nested content as one level of dotted names: `{"recipe": {"lr": 0.1}}` -> `{"recipe.lr": 0.1}`."""
    values: dict[str, str | float | int | bool] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, str | float | int):
            values[f"{prefix}{name}"] = value
        elif value is not None:
            values[f"{prefix}{name}"] = ", ".join(map(str, value))
    return values
