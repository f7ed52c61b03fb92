"""The registry of methods: one line per method, one small file per family; `methods.base` has the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.registry import Registry, load_object
from methods.base import Answers, Ensemble, Loss, Method, PostHoc, Range, Step, Trial

__all__ = [
    "GROUPS",
    "METHODS",
    "Answers",
    "Ensemble",
    "Entry",
    "Loss",
    "Method",
    "PostHoc",
    "Range",
    "Step",
    "Trial",
]

KINDS = (Loss, PostHoc, Ensemble)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A method by name: its class as `module:Class`, imported when used, and the defaults that it changes."""

    path: str
    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> type[Method]:
        """The method's class.

        Raises:
            ValueError: it is of none of the three kinds.
        """
        method: type[Method] = load_object(self.path)
        if not issubclass(method, KINDS):
            raise ValueError(f"{self.path}: derive it from methods.Loss, PostHoc or Ensemble")
        return method


_PAPER = {
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
}
_ABLATIONS = {
    "mpt-kl-nobias": Entry(
        path="methods.mpt:MptKl", summary="mpt-kl without the margin", defaults={"k": 0.0}
    ),
    "mpt-lm-nobias": Entry(
        path="methods.mpt:MptLm", summary="mpt-lm without the margin", defaults={"k": 0.0}
    ),
    "mpt-nodistill": Entry(path="methods.mpt:MptKl", summary="the margin alone", defaults={"lambda_": 0.0}),
}
_RIVALS = {
    "pct-authors": Entry(path="methods.pct:PctAuthors", summary="pct-kl as PCT's authors publish it"),
    "elodi-authors": Entry(
        path="methods.elodi:ElodiAuthors",
        summary="ELODI as its authors publish it",
    ),
    "lwf": Entry(path="methods.distillation:Lwf", summary="distillation from the old model without a focus"),
    "self-distill": Entry(
        path="methods.distillation:SelfDistillation",
        summary="distillation from a plain model of the same network",
    ),
    "churn-distill": Entry(
        path="methods.churn:ChurnDistillation", summary="labels mixed with the old model's probabilities"
    ),
    "anchor": Entry(
        path="methods.churn:Anchor", summary="labels mixed with the old model's where that is right"
    ),
    "regret-gated": Entry(
        path="methods.gated:RegretGated", summary="distillation where the old model's loss is lower"
    ),
    "muscle": Entry(
        path="methods.gated:Muscle", summary="matches the old model where it errs itself, else a plain one"
    ),
    "bct": Entry(path="methods.compatible:Bct", summary="the old classifier's loss on the new features"),
    "logit-adjust": Entry(
        path="methods.frequencies:LogitAdjustment", summary="a margin from class frequencies"
    ),
    "balanced": Entry(path="methods.frequencies:BalancedSoftmax", summary="softmax weighted by class counts"),
    "posthoc-bias": Entry(
        path="methods.posthoc:PosthocBias", summary="none, and k taken from new classes' logits at inference"
    ),
    "bcwi": Entry(path="methods.posthoc:Bcwi", summary="weights between the old model's and the new one's"),
    "ensemble-old-new": Entry(
        path="methods.ensembles:OldAndNew", summary="mean probabilities of the old model and none"
    ),
    "ensemble-new": Entry(path="methods.ensembles:NewModels", summary="mean probabilities of plain models"),
}
_BUILTIN = _PAPER | _ABLATIONS | _RIVALS

GROUPS: Mapping[str, tuple[str, ...]] = {
    "all": tuple(_PAPER),
    "ablations": tuple(_ABLATIONS),
    "rivals": tuple(_RIVALS),
    "everything": tuple(_BUILTIN),
}
"""Words for many methods: the paper's eight, the ablations of its Table 3, and methods of other papers."""

METHODS: Registry[Entry] = Registry(Entry, "method", attribute="METHODS", builtin=_BUILTIN)
