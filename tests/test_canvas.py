"""Figures come out the same whatever the environment says of drawing: a kernel's backend, a backend that is none, a user's own style."""

import ast
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.report import write_report
from tests.synthetic_study import write_study

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for folder in ("hybridep", "studies", "analysis", "search_spaces") for path in (ROOT / folder).rglob("*.py")]
# What a user may have as matplotlibrc. The first alone would ask for LaTeX.
STYLE_FILE = "text.usetex: True\nfont.size: 20\naxes.facecolor: black\nsavefig.bbox: tight\nfigure.autolayout: True\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its report, made in this process."""
    path = write_study(tmp_path_factory.mktemp("study") / "sweep", trials=8, epochs=4, seeds=(0, 1))
    write_report(path)
    return path


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_matplotlib_is_imported_in_one_module_and_pyplot_nowhere() -> None:
    drawing = {path.relative_to(ROOT).as_posix(): [name for name in imported(path) if name.startswith("matplotlib")] for path in SOURCES}
    assert [path for path, names in drawing.items() if names] == ["analysis/canvas.py"]
    assert not any("pyplot" in name for names in drawing.values() for name in names)


def figures(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "figures").iterdir()}


@pytest.mark.parametrize(
    "backend",
    ["module://matplotlib_inline.backend_inline", "module://no_such.backend", "no such backend", "qtagg", ""],
)
def test_a_report_is_drawn_alike_under_any_backend_and_style_file(study: Path, tmp_path: Path, backend: str) -> None:
    again = shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns("figures", "report.html"))
    (tmp_path / "matplotlibrc").write_text(STYLE_FILE, encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-m", "analysis.report", str(again)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert figures(again) == figures(study)


def test_the_front_of_a_running_study_is_drawn_under_a_kernels_backend(tmp_path: Path) -> None:
    code = (
        "from hybridep.study.front import Point\n"
        "from hybridep.study.front_image import draw\n"
        "import sys\n"
        "sys.stdout.buffer.write(draw([Point('standard', 0.5, 0.1, 10.0), Point('search-0001', 0.7, 0.1, 12.0)], 'Test'))\n"
    )
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True)
    assert done.stdout.startswith(b"\x89PNG"), done.stderr


@pytest.mark.parametrize(("asked", "kept"), [("pdf", "pdf"), ("module://my.own", "module://my.own"), ("no such backend", "auto")])
def test_a_notebook_keeps_the_backend_that_it_asked_for(tmp_path: Path, asked: str, kept: str) -> None:
    (tmp_path / "matplotlibrc").write_text("", encoding="utf-8")
    code = "import os, analysis.canvas, matplotlib; print(matplotlib.get_backend(auto_select=False) or 'auto', os.environ['MPLBACKEND'])"
    environment = {**os.environ, "MPLBACKEND": asked, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{kept} {asked}"
