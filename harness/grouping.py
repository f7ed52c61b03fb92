"""From Runs to Jobs: which Runs train in lockstep, what a Job waits for, and what it is called.

Pure, as `harness.plan` is. What becomes of Jobs is told in `common.jobs`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from common.jobs import JobRef, Resources, RunRef
from harness.plan import Run


@dataclass(frozen=True, kw_only=True)
class Job:
    """Runs that train in lockstep on one stream of batches, and the Jobs that must be done before."""

    runs: tuple[Run, ...]
    after: tuple[str, ...]
    resources: Resources
    distinction: str = ""
    """What tells it from other jobs of its sweep that have the same title."""

    def __post_init__(self) -> None:
        assert len({run.stream for run in self.runs}) == 1, "runs of a job share one stream of batches"

    @cached_property
    def id(self) -> str:
        """The run's id for a job of one; for a cohort its size and a hash of the ids."""
        if len(self.runs) == 1:
            return self.runs[0].id
        first = self.runs[0]
        digest = hashlib.sha256("\n".join(sorted(run.id for run in self.runs)).encode()).hexdigest()
        return f"{first.dataset}-{first.model.file_label}-cohort{len(self.runs)}-s{first.seed}-{digest[:12]}"

    @property
    def title(self) -> str:
        """Short name for people: `old s0`, `reference 3 s1`, `8 candidates s2`, `old s0, epochs=5`."""
        first = self.runs[0]
        what = first.label if len(self.runs) == 1 else f"{len(self.runs)} candidates"
        name = "given old model" if first.given else f"{what} s{first.seed}"
        return name + (f", {self.distinction}" if self.distinction else "")

    @property
    def ref(self) -> JobRef:
        """What those need who run, watch and show it."""
        runs = tuple(RunRef(id=run.id, parents=run.parents) for run in self.runs)
        return JobRef(id=self.id, title=self.title, runs=runs, after=self.after)

    def document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "id": self.id,
            "title": self.title,
            "distinction": self.distinction,
            "runs": [run.document() for run in self.runs],
            "after": list(self.after),
            "resources": asdict(self.resources),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Job:
        """The inverse of `document`."""
        return cls(
            runs=tuple(Run.from_content(run) for run in document["runs"]),
            after=tuple(document["after"]),
            resources=Resources(**document["resources"]),
            distinction=document.get("distinction", ""),
        )


def group(
    runs: Sequence[Run],
    *,
    cohort: Callable[[Run], int],
    resources: Callable[[Sequence[Run]], Resources],
) -> tuple[Job, ...]:
    """Jobs for these Runs, parents before children; a parent that is not among them is not waited for.

    Args:
        runs: what of a plan is to be done, parents before children.
        cohort: the most candidates like this one that may share a Job.
        resources: what such Runs need together.
    """
    streams: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        streams.setdefault(run.stream, []).append(run)
    job_of: dict[str, str] = {}
    jobs: list[Job] = []
    asked = {run.id for run in runs}
    for members in streams.values():
        for part in _chunks(members, cohort(members[0])):
            parents = dict.fromkeys(p for run in part for p in run.parents if p in asked)
            assert parents.keys() <= job_of.keys(), "parents come before children"
            after = tuple(dict.fromkeys(job_of[p] for p in parents))
            job = Job(runs=tuple(part), after=after, resources=resources(part))
            jobs.append(job)
            job_of |= {run.id: job.id for run in part}
    return tuple(jobs)


def _chunks(members: list[Run], size: int) -> Iterable[list[Run]]:
    """Nearly equal parts of at most `size`: 10 by 8 is 5 and 5, so that no job is a straggler."""
    parts = -(-len(members) // size)
    bounds = [len(members) * i // parts for i in range(parts + 1)]
    return [members[a:b] for a, b in itertools.pairwise(bounds)]


def told_apart(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """The same jobs; those of the same title get what differs between them into it."""
    known = {run.id: run for job in jobs for run in job.runs}
    alike: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        alike.setdefault(job.title, []).append(_settings_of(job.runs[0], known))
    return tuple(
        replace(job, distinction=_distinction(_settings_of(job.runs[0], known), alike[job.title]))
        for job in jobs
    )


def _settings_of(run: Run, known: Mapping[str, Run]) -> dict[str, Any]:
    """What a run was asked for, by the names of the command line; of a candidate its old model's too."""
    old = known.get(run.parents[0]) if run.parents else None
    of_old: dict[str, Any] = {} if old is None else {"old_arch": old.model.label}
    if old is not None and old.recipe:  # it was trained here
        of_old |= asdict(old.split)
    model = {"arch": run.model.label, "weights": run.model.weights}
    recipe = asdict(run.recipe) if run.recipe else {}
    recipe.pop("version", None)
    rest = {"precision": run.precision, "images": run.data}
    return {"dataset": run.dataset, **model, **asdict(run.split), **of_old, **recipe, **rest}


def _distinction(own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in own if any(own[name] != other.get(name) for other in alike)]
    if "dataset" in names:  # other images, and most often another recipe: the name says it all
        same = [other for other in alike if other["dataset"] == own["dataset"]]
        names = ["dataset", *(n for n in own if any(own[n] != other.get(n) for other in same))]
    return " ".join(f"{n}={own[n]:g}" if isinstance(own[n], float) else f"{n}={own[n]}" for n in names)
