"""Submits arrays of jobs: submitit writes the batch file, and what sbatch answers is checked in the queue."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import code
from common.jobs import JobRef
from slurm import bootstrap, scheduler
from slurm.commands import NoAnswer, call, words
from slurm.ledger import Array, Ledger
from slurm.profile import Request
from slurm.scheduler import Entry

PASSING = (
    "timed out",
    "Unable to contact",
    "Unable to establish",
    "temporarily",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection reset",
    "Broken pipe",
    "Communication connection failure",
    "Transport endpoint is not connected",
    "No route to host",
    "Network is unreachable",
    "Host is down",
    "Insane message length",
    "Unexpected message received",
    "standby mode",
    "munge",  # its daemon is being restarted
    "authentication credential",
    "Slurm database connection",
)
"""What sbatch says about failures that are temporary."""
LIMITS = (
    "MaxSubmit",
    "GrpSubmit",
    "Job violates accounting/QOS policy",
    "job submit limit",
    "unable to accept job",
    "Invalid job array specification",
)
"""What it says where fewer tasks at once may be welcome."""
SBATCH_TIMEOUT_S = 180.0
"""sbatch itself tries for more than a minute while the controller has no room for jobs."""
ID_ALONE = re.compile(r"^\s*(\d+)(?:;\S+)?\s*$", re.MULTILINE)
ID_IN_WORDS = re.compile(r"job (\d+)")


class Refused(ValueError):  # noqa: N818
    """sbatch will not take the job, now or later."""


class NotNow(OSError):  # noqa: N818
    """sbatch could not take the job at this moment, or has taken it and could not say so."""


class LimitReached(NotNow):
    """As many jobs are queued as the site allows: a smaller array may fit, and later this one."""


class Submitted(NamedTuple):
    """What became of an array that SLURM took."""

    tasks: list[Entry]
    """In the order of the array's jobs."""
    note: str = ""
    """What a person should know about how they were found."""


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
    after = [":".join(("afterok", *parents))] if parents else []
    after += [":".join(("afterany", *others))] if others else []
    return ",".join(after)


def submit(array: Array, ledger: Ledger, *, depends: str, earlier: Collection[str]) -> Submitted:
    """Hand `array` to sbatch, and find its tasks in the queue.

    Args:
        array: what to submit; the ledger knows it before sbatch does.
        ledger: of the folder of records.
        depends: what sbatch calls a dependency.
        earlier: the numbers of all jobs of this user that were in the queue before.

    Raises:
        Refused: for good, with what sbatch says.
        LimitReached: it may be taken in smaller pieces, or later.
        NotNow: try again later with the same array; it may have been taken nevertheless.
    """
    ledger.note_user()
    ledger.write(array)
    path = ledger.batch_file(array.token)
    path.write_text(batch_file(array, ledger, depends=depends))
    try:
        done = call(["sbatch", "--parsable", str(path)], timeout_s=SBATCH_TIMEOUT_S)
        queued = scheduler.queue([os.getuid()])
    except NoAnswer as silence:
        raise NotNow(str(silence)) from silence
    taken = sorted(
        (e for e in ledger.ours(queued) if e.comment == array.token and not e.refused), key=lambda e: e.index
    )
    if taken:
        return Submitted(_all_tasks(array, taken[0]))
    if done.returncode == 0:
        return _without_marks(array, ledger, f"{done.stdout}\n{done.stderr}", queued, earlier)
    said = _errors(done.stderr)
    if any(sign in said for sign in LIMITS):
        ledger.forget(array.token)
        raise LimitReached(said)
    if any(sign in said for sign in PASSING):
        raise NotNow(said)
    ledger.forget(array.token)
    raise Refused(said)


def batch_file(array: Array, ledger: Ledger, *, depends: str) -> str:
    """What sbatch is given: all that the tasks need. SLURM keeps its own copy, which nobody can change."""
    from submitit import SlurmExecutor  # a quarter of a second, and only those who submit need it

    executor = SlurmExecutor(folder=ledger.logs)
    executor.update_parameters(**parameters(array, name=ledger.name, depends=depends))
    if len(array.jobs) > 1:
        executor.parameters["map_count"] = len(array.jobs)
    request, jobs = array.request, ledger.records.jobs
    start = [executor.python, "-u", "-P", "-c", shlex.quote(Path(bootstrap.__file__).read_text())]
    worker = [array.code.path, array.code.digest, "slurm.worker"]
    arguments = [array.program, str(request.minutes), str(request.warning_s)]
    folder = f'{shlex.quote(str(jobs))}/"${{jobs[${{SLURM_ARRAY_TASK_ID:-0}}]}}"'
    command = [*start, *map(shlex.quote, worker), folder, *map(shlex.quote, arguments)]
    return str(executor._make_submission_file_text(" ".join(command), array.token))


