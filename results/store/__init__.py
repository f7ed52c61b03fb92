"""The folder of records: one folder per run, with a record, written last, as the only proof that it is done.

    <root>/<run id>/record.json                 see `Record`
                    predictions-0001.npz, ...   the files that the record names, each with its digest
                    history-0001.json           losses and training accuracy of every epoch
                    attempts/0001               one folder per attempt: only the newest attempt may write
                    failure.json                see `Failure`

Runs share no files, so any number of writers on a network file system need neither a lock nor a database.
A process that was given up for lost and comes back finds a newer attempt and is refused.
"""

from __future__ import annotations

from results.store.attempts import Attempt, StaleAttempt
from results.store.folder import Store
from results.store.records import BrokenRecord, Failure, Record, RunContent

__all__ = ["Attempt", "BrokenRecord", "Failure", "Record", "RunContent", "StaleAttempt", "Store"]
