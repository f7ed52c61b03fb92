"""`flips sweep --help`: the settings, and what the registries hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common import cli
from harness import experiments, hyperparameters, plugins
from harness.architectures import ARCHITECTURES, FURTHER_TORCHVISION
from harness.recipes import Recipe, recipe_for
from harness.settings import SweepConfig
from loaders.datasets import DATASETS
from methods import METHODS


def print_help(argv: Sequence[str]) -> None:
    """`--help`: the settings by name; `--help all`: what each means, and what the registries hold.

    Both know the entries of `plugins=`.

    Raises:
        ValueError: a plugin that cannot be imported.
    """
    plugins.load_named(cli.split(word for word in argv if word not in {*cli.HELP_WORDS, "all"}))
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
                [(name, _hyperparameter_text(name)) for name in METHODS if hyperparameters.defaults(name)],
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
    where = hyperparameters.ranges(method)
    shown = {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in hyperparameters.defaults(method).items()
    }
    return ", ".join(
        f"{name}={value}" + (f" [{where[name]}]" if name in where else "") for name, value in shown.items()
    )


def _recipe_text(dataset: str) -> str:
    arch = DATASETS[dataset].arch
    recipe: Recipe = recipe_for(DATASETS[dataset], arch, {})
    return f"{arch}, {recipe.epochs} epochs of batch {recipe.batch_size} at lr {recipe.lr:g}"
