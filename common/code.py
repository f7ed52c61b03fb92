"""Which code runs: its rooms, and the git commit that records and queued jobs carry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOMS = ("common", "harness", "methods", "loaders", "slurm", "results")
VARIABLE = "NEGATIVE_FLIPS_COMMIT"
"""Environment variable that tells a copy of the code the commit it was copied from."""
SOURCE = Path(__file__).resolve().parent.parent


def commit(source: Path = SOURCE) -> str:
    """`<sha>`, or `<sha>+dirty` where tracked files differ from it; `unknown` without git."""
    if given := os.environ.get(VARIABLE):
        return given
    git = ["git", "-C", str(source)]
    try:
        sha = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *ROOMS], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return sha.stdout.strip() + ("+dirty" if changed.returncode else "")
