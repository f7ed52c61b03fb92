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
from typing import Any, Literal, get_args, get_type_hints

from common import cli
from common.jobs import Resources
from common.text import nearest

APPLICATION = "negative-flips"
LISTS = frozenset({"exclude", "setup"})
EXTRA = "extra"
OWN = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "gres", "exclude", "time", "nodes"), ""),
    **{"mem": "memory_gb", "mem-per-cpu": "mem_per_cpu", "cpus-per-task": "cpus"},
    **{"gpus-per-node": "gpus", "gpus": "gpus", "ntasks-per-node": "gpus", "signal": "warning_s"},
}
"""Options of sbatch that have a setting of their own, and its name where that is another."""
NEEDED = frozenset(
    {"array", "chdir", "clusters", "comment", "dependency", "error", "job-name", "kill-on-invalid-dep"}
    | {"no-requeue", "ntasks", "open-mode", "output", "parsable", "requeue", "test-only", "wait", "wrap"}
)
"""Options of sbatch by which jobs are found, connected and resumed."""
TIME = re.compile(  # as sbatch reads it, where 90:30 would be minutes and seconds
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d\d)(:(?P<seconds>\d\d))?)?"
    r"|(?P<only_hours>\d+):(?P<rest>\d\d):(?P<last>\d\d)"
)


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
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
    memory_gb: float | Literal["none"] | None = None
    """Memory of a job on each node; `none` leaves the choice to the site."""
    mem_per_cpu: float | None = None
    """Memory of a job for each core, in GB, in the place of memory_gb."""
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
    extra: tuple[tuple[str, str], ...] | None = None
    """Further options of sbatch by their long names: `slurm.extra.reservation=night`, and `=true` for one
    that takes no value."""

    def __post_init__(self) -> None:
        if self.time is not None:
            minutes(self.time)
        for name in ("memory_gb", "mem_per_cpu", "cpus", "nodes", "array_parallelism", "warning_s", "poll_s"):
            value = getattr(self, name)
            if value not in (None, "none") and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"slurm.{name}={value}: must be a finite number above 0")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"slurm.gpus={self.gpus}: must be 0 or more")
        if self.memory_gb is not None and self.mem_per_cpu is not None:
            raise ValueError("slurm.memory_gb= and slurm.mem_per_cpu= exclude each other")
        for name, value in self.extra or ():
            _check_extra(name, value)

    def over(self, other: SlurmOptions) -> SlurmOptions:
        """`other`, changed by what is said here."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        if self.memory_gb is not None or self.mem_per_cpu is not None:
            said = {"memory_gb": None, "mem_per_cpu": None, **said}
        if self.extra is not None:
            said["extra"] = tuple({**dict(other.extra or ()), **dict(self.extra)}.items())
        return replace(other, **said)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one job asks of SLURM; jobs with equal requests and parents may share an array."""

    cpus: int
    gpus: int
    memory_gb: float | None
    """On each node; None where it is asked for by core, or not at all."""
    minutes: int
    nodes: int
    mem_per_cpu: float | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    exclude: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    array_parallelism: int = 256
    warning_s: int = 120
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Options for all jobs, by role, by architecture, and from the command line; later ones win."""

    name: str = "none"
    common: SlurmOptions = SlurmOptions()
    roles: Mapping[str, SlurmOptions] = field(default_factory=dict)
    archs: Mapping[str, SlurmOptions] = field(default_factory=dict)
    command_line: SlurmOptions = SlurmOptions()

    def options(self, role: str, arch: str) -> SlurmOptions:
        """The options for jobs that train a model of this role and architecture."""
        options = self.common
        for section in (self.roles.get(role), self.archs.get(arch), self.command_line):
            if section is not None:
                options = section.over(options)
        return options

    def request(
        self,
        needs: Resources,
        *,
        role: str,
        arch: str,
        memory_factor: int = 1,
        avoid: tuple[str, ...] = (),
    ) -> Request:
        """What a job asks for: the plan's estimate, as the options change it.

        Args:
            needs: the plan's estimate.
            role: what the job trains: `old`, `reference` or `candidate`.
            arch: the architecture that it trains.
            memory_factor: multiplies the memory, after a job ran out of it.
            avoid: nodes where the job failed.
        """
        options = self.options(role, arch)
        memory: float | None = None
        if options.memory_gb != "none" and options.mem_per_cpu is None:
            memory = (options.memory_gb or needs.memory_gb) * memory_factor
        limit = minutes(options.time) if options.time is not None else needs.minutes
        return Request(
            cpus=options.cpus or needs.cpus,
            gpus=needs.gpus if options.gpus is None else options.gpus,
            memory_gb=memory,
            mem_per_cpu=None if options.mem_per_cpu is None else options.mem_per_cpu * memory_factor,
            minutes=limit,
            nodes=options.nodes or needs.nodes,
            partition=options.partition,
            account=options.account,
            qos=options.qos,
            constraint=options.constraint,
            gres=options.gres,
            exclude=tuple(dict.fromkeys((*(options.exclude or ()), *avoid))),
            setup=options.setup or (),
            array_parallelism=options.array_parallelism or Request.array_parallelism,
            # A warning that comes before a short job has begun to work would end it for nothing.
            warning_s=min(options.warning_s or Request.warning_s, 15 * limit),
            extra=options.extra or (),
        )

    @property
    def poll_s(self) -> float:
        """The shortest time between two questions to the scheduler, in seconds."""
        return self.command_line.over(self.common).poll_s or 10.0


def load(
    name: str | None, overrides: Mapping[str, str], *, roles: Collection[str], archs: Collection[str]
) -> Profile:
    """The profile `name`, or an empty one for None, with `overrides` on top.

    Args:
        name: of a file `NAME.toml` in one of `folders()`.
        overrides: what the command line says after `slurm.`.
        roles: names that sections `[role.NAME]` may have.
        archs: names that sections `[arch.NAME]` may have.

    Raises:
        ValueError: no such profile, an unknown key, or a value of the wrong type.
    """
    overrides = _with_extra(overrides)
    for key in overrides:
        if key not in SlurmOptions.__dataclass_fields__:
            hint = nearest(key, SlurmOptions.__dataclass_fields__)
            raise ValueError(f"unknown setting 'slurm.{key}'{hint}")
    command_line = _typed(overrides, "slurm.")
    if name is None:
        return Profile(command_line=command_line)
    path = _find(name)
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    by_role, by_arch = content.pop("role", {}), content.pop("arch", {})
    return Profile(
        name=name,
        common=_options(content, path, ""),
        roles=_sections(by_role, path, "role", roles),
        archs=_sections(by_arch, path, "arch", archs),
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


def _sections(content: Any, path: Path, kind: str, known: Collection[str]) -> dict[str, SlurmOptions]:
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
    return {name: _options(section, path, f"{kind}.{name}.") for name, section in content.items()}


def _check_extra(name: str, value: str) -> None:
    """Refuse what cannot be an option of sbatch, or what only this program may decide."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(
            f"slurm.extra.{name}: expected the long name of an option of sbatch, such as reservation"
        )
    if name in OWN:
        raise ValueError(f"slurm.extra.{name}: say slurm.{OWN[name] or name}=")
    if name in NEEDED:
        raise ValueError(
            f"slurm.extra.{name}: jobs are found, connected and resumed by it; it cannot be changed"
        )
    if not value or not value.isprintable():
        raise ValueError(f"slurm.extra.{name}: expected a value of printable characters, or true")


