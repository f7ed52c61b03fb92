"""From the words of the command line to what is to be compared: checked, with every default written out."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from common import cli
from common.text import nearest
from harness import class_names, experiments, old_model, plugins
from harness.architectures import ARCHITECTURES, FURTHER_TORCHVISION
from harness.dispatch.dispatcher import has_gpus
from harness.plan import Model, Setting, Split, Variant
from harness.recipes import Recipe, draws, recipe_for
from harness.settings import (
    DispatchConfig,
    Precision,
    Runtime,
    SweepConfig,
    TrainingConfig,
    TuningConfig,
    refuse_repeats,
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
from methods import GROUPS, METHODS, Ensemble, PostHoc, Range

ALL_CLASSES = "all"
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
    load_plugins(words)
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
    changes = read_hyperparameters(hyper, methods)
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
    for old, new in itertools.pairwise(config.data.chain):
        data = replace(config.data, chain=(), old_classes=old, classes=new)
        step = setting(replace(config, data=data), changes, find_images, gpu=gpu)
        previous = replace(step, previous=previous)
        yield previous


def _configs(words: Mapping[str, str]) -> Iterator[SweepConfig]:
    """One for each combination of the values of lists."""
    names = _class_names(words)
    others = {key: value for key, value in words.items() if key not in names}
    for combination in cli.grid(SweepConfig, others, single=OF_THE_SWEEP):
        yield cli.build(SweepConfig, combination | names)


def _class_names(given: Mapping[str, str]) -> dict[str, str]:
    """`old_classes=` where it lists names: one table. A list of numbers is a table each, as elsewhere."""
    text = given.get("old_classes", "")
    words = cli.settings(SweepConfig)["old_classes"]
    listed = [cli.value("old_classes", word, words.hint) for word in text.split(",")] if text else []
    return {"old_classes": text} if any(isinstance(word, str) for word in listed) else {}


def load_plugins(words: Mapping[str, str]) -> None:
    """Load the modules that `plugins=` names, before anything is looked up.

    Raises:
        ValueError: one that cannot be imported.
    """
    if "plugins" in words:
        names = cli.value("plugins", words["plugins"], cli.settings(Runtime)["plugins"].hint)
        plugins.load(names, (str(Path.cwd()),))


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


def hyperparameters(method: str) -> dict[str, Any]:
    """A method's hyperparameters and defaults by their names on the command line."""
    entry = METHODS[method]
    return {
        field.name.rstrip("_"): entry.defaults.get(field.name, field.default)
        for field in fields(entry.load())
    }


def ranges(method: str) -> dict[str, Range]:
    """Where `tune=` looks for a method's hyperparameters, by their names on the command line.

    What makes the method what it is has no range.
    """
    found = METHODS[method].load().ranges()
    return {name.rstrip("_"): found[name] for name in found if is_free(method, name.rstrip("_"))}


