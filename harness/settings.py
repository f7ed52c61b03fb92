"""The settings of a sweep, each declared once; on the command line they are flat `key=value` words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from common.paths import RecordsFolder
from harness.tracking import Kind
from loaders.datasets import AugmentationName, Loader, Schedule, WriteMode

Precision = Literal["fp32", "bf16", "fp16"]
ALL_CLASSES = "all"
"""`old_classes=` of an old model that knows every class."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data: which images, and which of their classes are old."""

    dataset: str = "digits"
    """Images to train and test on. A list makes one table per dataset, as for most settings below."""
    classes: int | None = None
    """Use only this many classes of the dataset, the first in the class order (default: all)."""
    old_classes: float | str = 0.5
    """Classes that the old model knows: a fraction below 1, a count, all, names (cat,dog) or a file."""
    chain: tuple[int, ...] = ()
    """Counts of classes, such as 50,75,100: an update for each step, in which every method updates the model
    that it made in the step before. The first count is the old model's."""
    class_order: int | str | None = None
    """Order of the classes, of which the first are the old ones: the seed of a random order, or a file of
    names, one per line; those that it leaves out follow by index (default: by index)."""
    old_data: float = 1.0
    """Fraction of the old classes' training images that the old model saw."""
    train_data: float = 1.0
    """Fraction of every class's training images that all models are trained on."""
    validation: float = 0.0
    """Fraction of every class's training images that is held out from all models, to choose recipes and
    hyperparameters on (metrics=validation)."""
    new_data: float = 1.0
    """Fraction of the new classes' training images that there are for the update: below 1, their prior in
    training is lower than in the test set."""
    write_mode: WriteMode | None = None
    """How photographs are stored: as they are (the default), as pixels, as new JPEGs, or a share of them as
    new JPEGs."""
    max_resolution: int | None = None
    """Bound on a stored photograph's longer side in pixels; 0 keeps the size."""
    jpeg_quality: int | None = None
    """Quality of the JPEGs, 1 to 100."""
    jpeg_share: float | None = None
    """Share of JPEGs where write_mode is proportion."""
    image_size: int | None = None
    """Side in pixels of what networks see (default: the dataset's). dataset=folder with 64 or less is a
    folder of small images of that size, stored raw."""
    statistics: Literal["dataset", "auto"] = "dataset"
    """Channel means and deviations that images are normalised with: the dataset's (a folder has ImageNet's),
    or measured on the training images."""

    def __post_init__(self) -> None:
        if self.chain and not (len(self.chain) > 1 and list(self.chain) == sorted(set(self.chain))):
            raise ValueError(f"chain={','.join(map(str, self.chain))}: expected two rising counts or more")
        if self.chain and (self.classes is not None or self.old_classes != 0.5):
            raise ValueError(
                "chain= says how many classes there are in each step: leave classes= and old_classes= out"
            )
        if isinstance(self.old_classes, str):
            if self.old_classes != ALL_CLASSES and self.class_order is not None:
                raise ValueError(
                    f"class_order={self.class_order}: old_classes={self.old_classes} says which come first"
                )
        elif not (self.old_classes > 0 and math.isfinite(self.old_classes)):
            raise ValueError(
                f"old_classes={self.old_classes:g}: expected a fraction of the classes or a count"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training: networks and recipe; an empty default means that dataset and architecture bring theirs."""

    arch: str | None = None
    """Architecture of references and candidates; timm:NAME takes one of timm's (default: the dataset's)."""
    old_arch: str | None = None
    """Architecture of the old model (default: the same as arch)."""
    stem: str | None = None
    """First layers: `imagenet` (7x7, stride 2, max-pool; the protocol) or `cifar` (3x3)."""
    embedding: int | None = None
    """Width of a linear layer before the classifier, 0 for none (default: none; 128 for residual nets on
    imagenet)."""
    epochs: int | None = None
    """Passes over the training images (default: the dataset's; digits 30, CIFAR 100, ImageNet 90)."""
    batch_size: int | None = None
    """Images per step (default: the dataset's; 50 for digits, 128 for the others)."""
    lr: float | None = None
    """Learning rate at the start (default: the dataset's, 0.1 for residual nets)."""
    weight_decay: float | None = None
    """L2 penalty on every weight (default: the dataset's)."""
    momentum: float | None = None
    """Of SGD (default: 0.9)."""
    schedule: Schedule | None = None
    """How the learning rate falls over a run's epochs: cosine, set once an epoch; cosine-step, set at every
    step; step, a tenth after each third (default: cosine; step for ImageNet and folders)."""
    init: Literal["scratch", "old"] = "scratch"
    """Where candidates start: at fresh weights (the protocol), or at the old model's (fine-tuning)."""
    augmentation: Literal["dataset", AugmentationName] = "dataset"
    """Of training images: a shift over a black border, a random box that is scaled, or none (default: the
    dataset's); flips go with either where the dataset has them."""
    precision: Literal["auto", Precision] = "auto"
    """Of forward and backward passes (losses are fp32); auto is bf16 where jobs get a GPU, else fp32.
    Models of different precision are different runs, in tables of their own."""

    @property
    def recipe(self) -> dict[str, Any]:
        """What was given of a recipe."""
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
            "schedule": self.schedule,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Runtime: where files are and how jobs compute. None of this decides what is trained."""

    runs: Path = Path("runs")
    """Folder of records."""
    data: Path | None = None
    """Folder of the dataset's own files, where it needs one."""
    download: bool = False
    """Whether to download missing data (CIFAR)."""
    betons: Path | None = None
    """Folder of the images in FFCV's format, made when missing (default: betons/ among the records)."""
    weights: Path | None = None
    """File with the weights of a pretrained backbone (default: torchvision's, which it downloads)."""
    old_weights: Path | None = None
    """File with the weights of your own old model, which is then not trained: a state dict of old_arch,
    written by torch.save or as safetensors, with a logit for each old class."""
    old_predictions: Path | None = None
    """File with your own old model's predictions on the test images, where there is nothing more of it:
    for methods that do not read the old model in training."""
    plugins: tuple[str, ...] = ()
    """Your own modules that add methods, datasets or architectures (docs/plugins.md)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU where there is one."""
    compile: Literal["auto", "true", "false"] = "auto"
    """Whether networks go through torch.compile; auto: where that was measured to win, so far nowhere."""
    deterministic: bool = False
    """On a GPU, use only algorithms that give the same bits every time; on a CPU all do."""
    sync_batchnorm: bool = True
    """For a run on several GPUs, whether BatchNorm sees the whole batch, as on one."""
    loader: Loader = "auto"
    """FFCV from disk, or the whole set on the device, with the same pixels; torch is torchvision's
    DataLoader, which draws random crops of its own, so its runs are different runs."""
    workers: int | None = None
    """Threads or processes that load images (default: the cores of the job)."""
    checkpoint_s: float = 10.0
    """Seconds of training between checkpoints, which are written at the end of an epoch."""

    track: Kind = "none"
    """Where curves go besides the records: to TensorBoard, MLflow or Weights & Biases."""
    evaluate_every: int | None = None
    """Test after every so many epochs and after the last: error rates and NFR by epoch, in the history;
    on what validation= holds out, if it does."""

    def __post_init__(self) -> None:
        _require_positive("workers", self.workers)
        _require_positive("evaluate_every", self.evaluate_every)
        if not self.checkpoint_s >= 0:
            raise ValueError(f"checkpoint_s={self.checkpoint_s:g}: must be 0 or more")
        refuse_repeats("plugins", self.plugins)

    @property
    def betons_folder(self) -> Path:
        """Where the images in FFCV's format are."""
        return self.betons or RecordsFolder(self.runs).betons

    def absolute(self) -> Runtime:
        """The same with absolute paths, for a process that may start in another folder."""
        return replace(
            self,
            runs=self.runs.absolute(),
            betons=self.betons_folder.absolute(),
            data=self.data and self.data.absolute(),
            weights=self.weights and self.weights.absolute(),
            old_weights=self.old_weights and self.old_weights.absolute(),
            old_predictions=self.old_predictions and self.old_predictions.absolute(),
        )


@dataclass(frozen=True, kw_only=True)
class DispatchConfig:
    """Dispatch: where jobs run, and how many at once."""

    cluster: Literal["auto", "slurm", "local", "inline"] = "auto"
    """Where jobs run: SLURM, processes of this machine, or this process itself."""
    profile: str | None = None
    """What to ask of SLURM: a TOML file by name (docs/slurm.md); slurm.partition=... overrides it."""
    wait: bool = True
    """On SLURM, whether to stay until the table is complete."""
    jobs_per_gpu: int = 1
    """How many jobs of this machine share a GPU; on SLURM, its own settings say so."""
    cohort: str = "auto"
    """How many candidates share one stream of batches; auto, or a number."""

    def __post_init__(self) -> None:
        _require_positive("jobs_per_gpu", self.jobs_per_gpu)
        if self.cohort != "auto" and not (self.cohort.isdecimal() and int(self.cohort) > 0):
            raise ValueError(f"cohort={self.cohort}: expected auto or a whole number above 0")


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """Tuning: hyperparameters chosen on held-out training images, before the table is trained."""

    tune: tuple[str, ...] = ()
    """Hyperparameters to choose: mpt-kl.k, or k for every chosen method that has it. The models of trials
    hold out validation= (then 0.1 by default), those of the table nothing (docs/tuning.md)."""
    budget: int = 12
    """Trials of each tuned method; of tpe and random, the first has the values that it has without tuning."""
    search: Literal["tpe", "random", "grid"] = "tpe"
    """How trials are chosen: by Optuna's TPE sampler, at random, or evenly spaced."""
    trials_at_once: int = 4
    """How many trials of a method tpe asks for before it sees their results. Not taken from the machine, so
    that the same command asks for the same trials everywhere."""
    objective: str = "nfr"
    """Metric that is best in the chosen trial, on held-out images; see flips leaderboard --help."""
    within: float | None = 0.5
    """Points by which a trial's ER all may lie above No Treatment's; none allows any number."""
    tune_seeds: tuple[int, ...] = (1000, 1001)
    """Seeds of the trials, which must not be those of the table."""

    def __post_init__(self) -> None:
        given = [entry for entry in fields(self) if getattr(self, entry.name) != entry.default]
        if given and not self.tune:
            name = given[0].name
            raise ValueError(f"{name}={getattr(self, name)}: nothing is tuned (tune=mpt-kl.k does)")
        refuse_repeats("tune", self.tune)
        refuse_repeats("tune_seeds", self.tune_seeds)
        _require_positive("trials_at_once", self.trials_at_once)
        if min(self.tune_seeds) < 0:
            raise ValueError(f"tune_seeds={min(self.tune_seeds)}: must be 0 or more")
        if self.budget < 2:
            raise ValueError(f"budget={self.budget}: two trials are the fewest to choose from")
        if self.within is not None and not 0 <= self.within <= 100:
            raise ValueError(f"within={self.within:g}: must be 0 or more points (none: no limit)")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Everything that a sweep can be asked for."""

    experiment: str | None = None
    """A table or figure of the paper by name: it sets what follows, and your own words win."""
    scenario: str | None = None
    """What changes between old model and update, by name; a list makes one table for each. It sets what
    follows, and your own words win."""
    methods: tuple[str, ...] = ("all",)
    """Methods by name; `all` is the paper's eight, `ablations` the three of its Table 3, `rivals` those of
    other papers, `everything` all of them."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One table row is the mean over these; each has its own old model and references."""
    stale: Literal["keep", "rerun"] = "keep"
    """What becomes of records that were made with other code of their method, or in another precision:
    `keep` marks them, `rerun` trains them again, and what learned from them."""
    metrics: Literal["test", "validation"] = "test"
    """Which images the tables are about: those of the test set, or those that validation= holds out."""
    plan: bool = False
    """Print what would run, and start nothing."""
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    runtime: Runtime = field(default_factory=Runtime)
    dispatch: DispatchConfig = field(default_factory=DispatchConfig)

    def __post_init__(self) -> None:
        refuse_repeats("methods", self.methods)
        refuse_repeats("seeds", self.seeds)
        if min(self.seeds) < 0:
            raise ValueError(f"seeds={min(self.seeds)}: must be 0 or more")
        if self.metrics == "validation" and not self.data.validation:
            raise ValueError("metrics=validation: nothing is held out (validation=0.1 holds out a tenth)")
        if self.tuning.tune:
            self._check_tuning()

    def _check_tuning(self) -> None:
        if not self.data.validation:
            raise ValueError("validation=0: tune= chooses on held-out training images (leave it out for 0.1)")
        if self.metrics == "validation":
            raise ValueError(
                "metrics=validation: tune= trains its table on all training images; afterwards, "
                "flips leaderboard metrics=validation shows the trials"
            )
        if self.data.chain:
            raise ValueError("tune=: not along a chain= (choose on one update, and give the values here)")
        if both := set(self.seeds) & set(self.tuning.tune_seeds):
            raise ValueError(
                f"tune_seeds={min(both)}: also among seeds=, which must be seeds that nothing is chosen on"
            )


def refuse_repeats(name: str, values: Sequence[Any]) -> None:
    """Refuse a list that names something twice.

    Raises:
        ValueError: it does.
    """
    repeated = [value for value in dict.fromkeys(values) if list(values).count(value) > 1]
    if repeated:
        raise ValueError(f"{name}: {repeated[0]} is given twice")


def _require_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name}={value}: must be 1 or more")