def _with_extra(words: Mapping[str, str]) -> dict[str, Any]:
    """The words of a command line, those of `slurm.extra.NAME=` as one table."""
    found: dict[str, Any] = {key: value for key, value in words.items() if not key.startswith(f"{EXTRA}.")}
    extra = {key.removeprefix(f"{EXTRA}."): value for key, value in words.items() if key not in found}
    return {**found, EXTRA: extra} if extra else found


def _options(content: Mapping[str, Any], path: Path, prefix: str) -> SlurmOptions:
    for key in content:
        if key not in SlurmOptions.__dataclass_fields__:
            hint = nearest(key, SlurmOptions.__dataclass_fields__)
            raise ValueError(f"{path}: unknown key '{prefix}{key}'{hint}")
        _require_type(content[key], f"{path}: {prefix}{key}", key)
    try:
        return _typed(content, prefix)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _require_type(value: Any, where: str, key: str) -> None:
    """Refuse numbers where a string is wanted: 5 is not a partition."""
    if key == EXTRA:
        if not isinstance(value, dict) or not all(isinstance(v, str | int | bool) for v in value.values()):
            raise ValueError(f"{where}: must be a table of options of sbatch, such as [extra]")
        return
    texts = value if isinstance(value, list) and key in LISTS else [value]
    text = key in LISTS or (key != "time" and str in get_args(get_type_hints(SlurmOptions)[key]))
    if text and not all(isinstance(item, str) for item in texts):
        raise ValueError(
            f"{where} = {value!r}: must be a string" + (" or a list of strings" if key in LISTS else "")
        )


def _typed(content: Mapping[str, Any], prefix: str) -> SlurmOptions:
    """Options from words of a command line or from TOML values."""
    hints = get_type_hints(SlurmOptions)
    values: dict[str, Any] = {}
    for key, value in content.items():
        if key == EXTRA and isinstance(value, Mapping):
            said = {
                name: str(item).lower() if isinstance(item, bool) else str(item)
                for name, item in value.items()
            }
            values[key] = tuple(said.items())
        elif key == EXTRA:
            raise ValueError("slurm.extra=: say slurm.extra.NAME=VALUE, with the name of an option of sbatch")
        elif key == "memory_gb" and value == "none":
            values[key] = value
        elif key == "memory_gb":
            values[key] = cli.value(f"{prefix}{key}", str(value), float)
        elif key in LISTS:
            values[key] = tuple(map(str, value)) if isinstance(value, list) else (str(value),)
        else:
            values[key] = cli.value(f"{prefix}{key}", str(value), hints[key])
    return SlurmOptions(**values)
