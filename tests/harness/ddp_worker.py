"""Trains two students a few steps, as one of several processes, and saves what came of it: FOLDER BETONS."""

import sys
from pathlib import Path

import torch
from torch import nn

from harness import models
from harness.compute import ComputeConfig
from harness.distributed import joined
from harness.engine import Cohort, Normalise, Position, Student, predict
from harness.plan import Model
from harness.recipes import Recipe
from harness.teachers import Teachers
from loaders.betons import ensure_beton
from loaders.datasets import DATASETS
from loaders.feeds import open_feed
from methods import METHODS

MODEL = Model(arch="resnet8", stem="cifar")


def without_batch_statistics(network):
    """Normalisation by groups of channels: BatchNorm on a part of a batch is another function."""
    for module in network.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(4, child.num_features))
    return network


def main(folder, betons):
    torch.set_num_threads(1)
    digits, compute = DATASETS["digits"], ComputeConfig(device=torch.device("cpu"))
    recipe = Recipe(epochs=2, batch_size=50, lr=0.05, weight_decay=5e-4)
    normalise = Normalise(digits.mean, digits.std, compute)
    train, test = (ensure_beton(digits, part, betons=Path(betons)) for part in ("train", "test"))
    with joined(cuda=False) as world:
        some = torch.arange(255).numpy()  # the last batch has five: two processes cannot share it equally
        shard = (world.rank, world.size)
        feed = open_feed(train, digits, train=True, batch_size=50, subset=some, shard=shard)
        subset = world.share(torch.arange(1497).numpy())
        tested = open_feed(test, digits, train=False, batch_size=256, subset=subset)
        students = [
            Student(
                without_batch_statistics(models.build(MODEL, 10, 0)),
                METHODS[name].load()(),
                recipe,
                5,
                compute,
                world,
            )
            for name in ("none", "mpt-kl")
        ]
        teachers = Teachers(models.build(MODEL, 5, 1), [models.build(MODEL, 10, 2)], compute)
        cohort = Cohort(
            students, teachers, feed, key=7, recipe=recipe, normalise=normalise, position=Position()
        )
        for _ in cohort.train():
            pass
        logits, targets, indices = predict(students[1].network, tested, normalise, compute, world)
        if world.first:
            torch.save(
                {
                    "weights": [student.network.state_dict() for student in students],
                    "history": [student.history for student in students],
                    "answers": (logits, targets, indices),
                },
                Path(folder) / f"{world.size}.pt",
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
