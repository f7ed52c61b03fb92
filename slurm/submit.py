"""Submits arrays of jobs through submitit, which is the transport and nothing else."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from common import code
from common.jobs import JobRef
from slurm import worker
from slurm.ledger import Array, Ledger
from slurm.profile import Request
from slurm.scheduler import Entry

PASSING = (
    "timed out",
    "Unable to contact",
    "temporarily",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Communication connection failure",
    "MaxSubmit",
    "Job violates accounting/QOS policy",
    "job submit limit",
)
"""What sbatch says of troubles that pass by themselves."""


class Refused(ValueError):  # noqa: N818
    """sbatch will not take the job, now or later."""


class NotNow(OSError):  # noqa: N818
    """sbatch could not take the job at this moment, or has taken it and could not say so."""


def shapes(
    jobs: Iterable[JobRef], requests: Mapping[str, Request], dependencies: Mapping[str, str], *, largest: int
) -> list[tuple[JobRef, ...]]:
    """Jobs grouped into arrays: one for each request and dependency, none above `largest` tasks."""
    groups: dict[tuple[Request, str], list[JobRef]] = {}
    for job in jobs:
        groups.setdefault((requests[job.id], dependencies[job.id]), []).append(job)
    return [
        tuple(members[start : start + largest])
        for members in groups.values()
        for start in range(0, len(members), largest)
    ]


def dependency(parents: Sequence[str], others: Sequence[str] = ()) -> str:
    """`afterok` on the tasks of parents, `afterany` on tasks that already work on some of the same runs."""
    words = [":".join(("afterok", *parents))] if parents else []
    words += [":".join(("afterany", *others))] if others else []
    return ",".join(words)


def submit(array: Array, ledger: Ledger, *, depends: str) -> tuple[str, ...]:
    """Hand `array` to sbatch; the tasks' ids in SLURM.

    Raises:
        Refused: for good, with what sbatch says.
        NotNow: try again later, after a look whether it was taken nevertheless.
    """
    from submitit import SlurmExecutor  # a quarter of a second, and only those who submit need it
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    ledger.write(array)
    executor = SlurmExecutor(folder=ledger.pickles())
    executor.update_parameters(**parameters(array, name=ledger.name, depends=depends))
    columns = zip(*(_arguments(array, place, ledger) for place in range(len(array.jobs))), strict=True)
    try:
        with _outside_of_a_job(), contextlib.redirect_stderr(io.StringIO()):  # the error says it all
            submitted = executor.map_array(worker.run, *columns)
    except (FailedJobError, FailedSubmissionError) as error:
        message = " ".join(str(error).split())
        if any(word in message for word in PASSING):
            raise NotNow(message) from error
        raise Refused(f"sbatch: {_errors(message)}") from error
    return tuple(job.job_id for job in submitted)


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Hide the job that this process itself may run in: sbatch would take over its cores and memory."""
    own = {key: value for key, value in os.environ.items() if key.startswith(("SLURM_", "SBATCH_"))}
    own.pop("SLURM_CONF", None)
    inside = own if "SLURM_JOB_ID" in own else {}
    for key in inside:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(inside)


def parameters(array: Array, *, name: str, depends: str) -> dict[str, Any]:
    """What submitit is told of an array."""
    request = array.request
    processes = max(1, request.gpus)  # on each node: one a GPU, which train one model together
    said = {
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraint": request.constraint,
        "gres": request.gres,
        "exclude": ",".join(request.exclude) or None,
        "gpus_per_node": request.gpus if request.gpus and not request.gres else None,
        "dependency": depends or None,
    }
    here = shlex.quote(array.code.path)
    setup = [
        *request.setup,
        f'export PYTHONPATH={here}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        "export PYTHONSAFEPATH=1",  # or `python -m` would prefer the code of the current folder to the copy
        f"export {code.VARIABLE}={shlex.quote(array.code.commit)}",
    ]
    return {
        "job_name": name,
        "comment": array.token,
        "time": request.minutes,
        "nodes": request.nodes,
        "ntasks_per_node": processes,
        "cpus_per_task": max(1, request.cpus // processes),
        "mem": f"{max(round(request.memory_gb * 1024), 1)}MB",
        "setup": setup,
        "signal_delay_s": request.warning_s,
        "array_parallelism": request.array_parallelism,
        # Since SLURM 22.05 srun does not take over the cores that sbatch asked for.
        "srun_args": [f"--cpus-per-task={max(1, request.cpus // processes)}"],
        "additional_parameters": {"kill-on-invalid-dep": "yes", "requeue": True},
        **{key: value for key, value in said.items() if value is not None},
    }


def mend(array: Array, entries: Iterable[Entry], ledger: Ledger) -> None:
    """Write the pickles that submitit could not put in their place because it died after sbatch."""
    from submitit.core.utils import DelayedSubmission, JobPaths

    folder = ledger.pickles()
    for entry in entries:
        path = JobPaths(folder, job_id=entry.slurm_id).submitted_pickle
        if not path.exists():
            DelayedSubmission(worker.run, *_arguments(array, entry.index, ledger)).dump(path)


def transport_log(ledger: Ledger, slurm_id: str) -> str:
    """The end of what SLURM and submitit printed about a task, where this user may read it."""
    path = ledger.pickles() / f"{slurm_id}_0_log.err"
    try:
        return path.read_text(errors="replace")[-4000:]
    except OSError:
        return ""


def _arguments(array: Array, place: int, ledger: Ledger) -> tuple[str, str, int, int]:
    folder = ledger.records.job(array.jobs[place].id).root
    return str(folder), array.program, array.request.minutes, array.request.warning_s


def _errors(message: str) -> str:
    """What sbatch complained of, in the order of its lines."""
    errors = [part.strip() for part in message.split("sbatch: error:")[1:]]
    return "; ".join(errors) if errors else message
