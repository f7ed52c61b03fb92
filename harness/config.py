"""From the words of the command line to what is to be compared: checked, with every default written out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import cli
from common.text import nearest
from harness import class_names, experiments, hyperparameters, old_model, plugins
from harness.architectures import ARCHITECTURES
from harness.dispatch.dispatcher import has_gpus
from harness.plan import Model, Setting, Split
from harness.recipes import draws, recipe_for
from harness.settings import (
    ALL_CLASSES,
    DispatchConfig,
    Precision,
    Runtime,
    SweepConfig,
    TrainingConfig,
    TuningConfig,
)
from loaders.datasets import (
    DATASETS,
    Contents,
    Dataset,
    Encoding,
    fingerprint,
    look_into,
    prepared,
    usual_augmentation,
)
from methods import GROUPS, METHODS

OF_THE_SWEEP = frozenset(
    {
        *("experiment", "metrics", "plan", "stale"),
        *(name for section in (TuningConfig, Runtime, DispatchConfig) for name in cli.settings(section)),
    }
)
"""Settings that hold for a whole sweep: a list of their values would not make tables."""
TUNED_ON = "0.1"
"""Part of the training images that tune= chooses on, unless validation= says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that one command asks for: one Setting per table, and what they have in common."""

    config: SweepConfig
    """Of the first table; what does not belong to a table (folders, device, cluster) is the same in all."""
    settings: tuple[Setting, ...]
    """With `tune=` as they are before it, with a part of the training images held out."""
    gpu: bool
    """Whether jobs will have a GPU."""
    images: Mapping[str, Images]
    """The images that these settings name by their fingerprint."""
    slurm: Mapping[str, str]
    """The words `slurm.NAME=VALUE`, by NAME."""
    left_out: Mapping[str, str]
    """Methods of the groups asked for that do not fit, with the reason."""


FindImages = Callable[[Dataset, SweepConfig], tuple[str, Contents]]
"""Gives the images' fingerprint and what there is of them."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """What a fingerprint stands for."""

    encoding: Encoding
    contents: Contents


def read(argv: Sequence[str]) -> Sweep:
    """Turn the words of the command line into what is to be run.

    Raises:
        ValueError: whatever makes no sense, in one line.
    """
    words = cli.split(argv)
    plugins.load_named(words)
    given = experiments.spell_out(words)
    if "tune" in given:
        given.setdefault("validation", TUNED_ON)
    slurm = {key: given.pop(key) for key in list(given) if key.startswith("slurm.")}
    own = cli.settings(SweepConfig)
    hyper = {key: value for key, value in given.items() if key not in own}
    configs = [
        config
        for spelt_out in experiments.spell_out_scenarios(given)
        for config in _configs({key: value for key, value in spelt_out.items() if key in own})
    ]
    for config in configs:
        _require_names(config)
    _require_use_of_data(configs)
    methods = sorted({name for config in configs for name in chosen(config.methods)})
    changes = hyperparameters.read(hyper, methods)
    gpu = _have_gpus(configs[0])
    by_identity: dict[str, Images] = {}
    looked_into: dict[tuple[Dataset, Path | None], Contents] = {}

    def find_images(dataset: Dataset, config: SweepConfig) -> tuple[str, Contents]:
        data = config.runtime.data
        if (dataset, data) not in looked_into:
            looked_into[dataset, data] = look_into(dataset, data, config.runtime.betons_folder)
        contents, stored = looked_into[dataset, data], encoding(config)
        identity = fingerprint(dataset, data, stored, contents)
        by_identity[identity] = Images(encoding=stored, contents=contents)
        return identity, contents

    settings = tuple(
        dict.fromkeys(
            found for config in configs for found in _settings(config, changes, find_images, gpu=gpu)
        )
    )
    return Sweep(
        config=configs[0],
        settings=settings,
        gpu=gpu,
        images=by_identity,
        slurm={key.removeprefix("slurm."): value for key, value in slurm.items()},
        left_out={name: why for config in configs for name, why in unfit_methods(config).items()},
    )


def _settings(
    config: SweepConfig,
    changes: Mapping[str, Mapping[str, list[Any]]],
    find_images: FindImages,
    *,
    gpu: bool,
) -> Iterator[Setting]:
    """The setting that `config` asks for; of a chain one for each step."""
    if not config.data.chain:
        yield setting(config, changes, find_images, gpu=gpu)
        return
    previous = None
    for step in itertools.pairwise(config.data.chain):
        made = setting(config, changes, find_images, gpu=gpu, step=step)
        previous = replace(made, previous=previous)
        yield previous


def _configs(words: Mapping[str, str]) -> Iterator[SweepConfig]:
    """One for each combination of the values of lists."""
    names = _class_names(words)
    others = {key: value for key, value in words.items() if key not in names}
    for combination in cli.grid(SweepConfig, others, single=OF_THE_SWEEP):
        yield cli.build(SweepConfig, combination | names)


