"""What a trial gets of a cluster where nothing is said, where a trial fits, and how many run at a time."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest
import torch

from hybridep.cluster.machine import DriverFault
from hybridep.cluster.status import NodeCapacity
from hybridep.config import InvalidInput
from hybridep.study import tuning
from hybridep.study.resources import MOST_SOCKET_BYTES, Resources, Share, ray_folder, shorten_ray_folder
from tests.nvml import Board, a100, pretend

LAPTOP = NodeCapacity(8, 0)
WORKSTATION = NodeCapacity(16, 2)
MIG_SERVER = NodeCapacity(4, 7)
SLICED = a100("a", {0: "3g.20gb", 4: "1g.5gb"})


@pytest.mark.parametrize(
    ("nodes", "share", "slots"),
    [
        ([LAPTOP], Share(1, 0), 8),
        ([WORKSTATION], Share(1, 1), 2),
        ([LAPTOP, WORKSTATION], Share(1, 1), 2),
        ([MIG_SERVER], Share(0.5714, 1), 7),
        ([MIG_SERVER, WORKSTATION], Share(0.5714, 1), 9),
    ],
)
def test_a_trial_gets_a_whole_device_where_there_is_any_and_else_a_cpu(nodes: list[NodeCapacity], share: Share, slots: int) -> None:
    found = Resources().share(nodes)
    assert found == share
    assert found.slots(nodes) == slots


def test_a_trial_gets_what_was_asked_for() -> None:
    assert Resources(cpus_per_trial=2, gpus_per_trial=0).share([WORKSTATION]) == Share(2, 0)
    assert Resources(device="cpu").share([WORKSTATION]) == Share(1, 0)
    assert Resources(gpus_per_trial=0.5).share([WORKSTATION]) == Share(1, 0.5)
    assert Resources(cpus_per_trial=0.5, gpus_per_trial=0.25).share([MIG_SERVER]) == Share(0.5, 0.25)


@pytest.mark.parametrize(
    ("share", "nodes", "slots"),
    [
        (Share(3, 0), [NodeCapacity(4, 0), NodeCapacity(5, 0)], 2),  # nine CPUs, but three on one node only twice
        (Share(1, 0.4), [NodeCapacity(8, 2)], 4),  # five shares of two GPUs, of which one would lie on both
        (Share(1, 1 / 3), [NodeCapacity(8, 1)], 3),
        (Share(1, 0.5), [NodeCapacity(8, 0), NodeCapacity(1, 1)], 1),
    ],
)
def test_a_trial_is_on_one_node_and_one_device(share: Share, nodes: list[NodeCapacity], slots: int) -> None:
    assert share.slots(nodes) == slots


@pytest.mark.parametrize(
    ("resources", "nodes", "complaint"),
    [
        (Resources(cpus_per_trial=8), [NodeCapacity(4, 0)] * 3, r"--cpus-per-trial 8: the largest node of the Ray cluster has 4"),
        (Resources(gpus_per_trial=0.5), [LAPTOP] * 3, r"--gpus-per-trial 0\.5: no node of the Ray cluster has a GPU"),
        (
            Resources(cpus_per_trial=8, gpus_per_trial=1),
            [LAPTOP, MIG_SERVER],
            r"--cpus-per-trial 8: no node of the Ray cluster has that many beside a GPU; a trial takes 8 CPUs and 1 of a GPU",
        ),
        (Resources(), [], r"--cpus-per-trial 1: the largest node of the Ray cluster has 0"),
    ],
)
def test_a_trial_that_no_single_node_can_hold_is_refused(resources: Resources, nodes: list[NodeCapacity], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{complaint}$"):
        resources.share(nodes)


def test_slices_of_this_machine_are_offered_by_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SLICED)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for variable in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(variable, "")  # so that what is set here ends with the test
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    slices = tuple(part.uuid for part in SLICED.slices.values())
    assert Resources().devices() == slices
    assert Resources().usable()
    assert Resources(device="cpu").devices() == ()
    assert Resources().show_devices() == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(slices)


def test_a_gpu_that_pytorch_cannot_use_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SLICED)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not Resources().usable()
    looked = r"this machine has no GPU that PyTorch can use \(the driver has MIG-a\S+, MIG-a\S+, PyTorch \S+ is built for .+\)$"
    with pytest.raises(InvalidInput, match=r"^--gpus-per-trial 0\.5: " + looked):
        Resources(gpus_per_trial=0.5).prepare()
    with pytest.raises(InvalidInput, match=r"^--device gpu: " + looked):
        Resources(device="gpu").prepare()
    with pytest.raises(InvalidInput, match=r"^--precision tf32: needs a GPU \(" + looked[:-1] + r"\)$"):
        Resources().prepare("tf32")


@pytest.mark.parametrize(
    ("boards", "init", "visible", "looked"),
    [
        ((), pynvml.NVML_SUCCESS, None, "the NVIDIA driver knows of none"),
        ((), pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, None, "this machine has no NVIDIA driver (libnvidia-ml.so.1 is not installed)"),
        ((a100("b", mig=True),), pynvml.NVML_SUCCESS, None, "its GPUs are in MIG mode and have no slices"),
        ((SLICED,), pynvml.NVML_SUCCESS, "", "CUDA_VISIBLE_DEVICES= hides all"),
    ],
)
def test_who_asks_for_a_gpu_where_there_is_none_hears_what_was_looked_for(
    monkeypatch: pytest.MonkeyPatch, boards: tuple[Board, ...], init: int, visible: str | None, looked: str
) -> None:
    pretend(monkeypatch, *boards, init=init, visible=visible)
    with pytest.raises(InvalidInput) as refused:
        Resources(device="gpu").prepare()
    assert str(refused.value) == f"--device gpu: this machine has no GPU that PyTorch can use ({looked})"


def test_a_study_on_cpus_asks_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, SLICED, init=pynvml.NVML_ERROR_UNKNOWN)
    assert Resources(gpus_per_trial=0).devices() == ()
    assert Resources(device="cpu").devices() == ()
    with pytest.raises(DriverFault):
        Resources().devices()


def test_a_ray_that_does_not_start_stops_the_study_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def overloaded(**settings: object) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because the GCS has become overloaded.")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(tuning.ray, "init", overloaded)
    with pytest.raises(tuning.StudyStopped) as stopped, tuning.ray_session(Resources(), 0):
        pass
    assert str(stopped.value).startswith("Ray did not start (The current node timed out during startup. This could")
    assert "\n" not in str(stopped.value)


# Where Ray's files go


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Path]:
    """Sets a variable to a folder whose path has so many bytes, without others that would count."""

    def set_to(variable: str, length: int) -> Path:
        for name in ("RAY_TMPDIR", "TMPDIR"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        path = Path("/tmp/" + "t" * (length - len("/tmp/")))
        monkeypatch.setenv(variable, str(path))
        return path

    return set_to


LONGEST = MOST_SOCKET_BYTES - len("/ray/session_2026-11-26_04-08-42_123456_4194304/sockets/plasma_store")


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_rays_files_go_to_a_short_folder_where_the_temporary_one_is_too_long_for_sockets(
    variable: str, temporary: Callable[[str, int], Path]
) -> None:
    path = temporary(variable, LONGEST)
    shorten_ray_folder()
    assert ray_folder() == path / "ray"
    temporary(variable, LONGEST + 1)
    shorten_ray_folder()
    assert ray_folder() == Path("/tmp/ray")
    assert os.environ["RAY_TMPDIR"] == "/tmp"


def test_a_temporary_folder_is_measured_in_bytes_and_must_be_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("/tmp/" + "ü" * 20, "here"):
        monkeypatch.setenv("RAY_TMPDIR", name)
        shorten_ray_folder()
        assert ray_folder() == Path("/tmp/ray")


def test_where_no_short_folder_can_be_used_the_line_says_what_to_set(
    temporary: Callable[[str, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = temporary("TMPDIR", 90)
    monkeypatch.setattr("hybridep.study.resources.SHORT_FOLDER", "/nowhere")
    with pytest.raises(InvalidInput) as refusal:
        shorten_ray_folder()
    assert str(refusal.value) == (
        f"RAY_TMPDIR {path}: is not an absolute path of at most {LONGEST} bytes, for Ray puts sockets below it,"
        " and /nowhere cannot be written;"
        " set RAY_TMPDIR to a folder with a short path"
    )


STARTED = """
import os, sys
from hybridep.study.resources import Resources, ray_folder
from hybridep.study.tuning import ray_session
resources = Resources(gpus_per_trial=0)
resources.prepare()
with ray_session(resources, 0):
    print((ray_folder() / "session_latest" / "sockets" / "plasma_store").exists())
"""


@pytest.mark.parametrize("more", [0, 1])
def test_ray_starts_with_a_temporary_folder_of_any_length(more: int, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    try:
        long = folder / ("t" * (LONGEST + more - len(str(folder)) - 1))
        environment = {**os.environ, "TMPDIR": str(long), "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop("RAY_TMPDIR", None)
        started = subprocess.run(
            [sys.executable, "-c", STARTED], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert (started.returncode, started.stdout) == (0, "True\n"), started.stderr
        assert (long / "ray").exists() == (more == 0)
    finally:
        shutil.rmtree(folder)
