"""What a person asks for: the settings of `python -m harness.sweep`, checked and turned into a plan's."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from common import cli
from common.text import nearest
from harness import experiments
from harness.plan import Model, Setting, Split, Variant
from harness.recipes import ARCHITECTURES, DATASET_HYPERPARAMETERS, Recipe, recipe_for
from loaders.datasets import DATASETS, Dataset, Encoding, class_count, fingerprint
from methods import METHODS

GROUPS = ("all", "ablations")
OF_NO_TABLE = frozenset(
    {"experiment", "download", "device", "precision", "compile", "deterministic", "sync_batchnorm", "loader"}
    | {"workers", "cluster", "profile", "wait", "jobs_per_gpu", "cohort", "plan"}
)
"""Settings that hold for a whole sweep: a list of them would make no tables."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Settings of a sweep; an empty default means that dataset and architecture bring theirs."""

    experiment: str | None = None
    """A table or figure of the paper by its name: the settings below, of which your own words win."""
    methods: tuple[str, ...] = ("all",)
    """Methods by name; `all` is the paper's eight, `ablations` the three of its Table 3."""
    dataset: str = "digits"
    """Images to train and test on; a list makes a table each, as for most settings below."""
    data: Path | None = None
    """Folder of the dataset's own files, where it needs one."""
    download: bool = False
    """Whether to load missing data from the network (CIFAR)."""
    arch: str | None = None
    """Architecture of references and candidates."""
    old_arch: str | None = None
    """Architecture of the old model (default: the same as arch)."""
    stem: str | None = None
    """First layers: `imagenet` (7x7, stride 2, max-pool; the protocol) or `cifar` (3x3)."""
    embedding: int | None = None
    """Width of a linear layer before the classifier (default: none; 128 on imagenet)."""
    weights: Path | None = None
    """File with the weights of a pretrained backbone (default: torchvision's, which it downloads)."""
    classes: int | None = None
    """Only so many classes of the dataset, the first in the class order (default: all)."""
    old_classes: float = 0.5
    """Classes that the old model knows: a fraction below 1, or a count."""
    class_order: int | None = None
    """Seed of a random order of classes, of which the first are the old ones (default: by index)."""
    old_data: float = 1.0
    """Fraction of the old classes' training images that the old model saw."""
    epochs: int | None = None
    """Passes over the training images."""
    batch_size: int | None = None
    """Images a step."""
    lr: float | None = None
    """Learning rate at the start."""
    weight_decay: float | None = None
    """L2 penalty of every weight."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One table row is the mean over these; each has its own old model and references."""
    runs: Path = Path("runs")
    """Folder of records."""
    betons: Path | None = None
    """Folder of the images in FFCV's format, made when missing (default: betons/ among the records)."""
    write_mode: Literal["raw", "jpg", "proportion"] | None = None
    """How photographs are kept: as pixels, as JPEGs, or a share of them (default: the architecture's)."""
    max_resolution: int | None = None
    """Bound of a kept photograph's longer side in pixels; 0 keeps the size."""
    jpeg_quality: int | None = None
    """Quality of the JPEGs, 1 to 100."""
    jpeg_share: float | None = None
    """Share of JPEGs where write_mode is proportion."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of forward and backward passes (losses are fp32); auto is bf16 on a GPU, fp32 on a CPU."""
    compile: Literal["auto", "true", "false"] = "auto"
    """Whether networks go through torch.compile; auto: where that was measured to win, so far nowhere."""
    deterministic: bool = False
    """On a GPU, only algorithms that give the same bits every time; on a CPU that is so anyway."""
    sync_batchnorm: bool = True
    """Of a run on several GPUs, whether BatchNorm sees the whole batch, as on one."""
    loader: Literal["auto", "stream", "resident", "torch"] = "auto"
    """FFCV from disk, or the whole set on the device, the pixels are the same; torch is torchvision's
    DataLoader, whose random crops are its own, so that its runs are others."""
    workers: int | None = None
    """Threads or processes that load (default: the cores of the job)."""
    cluster: Literal["auto", "slurm", "local", "inline"] = "auto"
    """Where jobs run: SLURM, processes of this machine, or this very process."""
    profile: str | None = None
    """What to ask of SLURM: a TOML file by name (docs/slurm.md); slurm.partition=... and so on change it."""
    wait: bool = True
    """On SLURM, whether to stay until the table is complete."""
    jobs_per_gpu: int = 1
    """How many jobs of this machine share a GPU; on SLURM, its own settings say so."""
    cohort: str = "auto"
    """How many candidates share one stream of batches; auto, or a number."""
    plan: bool = False
    """Print what would run, and start nothing."""

    def __post_init__(self) -> None:
        if self.cohort != "auto" and not (self.cohort.isdecimal() and int(self.cohort) > 0):
            raise ValueError(f"cohort={self.cohort}: expected auto or a whole number above 0")
        for name in ("workers", "jobs_per_gpu"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: must be 1 or more")
        _refuse_repeats("methods", self.methods)
        _refuse_repeats("seeds", self.seeds)
        if min(self.seeds) < 0:
            raise ValueError(f"seeds={min(self.seeds)}: must be 0 or more")
        if not (self.old_classes > 0 and math.isfinite(self.old_classes)):
            raise ValueError(
                f"old_classes={self.old_classes:g}: expected a fraction of the classes or a count"
            )
        for name in self.methods:
            if name not in (*GROUPS, *METHODS):
                raise ValueError(f"unknown method '{name}'{nearest(name, (*GROUPS, *METHODS))}")
        if self.dataset not in DATASETS:
            raise ValueError(f"unknown dataset '{self.dataset}'{nearest(self.dataset, DATASETS)}")
        for name in filter(None, (self.arch, self.old_arch)):
            if name not in ARCHITECTURES:
                raise ValueError(f"unknown architecture '{name}'{nearest(name, ARCHITECTURES)}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All that one command asks for: a Setting a table, and what is common to them."""

    config: SweepConfig
    """Of the first table; what does not belong to a table (folders, device, cluster) is the same in all."""
    settings: tuple[Setting, ...]
    encodings: tuple[Encoding, ...]
    """How the images of these settings are kept; a Setting names only a fingerprint."""
    slurm: Mapping[str, str]
    """The words `slurm.NAME=VALUE`, by NAME."""


def read(argv: Sequence[str]) -> Sweep:
    """Words of the command line to what is to be run.

    Raises:
        ValueError: whatever cannot be meant, in one line.
    """
    given = experiments.spell_out(cli.split(argv))
    slurm = {key: given.pop(key) for key in list(given) if key.startswith("slurm.")}
    own = {field.name for field in fields(SweepConfig)}
    hyper = {key: value for key, value in given.items() if key not in own}
    configs = [
        cli.build(SweepConfig, combination)
        for combination in cli.grid(
            SweepConfig, {k: v for k, v in given.items() if k in own}, single=OF_NO_TABLE
        )
    ]
    methods = sorted({name for config in configs for name in chosen(config.methods)})
    changes = read_hyperparameters(hyper, methods)
    return Sweep(
        config=configs[0],
        settings=tuple(dict.fromkeys(setting(config, changes) for config in configs)),
        encodings=tuple(dict.fromkeys(map(encoding, configs))),
        slurm={key.removeprefix("slurm."): value for key, value in slurm.items()},
    )


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Method names with `all` and `ablations` spelt out, in the registry's order."""
    wanted = set(names)
    return tuple(
        name
        for name, entry in METHODS.items()
        if name in wanted or ("ablations" if entry.ablation else "all") in wanted
    )


def hyperparameters(method: str) -> dict[str, Any]:
    """A method's hyperparameters and defaults by their names on the command line."""
    entry = METHODS[method]
    return {
        field.name.rstrip("_"): entry.defaults.get(field.name, field.default)
        for field in fields(entry.load())
    }


def read_hyperparameters(given: Mapping[str, str], methods: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """`{"mpt-kl.k": "1,2"}` -> `{"mpt-kl": {"k": [1.0, 2.0]}}`.

    A bare `k` is for every chosen method that has it, save where its value makes the method what it is
    (`mpt-kl-nobias` is `mpt-kl` with k = 0).

    Raises:
        ValueError: a name that nothing has, or a value of the wrong type.
    """
    changes: dict[str, dict[str, list[Any]]] = {}
    for key, text in sorted(given.items(), key=lambda item: "." in item[0]):  # a method's own word wins
        method, dot, name = key.rpartition(".")
        if dot and method not in METHODS:
            raise ValueError(f"unknown method '{method}' in {key}={nearest(method, METHODS)}")
        owners = [method] if dot else [m for m in methods if _is_free(m, name)]
        if dot and method not in methods:
            raise ValueError(f"{key}={text}: {method} is not among methods={','.join(methods)}")
        if not owners or name not in hyperparameters(owners[0]):
            known = hyperparameters(method) if dot else _all_names(methods)
            raise ValueError(f"unknown setting '{key}'{nearest(name, known)}")
        for owner in owners:
            values = [_typed(owner, key, name, value) for value in text.split(",")]
            _refuse_repeats(key, values)
            changes.setdefault(owner, {})[name] = values
    return changes


def setting(config: SweepConfig, changes: Mapping[str, Mapping[str, list[Any]]]) -> Setting:
    """The comparison that `config` asks for, every default written out.

    Raises:
        ValueError: a combination that does not exist.
    """
    dataset = DATASETS[config.dataset]
    arch = config.arch or dataset.arch
    old_arch = config.old_arch or arch
    overrides: dict[str, Any] = {
        name: getattr(config, name)
        for name in ("epochs", "batch_size", "lr", "weight_decay")
        if getattr(config, name) is not None
    }
    if config.loader != "auto" and ARCHITECTURES[arch].pretrained:
        raise ValueError(f"loader={config.loader}: {arch} learns from features (leave loader= out)")
    if config.loader == "torch":
        overrides["draws"] = "torchvision"
    if config.loader == "resident" and dataset.augmentation.kind != "pad-crop":
        raise ValueError(f"loader=resident: {dataset.name} has images of many sizes (use loader=stream)")
    variants = [
        variant
        for method in chosen(config.methods)
        for variant in _variants(method, config.dataset, changes.get(method, {}))
    ]
    if old_arch != arch and (ARCHITECTURES[arch].pretrained or ARCHITECTURES[old_arch].pretrained):
        raise ValueError(
            f"arch={arch} old_arch={old_arch}: a frozen backbone's features serve old and new model alike, "
            "so both must be of that architecture"
        )
    split, old_recipe = _split(config, dataset), recipe_for(config.dataset, old_arch, overrides)
    if dataset.classes and dataset.train_samples:
        seen = round(dataset.train_samples * split.old_classes / dataset.classes * split.old_data)
        if seen < old_recipe.batch_size:
            raise ValueError(
                f"batch_size={old_recipe.batch_size}: the old model is trained on about {seen} images"
            )
    return Setting(
        dataset=config.dataset,
        data=fingerprint(dataset, config.data, encoding(config)),
        split=split,
        old_model=_model(old_arch, config),
        model=_model(arch, config),
        old_recipe=old_recipe,
        recipe=recipe_for(config.dataset, arch, overrides),
        variants=tuple(variants),
        seeds=config.seeds,
    )


def encoding(config: SweepConfig) -> Encoding:
    """How the images are kept.

    Raises:
        ValueError: a way that the dataset does not allow.
    """
    return DATASETS[config.dataset].encoding(
        config.arch,
        write_mode=config.write_mode,
        max_resolution=config.max_resolution,
        jpeg_quality=config.jpeg_quality,
        jpeg_share=config.jpeg_share,
    )


def print_help() -> None:
    """`--help`: every setting, and what the registries hold."""
    cli.print_help(
        SweepConfig,
        prog="python -m harness.sweep",
        description=(
            "Train the old model, the references and every method's candidate, and print how often each "
            "candidate errs and how many of the old model's right answers it loses.\n"
            "For instance: methods=all dataset=digits | methods=none,mpt-kl k=0,2,4 seeds=0,1 | plan=true"
        ),
        sections=[
            ("Methods", [(name, entry.summary) for name, entry in METHODS.items()]),
            ("Experiments", [(name, _experiment_text(name)) for name in experiments.EXPERIMENTS]),
            (
                "Hyperparameters (method.name=value, or name=value for every method that has it)",
                [(name, _hyperparameter_text(name)) for name in METHODS if hyperparameters(name)],
            ),
            ("Datasets", [(name, f"{e.summary}; {_recipe_text(name)}") for name, e in DATASETS.items()]),
            (
                "Architectures",
                [(name, f"{e.summary}; stem {', '.join(e.stems)}") for name, e in ARCHITECTURES.items()],
            ),
        ],
    )


def _experiment_text(name: str) -> str:
    experiment = experiments.EXPERIMENTS[name]
    return f"{experiment.summary} (dataset={' or '.join(experiment.datasets)})"


def _hyperparameter_text(method: str) -> str:
    shown = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in hyperparameters(method).items()
    }
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _recipe_text(dataset: str) -> str:
    arch = DATASETS[dataset].arch
    recipe: Recipe = recipe_for(dataset, arch, {})
    return f"{arch}, {recipe.epochs} epochs of batch {recipe.batch_size} at lr {recipe.lr:g}"


def _variants(method: str, dataset: str, changes: Mapping[str, list[Any]]) -> Iterable[Variant]:
    """One Variant for each combination of the values asked for."""
    entry = METHODS[method]
    cls = entry.load()
    names = {field.name.rstrip("_"): field.name for field in fields(cls)}
    brought = {k: v for k, v in DATASET_HYPERPARAMETERS.get(dataset, {}).items() if k in names}
    defaults = {**brought, **entry.defaults}
    for combination in itertools.product(*changes.values()):
        changed = {names[name]: value for name, value in zip(changes, combination, strict=True)}
        try:
            made = cls(**{**defaults, **changed})
        except ValueError as error:
            raise ValueError(f"{method}.{error}") from None
        plain = cls(**defaults)
        values = {field.name: getattr(made, field.name) for field in fields(cls)}
        yield Variant(
            method=method,
            hyperparameters=tuple(sorted(values.items())),
            shown=tuple((name, value) for name, value in values.items() if value != getattr(plain, name)),
            references=made.references,
            version=cls.version,
        )


def _typed(method: str, key: str, name: str, text: str) -> Any:
    """One hyperparameter's value, by the type of its field."""
    cls = METHODS[method].load()
    field = name if name in cls.__dataclass_fields__ else f"{name}_"
    return cli.value(key, text, get_type_hints(cls)[field])


def _model(arch: str, config: SweepConfig) -> Model:
    stem = config.stem or ARCHITECTURES[arch].stems[0]
    embedding = config.embedding
    if embedding is None and config.dataset == "imagenet" and arch.startswith("resnet"):
        embedding = 128  # the paper's protocol on ImageNet
    weights = ARCHITECTURES[arch].pretrained
    if weights and config.weights:
        weights = _digest(config.weights)
    elif config.weights:
        raise ValueError(f"weights={config.weights}: {arch} is trained from scratch")
    return Model(arch=arch, stem=stem, embedding=embedding, weights=weights)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return f"sha256-{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise ValueError(f"weights={path}: {error.strerror}") from error


def _split(config: SweepConfig, dataset: Dataset) -> Split:
    there = class_count(dataset, config.data)
    classes = there if config.classes is None else config.classes
    if not 2 <= classes <= there:
        raise ValueError(f"classes={classes}: {dataset.name} has {there}, and two are the fewest")
    old = config.old_classes
    count = round(old * classes) if old < 1 else int(old)
    if count != old and old >= 1:
        raise ValueError(f"old_classes={old:g}: a count of classes must be whole")
    return Split(classes=classes, old_classes=count, class_order=config.class_order, old_data=config.old_data)


def _refuse_repeats(name: str, values: Sequence[Any]) -> None:
    repeated = [value for value in dict.fromkeys(values) if list(values).count(value) > 1]
    if repeated:
        raise ValueError(f"{name}: {repeated[0]} is given twice")


def _is_free(method: str, name: str) -> bool:
    fixed = {key.rstrip("_") for key in METHODS[method].defaults}
    return name in hyperparameters(method) and name not in fixed


def _all_names(methods: Iterable[str]) -> list[str]:
    own = [field.name for field in fields(SweepConfig)]
    return own + [f"{method}.{name}" for method in methods for name in hyperparameters(method)]
