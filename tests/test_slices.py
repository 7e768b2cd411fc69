"""What a machine offers to trials: GPUs and MIG slices as NVML answers, in its own structures, and what CUDA_VISIBLE_DEVICES leaves;
and what a trial makes of the share that it was given.
"""

import os
import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest
import torch

from hybridep import datasets
from hybridep.cluster import machine
from hybridep.cluster.machine import DriverFault, NoDriver, schedulable
from hybridep.config import InvalidInput, TrialConfig
from hybridep.durable import DurableTrial
from tests.nvml import a100, geforce, pretend

SLICED = a100("a", {0: "3g.20gb", 4: "1g.5gb", 6: "1g.5gb"})
SLICES = tuple(board.uuid for board in SLICED.slices.values())
WHOLE = a100("b")
EMPTY = a100("c", mig=True)
OLD = geforce("d")


def test_a_machine_without_gpus_has_no_devices(monkeypatch):
    library = pretend(monkeypatch)
    assert machine.gpus() == []
    assert schedulable() == ()
    assert library.opened == 0


def test_whole_gpus_are_devices_by_their_uuid(monkeypatch):
    pretend(monkeypatch, WHOLE, OLD)
    assert [gpu.slices for gpu in machine.gpus()] == [None, None]
    assert schedulable() == (WHOLE.uuid, OLD.uuid)


def test_slices_stand_for_a_gpu_in_mig_mode_and_keep_their_own_names_and_memory(monkeypatch):
    library = pretend(monkeypatch, OLD, SLICED, WHOLE)
    gpu = machine.gpus()[1]
    assert [(part.uuid, part.name, part.memory_bytes) for part in gpu.slices] == [
        (SLICES[0], "NVIDIA A100-SXM4-40GB MIG 3g.20gb", 19968 * 2**20),
        (SLICES[1], "NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864 * 2**20),
        (SLICES[2], "NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4864 * 2**20),
    ]
    assert schedulable() == (OLD.uuid, *SLICES, WHOLE.uuid)
    assert library.opened == 0


def test_a_gpu_in_mig_mode_without_slices_is_no_device(monkeypatch):
    pretend(monkeypatch, EMPTY, WHOLE)
    assert machine.gpus()[0].slices == ()
    assert schedulable() == (WHOLE.uuid,)


def test_a_mode_that_waits_for_a_reset_does_not_count_yet(monkeypatch):
    waiting = a100("e")
    waiting.mig = (0, 1)
    pretend(monkeypatch, waiting)
    assert schedulable() == (waiting.uuid,)


def test_a_driver_older_than_mig_lists_whole_gpus(monkeypatch):
    pretend(monkeypatch, SLICED, old_driver=True)
    assert schedulable() == (SLICED.uuid,)


def test_memory_that_only_root_may_ask_for_hides_no_slice(monkeypatch):
    guarded = a100("f", {0: "1g.5gb"})
    guarded.memory_error = pynvml.NVML_ERROR_NO_PERMISSION
    pretend(monkeypatch, guarded)
    (gpu,) = machine.gpus()
    assert gpu.memory_bytes is None
    assert gpu.slices[0].memory_bytes == 4864 * 2**20


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0", (OLD.uuid,)),
        ("1", SLICES),
        ("2,0", (WHOLE.uuid, OLD.uuid)),
        (SLICES[2], (SLICES[2],)),
        (f"{SLICES[1]}, {WHOLE.uuid}", (SLICES[1], WHOLE.uuid)),
        ("GPU-bbbb", (WHOLE.uuid,)),
        (f"1,{SLICES[0]}", SLICES),
    ],
)
def test_cuda_visible_devices_chooses_by_number_or_uuid(monkeypatch, visible, devices):
    pretend(monkeypatch, OLD, SLICED, WHOLE, visible=visible)
    assert schedulable() == devices


@pytest.mark.parametrize("visible", ["4", "0,9", "MIG-nothing", "GPU-", "0,", "two", SLICES[0] + "0", "3"])
def test_an_entry_that_names_nothing_or_several_is_refused_in_one_line(monkeypatch, visible):
    pretend(monkeypatch, OLD, SLICED, WHOLE, EMPTY, visible=visible)
    with pytest.raises(InvalidInput, match=r"^CUDA_VISIBLE_DEVICES, entry '.*': .+") as caught:
        schedulable()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("init", [pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND])
