"""The first thing that runs on a node: it checks the copy of the code, then hands over to it.

It travels inside the batch file, which SLURM keeps where nobody else can change it, and so imports nothing
of the project before that is checked.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def files(root: Path) -> Iterator[Path]:
    """All files below `root`, relative to it."""
    return (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())


def tree_digest(root: Path, paths: Sequence[Path]) -> str:
    """SHA-256 over the names and the contents of `paths` below `root`."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = (root / path).read_bytes()
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def main(code: str, digest: str, module: str, *arguments: str) -> int:
    """Run `module.main(arguments)` of the copy at `code`, unless that is not the copy that was submitted."""
    root = Path(code)
    if not root.is_dir():
        print(f"error: {root}: the code that was submitted is gone", file=sys.stderr)
        return 1
    if tree_digest(root, list(files(root))) != digest:
        print(f"error: {root}: this is not the code that was submitted", file=sys.stderr)
        return 1
    sys.path.insert(0, code)
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{code}{os.pathsep}{others}" if others else code
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a copy holds what was submitted and nothing else
    sys.dont_write_bytecode = True
    os.environ["PYTHONSAFEPATH"] = "1"  # or `python -m` would prefer the code of the current folder
    return int(importlib.import_module(module).main(arguments))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
