"""Methods' hyperparameters: names, defaults and ranges, and from words to a Variant for each combination."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, get_type_hints

from common import cli
from common.text import nearest
from harness.plan import Variant
from harness.settings import SweepConfig, refuse_repeats
from loaders.datasets import Dataset
from methods import METHODS, Ensemble, PostHoc, Range


def defaults(method: str) -> dict[str, Any]:
    """A method's hyperparameters and defaults by their names on the command line."""
    entry = METHODS[method]
    return {
        field.name.rstrip("_"): entry.defaults.get(field.name, field.default)
        for field in fields(entry.load())
    }


def ranges(method: str) -> dict[str, Range]:
    """Where `tune=` looks for a method's hyperparameters, by their names on the command line.

    What makes the method what it is has no range.
    """
    found = METHODS[method].load().ranges()
    return {name.rstrip("_"): found[name] for name in found if is_free(method, name.rstrip("_"))}


def is_free(method: str, name: str) -> bool:
    """Whether a method has a hyperparameter of that name whose value does not make it what it is."""
    fixed = {key.rstrip("_") for key in METHODS[method].defaults}
    return name in defaults(method) and name not in fixed


def read(given: Mapping[str, str], methods: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """`{"mpt-kl.k": "1,2"}` -> `{"mpt-kl": {"k": [1.0, 2.0]}}`.

    A bare `k` is for every chosen method that has it, except where its value makes the method what it is
    (`mpt-kl-nobias` is `mpt-kl` with k = 0).

    Raises:
        ValueError: a name that nothing has, or a value of the wrong type.
    """
    changes: dict[str, dict[str, list[Any]]] = {}
    for key, text in sorted(given.items(), key=lambda item: "." in item[0]):  # a method's own word wins
        method, dot, name = key.rpartition(".")
        if dot and method not in METHODS:
            raise ValueError(f"unknown method '{method}' in {key}={nearest(method, METHODS)}")
        owners = [method] if dot else [m for m in methods if is_free(m, name)]
        if dot and method not in methods:
            raise ValueError(f"{key}={text}: {method} is not among methods={','.join(methods)}")
        if dot and name not in defaults(method):
            raise ValueError(f"unknown setting '{key}'{nearest(name, defaults(method))}")
        if not owners:
            raise ValueError(_nobody_has(name, text, methods))
        for owner in owners:
            values = [_typed(owner, key, name, value) for value in text.split(",")]
            refuse_repeats(key, values)
            changes.setdefault(owner, {})[name] = values
    return changes


def _nobody_has(name: str, text: str, methods: Sequence[str]) -> str:
    """Why a word that none of the chosen methods understands is refused."""
    if others := [method for method in METHODS.builtin if is_free(method, name)]:
        return f"{name}={text}: not a setting of methods={','.join(methods)} ({', '.join(others)} have it)"
    known = {*cli.settings(SweepConfig), *(other for method in methods for other in defaults(method))}
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'?" if close else "try --help"
    return f"unknown setting '{name}' ({hint})"


def _typed(method: str, key: str, name: str, text: str) -> Any:
    """One hyperparameter's value, by the type of its field."""
    cls = METHODS[method].load()
    field = name if name in cls.__dataclass_fields__ else f"{name}_"
    return cli.value(key, text, get_type_hints(cls)[field])


def variants(method: str, dataset: Dataset, changes: Mapping[str, list[Any]]) -> Iterable[Variant]:
    """One Variant for each combination of the values asked for.

    Raises:
        ValueError: a combination that the method refuses.
    """
    entry = METHODS[method]
    cls = entry.load()
    names = {field.name.rstrip("_"): field.name for field in fields(cls)}
    brought = {k: v for k, v in dataset.hyperparameters.items() if k in names}
    usual = {**brought, **entry.defaults}
    compared = {names[name] for name, asked in changes.items() if len(asked) > 1}
    for combination in itertools.product(*changes.values()):
        changed = {names[name]: value for name, value in zip(changes, combination, strict=True)}
        try:
            made = cls(**{**usual, **changed})
        except ValueError as error:
            raise ValueError(f"{method}.{error}") from None
        plain = cls(**usual)
        values = {field.name: getattr(made, field.name) for field in fields(cls)}
        yield Variant(
            method=method,
            hyperparameters=tuple(sorted(values.items())),
            shown=tuple(
                (name, value)
                for name, value in values.items()
                if value != getattr(plain, name) or name in compared
            ),
            references=made.references,
            version=cls.version,
            from_candidate=isinstance(made, PostHoc) or (isinstance(made, Ensemble) and made.uses_new),
            holdout=made.holdout if isinstance(made, PostHoc) else 0.0,
        )