def read_hyperparameters(given: Mapping[str, str], methods: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """`{"mpt-kl.k": "1,2"}` -> `{"mpt-kl": {"k": [1.0, 2.0]}}`.

    A bare `k` is for every chosen method that has it, except where its value makes the method what it is
    (`mpt-kl-nobias` is `mpt-kl` with k = 0).

    Raises:
        ValueError: a name that nothing has, or a value of the wrong type.
    """
    changes: dict[str, dict[str, list[Any]]] = {}
    for key, text in sorted(given.items(), key=lambda item: "." in item[0]):  # a method's own word wins
        method, dot, name = key.rpartition(".")
        if dot and method not in METHODS:
            raise ValueError(f"unknown method '{method}' in {key}={nearest(method, METHODS)}")
        owners = [method] if dot else [m for m in methods if is_free(m, name)]
        if dot and method not in methods:
            raise ValueError(f"{key}={text}: {method} is not among methods={','.join(methods)}")
        if dot and name not in hyperparameters(method):
            raise ValueError(f"unknown setting '{key}'{nearest(name, hyperparameters(method))}")
        if not owners:
            raise ValueError(_nobody_has(name, text, methods))
        for owner in owners:
            values = [_typed(owner, key, name, value) for value in text.split(",")]
            refuse_repeats(key, values)
            changes.setdefault(owner, {})[name] = values
    return changes


def setting(
    config: SweepConfig,
    changes: Mapping[str, Mapping[str, list[Any]]],
    find_images: FindImages,
    *,
    gpu: bool,
) -> Setting:
    """The comparison that `config` asks for, every default written out.

    Args:
        config: what was asked for.
        changes: hyperparameters by method and name.
        find_images: gives the images' fingerprint and what there is of them.
        gpu: whether jobs will have a GPU.

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
        for variant in _variants(method, dataset, changes.get(method, {}))
    ]
    identity, contents = find_images(dataset, config)
    split = _split(config, dataset, contents, identity)
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


def print_help(argv: Sequence[str]) -> None:
    """`--help`: the settings by name; `--help all`: what each means, and what the registries hold.

    Both know the entries of `plugins=`.

    Raises:
        ValueError: a plugin that cannot be imported.
    """
    load_plugins(cli.split(word for word in argv if word not in {*cli.HELP_WORDS, "all"}))
    prog = "python -m harness.sweep"
    about = (
        "Train the old model, the references and every method's candidate, and print how often each "
        "candidate errs and how many of the old model's right answers it loses.\n"
        "For instance: methods=all dataset=digits | methods=none,mpt-kl k=0,2,4 seeds=0,1 | plan=true"
    )
    if "all" not in argv:
        names: dict[str, Iterable[str]] = {
            "Methods": METHODS,
            "Datasets": DATASETS,
            "Experiments": experiments.EXPERIMENTS,
            "Scenarios": experiments.SCENARIOS,
        }
        cli.print_outline(
            SweepConfig,
            prog=prog,
            description=about,
            sections={title: ", ".join(registry) for title, registry in names.items()},
            more="--help all",
        )
        return
    own = {name: entry for name, entry in ARCHITECTURES.items() if name not in FURTHER_TORCHVISION}
    cli.print_help(
        SweepConfig,
        prog=prog,
        description=about,
        sections=[
            ("Methods", [(name, entry.summary) for name, entry in METHODS.items()]),
            ("Experiments", [(name, _experiment_text(name)) for name in experiments.EXPERIMENTS]),
            ("Scenarios", [(name, one.summary) for name, one in experiments.SCENARIOS.items()]),
            (
                "Hyperparameters (method.name=value, or name=value for every method that has it) "
                "and where tune= looks for them",
                [(name, _hyperparameter_text(name)) for name in METHODS if hyperparameters(name)],
            ),
            ("Datasets", [(name, f"{e.summary}; {_recipe_text(name)}") for name, e in DATASETS.items()]),
            (
                "Architectures",
                [
                    *((name, f"{e.summary}; stem {', '.join(e.stems)}") for name, e in own.items()),
                    ("torchvision's", ", ".join(FURTHER_TORCHVISION)),
                    ("timm:NAME", "any classifier of timm, where that is installed"),
                ],
            ),
        ],
    )


def _experiment_text(name: str) -> str:
    experiment = experiments.EXPERIMENTS[name]
    return f"{experiment.summary} (dataset={' or '.join(experiment.datasets)})"


def _hyperparameter_text(method: str) -> str:
    where = ranges(method)
    shown = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in hyperparameters(method).items()
    }
    return ", ".join(
        f"{name}={value}" + (f" [{where[name]}]" if name in where else "") for name, value in shown.items()
    )


def _recipe_text(dataset: str) -> str:
    arch = DATASETS[dataset].arch
    recipe: Recipe = recipe_for(DATASETS[dataset], arch, {})
    return f"{arch}, {recipe.epochs} epochs of batch {recipe.batch_size} at lr {recipe.lr:g}"


def _variants(method: str, dataset: Dataset, changes: Mapping[str, list[Any]]) -> Iterable[Variant]:
    """One Variant for each combination of the values asked for."""
    entry = METHODS[method]
    cls = entry.load()
    names = {field.name.rstrip("_"): field.name for field in fields(cls)}
    brought = {k: v for k, v in dataset.hyperparameters.items() if k in names}
    defaults = {**brought, **entry.defaults}
    compared = {names[name] for name, asked in changes.items() if len(asked) > 1}
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
            shown=tuple(
                (name, value)
                for name, value in values.items()
                if value != getattr(plain, name) or name in compared
            ),
            references=made.references,
            version=cls.version,
            from_candidate=isinstance(made, PostHoc) or (isinstance(made, Ensemble) and made.uses_new),
            holdout=made.holdout if isinstance(made, PostHoc) else 0.0,
        )


def _typed(method: str, key: str, name: str, text: str) -> Any:
    """One hyperparameter's value, by the type of its field."""
    cls = METHODS[method].load()
    field = name if name in cls.__dataclass_fields__ else f"{name}_"
    return cli.value(key, text, get_type_hints(cls)[field])


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


def _split(config: SweepConfig, dataset: Dataset, contents: Contents, identity: str) -> Split:
    data, runtime = config.data, config.runtime
    classes = contents.classes if data.classes is None else data.classes
    if not 2 <= classes <= contents.classes:
        raise ValueError(f"classes={classes}: {dataset.name} has {contents.classes}, and two are the fewest")
    old = data.old_classes
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


def is_free(method: str, name: str) -> bool:
    """Whether a method has a hyperparameter of that name whose value does not make it what it is."""
    fixed = {key.rstrip("_") for key in METHODS[method].defaults}
    return name in hyperparameters(method) and name not in fixed


def _nobody_has(name: str, text: str, methods: Sequence[str]) -> str:
    """Why a word that none of the chosen methods understands is refused."""
    if others := [method for method in METHODS.builtin if is_free(method, name)]:
        return f"{name}={text}: not a setting of methods={','.join(methods)} ({', '.join(others)} have it)"
    known = {*cli.settings(SweepConfig), *(other for method in methods for other in hyperparameters(method))}
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'?" if close else "try --help"
    return f"unknown setting '{name}' ({hint})"
