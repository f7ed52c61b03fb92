"""Where a record comes from: versions, device, host, and the code's commit."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from common import code
from common.registry import plugin_versions

PACKAGES = ("torchvision", "numpy", "ffcv", "numba", "simplejpeg")  # FFCV is not always installed


def describe(device: torch.device) -> dict[str, Any]:
    """What a record says about the machine and the software."""
    sha, _, dirty = code.commit().partition("+")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    return {
        "device": name,
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": {
            "torch": str(torch.__version__),  # with the build's CUDA version
            **{package: version(package) for package in PACKAGES if find_spec(package)},
            **plugin_versions(),
        },
        "git_sha": sha,
        "git_dirty": bool(dirty),
    }
