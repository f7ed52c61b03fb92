"""The weights of an old model that was not trained here, read from a file and checked."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from harness import models
from harness.plan import Run

SAFETENSORS = ".safetensors"
_NOT_READABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    AssertionError,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
)
"""What torch.load raises for a file that is damaged, or of another kind."""


def load_network(run: Run, path: Path, content: bytes) -> nn.Module:
    """The network of a run whose weights are given.

    Args:
        run: of the old model.
        path: the file, which errors name.
        content: of the file.

    Raises:
        ValueError: the file is damaged, or holds the weights of another network.
    """
    classes = run.trained_classes
    network = models.build(run.model, classes, run.stream_key)
    wanted = network.state_dict()
    try:
        read = _from_safetensors if path.suffix == SAFETENSORS else _from_torch
        state = _named_as(wanted, _tensors(read(content)))
        _require_classes(state, models.last_layer_path(network, run.model), classes)
        _require_same_shapes(state, wanted, run.model.label)
    except ValueError as error:
        raise ValueError(f"old_weights={path}: {error}") from error
    network.load_state_dict(state, strict=False)
    return network


def _tensors(state: object) -> Mapping[str, Tensor]:
    """What was read, if that is tensors by name with finite values."""
    if not isinstance(state, Mapping) or not state:
        raise ValueError("not a state dict (torch.save(model.state_dict(), FILE) writes one)")
    if not all(isinstance(value, Tensor) for value in state.values()):
        held = ", ".join(map(str, list(state)[:5]))
        raise ValueError(f"not a state dict, but a dict of {held}: save model.state_dict() alone")
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{name} holds a NaN or an infinity")
    return state


def _from_torch(data: bytes) -> object:
    """What `torch.save` wrote; nothing in it is executed.

    torch does not look at the checksums of its files, which are ZIP archives.
    """
    try:
        if zipfile.is_zipfile(io.BytesIO(data)) and (entry := zipfile.ZipFile(io.BytesIO(data)).testzip()):
            raise zipfile.BadZipFile(f"wrong checksum of {entry}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that torch did not write
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _NOT_READABLE as error:
        raise ValueError(
            "not a state dict written by torch.save, or it is damaged or holds more than tensors"
        ) from error


def _from_safetensors(data: bytes) -> object:
    if find_spec("safetensors") is None:
        raise ValueError("safetensors is not installed (pip install safetensors)")
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"not a file of safetensors, or it is damaged ({error})") from error


def _named_as(wanted: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights without DataParallel's prefix, and with that of our own wrapper where there is one."""
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    if all(name.startswith(models.WRAPPED) for name in wanted):
        state = {models.WRAPPED + name.removeprefix(models.WRAPPED): value for name, value in state.items()}
    return dict(state)


def _require_classes(state: Mapping[str, Tensor], last_layer: str, classes: int) -> None:
    weight = state.get(f"{last_layer}.weight")
    if weight is not None and weight.dim() and len(weight) != classes:
        raise ValueError(f"the file has {len(weight)} classes, asked for are old_classes={classes}")


def _require_same_shapes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], label: str) -> None:
    # Older versions of torch counted no batches, and in evaluation nobody reads the count.
    lacking = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in wanted]
    other = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if not (lacking or unknown or other):
        return
    parts = []
    if lacking:
        parts.append(f"lacks {_some(lacking)}")
    if unknown:
        parts.append(f"has {_some(unknown)} besides")
    if other and not parts:
        shapes = " instead of ".join(str(list(some[other[0]].shape)) for some in (state, wanted))
        parts.append(f"has {_some(other)} of shape {shapes}")
    raise ValueError(
        f"not the weights of {label}, because it {' and '.join(parts)} (old_arch=, stem= and embedding= say "
        "which network it is)"
    )


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
