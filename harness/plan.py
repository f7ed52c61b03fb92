"""From what is asked for to Runs: pure, without torch, without looking at the disk.

A `Run` is one model's training and its `id` is made of everything that decides the weights. `expand` makes
the graph old model -> references -> candidates; `harness.grouping` cuts what is left to do into Jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import msgspec

from common.identity import content_hash, run_label
from harness.architectures import ARCHITECTURES
from harness.recipes import Recipe, SeenAs, Statistics
from harness.settings import Precision
from loaders.datasets import AugmentationName
from methods import METHODS, Loss
from methods.source import code_digest

Role = Literal["old", "reference", "holdout", "candidate"]
"""A `holdout` is trained like a candidate, but without a part of the training data, on which it is tested."""
Init = Literal["scratch", "old"]
Scalar = float | int | bool | str

PLAIN = "none"
"""No Treatment, from whose candidate post-hoc methods and ensembles are made."""
UNKNOWN = "unknown"
"""Architecture and stem of an old model of which there are predictions alone."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which classes and samples a model is trained on.

    Logit columns are positions in the class order, so the old classes are always columns
    `0 .. old_classes - 1`. `class_order` is the seed of the permutation, or the labels that come first (the
    others follow by index), None for the order by index.
    `validation` is the fraction of every class's training samples that no model is trained on, `train_data`
    the fraction of the others that all are trained on, `old_data` how much of that the old model saw, and
    `new_data` how much there is of the new classes.
    """

    classes: int
    old_classes: int
    class_order: int | tuple[int, ...] | None = None
    old_data: float = 1.0
    validation: float = 0.0
    train_data: float = 1.0
    new_data: float = 1.0

    def __post_init__(self) -> None:
        if not 2 <= self.old_classes <= self.classes:  # of one class there is nothing to tell apart
            raise ValueError(
                f"old_classes={self.old_classes}: must lie in 2..{self.classes} (or a fraction, or all)"
            )
        if isinstance(self.class_order, tuple):
            assert len(set(self.class_order)) == len(self.class_order)
        elif self.class_order is not None and not 0 <= self.class_order < 2**63:
            raise ValueError(f"class_order={self.class_order}: must be 0 or more")
        if not 0 < self.old_data <= 1:
            raise ValueError(f"old_data={self.old_data}: must lie in (0, 1]")
        if not 0 < self.train_data <= 1:
            raise ValueError(f"train_data={self.train_data}: must lie in (0, 1]")
        if not 0 < self.new_data <= 1:
            raise ValueError(f"new_data={self.new_data}: must lie in (0, 1]")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation={self.validation}: must lie in [0, 1)")

    @property
    def trained_share(self) -> float:
        """The fraction of the training samples that models other than the old one are trained on."""
        return (1 - self.validation) * self.train_data


@dataclass(frozen=True, kw_only=True)
class Model:
    """An architecture, its stem and, if any, the width of a linear layer before the classifier.

    `weights` identifies those of a frozen backbone: torchvision's name, or a file's digest.
    """

    arch: str
    stem: str
    embedding: int | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if not self.is_known:
            return
        stems = ARCHITECTURES.find(self.arch).stems
        if self.stem not in stems:
            raise ValueError(f"stem={self.stem}: {self.arch} has {', '.join(stems)}")
        if self.embedding is not None and self.embedding < 1:
            raise ValueError(f"embedding={self.embedding}: must be 1 or more")

    @property
    def is_known(self) -> bool:
        """Whether there is a network; not of an old model of which there are predictions alone."""
        return self.arch != UNKNOWN

    @property
    def label(self) -> str:
        """`resnet18`, or with what differs from the protocol: `resnet18-cifar-e2`."""
        if not self.is_known:
            return self.arch
        stem = "" if self.stem == ARCHITECTURES[self.arch].stems[0] else f"-{self.stem}"
        return f"{self.arch}{stem}" + (f"-e{self.embedding}" if self.embedding else "")

    @property
    def file_label(self) -> str:
        """`label` as it can be part of a file's name."""
        return self.label.replace(":", "-")


