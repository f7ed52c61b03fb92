"""An old model of one's own: what `old_weights=` and `old_predictions=` ask for, and what they rule out.

Such a model is not trained here; `old_model_file.py` reads it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.plan import UNKNOWN, Given, Model
from harness.settings import SweepConfig
from methods import Method, PostHoc

UNSEEN = Model(arch=UNKNOWN, stem=UNKNOWN)
"""Of an old model of which there are predictions alone."""


def given(config: SweepConfig) -> Given | None:
    """The file that the old model is read from; None where it is trained here.

    Raises:
        ValueError: it cannot be read, or other settings make no sense with it.
    """
    weights, predictions = config.runtime.old_weights, config.runtime.old_predictions
    if weights is None and predictions is None:
        return None
    if weights is not None and predictions is not None:
        raise ValueError("old_weights= and old_predictions= are both the old model: leave one out")
    if config.data.old_data != 1:
        raise ValueError(
            f"old_data={config.data.old_data:g}: the old model is not trained here (leave old_data= out)"
        )
    if weights is not None:
        return Given(kind="weights", sha256=file_digest("old_weights", weights))
    assert predictions is not None
    _require_fitting(config)
    return Given(kind="predictions", sha256=file_digest("old_predictions", predictions))


def _require_fitting(config: SweepConfig) -> None:
    """Refuse what needs more of the old model than its predictions on the test images."""
    training = config.training
    if training.old_arch is not None:
        raise ValueError(f"old_arch={training.old_arch}: old_predictions= needs no network (leave it out)")
    if training.init == "old":
        raise ValueError("init=old: candidates need the old model's weights to start from (old_weights=)")
    if config.data.validation:
        raise ValueError(
            f"validation={config.data.validation:g}: old_predictions= has none on held-out images"
        )


def unfit(method: type[Method], config: SweepConfig) -> str:
    """Why a method cannot be used with such an old model, or with a chain's; empty if it can."""
    if config.runtime.old_predictions and (method.uses_old or method.starts_from_old):
        return "it needs the old model itself, not only its predictions on test images: give old_weights="
    if config.training.init == "old" and issubclass(method, PostHoc):
        if config.runtime.old_weights:
            return "its strength would be chosen on images that a given old model may have been trained on"
        if config.data.chain and not config.data.validation:
            return "its strength would be chosen on images that earlier models saw: add validation=0.1"
    return ""


def file_digest(key: str, path: Path) -> str:
    """SHA-256 of the content of the file that the word `key` names, in hexadecimal digits.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{key}={path}: {error.strerror}") from error