def test_without_a_driver_trials_run_on_cpus_unless_devices_were_asked_for(monkeypatch, init):
    pretend(monkeypatch, WHOLE, init=init)
    with pytest.raises(NoDriver, match=r"^this machine has no NVIDIA driver \(.*(kernel module|libnvidia-ml)"):
        machine.gpus()
    assert schedulable() == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a")
    with pytest.raises(InvalidInput, match=r"^CUDA_VISIBLE_DEVICES=MIG-a: this machine has no NVIDIA driver"):
        schedulable()


@pytest.mark.parametrize(
    "init", [pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_UNKNOWN, 4711]
)
def test_a_driver_that_does_not_answer_is_told_instead_of_quietly_using_cpus(monkeypatch, init):
    pretend(monkeypatch, WHOLE, init=init)
    with pytest.raises(DriverFault, match=r"^the NVIDIA driver does not answer \(.+\); set CUDA_VISIBLE_DEVICES= "):
        schedulable()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert schedulable() == ()


def test_a_gpu_that_fell_off_the_bus_is_told(monkeypatch):
    lost = a100("9")
    lost.mig = pynvml.NVML_ERROR_GPU_IS_LOST
    library = pretend(monkeypatch, WHOLE, lost)
    with pytest.raises(DriverFault, match="lost"):
        machine.gpus()
    assert library.opened == 0


def test_listing_devices_needs_neither_torch_nor_ray():
    code = "import sys, hybridep.cluster.machine as m; m.cpus(); sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'pynvml')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cpus_are_those_that_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert machine.cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.fixture
def step_on(monkeypatch, tmp_path):
    """Takes the first step of a trial with a share of so many GPUs, where PyTorch finds so many devices with so much memory."""
    caps = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", caps.append)

    def step(gpus, devices=1, memory=5 * 2**30):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=memory))
        trial = DurableTrial.__new__(DurableTrial)
        config = {"trial": "centered", "strategy": "centered", "origin": "thesis", "seeds": [0]}
        protocol = TrialConfig(epochs=1, train_samples=100)
        trial.setup(config, protocol=protocol, dataset=datasets.load("digits"), trials=str(tmp_path), cpus=1.0, gpus=gpus)
        return trial.step(), caps

    return step


def test_a_trial_caps_its_memory_at_its_share_less_what_cuda_takes(step_on, monkeypatch):
    used = []

    def trainer(config, dataset, device, beside=None):
        used.append(device)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nSee the documentation.")

    monkeypatch.setattr("hybridep.trainer.Trainer", trainer)
    result, caps = step_on(gpus=0.5)
    assert used == ["cuda:0"]
    assert caps == [pytest.approx(0.5 - 0.5 / 5)]  # half of 5 GiB less half a GiB
    assert result["failed"] == (
        "the trial needs more memory than a share of 0.5 of a device with 5.0 GiB; "
        "give it more with --gpus-per-trial, or a smaller --batch-size"
    )
    assert result["done"]


@pytest.mark.parametrize("devices", [0, 2])
def test_a_trial_that_does_not_see_exactly_one_device_gives_up_in_one_line(step_on, devices):
    result, caps = step_on(gpus=1.0, devices=devices)
    assert result["failed"].startswith(
        f"a trial with --gpus-per-trial uses one GPU, and here PyTorch finds {devices} (CUDA_VISIBLE_DEVICES="
    )
    assert "\n" not in result["failed"]
    assert caps == []


def test_a_share_too_small_for_cuda_itself_is_told_before_anything_is_put_there(step_on):
    result, caps = step_on(gpus=0.1)
    assert result["failed"].startswith("a share of 0.1 of a device with 5.0 GiB holds no more than CUDA itself")
    assert caps == []


def test_a_trial_without_a_share_of_a_gpu_runs_on_its_cpus(step_on):
    result, caps = step_on(gpus=0.0, devices=4)
    assert "line" in result
    assert caps == []
