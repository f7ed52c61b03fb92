"""The folder `.slurm/` among the records: what was submitted, told so that any later process can adopt it.

.slurm/id                   a random word: names this folder's jobs in SLURM's queue
       arrays/<token>.json  written before sbatch; the token is the array's comment in the queue
       code/<hash>/         the code that the jobs run
       cancelled/<id>       tasks that slurm.cancel ended: nobody is to start their jobs again by himself
       submit.lock          one submitter at a time
       pickles-<uid>/       submitit's files: private, never read for results
"""

from __future__ import annotations

import functools
import json
import os
import stat
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from common.files import write_atomically
from harness.plan import Job
from slurm.profile import Request
from slurm.snapshot import Snapshot

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Slip:
    """One Job of an array, as much of it as adopting needs."""

    job: str
    title: str
    runs: tuple[str, ...]

    @classmethod
    def of(cls, job: Job) -> Slip:
        """The slip of `job`."""
        return cls(job=job.id, title=job.title, runs=tuple(run.id for run in job.runs))


@dataclass(frozen=True, kw_only=True)
class Array:
    """Jobs that were, or are about to be, submitted together; task i is `slips[i]`."""

    token: str
    slips: tuple[Slip, ...]
    request: Request
    program: str
    code: Snapshot

    @classmethod
    def new(cls, jobs: Sequence[Job], request: Request, *, program: str, code: Snapshot) -> Array:
        """An array for `jobs` with a token of its own."""
        slips = tuple(Slip.of(job) for job in jobs)
        return cls(token=uuid.uuid4().hex[:16], slips=slips, request=request, program=program, code=code)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Array:
        """The inverse of `asdict`, after a way through JSON."""
        slips = tuple(
            Slip(job=slip["job"], title=slip["title"], runs=tuple(slip["runs"])) for slip in document["slips"]
        )
        request = document["request"]
        request |= {"exclude": tuple(request["exclude"]), "setup": tuple(request["setup"])}
        return cls(
            token=document["token"],
            slips=slips,
            request=Request(**request),
            program=document["program"],
            code=Snapshot(**document["code"]),
        )


class Desk:
    """The `.slurm/` folder of a folder of records."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs.absolute()
        self.root = self.runs / ".slurm"

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
        folder = self.root / "arrays"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"schema": SCHEMA, **asdict(array)}
        write_atomically(folder / f"{array.token}.json", json.dumps(content, indent=1).encode())

    def read(self, token: str) -> Array | None:
        """The array with that token; None if this folder knows none."""
        if not token.isalnum():
            return None
        try:
            document = json.loads((self.root / "arrays" / f"{token}.json").read_bytes())
            return Array.from_document(document)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def arrays(self) -> list[Array]:
        """Everything that was ever submitted from here, in no particular order."""
        tokens = sorted(path.stem for path in (self.root / "arrays").glob("*.json"))
        return [array for token in tokens if (array := self.read(token)) is not None]
