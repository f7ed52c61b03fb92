"""A digest of a method's own code, by which a record shows whether it was made with the code of today.

It covers the method's class, its bases, and every function, class and constant that these use, as far as they
are defined in `methods/` or in the package that the method comes from. Comments, docstrings, layout and
ranges for tuning do not count, nor does `methods/base.py`, which only says what a method is given.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import sys
from functools import cache

INTERFACE = "methods.base"


@cache
def code_digest(method: type) -> str:
    """Sixteen hexadecimal digits that change when the method's code does.

    Raises:
        OSError: the source is not installed.
    """
    homes = {"methods", method.__module__.partition(".")[0]}
    seen: dict[tuple[str, str], str] = {}
    _collect(method.__module__, method.__qualname__, homes, seen)
    text = "\n".join(sorted(seen.values()))  # wherever it is defined
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _collect(module: str, name: str, homes: set[str], seen: dict[tuple[str, str], str]) -> None:
    """Add the definition of `name` and of all that it uses, unless it is from elsewhere."""
    if module == INTERFACE:
        return
    definitions, imported = _names(module)
    if name in imported:
        module, name = imported[name]
        if module.partition(".")[0] in homes:
            _collect(module, name, homes, seen)
    elif name in definitions and (module, name) not in seen:
        node = definitions[name]
        seen[module, name] = ast.unparse(node)
        for used in sorted({leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}):
            _collect(module, used, homes, seen)


@cache
def _names(module: str) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str]]]:
    """What a module defines, without docstrings, and what it imports by name from where."""
    if module not in sys.modules:
        importlib.import_module(module)
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    definitions: dict[str, ast.stmt] = {}
    imported: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            definitions[node.name] = _without_docstrings(node)
        elif isinstance(node, ast.Assign):
            definitions |= {name.id: node for name in node.targets if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            definitions[node.target.id] = node
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return definitions, imported


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    """The node without strings that stand alone, which document what is above or around them.

    Types lose what `Annotated` adds: a range for tuning changes no loss.
    """
    for inner in ast.walk(node):
        if isinstance(inner, ast.ClassDef | ast.FunctionDef):
            kept = [line for line in inner.body if not _is_text(line)]
            inner.body = kept or [ast.Pass()]
        elif isinstance(inner, ast.AnnAssign):
            inner.annotation = _without_notes(inner.annotation)
    return node


def _without_notes(annotation: ast.expr) -> ast.expr:
    """`float` for `Annotated[float, ...]`."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Annotated"):
        return annotation.slice.elts[0] if isinstance(annotation.slice, ast.Tuple) else annotation
    return annotation


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
