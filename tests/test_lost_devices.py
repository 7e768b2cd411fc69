"""A GPU that fails or disappears under a trial: the trial goes on from its checkpoint, or its study stops and can be continued."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hybridep.durable import DeviceLost, device_fault
from hybridep.trainer import Trainer
from tests.trials import begin_in

ROOT = Path(__file__).resolve().parent.parent
FAULT = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported at some other API call."
SHORT = ("--train-samples", "200", "--epochs", "2", "--seeds", "0", "--max-concurrent", "1")
TINY = ("--search", "thesis", "--sizes", "64", "12", "10", "--T1", "6", "--T2", "3", *SHORT)
# An extension that stands in for a broken GPU: so many times, a trial's second epoch fails.
BROKEN = """
from pathlib import Path
from hybridep.trainer import Trainer

faults, train_epoch = Path({faults!r}), Trainer.train_epoch

def broken(self):
    left = int(faults.read_text())
    if left and self.epoch == 1:
        faults.write_text(str(left - 1))
        raise RuntimeError({fault!r})
    return train_epoch(self)

Trainer.train_epoch = broken
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError(FAULT), "CUDA error: unspecified launch failure"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        (RuntimeError("No CUDA GPUs are available"), "No CUDA GPUs are available"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."), ""),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ""),
        (ValueError("CUDA error"), ""),
    ],
)
def test_faults_of_a_gpu_are_told_from_those_of_a_program_and_from_too_little_memory(error: Exception, told: str) -> None:
    assert device_fault(error) == told


def test_a_trial_whose_gpu_fails_ends_in_one_line_that_tune_hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Trainer) -> None:
        raise RuntimeError(FAULT)

    monkeypatch.setattr(Trainer, "train_epoch", fail)
    with pytest.raises(DeviceLost, match=r"^CUDA error: unspecified launch failure$"):
        begin_in(tmp_path).step()


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Any]:
    """Runs a study under whose trials a GPU fails so many times."""
    (tmp_path / "broken.py").write_text(BROKEN.format(faults=str(tmp_path / "faults"), fault=FAULT))

    def run(faults: int, *argv: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "faults").write_text(str(faults))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "studies" / "schedule_sweep.py"), *argv]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def test_trials_that_lose_their_gpu_go_on_and_a_study_whose_gpu_stays_lost_stops_and_is_continued(
    sweep: Callable[..., Any], tmp_path: Path
) -> None:
    stopped = sweep(7, "--extend", "broken.py", "--out", "study", *TINY)
    assert stopped.returncode == 1, stopped.stderr
    lost = "lost its GPU (CUDA error: unspecified launch failure); the trial goes on from its last checkpoint."
    assert stopped.stdout.count(f"Trial standard {lost}") == 5
    complaint = "error: trial standard lost its GPU 5 times in the same epoch: CUDA error: unspecified launch failure. Continue with: "
    assert stopped.stderr.startswith(complaint)
    assert stopped.stderr.count("\n") == 1
    resumed = sweep(2, "--resume", "study")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count(f"Trial standard {lost}") == 2
    rows = (tmp_path / "study" / "ray" / "standard" / "result.json").read_text().splitlines()
    assert len(rows) == 2  # what had been trained was not trained again
