"""The methods registry: one line a method, one small file a family (`methods.base` says what a method is)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from methods.base import Method, Step

__all__ = ["METHODS", "Entry", "Method", "Step"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A method by name: its class as `module:Class` (imported when used) and the defaults it changes."""

    path: str
    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ablation: bool = False

    def load(self) -> type[Method]:
        """The method's class."""
        module, _, name = self.path.partition(":")
        method: type[Method] = getattr(importlib.import_module(module), name)
        return method


METHODS: dict[str, Entry] = {
    "none": Entry(path="methods.plain:NoTreatment", summary="No Treatment: cross-entropy alone"),
    "pct-naive": Entry(
        path="methods.pct:PctNaive", summary="cross-entropy twice where the old model is right"
    ),
    "pct-kl": Entry(path="methods.pct:PctKl", summary="focal distillation from the old model, by KL"),
    "pct-lm": Entry(path="methods.pct:PctLm", summary="focal distillation from the old model, by logits"),
    "elodi": Entry(path="methods.elodi:Elodi", summary="logit matching to the old model and an ensemble"),
    "elodi-topk": Entry(path="methods.elodi:ElodiTopK", summary="ELODI on the teachers' highest logits"),
    "mpt-kl": Entry(path="methods.mpt:MptKl", summary="margin-preserving training, by KL"),
    "mpt-lm": Entry(path="methods.mpt:MptLm", summary="margin-preserving training, by logits"),
    "mpt-kl-nobias": Entry(
        path="methods.mpt:MptKl", summary="mpt-kl without the margin", defaults={"k": 0.0}, ablation=True
    ),
    "mpt-lm-nobias": Entry(
        path="methods.mpt:MptLm", summary="mpt-lm without the margin", defaults={"k": 0.0}, ablation=True
    ),
    "mpt-nodistill": Entry(
        path="methods.mpt:MptKl", summary="the margin alone", defaults={"lambda_": 0.0}, ablation=True
    ),
}
