"""What to ask of a cluster: a profile from a TOML file, changed by `slurm.NAME=VALUE` on the command line.

A profile lies in `profiles/NAME.toml` of the current folder or of the user's configuration folder
(`$XDG_CONFIG_HOME/negative-flips/`). What it leaves open comes from the plan.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from common import cli
from common.text import nearest
from harness.architectures import ARCHITECTURES
from harness.plan import Job, Role

APPLICATION = "negative-flips"
LISTS = frozenset({"exclude", "setup"})
ROLES = get_args(Role)
TIME = re.compile(  # as sbatch reads it, where 90:30 would be minutes and seconds
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d\d)(:(?P<seconds>\d\d))?)?"
    r"|(?P<only_hours>\d+):(?P<rest>\d\d):(?P<last>\d\d)"
)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """One section of a profile; None leaves the choice to the section before it, in the end to the plan."""

    partition: str | None = None
    """Partition (queue), or several with commas between them."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Node features that a job needs."""
    gres: str | None = None
    """Generic resources in SLURM's words, in the place of gpus (`gpu:a100:1`)."""
    exclude: tuple[str, ...] | None = None
    """Nodes to stay away from."""
    setup: tuple[str, ...] | None = None
    """Shell lines before the program, such as `module load cuda`."""
    time: str | None = None
    """Time limit of a job: minutes, hours:minutes:seconds or days-hours:minutes:seconds."""
    memory_gb: float | None = None
    """Memory of a job on each node."""
    cpus: int | None = None
    """Cores of a job on each node."""
    gpus: int | None = None
    """GPUs of a job on each node."""
    nodes: int | None = None
    """Nodes of a job."""
    array_parallelism: int | None = None
    """How many tasks of an array may run at once."""
    warning_s: int | None = None
    """How long before its time limit a job is told to write a checkpoint."""
    poll_s: float | None = None
    """The shortest time between two questions to the scheduler."""

    def __post_init__(self) -> None:
        if self.time is not None:
            minutes(self.time)
        for name in ("memory_gb", "cpus", "nodes", "array_parallelism", "warning_s", "poll_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"slurm.{name}={value}: must be a finite number above 0")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"slurm.gpus={self.gpus}: must be 0 or more")

    def over(self, other: Wishes) -> Wishes:
        """`other`, changed by what is said here."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        return replace(other, **said)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one Job asks of SLURM; Jobs with equal requests and parents may share an array."""

    cpus: int
    gpus: int
    memory_gb: float
    minutes: int
    nodes: int
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    exclude: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    array_parallelism: int = 256
    warning_s: int = 120


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Wishes for all Jobs, by role, by architecture, and from the command line; the later win."""

    name: str = "none"
    common: Wishes = Wishes()
    roles: Mapping[str, Wishes] = field(default_factory=dict)
    archs: Mapping[str, Wishes] = field(default_factory=dict)
    command_line: Wishes = Wishes()

    def wishes(self, job: Job) -> Wishes:
        """The wishes that hold for `job`."""
        first = job.runs[0]
        sections = (self.roles.get(first.role), self.archs.get(first.model.arch), self.command_line)
        wishes = self.common
        for section in filter(None, sections):
            wishes = section.over(wishes)
        return wishes

    def request(self, job: Job, *, memory_factor: int = 1, avoid: tuple[str, ...] = ()) -> Request:
        """What `job` asks for: the plan's needs, as the wishes change them.

        Args:
            job: the Job.
            memory_factor: multiplies the memory, after a Job ran out of it.
            avoid: nodes where it failed.
        """
        wishes, needs = self.wishes(job), job.resources
        limit = minutes(wishes.time) if wishes.time is not None else needs.minutes
        return Request(
            cpus=wishes.cpus or needs.cpus,
            gpus=needs.gpus if wishes.gpus is None else wishes.gpus,
            memory_gb=(wishes.memory_gb or needs.memory_gb) * memory_factor,
            minutes=limit,
            nodes=wishes.nodes or needs.nodes,
            partition=wishes.partition,
            account=wishes.account,
            qos=wishes.qos,
            constraint=wishes.constraint,
            gres=wishes.gres,
            exclude=tuple(dict.fromkeys((*(wishes.exclude or ()), *avoid))),
            setup=wishes.setup or (),
            array_parallelism=wishes.array_parallelism or Request.array_parallelism,
            # A warning that comes before a short job has begun to work would end it for nothing.
            warning_s=min(wishes.warning_s or Request.warning_s, 15 * limit),
        )

    @property
    def poll_s(self) -> float:
        """The shortest time between two questions to the scheduler, in seconds."""
        return self.command_line.over(self.common).poll_s or 10.0


def load(name: str | None, overrides: Mapping[str, str]) -> Profile:
    """The profile `name` (none: an empty one) with `overrides`, the words after `slurm.`.

    Raises:
        ValueError: no such profile, a key that is none, or a value of the wrong type.
    """
    for key in overrides:
        if key not in Wishes.__dataclass_fields__:
            hint = nearest(key, Wishes.__dataclass_fields__)
            raise ValueError(f"unknown setting 'slurm.{key}'{hint}")
    command_line = _typed(overrides, "slurm.")
    if name is None:
        return Profile(command_line=command_line)
    path = _find(name)
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    roles, archs = content.pop("role", {}), content.pop("arch", {})
    return Profile(
        name=name,
        common=_wishes(content, path, ""),
        roles=_sections(roles, path, "role", ROLES),
        archs=_sections(archs, path, "arch", ARCHITECTURES),
        command_line=command_line,
    )


def minutes(text: str) -> int:
    """A time limit in whole minutes, rounded up: `90`, `1:30:00`, `2-12:00:00`."""
    match = TIME.fullmatch(text)
    if text.isdecimal():
        found = int(text)
    elif match is not None:
        hours = 24 * int(match["days"] or 0) + int(match["hours"] or match["only_hours"])
        found = 60 * hours + int(match["minutes"] or match["rest"] or 0)
        found += int(match["seconds"] or match["last"] or 0) > 0
    else:
        raise ValueError(
            f"slurm.time={text}: expected minutes, hours:minutes:seconds or days-hours:minutes:seconds"
        )
    if found < 1:
        raise ValueError(f"slurm.time={text}: must be a minute or more")
    return found


def folders() -> tuple[Path, ...]:
    """Where profiles are looked for, in this order."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path("profiles"), home / APPLICATION / "profiles"


def _find(name: str) -> Path:
    known: list[str] = []
    for folder in folders():
        if (path := folder / f"{name}.toml").is_file():
            return path
        known += [path.stem for path in folder.glob("*.toml") if path.is_file()]
    places = " and ".join(map(str, folders()))
    hint = nearest(name, known) if known else ""
    raise ValueError(f"profile={name}: there is no {name}.toml in {places}{hint}")


def _sections(content: Any, path: Path, kind: str, known: Collection[str]) -> dict[str, Wishes]:
    """The tables `[role.NAME]` or `[arch.NAME]`."""
    if not isinstance(content, dict):
        raise ValueError(f"{path}: '{kind}' must be tables such as [{kind}.{next(iter(known))}]")
    for name, section in content.items():
        if name not in known:
            raise ValueError(f"{path}: unknown section [{kind}.{name}]{nearest(name, known)}")
        if not isinstance(section, dict):
            raise ValueError(f"{path}: [{kind}.{name}] must be a table")
        if "poll_s" in section:
            raise ValueError(f"{path}: poll_s is the same for all jobs and cannot stand in [{kind}.{name}]")
    return {name: _wishes(section, path, f"{kind}.{name}.") for name, section in content.items()}


def _wishes(content: Mapping[str, Any], path: Path, prefix: str) -> Wishes:
    for key in content:
        if key not in Wishes.__dataclass_fields__:
            hint = nearest(key, Wishes.__dataclass_fields__)
            raise ValueError(f"{path}: unknown key '{prefix}{key}'{hint}")
        _require_type(content[key], f"{path}: {prefix}{key}", key)
    try:
        return _typed(content, prefix)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _require_type(value: Any, where: str, key: str) -> None:
    """Refuse what would only look like a text once it is one: 5 is no partition."""
    texts = value if isinstance(value, list) and key in LISTS else [value]
    text = key in LISTS or (key != "time" and str in get_args(get_type_hints(Wishes)[key]))
    if text and not all(isinstance(item, str) for item in texts):
        raise ValueError(f"{where} = {value!r}: must be a text" + (" or several" if key in LISTS else ""))


def _typed(content: Mapping[str, Any], prefix: str) -> Wishes:
    """Wishes out of words or of TOML's values."""
    hints = get_type_hints(Wishes)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key in LISTS:
            values[key] = tuple(map(str, value)) if isinstance(value, list) else (str(value),)
        else:
            values[key] = cli.value(f"{prefix}{key}", str(value), hints[key])
    return Wishes(**values)