def _class_names(given: Mapping[str, str]) -> dict[str, str]:
    """`old_classes=` where it lists names: one table. Numbers and `all` are a table each, as elsewhere."""
    text = given.get("old_classes", "")
    words = cli.settings(SweepConfig)["old_classes"]
    listed = [cli.value("old_classes", word, words.hint) for word in text.split(",")] if text else []
    named = any(isinstance(word, str) and word != ALL_CLASSES for word in listed)
    return {"old_classes": text} if named else {}


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Method names with the words for groups spelt out, in the registry's order.

    Groups have built-in methods alone: those of plugins are asked for by name.
    """
    wanted = {member for name in names for member in GROUPS.get(name, (name,))}
    return tuple(name for name in METHODS if name in wanted)


def _require_names(config: SweepConfig) -> None:
    for name in config.methods:
        if name not in (*GROUPS, *METHODS):
            raise ValueError(f"unknown method '{name}'{nearest(name, (*GROUPS, *METHODS))}")
    DATASETS.find(config.data.dataset)
    for arch in filter(None, (config.training.arch, config.training.old_arch)):
        ARCHITECTURES.find(arch)


def _require_use_of_data(configs: Sequence[SweepConfig]) -> None:
    data, names = configs[0].runtime.data, {config.data.dataset: None for config in configs}
    if data and all(name in DATASETS.builtin and not DATASETS[name].needs_data for name in names):
        raise ValueError(
            f"data={data}: dataset={','.join(names)} brings its own images (yours: dataset=folder)"
        )


def setting(
    config: SweepConfig,
    changes: Mapping[str, Mapping[str, list[Any]]],
    find_images: FindImages,
    *,
    gpu: bool,
    step: tuple[int, int] | None = None,
) -> Setting:
    """The comparison that `config` asks for, every default written out.

    Args:
        config: what was asked for.
        changes: hyperparameters by method and name.
        find_images: gives the images' fingerprint and what there is of them.
        gpu: whether jobs will have a GPU.
        step: of a chain: how many classes the old model knows, and how many its update.

    Raises:
        ValueError: a combination that does not exist.
    """
    dataset, training, loader = images(config), config.training, config.runtime.loader
    arch = training.arch or dataset.arch
    old_arch = training.old_arch or arch
    _require_fitting(dataset, arch, old_arch, loader, training.init)
    given = old_model.given(config)
    unfit = unfit_methods(config)
    for method in config.methods:
        if method in unfit:
            raise ValueError(f"methods={method}: {unfit[method]}")
    own_images = _changed_images(config)
    if given is not None:
        given = replace(given, **own_images)
    overrides = training.recipe | own_images
    if draws(loader) != "counter":
        overrides["draws"] = draws(loader)
    variants = [
        variant
        for method in chosen(config.methods)
        if method not in unfit
        for variant in hyperparameters.variants(method, dataset, changes.get(method, {}))
    ]
    identity, contents = find_images(dataset, config)
    split = _split(config, dataset, contents, identity, step)
    old_recipe = None if given else recipe_for(dataset, old_arch, overrides)
    if old_recipe and dataset.classes and dataset.train_samples:
        of_old_classes = dataset.train_samples * split.old_classes / dataset.classes
        seen = round(of_old_classes * split.trained_share * split.old_data)
        if seen < old_recipe.batch_size:
            raise ValueError(
                f"batch_size={old_recipe.batch_size}: the old model is trained on about {seen} images"
            )
    return Setting(
        dataset=dataset.name,
        data=identity,
        split=split,
        old_model=old_model.UNSEEN if config.runtime.old_predictions else _model(old_arch, dataset, config),
        model=_model(arch, dataset, config),
        old_recipe=old_recipe,
        given=given,
        recipe=recipe_for(dataset, arch, overrides),
        precision=_precision(training, gpu=gpu),
        init=training.init,
        variants=tuple(variants),
        seeds=config.seeds,
    )


def images(config: SweepConfig) -> Dataset:
    """The dataset, with the augmentation and the image size that were asked for.

    Raises:
        ValueError: a size that its images do not have.
    """
    asked = config.training.augmentation
    augmentation = None if asked == "dataset" else asked
    return prepared(DATASETS[config.data.dataset], augmentation, config.data.image_size)


def _changed_images(config: SweepConfig) -> dict[str, Any]:
    """What is different from the dataset's own: a word that asks for the usual changes no identity."""
    data, training = config.data, config.training
    own = DATASETS[data.dataset]
    changes: dict[str, Any] = {}
    if training.augmentation not in ("dataset", usual_augmentation(own, data.image_size)):
        changes["augmentation"] = training.augmentation
    if data.image_size not in (None, own.image_size):
        changes["image_size"] = data.image_size
    if data.statistics != "dataset":
        changes["statistics"] = data.statistics
    arch = training.arch or own.arch
    if changes and ARCHITECTURES[arch].backbone:
        name, value = next(iter(changes.items()))
        raise ValueError(f"{name}={value}: {arch} learns from features of the images as they are")
    return changes


