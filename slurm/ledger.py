"""The ledger of submissions from a folder of records, by which any later process can adopt them.

.slurm/id                   a random word that names this folder's jobs in SLURM's queue
       arrays/<token>.json  written before sbatch is called; the token is the array's comment in the queue
       code/<hash>/         the code that the jobs run
       cancelled/<id>       tasks that slurm.cancel ended: nobody is to start their jobs again unasked
       submit.lock          one submitter at a time
       pickles-<uid>/       submitit's files: private, never read for results
"""

from __future__ import annotations

import functools
import os
import stat
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from common.files import write_atomically
from common.jobs import JobRef
from common.paths import RecordsFolder
from slurm.profile import Request
from slurm.snapshot import Snapshot

SCHEMA = 2
"""1: without the runs' parents and the jobs' order."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """Jobs that were, or are about to be, submitted together; task i of the array does `jobs[i]`."""

    token: str
    jobs: tuple[JobRef, ...]
    request: Request
    program: str
    code: Snapshot
    schema: int = SCHEMA

    @classmethod
    def new(cls, jobs: Sequence[JobRef], request: Request, *, program: str, code: Snapshot) -> Array:
        """An array for `jobs` with a token of its own."""
        return cls(token=uuid.uuid4().hex[:16], jobs=tuple(jobs), request=request, program=program, code=code)


class Ledger:
    """The `.slurm/` folder of a folder of records."""

    def __init__(self, runs: Path) -> None:
        self.records = RecordsFolder(runs.absolute())
        self.root = self.records.slurm

    @functools.cached_property
    def name(self) -> str:
        """What this folder's jobs are called in the queue; made at the first call."""
        path = self.root / "id"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            draft = self.root / f"id.{uuid.uuid4().hex}"
            draft.write_text(uuid.uuid4().hex[:12])
            try:
                path.hardlink_to(draft)  # unlike a rename it leaves the id of whoever was faster
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return f"flips-{path.read_text().strip()}"

    @property
    def exists(self) -> bool:
        """Whether anything was ever submitted from here."""
        return (self.root / "id").exists()

    @property
    def code(self) -> Path:
        """Where copies of the code lie."""
        return self.root / "code"

    def lock(self) -> FileLock:
        """Held from the last look at the queue to the end of submitting."""
        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "submit.lock", timeout=600, mode=0o664)

    def pickles(self) -> Path:
        """This user's private folder for submitit's files.

        Raises:
            ValueError: it is somebody else's, or others may look into it.
        """
        folder = self.root / f"pickles-{os.getuid()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise ValueError(f"{folder}: must be a folder of your own with mode 700: remove it")
        return folder

    def note_cancelled(self, slurm_ids: Iterable[str]) -> None:
        """Remember that somebody wants these tasks to end."""
        folder = self.root / "cancelled"
        folder.mkdir(parents=True, exist_ok=True)
        for slurm_id in slurm_ids:
            (folder / slurm_id).touch()

    def is_cancelled(self, slurm_id: str) -> bool:
        """Whether somebody wanted this task to end."""
        return (self.root / "cancelled" / slurm_id).exists()

    def write(self, array: Array) -> None:
        """Remember `array` before it is submitted."""
        path = self._array(array.token)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(array), indent=1))

    def read(self, token: str) -> Array | None:
        """The array with that token; None if this folder knows none."""
        if not token.isalnum():
            return None
        try:
            return msgspec.json.decode(self._array(token).read_bytes(), type=Array)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def arrays(self) -> list[Array]:
        """Everything that was ever submitted from here, in no particular order."""
        tokens = sorted(path.stem for path in self._array("any").parent.glob("*.json"))
        return [array for token in tokens if (array := self.read(token)) is not None]

    def _array(self, token: str) -> Path:
        return self.root / "arrays" / f"{token}.json"
