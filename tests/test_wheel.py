"""What `pip install` of a built wheel brings: a study from a script of one's own, outside the repository."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """\
import sys

from hybridep.presets import PROTOCOLS, STRATEGIES
from hybridep.study import FolderArgs, Plan, PlannedTrial, main


def plan(args: FolderArgs) -> Plan:
    protocol = PROTOCOLS["digits"].replace(epochs=2, sizes=(64, 16, 10), train_samples=200, T1=8, T2=4)
    return Plan(protocol, (0,), [PlannedTrial(name, name, "thesis", (0,), strategy) for name, strategy in STRATEGIES.items()])


sys.exit(main("mine", FolderArgs, plan))
"""


def run(*command: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter that has hybridep from a wheel, and everything else from where these tests have it."""
    for tool in ("pip", "setuptools"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed")
    source = tmp_path / "source"  # building leaves files beside what is built
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("hybridep", "search_spaces", "studies", "analysis"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", tmp_path, source)
    built = run(*build, folder=tmp_path)
    assert built.returncode == 0, built.stderr
    venv.create(tmp_path / "fresh", with_pip=False)
    made = tmp_path / "fresh/bin/python"
    packages = Path(run(made, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", folder=tmp_path).stdout.strip())
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (wheel,) = tmp_path.glob("*.whl")
    install = (sys.executable, "-m", "pip", "--python", made, "install", "--no-deps", "--no-index", "-q", wheel)
    installed = run(*install, folder=tmp_path)
    assert installed.returncode == 0, installed.stderr
    return made


def test_a_script_of_ten_lines_runs_a_study_from_an_installed_wheel(python: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    where = run(python, "-c", "import hybridep, studies; print(hybridep.__file__, studies.__file__)", folder=place)
    assert all(file.startswith(str(tmp_path / "fresh")) for file in where.stdout.split()), where
    (place / "mine.py").write_text(SCRIPT)
    assert len([line for line in SCRIPT.splitlines() if line]) <= 10
    done = run(python, "mine.py", "--out", "study", "--max-concurrent", "2", folder=place)
    assert done.returncode == 0, done.stderr
    assert len(list((place / "study/ray").glob("*/result.json"))) == 5
    assert (place / "study/report.html").exists()
    listed = run(python, "-m", "studies.schedule_sweep", "--help", folder=place)
    assert listed.returncode == 0
    assert "--space" in listed.stdout
