"""Evaluation of a trained network on the test images: metrics, and the files that its record keeps."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.combined import weights_to_keep
from harness.compute import ComputeConfig
from harness.data import Data
from harness.distributed import ALONE, World
from harness.engine import predict
from harness.models import classifier
from harness.plan import Run
from loaders.batches import Feed
from results import metrics
from results.artifacts import Embeddings, Gallery, worst_flips
from results.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What evaluation yields: metrics, and files by name (without the attempt's number)."""

    metrics: Mapping[str, float]
    files: Mapping[str, bytes]


class NotFinite(ArithmeticError):  # noqa: N818
    """A network that was trained to the end gives logits that are not finite."""


def evaluate(
    run: Run,
    network: nn.Module,
    data: Data,
    compute: ComputeConfig,
    old: Predictions | None,
    world: World = ALONE,
) -> Evaluation:
    """Test `network`; a candidate is compared with the predictions of the `old` model.

    Of the held-out part of the training images there are predictions alone: all else follows from them.

    Raises:
        NotFinite: some of its logits are not finite.
    """
    predictions = _predictions(network, data.test, data, compute, world)
    files = {"predictions.npz": predictions.to_bytes(), "weights.pt": _bytes(weights_to_keep(network))}
    if data.validation is not None:
        files["validation.npz"] = _predictions(network, data.validation, data, compute, world).to_bytes()
    if run.model.embedding == 2 and (run.is_trained or run.given):
        files["embeddings.npz"] = _embeddings(run, network, data, compute, predictions, world).to_bytes()
    found = _metrics(run, predictions, old)
    if old is None:
        return Evaluation(metrics=found, files=files)
    flips = worst_flips(old, predictions)
    kept = np.unique(np.concatenate([flips.negative, flips.positive]))
    files["gallery.npz"] = Gallery(index=kept, images=data.thumbnails(kept)).to_bytes()
    return Evaluation(metrics=found, files=files)


def current_metrics(
    run: Run,
    network: nn.Module,
    data: Data,
    compute: ComputeConfig,
    old: Predictions | None,
    world: World = ALONE,
) -> Mapping[str, float]:
    """The metrics alone, during training: none of a network whose logits are not finite.

    They are those on the held-out part of the training images, if there is one, as `old` must be.
    """
    feed = data.test if data.validation is None else data.validation
    try:
        return _metrics(run, _predictions(network, feed, data, compute, world), old)
    except NotFinite:
        return {}


def _predictions(
    network: nn.Module, feed: Feed, data: Data, compute: ComputeConfig, world: World
) -> Predictions:
    logits, targets, indices = predict(network, feed, data.normalise, compute, world)
    if not logits.isfinite().all():
        where = "test" if feed is data.test else "held-out"
        raise NotFinite(f"the logits of {where} images are not finite after training")
    return Predictions.from_logits(index=indices.numpy(), target=targets.numpy(), logits=logits.numpy())


def _metrics(run: Run, predictions: Predictions, old: Predictions | None) -> Mapping[str, float]:
    if old is None:
        return metrics.alone(predictions, on="old" if run.role == "old" else "all")
    return metrics.compare(old, predictions, old_classes=run.split.old_classes)


def _embeddings(
    run: Run, network: nn.Module, data: Data, compute: ComputeConfig, predictions: Predictions, world: World
) -> Embeddings:
    """The classifier's inputs and weights, for the figures."""
    last = classifier(network, run.model)
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    try:
        predict(network, data.test, data.normalise, compute)
    finally:
        hook.remove()
    return Embeddings(
        embedding=world.gather(torch.cat(seen)).numpy(),
        target=predictions.target,
        prediction=predictions.prediction,
        weight=last.weight.detach().float().cpu().numpy(),
        bias=last.bias.detach().float().cpu().numpy(),
    )


def _bytes(state: Mapping[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in state.items()}, buffer)
    return buffer.getvalue()
