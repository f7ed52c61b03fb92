"""One batch, what models say about it, and the arithmetic of losses in plain Python."""

import math

import torch

from methods import METHODS, Step

OLD_CLASSES = 2
# Three samples: the old model is right on the first, wrong on the second; the third is of a new class.
STUDENT = [[1.0, 0.0, 2.0, 0.5], [0.0, 1.0, 0.0, -1.0], [0.5, 0.5, 1.0, 3.0]]
OLD = [[3.0, 1.0], [2.0, 0.0], [0.0, 1.0]]
REFERENCE = [[2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 4.0]]
TARGETS = [0, 1, 3]
FEATURES = [[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]]
COUNTS = [40, 40, 10, 5]


def old_classifier(features):
    """Weights [[1, 0], [1, 1]]."""
    return torch.stack([features[:, 0], features.sum(dim=1)], dim=1)


def step(*, targets=TARGETS, references=1, epoch=100):
    return Step(
        logits=torch.tensor(STUDENT, dtype=torch.float64, requires_grad=True),
        targets=torch.tensor(targets),
        images=torch.zeros(len(targets), 3, 8, 8),
        indices=torch.arange(len(targets)),
        epoch=epoch,
        epochs=200,
        class_counts=torch.tensor(COUNTS),
        old_classes=OLD_CLASSES,
        old_logits=torch.tensor(OLD, dtype=torch.float64),
        references=tuple(torch.tensor(REFERENCE, dtype=torch.float64) + i for i in range(references)),
        features=torch.tensor(FEATURES, dtype=torch.float64, requires_grad=True),
        old_classifier=old_classifier,
    )


def make(name, **changes):
    entry = METHODS[name]
    return entry.load()(**{**entry.defaults, **changes})


def cross_entropy(logits, target):
    return math.log(sum(math.exp(value) for value in logits)) - logits[target]


def kl(teacher, student, tau):
    p = [math.exp(t / tau) / sum(math.exp(u / tau) for u in teacher) for t in teacher]
    q = [math.exp(s / tau) / sum(math.exp(u / tau) for u in student) for s in student]
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def half_mean_square(teacher, student):
    return 0.5 * sum((t - s) ** 2 for t, s in zip(teacher, student, strict=True)) / len(teacher)


def mean(values):
    return sum(values) / len(values)


def plain_cross_entropy():
    return mean([cross_entropy(z, y) for z, y in zip(STUDENT, TARGETS, strict=True)])


def loss(name, made_step=None, **changes):
    return make(name, **changes).loss(made_step or step())["loss"].item()
