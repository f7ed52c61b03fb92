"""The one door to running jobs: chooses where, shows what happens, says how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from common.jobs import JobRef, Outcome, Phase
from common.jobtable import failure_line
from common.paths import RecordsFolder
from harness.dispatch.local import PROGRAM, run_inline, run_processes
from harness.dispatch.machine import Machine
from harness.dispatch.view import View
from harness.grouping import Job
from slurm import scheduler
from slurm.profile import Profile

Cluster = Literal["auto", "slurm", "local", "inline"]


def dispatch(
    jobs: Sequence[Job],
    *,
    runs: Path,
    cluster: Cluster = "auto",
    console: Console,
    profile: Profile | None = None,
    wait: bool = True,
    jobs_per_gpu: int = 1,
    machine: Machine | None = None,
    program: str = PROGRAM,
) -> Outcome:
    """Run `jobs`, parents before children, each with `<runs>/jobs/<job.id>/job.json` in place.

    Args:
        jobs: what to run.
        runs: the folder of records.
        cluster: where to run; `auto` takes SLURM where a controller answers, else this machine.
        console: where the live view, or its plain lines, go.
        profile: what to ask of SLURM (see `slurm.profile.load`).
        wait: on SLURM, whether to stay until all is settled; without, it returns once all is queued.
        jobs_per_gpu: how many local jobs may share a GPU.
        machine: what local jobs may use at once; found out by default.
        program: module whose `run_job(folder) -> int` does a job, also as `python -m program folder`.

    Raises:
        ValueError: the jobs cannot run there, in one line that says what to do.
    """
    chosen, why = choose(cluster)
    if chosen == "local":
        machine = machine or replace(Machine.here(), jobs_per_gpu=jobs_per_gpu)
        gpus = f", {len(machine.gpus)} GPU(s)" if machine.gpus else ""
        why = f"{machine.cpus} cores, {machine.memory_gb:.0f} GB{gpus}{why and '; '}{why}"
    console.print(f"cluster={chosen}" + (f" ({why})" if why else ""), highlight=False, style="dim")
    refs, records = [job.ref for job in jobs], RecordsFolder(runs)
    with View(refs, records=records, console=_plain(console) if chosen == "inline" else console) as view:
        if chosen == "inline":
            outcome = run_inline(jobs, runs=runs, show=view.show, program=program)
        elif chosen == "local":
            assert machine is not None
            outcome = run_processes(jobs, runs=runs, machine=machine, show=view.show, program=program)
        else:
            from harness.dispatch.cluster import run_slurm  # of no use without SLURM

            outcome = run_slurm(
                jobs,
                runs=runs,
                profile=profile or Profile(),
                show=view.show,
                console=console,
                wait=wait,
                program=program,
            )
    _say_end(outcome, refs, records, console)
    return outcome


def has_gpus(cluster: Cluster) -> bool:
    """Whether jobs would find a GPU where `cluster` sends them.

    Raises:
        ValueError: SLURM is asked for and no controller answers.
    """
    return scheduler.has_gpus() if choose(cluster)[0] == "slurm" else bool(Machine.here().gpus)


def choose(cluster: Cluster) -> tuple[Cluster, str]:
    """Where to run, and the reason where it was this function's choice.

    Raises:
        ValueError: SLURM is asked for and no controller answers.
    """
    if cluster not in ("auto", "slurm"):
        return cluster, ""
    up, why = scheduler.answers()
    if cluster == "slurm" and not up:
        raise ValueError(f"cluster=slurm: {why} (cluster=local runs on this machine)")
    return ("slurm" if up else "local"), (why if cluster == "auto" else "")


def _plain(console: Console) -> Console:
    """The same console without a live display, which a debugger's prompt could not share."""
    return Console(file=console.file, force_terminal=False, width=console.width)


def _say_end(outcome: Outcome, jobs: Sequence[JobRef], records: RecordsFolder, console: Console) -> None:
    """What a person must know that the table will not tell."""
    for job in jobs:
        state = outcome.states[job.id]
        if state.phase is Phase.FAILED:
            console.print(failure_line(job, state, records=records), soft_wrap=True)
    blocked = outcome.count(Phase.BLOCKED)
    if blocked:
        console.print(f"[red]{blocked} job(s) blocked[/] by these", highlight=False)
    if outcome.interrupted:
        left = sum(state.phase is not Phase.DONE for state in outcome.states.values())
        console.print(
            f"stopped with {left} job(s) left; the same command continues from here", highlight=False
        )
    if outcome.detached:
        console.print(
            f"detached: the jobs stay in SLURM's queue. The same command comes back to them; python -m "
            f"slurm.status runs={records.root} shows them, python -m slurm.cancel runs={records.root} ends "
            "them",
            highlight=False,
            soft_wrap=True,
        )
