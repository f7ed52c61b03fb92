"""How a job computes: on which device, in which precision."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.settings import Precision, Runtime


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How the arithmetic is done. It may change the weights by rounding, but never what is computed."""

    device: torch.device
    precision: Precision = "fp32"
    sync_batchnorm: bool = False
    """Of several processes, whether BatchNorm sees the whole batch (GPUs only), or each its own part."""
    compile: bool = False
    """Whether networks go through torch.compile."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of forward passes."""
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def autocast(self) -> AbstractContextManager[Any]:
        """Forward passes in `precision`; losses and metrics are fp32 in any case."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.precision != "fp32")

    def place(self, network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The network on the device, its weights laid out as images are: channels last."""
        layout = torch.channels_last  # the faster one on CPUs too
        placed: nn.Module = network.to(device=self.device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
        return placed

    def callable(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """What to call for the network's answer."""
        return torch.compile(network, dynamic=False) if self.compile else network

    @property
    def peak_memory(self) -> int:
        """The most bytes that this process has used: of the GPU, or without one of the machine."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def set_up(runtime: Runtime, precision: Precision) -> ComputeConfig:
    """Choose the device, and prepare torch for it and for the precision that the runs were planned with.

    Raises:
        ValueError: a GPU is asked for, and torch finds none.
    """
    cuda = runtime.device == "cuda" or (runtime.device == "auto" and torch.cuda.is_available())
    if cuda and not torch.cuda.is_available():
        raise ValueError("device=cuda: torch finds no GPU here (use device=cpu)")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.backends.cudnn.benchmark = not runtime.deterministic
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32; bf16 is there for speed
    if cuda and runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return ComputeConfig(
        device=torch.device("cuda" if cuda else "cpu"),
        precision=precision,
        compile=runtime.compile == "true",
        sync_batchnorm=cuda and runtime.sync_batchnorm,
    )
