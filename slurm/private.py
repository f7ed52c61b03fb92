"""Where the code of queued jobs, their batch files and SLURM's logs lie: only their owner can write there.

That is a folder beside the ledger, or, where others could move that folder away (a runs folder that a group
shares), one in the owner's home.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from slurm.profile import APPLICATION


def private_folder(beside: Path, name: str) -> Path:
    """This user's own folder for the ledger at `beside`, called `name`, created if missing.

    Raises:
        ValueError: there is no place where others cannot write.
    """
    reasons = []
    for folder in places(beside, name):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := exposed(folder):
            reasons.append(reason)
        elif folder.stat().st_mode & 0o077:
            reasons.append(f"{folder} must have mode 700")
        else:
            return folder
    raise ValueError(
        "no folder that only you can write to, for the code that queued jobs run: "
        f"{'; '.join(reasons)} (XDG_STATE_HOME= names another place, which all nodes must share)"
    )


def places(beside: Path, name: str) -> tuple[Path, Path]:
    """Where that folder may be, the first choice first."""
    return beside / f"private-{os.getuid()}", state_home() / name


def state_home() -> Path:
    """Where an application keeps what belongs to one user."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home).absolute() / APPLICATION


def exposed(folder: Path) -> str:
    """Why somebody else could replace `folder` or what lies in it; empty where nobody can.

    Nobody can where it and every folder above it belong to this user or to root, and others can neither
    write to them nor, where they can, move what is not theirs (a sticky folder such as /tmp).
    """
    for place in (folder, *folder.parents):
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode):
            found = place.stat()  # a link: what it leads to is looked at in full
            if reason := exposed(place.resolve()):
                return reason
        if found.st_uid not in (0, os.getuid()):
            return f"{place} belongs to somebody else"
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            return f"others may write to {place}"
    return ""
