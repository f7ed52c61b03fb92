"""Which room may import what: the table of docs/architecture.md, held against the imports."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.code import ROOMS

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = (
    "harness.config",
    "harness.plan",
    "harness.sweep",
    "harness.dispatch",
    "common",
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
            found.extend((f"{node.module}.{alias.name}", at_import) for alias in node.names)
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text()), True)
    return found


def files(room):
    return sorted((ROOT / room).rglob("*.py"))


def imported(room):
    """(file, top-level name) of everything that a room's files import, inside functions too."""
    return {
        (path.relative_to(ROOT).as_posix(), name.split(".")[0])
        for path in files(room)
        for name, _ in imports(path)
    }


def documented():
    """Room -> (rooms, outside packages) that it may import, by docs/architecture.md, from the bottom up."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \|[^|]*\|([^|]*)\|([^|]*)\|$", text, re.MULTILINE)
    return {room: tuple(set(re.findall(r"`(\w+)`", cell)) for cell in cells) for room, *cells in rows}


def test_every_room_is_documented():
    assert set(documented()) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_documentation_says_and_nothing_else(room):
    rooms, packages = documented()[room]
    names = {name for _, name in imported(room)} - {room} - sys.stdlib_module_names

    assert names & set(ROOMS) == rooms
    assert names - set(ROOMS) == packages


def test_no_room_imports_from_a_room_above_it():
    above = list(documented())

    for room, (rooms, _) in documented().items():
        assert all(above.index(other) < above.index(room) for other in rooms), room


def test_no_files_import_each_other_in_a_circle():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for room in ROOMS
        for path in files(room)
    }
    graph = {
        name: {other for other, _ in imports(path) if other in modules} for name, path in modules.items()
    }

    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_ffcv_is_imported_in_one_file():
    assert {path for room in ROOMS for path, name in imported(room) if name == "ffcv"} == {
        "loaders/ffcv_patches.py"
    }


def test_the_training_loop_knows_no_records():
    code = "import sys, harness.engine; sys.exit('results' in {name.split('.')[0] for name in sys.modules})"

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_planning_and_reading_load_no_torch(name):
    modules = [name]
    if (ROOT / name.replace(".", "/")).is_dir():
        modules = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for path in files(name.replace(".", "/"))
            if path.stem != "__main__"
        ]
    code = (
        f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'ffcv', 'sklearn'}} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert found.stdout.strip() == "[]"
