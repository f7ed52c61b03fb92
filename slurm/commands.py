"""Calls SLURM's commands, in an environment that changes none of their answers, and tells how they fail."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

TIMEOUT_S = 30.0
INPUT = (
    *("SACCT_", "SALLOC_", "SBATCH_", "SCANCEL_", "SCONTROL_", "SINFO_", "SLURM_", "SQUEUE_", "SRUN_"),
    "SPRIO_",
)
"""Prefixes of the variables that SLURM's commands read as options, or set for the job that they run in."""
WHERE = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_JWKS")
"""Those that only say where the controller is and who asks."""
WRONG_QUESTION = re.compile(
    r"unrecognized option|invalid option|unknown option|option .* (is ambiguous|requires an argument)"
    r"|Invalid job format|Invalid (job )?state|Try .*--help|^usage:",
    re.IGNORECASE | re.MULTILINE,
)


class NoAnswer(OSError):  # noqa: N818
    """A command failed or hung, in SLURM's words: the controller may answer later."""


class WrongQuestion(ValueError):  # noqa: N818
    """A command does not know an option that it was given: to ask again is of no use."""


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`variables` without those that would change what SLURM's commands do or show.

    sbatch hands the rest to the job, so they do not reach the node either.
    """
    return {name: value for name, value in variables.items() if name in WHERE or not name.startswith(INPUT)}


def call(command: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands, whatever its exit code.

    Raises:
        NoAnswer: it does not come back, or is not there.
    """
    try:
        return subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]}: no answer within {timeout_s:.0f} s") from None
    except OSError as error:
        raise NoAnswer(f"{command[0]}: {error.strerror}") from error


def ask(*command: str, timeout_s: float = TIMEOUT_S) -> str:
    """Output of a command that only looks.

    Raises:
        NoAnswer: it failed, with its words.
        WrongQuestion: it failed because of its options, with its words.
    """
    done = call(command, timeout_s=timeout_s)
    if done.returncode == 0:
        return done.stdout
    said = words(done.stderr) or f"exit code {done.returncode}"
    said = said if said.startswith(command[0]) else f"{command[0]}: {said}"
    raise WrongQuestion(said) if WRONG_QUESTION.search(done.stderr) else NoAnswer(said)


def words(text: str) -> str:
    """What a command printed, as one line."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[:500]
