"""The usual way to train one candidate, for comparison: `python -m benchmarks.plain NAME FOLDER`.

A script of its own, as research code has it: torchvision's transforms and DataLoader, one method a process,
every teacher forwarded eagerly in fp32. The images are FOLDER/images.npy, uint8 [N, H, W, 3], and
FOLDER/labels.npy; the teachers have random weights, for only time is of interest. The last line printed
is the seconds of each step after the first ones, separated by spaces.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

CLASSES, OLD_CLASSES, BATCH, WORKERS = 100, 50, 128, 2
REFERENCES = {"elodi": 8, "elodi-topk": 8, "mpt-kl": 1, "mpt-lm": 1}


class Images(Dataset[tuple[Tensor, int]]):
    """Arrays as torchvision's CIFAR classes serve them."""

    def __init__(self, folder: Path) -> None:
        self.images: NDArray[np.uint8] = np.load(folder / "images.npy")
        self.labels: NDArray[np.int64] = np.load(folder / "labels.npy")
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def loss(
    name: str, z: Tensor, y: Tensor, old: nn.Module, references: list[nn.Module], images: Tensor
) -> Tensor:
    """The candidate's loss on one batch, written out."""
    ce: Tensor = F.cross_entropy(z, y)
    if name == "none":
        return ce
    with torch.no_grad():
        o: Tensor = old(images)
        others = [reference(images) for reference in references]
    right = (o.argmax(1) == y).float()
    if name == "pct-naive":
        twice: Tensor = F.cross_entropy(z, y, reduction="none")
        return ce + (right * twice).mean()
    if name.startswith("elodi"):
        n = torch.stack(others).mean(0)
        return ce + 0.6 * 0.5 * (z[:, :OLD_CLASSES] - o).square().mean() + 0.4 * 0.5 * (z - n).square().mean()
    new_classes = torch.arange(CLASSES, device=z.device) >= OLD_CLASSES
    total = F.cross_entropy(z + 4.0 * new_classes, y) if "mpt" in name else ce
    for student, teacher in [(z[:, :OLD_CLASSES], o), *((z, n) for n in others)]:
        weight = 1 + 5 * (teacher.argmax(1) == y).float()
        if name.endswith("kl"):
            each = F.kl_div(F.log_softmax(student / 5, 1), F.softmax(teacher / 5, 1), reduction="none").sum(1)
            total = total + (weight * each).mean()
        else:
            total = total + 0.4 * (weight * 0.5 * (student - teacher).square().mean(1)).mean()
    return total


def main(name: str, folder: str) -> None:
    """Train a few steps and print their seconds."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader = DataLoader(Images(Path(folder)), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
    student = models.resnet18(num_classes=CLASSES).to(device)
    old = models.resnet18(num_classes=OLD_CLASSES).to(device).eval()
    references = [
        models.resnet18(num_classes=CLASSES).to(device).eval() for _ in range(REFERENCES.get(name, 0))
    ]
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    # On a GPU, until the first batches, which are made ahead, are through.
    warmup, steps = (10, 20) if device == "cuda" else (1, 2)
    seconds: list[float] = []
    began = time.perf_counter()
    for images, targets in loader:
        images, targets = images.to(device), targets.to(device)
        optimizer.zero_grad()
        value = loss(name, student(images), targets, old, references, images)
        torch.autograd.backward(value)
        optimizer.step()
        value.item()
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        if len(seconds) == warmup + steps:
            break
    print(*seconds[warmup:])


if __name__ == "__main__":
    main(*sys.argv[1:])
