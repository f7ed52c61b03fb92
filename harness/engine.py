"""The one training loop: N students in lockstep on one stream of batches, with frozen teachers.

A batch is loaded, moved and normalised once and every teacher is forwarded once, whatever the number of
students. Students share nothing else, so that training alone or together gives the same weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.compute import ComputeConfig
from harness.distributed import ALONE, World
from harness.method_errors import MethodFailed, blamed_on
from harness.recipes import Recipe
from harness.teachers import TeacherAnswers, Teachers, forward_of
from loaders.batches import Feed
from methods import Loss, Step

CUDA_LOOK_STEPS = 50  # how often a GPU is asked whether all losses were finite


class Normalise:
    """uint8 images [B, H, W, 3] to fp32 [B, 3, H, W] with the dataset's mean 0 and deviation 1."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], compute: ComputeConfig) -> None:
        self._scale = 1 / (255 * torch.tensor(std, device=compute.device))
        self._shift = -torch.tensor(mean, device=compute.device) / torch.tensor(std, device=compute.device)

    def __call__(self, images: Tensor) -> Tensor:
        return torch.addcmul(self._shift, images.float(), self._scale).permute(0, 3, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far training has come: `batch` batches of epoch `epoch` (both counted from 0) are done."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, kw_only=True)
class SharedBatch:
    """What all students of a step have in common."""

    images: Tensor
    """Normalised [B, 3, H, W], or features [B, D] of a frozen backbone."""
    targets: Tensor
    """[B]"""
    indices: Tensor
    """Sample numbers in the training set [B]."""
    class_counts: Tensor
    """Training images by class [C]."""
    teachers: TeacherAnswers
    whole: int
    """How many samples the batch has in all processes that share it."""
    epoch: int = 0


def plain_batch(images: Tensor, targets: Tensor) -> SharedBatch:
    """A batch without teachers and counts, for a method that reads neither: to time or test a step."""
    return SharedBatch(
        images=images,
        targets=targets,
        indices=torch.arange(len(targets), device=targets.device),
        class_counts=targets.new_empty(0),  # counting would make a GPU wait
        teachers=TeacherAnswers(),
        whole=len(targets),
    )


class _Answer:
    """A flag on its way from the device to the host."""

    def __init__(self, flag: Tensor) -> None:
        self._flag = flag.to("cpu", non_blocking=True, copy=True)  # from a GPU into pinned memory
        self._copied = torch.cuda.current_stream(flag.device).record_event() if flag.is_cuda else None

    def read(self) -> bool:
        """The flag as it was, once it is here."""
        if self._copied is not None:
            self._copied.synchronize()
        return bool(self._flag)


class Student:
    """One model in training: its weights, optimizer and loss, and what it said in every epoch."""

    def __init__(
        self,
        network: nn.Module,
        method: Loss,
        recipe: Recipe,
        old_classes: int,
        compute: ComputeConfig,
        world: World = ALONE,
        *,
        classifier: str | None = None,
    ) -> None:
        """`classifier` is the path of the last linear layer, for a method that reads features."""
        assert classifier is not None or not method.reads_features
        self.network = compute.place(network)
        replica = world.replicate(self.network, sync_batchnorm=compute.sync_batchnorm)
        layer = self.network.get_submodule(classifier) if classifier else None
        self._forward = forward_of(replica, compute, features_of=layer)
        self._world = world
        self.method = method
        self.history: list[dict[str, float]] = []
        """One entry per epoch: mean losses by name, training accuracy on plain logits, learning rate."""
        self.diverged_at: int | None = None
        """The step, counted from 0 over all epochs, whose loss was not finite."""
        self.failure = ""
        """What the method raised, and on which line of it; it drops out, and the others go on."""
        self._recipe = recipe
        self._old_classes = old_classes
        self._compute = compute
        self._optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=compute.device.type == "cuda",
        )
        self._scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None  # of the epoch under way: a row of losses and right answers
        self._good_steps = torch.zeros((), dtype=torch.int64, device=compute.device)
        self._finite = torch.ones((), dtype=torch.bool, device=compute.device)
        self._asked: _Answer | None = None
        self._ready()

    def learn(self, batch: SharedBatch, *, lr: float) -> None:
        """One step on one batch; an error of the method's own ends this student alone."""
        try:
            with blamed_on(self.method):
                self._step(batch, lr=lr)
        except MethodFailed as error:
            if self._world.size > 1:
                raise  # the other processes wait for this student's gradients
            self.failure = str(error)

    @property
    def trains(self) -> bool:
        """Whether it has neither diverged nor failed."""
        return self.diverged_at is None and not self.failure

    def _step(self, batch: SharedBatch, *, lr: float) -> None:
        teachers = batch.teachers
        images, noted = self.method.augment(batch.images, batch.targets)
        with self._compute.autocast():
            logits, features = self._forward(images)
        logits = logits.float()
        step = Step(
            logits=logits,
            targets=batch.targets,
            images=batch.images,
            indices=batch.indices,
            epoch=batch.epoch,
            epochs=self._recipe.epochs,
            old_classes=self._old_classes,
            class_counts=batch.class_counts,
            old_logits=teachers.old,
            references=teachers.references[: self.method.references],
            features=None if features is None else features.float(),
            old_features=teachers.old_features,
            reference_features=teachers.reference_features[: self.method.references],
            old_classifier=teachers.old_classifier,
            augmented=noted,
        )
        losses = self.method.loss(step)
        self._count(losses, logits, batch.targets)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        loss = losses["loss"]
        if self._world.size > 1:  # gradients are averaged over processes, which may have unequal parts
            loss = loss * (self._world.size * len(logits) / batch.whole)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def look(self, *, wait: bool) -> None:
        """Set `diverged_at` if a loss was not finite: so far, or without `wait` up to the look before this.

        A GPU's answer to that one has long arrived, so that the host need not wait.
        """
        before, self._asked = self._asked, _Answer(self._world.least(self._finite))
        answer = self._asked if wait else before
        if answer is not None and not answer.read():
            self.diverged_at = int(self._world.least(self._good_steps))

    def end_epoch(self, samples: int) -> None:
        """Turn the sums of the epoch into an entry of the history; `samples` are those of all processes."""
        assert self._sums is not None
        *losses, right = self._world.sum(self._sums).tolist()
        entry = {name: total / samples for name, total in zip(self._names, losses, strict=True)}
        accuracy = right / samples
        lr = self._optimizer.param_groups[0]["lr"]
        self.history.append({"epoch": len(self.history), **entry, "train_accuracy": accuracy, "lr": lr})
        self._sums = None

    def state(self) -> dict[str, Any]:
        """All that decides what the student does next, as references to living tensors.

        Of several processes all must ask for it in the middle of an epoch, whose sums are added up.
        """
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "sums": None if self._sums is None else self._world.sum(self._sums.clone()),
            "names": list(self._names),
            "good_steps": self._good_steps,
            "history": list(self.history),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._ready()
        if state["scaler"]:  # empty unless it was fp16 that wrote it
            self._scaler.load_state_dict(state["scaler"])
        device = self._compute.device
        self._sums = None if state["sums"] is None else state["sums"].to(device)
        if self._sums is not None and not self._world.first:
            self._sums.zero_()  # the first process continues with everybody's
        self._names = tuple(state["names"])
        self._good_steps = state["good_steps"].to(device)
        self.history = list(state["history"])

    def _ready(self) -> None:
        """Momentum from the start, laid out as the weights, and the kernels of this device.

        A fused first step whose gradients overflow in fp16 is skipped, and would leave the momentum that it
        makes unwritten. A checkpoint brings the options and layouts of the device that it comes from.
        """
        for group in self._optimizer.param_groups:
            group["fused"] = self._compute.device.type == "cuda"
            for weight in group["params"]:
                before = self._optimizer.state[weight].get("momentum_buffer")
                momentum = torch.zeros_like(weight)
                self._optimizer.state[weight]["momentum_buffer"] = (
                    momentum if before is None else momentum.copy_(before)
                )

    def _count(self, losses: Mapping[str, Tensor], logits: Tensor, targets: Tensor) -> None:
        with torch.no_grad():
            right = (logits.argmax(dim=1) == targets).sum()
            row = torch.stack([*losses.values(), right]).double()
            row[:-1] *= len(targets)  # a loss is a mean over samples
            if self._sums is None:
                self._names, self._sums = tuple(losses), torch.zeros_like(row)
            assert tuple(losses) == self._names, "a method's terms may change between epochs only"
            self._sums += row
            self._finite &= losses["loss"].isfinite()
            self._good_steps += self._finite