def parameters(array: Array, *, name: str, depends: str) -> dict[str, Any]:
    """What submitit is told of an array."""
    request = array.request
    processes = max(1, request.gpus)  # on each node: one per GPU, which train one model together
    memory = {"mem": request.memory_gb, "mem_per_cpu": request.mem_per_cpu}
    said = {
        "partition": request.partition,
        "account": request.account,
        "qos": request.qos,
        "constraint": request.constraint,
        "gres": request.gres,
        "exclude": ",".join(request.exclude) or None,
        "gpus_per_node": request.gpus if request.gpus and not request.gres else None,
        "dependency": depends or None,
        **{key: f"{max(round(gb * 1024), 1)}MB" for key, gb in memory.items() if gb is not None},
    }
    extra = {key: True if value == "true" else value for key, value in request.extra if value != "false"}
    setup = [
        *request.setup,
        f"jobs=({' '.join(shlex.quote(job.id) for job in array.jobs)})",
        f"export {code.VARIABLE}={shlex.quote(array.code.commit)}",
    ]
    return {
        "job_name": name,
        "comment": array.token,
        "time": request.minutes,
        "nodes": request.nodes,
        "ntasks_per_node": processes,
        "cpus_per_task": max(1, request.cpus // processes),
        "setup": setup,
        "signal_delay_s": request.warning_s,
        "array_parallelism": request.array_parallelism,
        # Since SLURM 22.05 srun does not take over the cores that sbatch asked for.
        "srun_args": [f"--cpus-per-task={max(1, request.cpus // processes)}"],
        "additional_parameters": {"kill-on-invalid-dep": "yes", "requeue": True, "export": "ALL", **extra},
        **{key: value for key, value in said.items() if value is not None},
    }


def transport_log(ledger: Ledger, slurm_id: str) -> str:
    """The end of what SLURM printed about a task, where this user may read it."""
    path = ledger.logs / f"{slurm_id}_0_log.err"
    try:
        return path.read_text(errors="replace")[-4000:]
    except OSError:
        return ""


def _without_marks(
    array: Array, ledger: Ledger, said: str, queued: Sequence[Entry], earlier: Collection[str]
) -> Submitted:
    """An array that was taken, and of which the queue shows neither comment nor batch file.

    What is new in the queue since sbatch was called, has as many tasks, and has the id that sbatch printed,
    or at least its name, is this array. From now on it is known by its id.
    """
    new: dict[str, list[Entry]] = {}
    for entry in queued:
        if entry.main_id not in earlier:
            new.setdefault(entry.main_id, []).append(entry)
    fitting = [main_id for main_id, entries in new.items() if len(entries) == len(array.jobs)]
    alone = [main_id for main_id in ID_ALONE.findall(said) if main_id not in earlier]
    chosen = next((i for i in (*alone, *ID_IN_WORDS.findall(said)) if i in fitting), None)
    if chosen is None and len(fitting) == 1:
        (chosen,) = fitting
    if chosen is None and alone:
        chosen = alone[-1]  # to believe it costs less than to submit again what may be there
    if chosen is None:
        raise NotNow(f"sbatch took a job that the queue does not show (it said: {words(said)})")
    one = new[chosen][0] if chosen in new else Entry(slurm_id=chosen, index=0, state="PENDING")
    ledger.note_id(chosen, array.token, one.submitted)
    note = f"SLURM job {chosen}: this site took away the mark that it was submitted with; known by its number"
    return Submitted(_all_tasks(array, one), note)


def _all_tasks(array: Array, one: Entry) -> list[Entry]:
    """All tasks of an array, of which the queue shows one: the others have its number."""
    ids = [f"{one.main_id}_{place}" for place in range(len(array.jobs))]
    return [
        Entry(slurm_id=slurm_id, index=place, state="PENDING", comment=array.token, user=one.user)
        for place, slurm_id in enumerate(ids if len(ids) > 1 else [one.main_id])
    ]


def _errors(text: str) -> str:
    """What sbatch complained of, in the order of its lines and without the banners between them."""
    errors = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    return "sbatch: " + ("; ".join(dict.fromkeys(errors)) if errors else words(text))
