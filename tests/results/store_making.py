"""Makes stores with the records that a sweep would leave, from predictions drawn at random."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.plan import Model, Run, Split
from harness.recipes import Recipe
from results.metrics import alone, compare
from results.predictions import Predictions
from results.store import Attempt, Record, Store

CLASSES, OLD_CLASSES, SAMPLES = 6, 3, 240
FINISHED = "2026-01-02T03:04:05+00:00"


def random_predictions(
    seed: int, *, accuracy: float, classes: int = CLASSES, tested: int = CLASSES, samples: int = SAMPLES
) -> Predictions:
    """A model of `classes` logits on the samples of the first `tested` classes, always the same ones."""
    target = np.arange(samples) % CLASSES
    index = np.flatnonzero(target < tested)
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(index), classes))
    right = random.random(len(index)) < accuracy
    logits[np.flatnonzero(right), target[index][right]] += 6
    return Predictions.from_logits(index=index, target=target[index], logits=logits)


def plan(
    methods: Sequence[str] = ("none", "pct-kl", "mpt-kl"),
    seeds: Sequence[int] = (0, 1, 2),
    references: int = 2,
    epochs: int = 2,
    data: str = "f00",
    arch: str = "resnet18",
) -> list[Run]:
    """All runs of one small setting."""
    split = Split(classes=CLASSES, old_classes=OLD_CLASSES)
    model, recipe = (
        Model(arch=arch, stem="imagenet"),
        Recipe(epochs=epochs, batch_size=8, lr=0.1, weight_decay=5e-4),
    )
    runs = []
    for seed in seeds:
        old = Run(role="old", seed=seed, dataset="digits", data=data, split=split, model=model, recipe=recipe)
        whole = Split(classes=CLASSES, old_classes=CLASSES)
        refs = [replace(old, role="reference", index=i, split=whole) for i in range(references)]
        parents = (old.id, *(reference.id for reference in refs))
        candidates = [
            replace(
                old,
                role="candidate",
                method=m.partition("[")[0],
                parents=parents,
                shown=_shown(m),
                hyperparameters=_shown(m),
            )
            for m in methods
        ]
        runs += [old, *refs, *candidates]
    return runs


def _shown(method: str) -> tuple[tuple[str, Any], ...]:
    words = method.partition("[")[2].rstrip("]")
    return tuple((word.split("=")[0], float(word.split("=")[1])) for word in words.split(",") if word)


def finish(store: Store, run: Run, *, accuracy: Mapping[str, float] | None = None) -> Record:
    """Leave the record of a done run; candidates and references know all classes."""
    attempt = store.begin(run.id)
    accuracy = {"old": 0.9, "none": 0.8, "pct-kl": 0.85, "mpt-kl": 0.95} | dict(accuracy or {})
    seed = zlib.crc32(f"{run.role}/{run.index}/{run.label}/{run.seed}".encode())
    if run.role == "old":
        predictions = random_predictions(
            seed, accuracy=accuracy["old"], classes=OLD_CLASSES, tested=OLD_CLASSES
        )
        metrics = alone(predictions, on="old")
    elif run.role == "reference":
        predictions = random_predictions(seed, accuracy=accuracy["none"])
        metrics = alone(predictions, on="all")
    else:
        predictions = random_predictions(seed, accuracy=accuracy.get(run.method, 0.85))
        old = store.read(run.parents[0])
        assert old is not None
        metrics = compare(store.predictions(old), predictions, old_classes=OLD_CLASSES)
    record = Record(
        run=run.document(),
        state="done",
        metrics=metrics,
        timings={"train_s": 36.0, "evaluate_s": 1.0},
        images_per_s=1000.0,
        peak_memory_bytes=2_000_000,
        environment={"device": "cpu", "torch": "2.15"},
        attempt=attempt.number,
        finished=FINISHED,
    )
    history = [{"epoch": epoch, "loss": 2.0 / (epoch + 1), "train_accuracy": 0.5} for epoch in range(2)]
    return publish(attempt, record, predictions, history=history)


def publish(
    attempt: Attempt, record: Record, predictions: Predictions, *, history: Sequence[Any] = ()
) -> Record:
    """Write predictions, and a record that names them beside what it names already."""
    name = attempt.name("predictions.npz")
    files = {**record.files, name: attempt.write(name, predictions.to_bytes())}
    return attempt.publish(replace(record, attempt=attempt.number, files=files), history=history)


def diverge(store: Store, run: Run, reason: str) -> Record:
    attempt = store.begin(run.id)
    record = Record(
        run=run.document(), state="diverged", reason=reason, attempt=attempt.number, finished=FINISHED
    )
    return attempt.publish(record)
