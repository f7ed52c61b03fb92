"""What else loads photographs for training: an epoch of random boxes of 224 pixels, flipped, with each.

They are the extra `[peers]`, installed for this benchmark only; what cannot be used here is left out. Each
has as many workers as there are cores. All decode JPEGs to tensors with torchvision, but for SPDL, which uses
FFmpeg (a system library).
"""

from __future__ import annotations

import io
import math
import random
import sys
import tarfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image, decode_jpeg
from torchvision.transforms import v2

from benchmarks.race import data_loader, processes
from benchmarks.report import cores

SIDE = 224
Photograph = tuple[Path, int]
"""A JPEG file and its class."""
CROP = v2.Compose([v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip()])


def peers(root: Path, photographs: Sequence[Photograph], batch_size: int) -> dict[str, Callable[[], int]]:
    """By name, an epoch with each that is installed; their files go to `root`."""
    made = {"torchvision tensors, DataLoader": _torchvision(photographs, batch_size)}
    for name, module, make in (
        ("SPDL", "spdl", _spdl),
        ("LitData", "litdata", _litdata),
        ("WebDataset", "webdataset", _webdataset),
    ):
        if find_spec(module) is None:
            print(f"{name} is not installed: left out", file=sys.stderr)
            continue
        try:
            made[name] = make(root / module, photographs, batch_size)
        except RuntimeError as error:
            print(f"{name} cannot be used here ({error}): left out", file=sys.stderr)
    return made


class TensorFiles(Dataset[tuple[torch.Tensor, int]]):
    """Files that torchvision decodes to tensors, without Pillow."""

    def __init__(self, photographs: Sequence[Photograph]) -> None:
        self._photographs = photographs

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self._photographs[index]
        return CROP(decode_image(str(path), ImageReadMode.RGB)), label


def _torchvision(photographs: Sequence[Photograph], batch_size: int) -> Callable[[], int]:
    loader = data_loader(TensorFiles(photographs), batch_size)
    return lambda: sum(len(labels) for _, labels in loader)


def _spdl(root: Path, photographs: Sequence[Photograph], batch_size: int) -> Callable[[], int]:
    """Threads that decode, crop and scale with FFmpeg."""
    import spdl.io
    from spdl.pipeline import PipelineBuilder

    def decode(path: Path) -> Any:
        area = random.uniform(0.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        x, y = random.random(), random.random()
        crop = (
            f"crop=w='min(iw,sqrt(iw*ih*{area * ratio}))':h='min(ih,sqrt(iw*ih*{area / ratio}))'"
            f":x='(iw-ow)*{x}':y='(ih-oh)*{y}'"
        )
        steps = [crop, f"scale={SIDE}:{SIDE}", *(["hflip"] if random.random() < 0.5 else []), "format=rgb24"]
        return spdl.io.to_numpy(spdl.io.load_image(str(path), filter_desc=",".join(steps)))

    decode(photographs[0][0])  # raises RuntimeError without FFmpeg

    def epoch() -> int:
        order = random.sample([path for path, _ in photographs], len(photographs))
        pipeline = (
            PipelineBuilder()
            .add_source(order)
            .pipe(decode, concurrency=cores())
            .aggregate(batch_size, drop_last=True)
            .pipe(lambda images: torch.from_numpy(np.stack(images)))
            .add_sink(3)
            .build(num_threads=cores() + 1)
        )
        with pipeline.auto_stop():
            return sum(len(batch) for batch in pipeline.get_iterator())

    return epoch


def _read_sample(photograph: Photograph) -> dict[str, Any]:
    return {"image": photograph[0].read_bytes(), "label": photograph[1]}


def _crop_sample(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return _decode_tensor(sample["image"]), sample["label"]


def _litdata(root: Path, photographs: Sequence[Photograph], batch_size: int) -> Callable[[], int]:
    import litdata

    litdata.optimize(
        _read_sample,
        list(photographs),
        output_dir=str(root),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="spawn",
    )
    images = litdata.StreamingDataset(str(root), shuffle=True, drop_last=True, transform=_crop_sample)
    loader = litdata.StreamingDataLoader(images, batch_size=batch_size, drop_last=True, **processes())
    return lambda: sum(len(labels) for _, labels in loader)


def _decode_tensor(data: bytes) -> torch.Tensor:
    image: torch.Tensor = CROP(
        decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    )
    return image


def _webdataset(root: Path, photographs: Sequence[Photograph], batch_size: int) -> Callable[[], int]:
    """One shard for each worker."""
    import webdataset

    root.mkdir()
    for shard in range(cores()):
        with tarfile.open(root / f"{shard}.tar", "w") as tar:
            for number, (path, label) in enumerate(photographs[shard :: cores()]):
                for suffix, content in (("jpg", path.read_bytes()), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{number:06}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    shards = [str(path) for path in sorted(root.glob("*.tar"))]
    images = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000)
    images = images.to_tuple("jpg", "cls").map_tuple(_decode_tensor, int).batched(batch_size)
    loader: DataLoader[Any] = DataLoader(images, batch_size=None, **processes())
    return lambda: sum(len(labels) for _, labels in loader)
