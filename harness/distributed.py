"""One job on several processes: who they are, what they agree on, and what only the first one does.

torchrun or SLURM (`slurm.worker`) starts them and sets RANK, WORLD_SIZE, LOCAL_RANK and the meeting point.
Every process takes its share of each global batch; the first keeps checkpoints and writes records.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Anything = TypeVar("Anything")


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes that train together; a world of one needs no communication, and does none."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of samples that are to be seen once by all together."""
        return np.array_split(samples, self.size)[self.rank]

    def from_first(self, value: Anything) -> Anything:
        """What the first process holds."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set anywhere."""
        if self.size == 1:
            return flag
        answer = torch.tensor(int(flag), device=_communicator())
        dist.all_reduce(answer, op=dist.ReduceOp.MAX)
        return bool(answer.item())

    def least(self, value: Tensor) -> Tensor:
        """The smallest of an integer or boolean scalar's values."""
        if self.size > 1:
            value = value.to(torch.int64, copy=True)
            dist.all_reduce(value, op=dist.ReduceOp.MIN)
        return value

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over the processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, which may hold different numbers, in order of rank; on the CPU."""
        if self.size == 1:
            return rows
        held: list[Tensor] = [torch.empty(0)] * self.size
        dist.all_gather_object(held, rows.cpu())
        return torch.cat(held)

    def align(self, network: nn.Module) -> None:
        """Copy BatchNorm's running statistics from the first process; the weights are the same anyway."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)

    def replicate(self, network: nn.Module, *, sync_batchnorm: bool) -> nn.Module:
        """`network` so that its gradients are the mean over all processes."""
        if self.size == 1:
            return network
        if sync_batchnorm:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        on_gpu = next(network.parameters()).device.type == "cuda"
        return DistributedDataParallel(network, device_ids=[self.local_rank] if on_gpu else None)


ALONE = World()


@contextmanager
def joined(*, cuda: bool) -> Iterator[World]:
    """Join the other processes, if the environment names any; `cuda` is for training on GPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    world = World(rank=int(os.environ["RANK"]), size=size, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if cuda:
        torch.cuda.set_device(world.local_rank)
    # The first process may have to wait for another job's lock, and the others for the first.
    dist.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(days=1))
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _communicator() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