def unfit_methods(config: SweepConfig) -> dict[str, str]:
    """Those of the chosen methods that this setting has no use for, by name, with the reason.

    Words for groups leave them out; asked for by name they are refused.
    """
    training = config.training
    arch = training.arch or DATASETS[config.data.dataset].arch
    unfit = {}
    for name in chosen(config.methods):
        method = METHODS[name].load()
        if method.same_model and training.old_arch not in (None, arch):
            unfit[name] = f"old and new model must be of one architecture, not {training.old_arch} and {arch}"
        elif reason := old_model.unfit(method, config):
            unfit[name] = reason
        elif method.starts_from_old and training.init != "old":
            unfit[name] = "candidates must start from the old model: add init=old"
    return unfit


def encoding(config: SweepConfig) -> Encoding:
    """How the images are stored.

    Raises:
        ValueError: a way that the dataset does not allow.
    """
    data = config.data
    return images(config).encoding(
        write_mode=data.write_mode,
        max_resolution=data.max_resolution,
        jpeg_quality=data.jpeg_quality,
        jpeg_share=data.jpeg_share,
    )


def _require_fitting(dataset: Dataset, arch: str, old_arch: str, loader: str, init: str) -> None:
    new, old = ARCHITECTURES[arch], ARCHITECTURES[old_arch]
    if loader != "auto" and new.backbone:
        raise ValueError(f"loader={loader}: {arch} learns from features (leave loader= out)")
    if loader == "resident" and dataset.augmentation.kind != "pad-crop":
        raise ValueError(f"loader=resident: {dataset.name} has images of many sizes (use loader=stream)")
    if init == "old" and old_arch != arch:
        raise ValueError(f"init=old: candidates of {arch} cannot start from weights of {old_arch}")
    if old_arch != arch and (new.backbone or old.backbone):
        raise ValueError(
            f"arch={arch} old_arch={old_arch}: a frozen backbone's features serve old and new model alike, "
            "so both must be of that architecture"
        )
    for name, architecture in {arch: new, old_arch: old}.items():
        if not architecture.fixed_size and dataset.image_size < architecture.smallest:
            raise ValueError(
                f"arch={name}: it takes images of {architecture.smallest} pixels or more, "
                f"{dataset.name} has {dataset.image_size}"
            )


def _model(arch: str, dataset: Dataset, config: SweepConfig) -> Model:
    architecture, training, file = ARCHITECTURES[arch], config.training, config.runtime.weights
    embedding = training.embedding
    if embedding is None:
        embedding = next((w for start, w in dataset.embedding.items() if arch.startswith(start)), None)
    embedding = embedding or None  # 0 is for none
    if file and not architecture.backbone:
        raise ValueError(f"weights={file}: {arch} is trained from scratch")
    weights = architecture.backbone.weights if architecture.backbone else None
    if file:
        weights = f"sha256-{old_model.file_digest('weights', file)}"
    return Model(arch=arch, stem=training.stem or architecture.stems[0], embedding=embedding, weights=weights)


def _have_gpus(config: SweepConfig) -> bool:
    device = config.runtime.device
    return device == "cuda" or (device == "auto" and has_gpus(config.dispatch.cluster))


def _precision(training: TrainingConfig, *, gpu: bool) -> Precision:
    if training.precision == "auto":
        return "bf16" if gpu else "fp32"
    return training.precision


def _split(
    config: SweepConfig,
    dataset: Dataset,
    contents: Contents,
    identity: str,
    step: tuple[int, int] | None,
) -> Split:
    data, runtime = config.data, config.runtime
    all_classes = contents.classes if data.classes is None else data.classes
    old, classes = step or (data.old_classes, all_classes)
    if not 2 <= classes <= contents.classes:
        raise ValueError(f"classes={classes}: {dataset.name} has {contents.classes}, and two are the fewest")
    order: int | tuple[int, ...] | None
    if old == ALL_CLASSES:
        old = classes
    if isinstance(old, str) or isinstance(data.class_order, str):
        names = class_names.names_of(dataset, identity, runtime.data, runtime.betons_folder)
        if isinstance(old, str):
            first = tuple(sorted(class_names.read_names("old_classes", old, names)))
            old = len(first)
        else:
            first = class_names.read_names("class_order", str(data.class_order), names)
        order = class_names.shortest_order(first, classes, contents.classes)
    else:
        order = data.class_order
    count = round(old * classes) if old < 1 else int(old)
    if count != old and old >= 1:
        raise ValueError(f"old_classes={old:g}: a count of classes must be a whole number")
    return Split(
        classes=classes,
        old_classes=count,
        class_order=order,
        old_data=data.old_data,
        validation=data.validation,
        train_data=data.train_data,
        new_data=data.new_data,
    )