@dataclass(frozen=True, kw_only=True)
class Given:
    """The file of an old model that was not trained here."""

    kind: Literal["weights", "predictions"]
    sha256: str
    """Of the file's content."""
    augmentation: AugmentationName | None = None
    image_size: int | None = None
    statistics: Statistics | None = None
    """How it sees images, as in a Recipe."""

    def __str__(self) -> str:
        return f"{self.kind}={self.sha256[:12]}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model's training: all that decides its weights, and nothing else.

    An old model that was not trained here is a run, too: one for all seeds, whose own is 0.
    """

    role: Role
    index: int = 0
    """Which reference; 0 for the old model and candidates."""
    seed: int
    dataset: str
    data: str
    """Fingerprint of the images and labels."""
    split: Split
    model: Model
    recipe: Recipe | None
    """None for an old model that was not trained here."""
    given: Given | None = None
    """What such an old model was read from."""
    precision: Precision = "fp32"
    init: Init = "scratch"
    """Where a candidate's weights start: freshly drawn, or at the old model's."""
    method: str = "none"
    hyperparameters: tuple[tuple[str, Scalar], ...] = ()
    method_version: int = 1
    parents: tuple[str, ...] = ()
    """Ids of the runs it learns from, is made from or is compared with: the old model's first, then the
    references', then No Treatment's and the holdout's for what is made from them."""
    shown: tuple[tuple[str, Scalar], ...] = field(default=(), compare=False)
    """Hyperparameters that differ from the defaults: part of the label, not of the identity."""
    trial: bool = field(default=False, compare=False)
    """Whether it is trained to choose hyperparameters: tables of test numbers leave it out."""
    tuned: Mapping[str, Any] | None = field(default=None, compare=False)
    """How its hyperparameters were chosen, where `tune=` did so (`results.tuned.Tuned`)."""

    def content(self) -> dict[str, Any]:
        """All that decides the weights, as JSON can hold it."""
        content = asdict(self)
        for name in ("shown", "trial", "tuned"):
            del content[name]
        # Left out where they are as they always were, so that runs from before they were words are found.
        for name, usual in {"precision": "fp32", "init": "scratch", "given": None}.items():
            if content[name] == usual:
                del content[name]
        for name, all_data in {"validation": 0.0, "train_data": 1.0, "new_data": 1.0}.items():
            if content["split"][name] == all_data:
                del content["split"][name]
        if self.given:
            content["given"] = {name: value for name, value in content["given"].items() if value is not None}
        recipe = content["recipe"] or {}
        content["recipe"] = {name: value for name, value in recipe.items() if value is not None}
        content["hyperparameters"] = dict(self.hyperparameters)
        content["parents"] = list(self.parents)
        return content

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Run:
        """The inverse of `content`; further keys are ignored."""
        pairs = {"hyperparameters": sorted(content["hyperparameters"].items())}
        return msgspec.convert({**content, **pairs, "recipe": content["recipe"] or None}, cls)

    def document(self) -> dict[str, Any]:
        """`content` with the id and the label: what a record holds."""
        return {
            "id": self.id,
            "label": self.label,
            **self.content(),
            "shown": [list(pair) for pair in self.shown],
            **({"method_code": self.method_code} if self.method_code else {}),
            **({"trial": True} if self.trial else {}),
            **({"tuned": self.tuned} if self.tuned else {}),
        }

    @property
    def method_code(self) -> str:
        """Digest of the code of its method as it is now, which a record tells and an id does not.

        Empty for a method that this process does not know, or whose source is not installed.
        """
        if self.given or self.method not in METHODS:
            return ""
        try:
            return code_digest(METHODS[self.method].load())
        except OSError:
            return ""

    @cached_property
    def id(self) -> str:
        """Readable prefix and hash of the content: `digits-resnet8-mpt-kl-s0-1f2e3d4c5b`."""
        names = {"old": "old", "reference": f"reference{self.index}", "holdout": f"holdout-{self.method}"}
        name = names.get(self.role, self.method)
        return f"{self.dataset}-{self.model.file_label}-{name}-s{self.seed}-{content_hash(self.content())}"

    @cached_property
    def label(self) -> str:
        """The name in tables: `mpt-kl`, or with what was changed `mpt-kl[k=2]`."""
        return run_label({**asdict(self), "shown": self.shown})

    @property
    def stream_key(self) -> int:
        """Seed (64 bit) of initial weights, sample order and augmentation.

        Candidates of one seed share it (paired comparison by common random numbers); the old model and
        every reference have their own, so that they are independent.
        """
        digest = hashlib.sha256(f"{self.role}/{self.index}/{self.seed}".encode()).digest()
        return int.from_bytes(digest[:8], "little")

    @property
    def seen(self) -> SeenAs:
        """How it sees images."""
        seen = self.recipe or self.given
        assert seen is not None, "a model is trained here, or given"
        return seen

    @property
    def is_trained(self) -> bool:
        """Whether it is trained here; others are made from models that are, or were given."""
        if self.given:
            return False
        return self.method not in METHODS or issubclass(METHODS[self.method].load(), Loss)

    @property
    def trained_classes(self) -> int:
        """Number of logits: the old model knows the old classes alone."""
        return self.split.old_classes if self.role == "old" else self.split.classes

    @property
    def stream(self) -> tuple[Any, ...]:
        """Runs with equal streams see the same batches and the same old model, and may train in lockstep."""
        who = (self.role, self.index, self.seed, self.is_trained, *self.parents[:1])
        what = (self.dataset, self.data, self.split, self.model, self.recipe, self.given)
        return (*who, *what, self.precision)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One candidate method with all its hyperparameters written out, and the references it asks for."""

    method: str
    hyperparameters: tuple[tuple[str, Scalar], ...]
    shown: tuple[tuple[str, Scalar], ...]
    references: int
    version: int
    from_candidate: bool = False
    """Whether it is made from No Treatment's candidate."""
    holdout: float = 0.0
    """Part of the training data on which something about it is chosen; 0 for none."""
    trial: bool = field(default=False, compare=False)
    """Whether it is trained to choose hyperparameters."""
    tuned: Mapping[str, Any] | None = field(default=None, compare=False)
    """How its hyperparameters were chosen, where `tune=` did so (`results.tuned.Tuned`)."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One comparison: a table's worth of models."""

    dataset: str
    data: str
    split: Split
    old_model: Model
    model: Model
    old_recipe: Recipe | None
    """None for an old model that is given."""
    given: Given | None = None
    """The file of an old model that is not trained here."""
    recipe: Recipe
    precision: Precision
    init: Init
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    previous: Setting | None = None
    """The step before in a chain of updates: each method's old model is its own candidate of that step."""


