"""The lowest versions that pyproject.toml declares: installed (4 GB), and what a user runs is run.

Who raises a feature's needs runs this, and raises the bound with it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "--search",
    "thesis",
    "--sizes",
    "64",
    "16",
    "10",
    "--T1",
    "8",
    "--T2",
    "4",
    "--train-samples",
    "300",
    "--epochs",
    "1",
    "--seeds",
    "0",
)


@pytest.mark.slow
def test_a_study_its_report_and_tensorboard_run_with_the_lowest_versions_that_are_declared(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "VIRTUAL_ENV": str(tmp_path / "lowest")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    uv, python = (sys.executable, "-m", "uv"), str(tmp_path / "lowest/bin/python")
    run(*uv, "venv", "--python", f"{sys.version_info.major}.{sys.version_info.minor}", str(tmp_path / "lowest"))
    run(*uv, "pip", "compile", "--resolution", "lowest-direct", str(ROOT / "pyproject.toml"), "--output-file", "lowest.txt")
    run(*uv, "pip", "install", "--requirements", "lowest.txt")
    run(python, str(ROOT / "studies/schedule_sweep.py"), *TINY, "--out", "study")
    assert (tmp_path / "study/report.html").exists()
    # Reads the events, and imports all that TensorBoard's server does.
    assert "accuracy/test_acc" in run(python, "-m", "tensorboard.main", "--inspect", "--logdir", "study/ray/centered")
    assert run(python, "-m", "tensorboard.main", "--version").strip()
