"""A method's digest follows its code, and nothing else."""

import importlib
import itertools
import sys

import pytest

from methods import METHODS
from methods.source import code_digest

BASE = '''
"""Losses."""
SCALE = 2.0

def used(x):
    """Documented."""
    return SCALE * x

def unused(x):
    return x
'''
METHOD = '''
"""A method."""
from math import sqrt
from typing import Annotated
from methods import Range
from PACKAGE.base import used as aliased

class Parent:
    """Base."""
    weight: float = 1.0
    """Weight."""

class Mine(Parent):
    """Mine."""

    def loss(self, step):
        # a comment
        return sqrt(self.weight) * aliased(step)

class Other:
    pass
'''
_names = (f"digest_example_{number}" for number in itertools.count())


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """Digest of the example's method, with changes (old, new) to its two files."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(*changes):
        package = next(_names)
        texts = {"base": BASE, "method": METHOD.replace("PACKAGE", package)}
        for old, new in changes:
            assert any(old in text for text in texts.values())
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        for name, text in texts.items():
            (tmp_path / package / f"{name}.py").write_text(text)
        return code_digest(importlib.import_module(f"{package}.method").Mine)

    yield made
    for name in [name for name in sys.modules if name.startswith("digest_example_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "change",
    [
        ("return SCALE * x", "return SCALE * x + 1"),
        ("SCALE = 2.0", "SCALE = 3.0"),
        ("weight: float = 1.0", "weight: float = 2.0"),
        ("sqrt(self.weight)", "self.weight"),
        ("class Mine(Parent)", "class Mine(Parent, dict)"),
    ],
)
def test_what_changes_a_loss_changes_the_digest(digest, change):
    assert digest(change) != digest()


@pytest.mark.parametrize(
    "change",
    [
        ("# a comment", "# another comment"),
        ('"""Mine."""', '"""Documented better."""'),
        ('"""Weight."""', '"""Weight of the term."""'),
        ("weight: float = 1.0", "weight: Annotated[float, Range(0.1, 10.0, log=True)] = 1.0"),
        ("    return SCALE * x", "\n    return (SCALE * x)"),
        ("def unused(x):\n    return x", "def unused(x):\n    return 2 * x"),
        ("class Other:\n    pass", "class Other:\n    weight = 3"),
    ],
)
def test_what_changes_no_loss_leaves_the_digest(digest, change):
    assert digest(change) == digest()


def test_every_registered_method_has_a_digest_of_its_own_class():
    digests = {entry.path: code_digest(entry.load()) for entry in METHODS.values()}

    assert len(set(digests.values())) == len(digests)
    assert all(len(one) == 16 for one in digests.values())