class Cohort:
    """Students that train in lockstep; those that diverge or fail drop out, the others go on."""

    def __init__(
        self,
        students: Sequence[Student],
        teachers: Teachers,
        feed: Feed,
        *,
        key: int,
        recipe: Recipe,
        normalise: Callable[[Tensor], Tensor],
        position: Position,
        rank: int = 0,
    ) -> None:
        """`rank` is this process's among several, each of which has its own part of every batch."""
        self.students = students
        self.position = position
        self.images = 0
        """How many images it has trained on, in all processes together, since it was made."""
        self._teachers = teachers
        self._feed = feed
        self._key = key
        self._recipe = recipe
        self._normalise = normalise
        self._rank = rank

    @property
    def training(self) -> list[Student]:
        """The students that have neither diverged nor failed."""
        return [student for student in self.students if student.trains]

    def look(self, *, wait: bool = True) -> None:
        """Drop the students that have diverged: by now, or without `wait` by the look before this."""
        for student in self.training:
            student.look(wait=wait)

    def train(self) -> Iterator[Position]:
        """Train to the recipe's last epoch; yields after every batch, and may be left at any of them."""
        counts = self._feed.class_counts
        while self.position.epoch < self._recipe.epochs:
            epoch = self.position.epoch
            with self._feed.epoch(self._key, epoch, self.position.batch) as batches:
                for batch in batches:
                    images = self._normalise(batch.images)
                    shared = SharedBatch(
                        images=images,
                        targets=batch.targets,
                        indices=batch.indices,
                        class_counts=counts,
                        teachers=self._teachers(images),
                        whole=batch.whole,
                        epoch=epoch,
                    )
                    done = self.position.batch
                    lr = self._recipe.lr_at(epoch + done / self._feed.batches)
                    last = done + 1 == self._feed.batches
                    for student in self.training:
                        with drawn_from(self._key, epoch, done, self._rank, device=images.device):
                            student.learn(shared, lr=lr)
                    if last or images.device.type == "cpu":
                        self.look()
                    elif done % CUDA_LOOK_STEPS == 0:
                        self.look(wait=False)
                    self.images += batch.whole
                    self.position = self._after_batch(epoch, done + 1)
                    yield self.position
                    if not self.training:
                        return

    def _after_batch(self, epoch: int, done: int) -> Position:
        if done < self._feed.batches:
            return Position(epoch=epoch, batch=done)
        for student in self.training:
            student.end_epoch(self._feed.samples)
        return Position(epoch=epoch + 1)


