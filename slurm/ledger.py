"""The ledger of submissions from a folder of records, by which any later process can adopt them.

.slurm/id                   a random word that names this folder's jobs in SLURM's queue
       arrays/<token>.json  written before sbatch is called; the token is the array's comment in the queue,
                            and the name of its batch file
       ids/<number>         the token of an array whose every mark the site took away, by SLURM's number
       users/<uid>          whose jobs to look for
       cancelled/<id>       tasks that slurm.cancel ended: nobody is to start their jobs again unasked
       submit.lock          one submitter at a time
       private-<uid>/       what only its owner may write (see `slurm.private`)
         code/<hash>/       the code that the jobs run
         batch/<token>.sh   what sbatch was given
         log/               what SLURM printed into the tasks' stdout and stderr
"""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
from filelock import FileLock

from common.files import write_atomically
from common.jobs import JobRef
from common.paths import RecordsFolder
from slurm.private import places, private_folder
from slurm.profile import Request
from slurm.scheduler import Entry
from slurm.snapshot import Snapshot

SCHEMA = 3
"""1: without the runs' parents and the jobs' order. 2: submitit's pickles said what a task does."""


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

    def lock(self) -> FileLock:
        """Held from the last look at the queue to the end of submitting."""
        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / "submit.lock", timeout=600, mode=0o664)

    @functools.cached_property
    def private(self) -> Path:
        """This user's folder for what only this user may change.

        Raises:
            ValueError: there is no such place.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        return private_folder(self.root, self.name)

    @property
    def code(self) -> Path:
        """Where copies of the code lie."""
        return self._private("code")

    @property
    def logs(self) -> Path:
        """Where SLURM puts what it and the tasks print."""
        return self._private("log")

    def batch_file(self, token: str) -> Path:
        """What sbatch is given for an array: SLURM shows its name, and so the token, in the queue."""
        return self._private("batch") / f"{token}.sh"

    def note_user(self) -> None:
        """Remember that there may be jobs of this user."""
        folder = self.root / "users"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(os.getuid())).touch()

    def users(self) -> list[int]:
        """Numbers of the users who have submitted from here, and of this one."""
        noted = {int(path.name) for path in (self.root / "users").glob("*") if path.name.isdecimal()}
        return sorted({os.getuid(), *noted})

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

    def forget(self, token: str) -> None:
        """Remove what was written for an array that SLURM did not take."""
        self._array(token).unlink(missing_ok=True)
        self.batch_file(token).unlink(missing_ok=True)

    def note_id(self, main_id: str, token: str, submitted: str) -> None:
        """Remember an array by SLURM's number, where the queue shows none of its marks."""
        folder = self.root / "ids"
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / main_id, f"{token} {submitted}".encode())

    def ours(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those tasks that were submitted from here, each with its array's token as its comment."""
        known = {path.stem for path in self._array("any").parent.glob("*.json")}
        for private in places(self.root, self.name):  # of arrays whose description was removed
            known |= {path.stem for path in (private / "batch").glob("*.sh")}
        by_id = {path.name: path.read_text() for path in (self.root / "ids").glob("*")}
        found = []
        for entry in entries:
            token = next((mark for mark in entry.marks if mark in known), None)
            if token is None and entry.main_id in by_id:
                noted, _, submitted = by_id[entry.main_id].partition(" ")
                token = noted if entry.submitted >= submitted else None  # or the number was used again
            if token is not None:
                found.append(replace(entry, comment=token))
        return found

    def _private(self, name: str) -> Path:
        folder = self.private / name
        folder.mkdir(exist_ok=True)
        return folder

    def _array(self, token: str) -> Path:
        return self.root / "arrays" / f"{token}.json"