def expand(*settings: Setting) -> tuple[Run, ...]:
    """The graph of Runs of these settings, parents before children, without duplicates."""
    return tuple({run.id: run for setting in settings for run in _expand(setting)}.values())


def _expand(setting: Setting) -> Iterable[Run]:
    before = expand(setting.previous) if setting.previous else ()
    updated = {_of_method(run): run for run in before if run.role == "candidate"}
    runs: dict[str, Run] = {run.id: run for run in before}
    split = setting.split
    # What only the old model saw is no part of the others: settings that differ in it share references.
    grown = replace(split, old_data=1.0)
    whole = grown if grown.new_data < 1 else replace(grown, old_classes=split.classes)
    for seed in setting.seeds:
        new = Run(
            role="candidate",
            seed=seed,
            dataset=setting.dataset,
            data=setting.data,
            split=grown,
            model=setting.model,
            recipe=setting.recipe,
            precision=setting.precision,
        )
        seen = replace(split, new_data=1.0)  # the old model sees no new class
        old = replace(new, role="old", split=seen, model=setting.old_model, recipe=setting.old_recipe)
        if setting.given:
            old = _given(old, setting.given)
        count = max((variant.references for variant in setting.variants), default=0)
        references = [replace(new, role="reference", index=i, split=whole) for i in range(count)]
        new = replace(new, init=setting.init)
        plain = replace(new, method_version=METHODS[PLAIN].load().version)
        old_of_plain = updated.get(_of_method(plain), old)
        plain = replace(plain, parents=(old_of_plain.id,))
        if not updated:
            runs |= {old.id: old}
        runs |= {reference.id: reference for reference in references}
        for variant in setting.variants:
            candidate = replace(
                new,
                method=variant.method,
                hyperparameters=variant.hyperparameters,
                method_version=variant.version,
                shown=variant.shown,
                trial=variant.trial,
                tuned=variant.tuned,
            )
            parents = [updated.get(_of_method(candidate), old), *references[: variant.references]]
            if variant.from_candidate:
                parents.append(plain)
            if variant.holdout:
                *starts, holdout = _held_out(plain, old_of_plain, variant.holdout)
                runs |= {start.id: start for start in starts}
                parents.append(holdout)
            candidate = replace(candidate, parents=tuple(parent.id for parent in parents))
            for run in (*parents, candidate):
                runs.setdefault(run.id, run)  # the first keeps its marks
    return runs.values()


def _given(old: Run, given: Given) -> Run:
    """The run of an old model that is read from a file: what it was trained on is unknown."""
    split = replace(old.split, old_data=1.0, train_data=1.0)
    precision = old.precision if given.kind == "weights" else "fp32"
    return replace(old, seed=0, split=split, given=given, precision=precision)


def _of_method(run: Run) -> tuple[Any, ...]:
    return run.method, run.hyperparameters, run.seed


def _held_out(plain: Run, old: Run, part: float) -> tuple[Run, ...]:
    """A model like `plain` that has not seen a part of the training data, after what it starts from."""
    if plain.split.validation:  # no model of this setting has seen that part
        return (plain,)
    holdout = replace(plain, role="holdout", split=replace(plain.split, validation=part), parents=())
    if plain.init == "scratch":
        return (holdout,)
    assert old.role == "old", "no candidate of a chain's earlier steps has left that part out"
    start = replace(old, split=replace(old.split, validation=part))
    return start, replace(holdout, parents=(start.id,))
