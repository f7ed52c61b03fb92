"""The paper's tables and figures by name, and our own: what `experiment=table1` stands for.

Each is a set of `key=value` words, which those on the command line override. Protocol: `docs/methods.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.text import nearest


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table or figure of the paper."""

    summary: str
    words: Mapping[str, str]
    datasets: tuple[str, ...]
    """Those that the paper uses, the default first, and a built-in one in their place."""
    for_dataset: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """More words for one dataset."""
    figure: str | None = None
    """The figure that is drawn from the records, by its name in `results.paper_figures`."""


FIVE_SEEDS = "0..4"

EXPERIMENTS: Mapping[str, Experiment] = {
    "table1": Experiment(
        summary="every method, ResNet-18 to ResNet-18",
        words={"methods": "all", "arch": "resnet18", "seeds": FIVE_SEEDS},
        datasets=("cifar100", "imagenet", "glyphs100"),
    ),
    "table2": Experiment(
        summary="every method, ResNet-18 to ResNet-50",
        words={"methods": "all", "arch": "resnet50", "old_arch": "resnet18", "seeds": FIVE_SEEDS},
        datasets=("cifar100", "imagenet", "glyphs100"),
    ),
    "table3": Experiment(
        summary="ablations: without the margin, without distillation",
        words={
            "methods": "none,pct-kl,pct-lm,mpt-kl,mpt-lm,mpt-kl-nobias,mpt-lm-nobias,mpt-nodistill",
            "arch": "resnet18",
            "seeds": FIVE_SEEDS,
        },
        datasets=("imagenet", "cifar100", "glyphs100"),
    ),
    "table4": Experiment(
        summary="every method on a frozen ViT-B/32, only the classifier trained",
        words={"methods": "all", "arch": "vit_b_32", "seeds": FIVE_SEEDS},
        datasets=("cifar100", "glyphs100"),
    ),
    "figure3": Experiment(
        summary="two-dimensional embeddings with decision regions, six settings",
        words={
            "methods": "none,pct-kl,mpt-kl,mpt-kl-nobias,mpt-nodistill",
            "arch": "resnet18",
            "embedding": "2",
            "seeds": "0",
        },
        datasets=("cifar10", "glyphs100", "digits"),
        for_dataset={"glyphs100": {"classes": "10"}, "digits": {"arch": "resnet8"}},
        figure="figure3",
    ),
    "figure4": Experiment(
        summary="error rate and NFR over the margin k, for both distances",
        words={"methods": "mpt-kl,mpt-lm", "k": "0,1,2,4,6,8", "arch": "resnet18", "seeds": FIVE_SEEDS},
        datasets=("cifar100", "glyphs100", "digits"),
        for_dataset={"digits": {"arch": "resnet8"}},
        figure="figure4",
    ),
    "evidence": Experiment(
        summary="every method and rival on images that two cores can train on (docs/RESULTS.md)",
        words={"methods": "everything", "arch": "resnet8", "seeds": FIVE_SEEDS},
        datasets=("fashion-mnist", "folder", "glyphs100", "digits"),
        for_dataset={
            "digits": {"seeds": "0..19"},
            "fashion-mnist": {"train_data": "0.05"},
            "folder": {"image_size": "32", "statistics": "auto", "train_data": "0.1", "epochs": "15"},
            "glyphs100": {"train_data": "0.2", "epochs": "12"},
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What changes between the old model and its update."""

    summary: str
    words: Mapping[str, str]
    needs: tuple[str, ...] = ()
    """Settings that must be given besides."""


SCENARIOS: Mapping[str, Scenario] = {
    "more-classes": Scenario(summary="half of the classes are new", words={"old_classes": "0.5"}),
    "more-data": Scenario(
        summary="the old model saw half of the images of all classes",
        words={"old_classes": "all", "old_data": "0.5"},
    ),
    "architecture": Scenario(
        summary="another network, the same images", words={"old_classes": "all"}, needs=("old_arch",)
    ),
    "data-and-architecture": Scenario(
        summary="more images and another network",
        words={"old_classes": "all", "old_data": "0.5"},
        needs=("old_arch",),
    ),
    "shifted-prior": Scenario(
        summary="half of the classes are new, with a tenth of their images in training",
        words={"old_classes": "0.5", "new_data": "0.1"},
    ),
    "fine-tuning": Scenario(
        summary="half of the classes are new, and candidates start from the old model's weights",
        words={"old_classes": "0.5", "init": "old"},
    ),
    "retraining": Scenario(summary="nothing but the seed changes", words={"old_classes": "all"}),
}


def spell_out_scenarios(words: Mapping[str, str]) -> list[dict[str, str]]:
    """`words` with what each name in `scenario=` stands for added; words that were given win.

    Raises:
        ValueError: no such scenario, or one that lacks a word.
    """
    if "scenario" not in words:
        return [dict(words)]
    spelt_out = []
    for name in words["scenario"].split(","):
        if name not in SCENARIOS:
            raise ValueError(f"unknown scenario '{name}'{nearest(name, SCENARIOS)}")
        for needed in SCENARIOS[name].needs:
            if needed not in words:
                raise ValueError(f"scenario={name}: say {needed}=, the network of the old model")
        spelt_out.append({**SCENARIOS[name].words, **words, "scenario": name})
    return spelt_out


def find(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment '{name}'{nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name]


def spell_out(words: Mapping[str, str]) -> dict[str, str]:
    """`words` with what `experiment=` stands for added; words that were given win.

    Raises:
        ValueError: no such experiment, or a dataset that it is not made for.
    """
    if "experiment" not in words:
        return dict(words)
    experiment = find(words["experiment"])
    dataset = words.get("dataset", experiment.datasets[0])
    if dataset not in experiment.datasets:
        raise ValueError(
            f"experiment={words['experiment']} dataset={dataset}: must be {' or '.join(experiment.datasets)}"
        )
    return {"dataset": dataset, **experiment.words, **experiment.for_dataset.get(dataset, {}), **words}