@contextmanager
def drawn_from(*key: int, device: torch.device) -> Iterator[None]:
    """Let what a network draws by chance (dropout, stochastic depth) be a function of `key` alone.

    So a resumed run draws what an uninterrupted one does, and a cohort what its members do alone.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little") >> 1
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds every kind of device, and is slow
        if cuda:
            torch.cuda.manual_seed(seed)
        yield


@torch.inference_mode()
def predict(
    network: nn.Module,
    feed: Feed,
    normalise: Callable[[Tensor], Tensor],
    compute: ComputeConfig,
    world: World = ALONE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Every sample of an evaluation feed once: fp32 logits [N, C], targets [N] and sample indices [N].

    Of several processes, whose feeds divide the samples, each gets all.
    """
    network.eval()
    logits, targets, indices = [], [], []
    with feed.epoch(key=0, epoch=0) as batches:
        for batch in batches:
            with compute.autocast():
                answer = network(normalise(batch.images))
            logits.append(answer.float())
            targets.append(batch.targets)
            indices.append(batch.indices)
    network.train()
    assert sum(map(len, indices)) == feed.samples, "evaluation counts every sample once"
    answers = (world.gather(torch.cat(rows)).cpu() for rows in (logits, targets, indices))
    return next(answers), next(answers), next(answers)
