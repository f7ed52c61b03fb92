"""What the [train] extra adds to the light install, and what to say where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

TRAIN: Mapping[str, str] = {
    "fonttools": "fontTools",
    "numba": "numba",
    "scikit-learn": "sklearn",
    "simplejpeg": "simplejpeg",
    "submitit": "submitit",
    "torch": "torch",
    "torchvision": "torchvision",
}
"""Packages of the [train] extra in pyproject.toml, each with the module that it provides."""


def require_train() -> None:
    """Check that this environment can train.

    Raises:
        ValueError: packages are missing; one line that says which, and how to install them.
    """
    if missing := [package for package, module in TRAIN.items() if find_spec(module) is None]:
        raise ValueError(advice(missing))


def package_of(module: str) -> str | None:
    """The package of the [train] extra that provides `module`, given by its dotted name; None for others."""
    top = module.partition(".")[0]
    return next((package for package, provided in TRAIN.items() if provided == top), None)


def advice(missing: list[str]) -> str:
    """One line that says what is missing and how to install it."""
    return (
        f"this needs the [train] extra ({', '.join(missing)} not installed): "
        "pip install 'negative-flips[train]', or make in a checkout"
    )
