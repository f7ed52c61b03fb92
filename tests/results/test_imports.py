"""Tables, figures, the report and the gate run in the light install."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TRAINING = ("torch", "torchvision", "ffcv", "numba", "sklearn", "submitit", "cv2")


def test_results_need_no_package_that_trains():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "results").rglob("*.py"))
    ]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({TRAINING}))"  # None: an import of it fails
    code = f"{blocked}; import {', '.join(modules)}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_leaderboard_starts_without_matplotlib_and_scipy():
    code = "import sys, results.leaderboard; print({'matplotlib', 'scipy', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "set()"
