"""Which room may import what: the table of docs/architecture.md, read off the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("harness", "methods", "loaders", "slurm", "results")
BRINGS_ALL_TOGETHER = "harness/execute.py"
WITHOUT_TORCH = (
    "harness.config",
    "harness.plan",
    "harness.sweep",
    "slurm",
    "results",
    "methods",
    "loaders.datasets",
)


def imports(path):
    """(name, whether it runs at import) of a file's imports, save those for type checkers alone."""
    found = []

    def visit(node, at_import):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module, at_import))
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text()), True)
    return found


def files(room):
    return sorted((ROOT / room).rglob("*.py"))


def imported(room, *, at_import_only=False):
    return {
        (path.relative_to(ROOT).as_posix(), name.split(".")[0])
        for path in files(room)
        for name, at_import in imports(path)
        if at_import or not at_import_only
    }


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("methods", {"harness", "loaders", "slurm", "results", "numpy", "torchvision", "ffcv"}),
        ("loaders", {"methods", "slurm", "results"}),
        ("slurm", {"torch", "torchvision", "methods", "loaders", "ffcv"}),
        ("results", {"torch", "torchvision", "methods", "loaders", "slurm", "ffcv"}),
    ],
)
def test_a_room_imports_only_what_it_may(room, forbidden):
    wrong = {(path, name) for path, name in imported(room) if name in forbidden}

    assert not wrong


def test_ffcv_is_imported_in_one_file():
    assert {path for room in ROOMS for path, name in imported(room) if name == "ffcv"} == {
        "loaders/stream.py"
    }


def test_one_file_brings_losses_and_records_together():
    others = {"methods", "results"}
    together = {
        path.relative_to(ROOT).as_posix()
        for path in files("harness")
        if others <= {name.split(".")[0] for name, _ in imports(path)}
    }

    assert together == {BRINGS_ALL_TOGETHER}


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_planning_and_reading_load_no_torch(name):
    modules = [name]
    if name in ROOMS:
        modules = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in files(name)
            if path.stem != "__main__"
        ]
    code = (
        f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'ffcv', 'sklearn'}} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert found.stdout.strip() == "[]"
