"""What a probe measures, in this process, in one of its own and on Ray; and what a study makes of it, keeps, and does when it goes on."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from hybridep.cluster.status import NodeCapacity
from hybridep.config import InvalidInput, TrialConfig
from hybridep.presets import PROTOCOLS
from hybridep.probe import Probe, Sample
from hybridep.study import probing
from hybridep.study.choosing import Choosing, share_of
from hybridep.study.devices import Gpu, Timing
from hybridep.study.folder import StudyFolder
from hybridep.study.plan import Plan, PlannedTrial
from hybridep.study.probing import NoAnswer
from hybridep.study.resources import Resources
from studies.memory_benchmark import noise
from tests.nvml import a100, pretend
from tests.trials import PROTOCOL, digits

ROOT = Path(__file__).resolve().parent.parent
CENTERED = {"family": "constant", "skew": 0.0}
BOARD = a100("a")
SLOW_CPU, FAST_GPU = Timing(100.0), Gpu(Timing(1.0), at_once=2, shared_epoch=1.0, memory=2**35, needed=2**20)
LAPTOP, WORKSTATION = NodeCapacity(8, 0), NodeCapacity(8, 1)


# A probe


def test_a_sample_has_a_few_minibatches_and_evaluation_in_proportion() -> None:
    protocol = PROTOCOLS["digits"].replace(validation=200)
    sample = Sample.of(protocol, (0, 1), digits())
    info = digits().info
    assert sample.images == info.train - 200
    assert len(sample.dataset.train_labels) == 4 * 32
    assert len(sample.dataset.test_labels) == round((200 + info.test) * 4 * 32 / sample.images)


def test_a_probe_extrapolates_to_the_epoch_of_the_whole_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast this machine is: an epoch of what it trains on takes a second of a clock that nothing else moves."""
    probe = Probe(Sample.of(PROTOCOL, (3, 5), digits()), "cpu")
    probe._new_trainers((3, 5), 32)
    trained: list[int] = []
    monkeypatch.setattr(probe, "_epoch", lambda: trained.append(len(probe._trainers)) or 1.0)
    images = len(digits().train_labels[:200]) - 40
    assert probe.epoch()["epoch"] == pytest.approx(images / 128 / 2)  # a seed's, of the two that are trained together
    assert trained
    assert set(trained) == {2}


@pytest.mark.parametrize("name", ["digits", "fashion-conv"])
def test_a_cpu_is_measured_in_seconds_that_are_those_of_its_epochs(name: str) -> None:
    protocol = PROTOCOLS[name].replace(T1=6, T2=3, **({"channels": (4, 4)} if name == "fashion-conv" else {}))
    found = Probe(Sample.of(protocol, (0,), noise(protocol.dataset)), "cpu").cpu()
    assert found["epoch"] > 0
    assert found["start"] > 0


def test_a_minibatch_that_takes_too_long_is_told_from_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clock that each image moves by a second."""
    probe = Probe(Sample.of(PROTOCOLS["mnist"], (0,), noise("mnist")), "cpu")
    batches: list[int] = []

    def epoch() -> float:
        batches.append(probe._trainers[0].config.batch_size)
        return probe._share * 60_000.0

    monkeypatch.setattr(probe, "_epoch", epoch)
    assert probe.cpu()["epoch"] == pytest.approx(60_000.0)
    assert batches == [4, 4]  # the first to warm up


def test_what_a_process_sets_up_at_first_takes_none_of_the_time_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clock that nothing moves but the first trainers, by an hour."""
    probe = Probe(Sample.of(PROTOCOLS["mnist"], (0,), noise("mnist")), "cpu")
    clock, hours, batches = [0.0], iter([3600.0]), []
    make = probe._new_trainers

    def new_trainers(*arguments: Any) -> None:
        clock[0] += next(hours, 0.0)
        make(*arguments)

    def epoch() -> float:
        batches.append(probe._trainers[0].config.batch_size)
        clock[0] += 0.2
        return 0.2

    monkeypatch.setattr("hybridep.probe.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(probe, "_new_trainers", new_trainers)
    monkeypatch.setattr(probe, "_epoch", epoch)
    assert probe.cpu()["start"] >= 3600
    assert max(batches) == 128


def test_a_gpu_that_pytorch_does_not_find_is_told_in_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch finds a GPU")
    probes = probing.here(Sample.of(PROTOCOL, (3,), digits()), 1, "GPU-nothing", 1, with_cpu=False)
    try:
        with pytest.raises(NoAnswer, match=r"^PyTorch \S+ is built for (CUDA \S+|CPUs alone) and finds none$"):
            probes.gpu()
    finally:
        probes.stop()


def check_both_sides(probes: probing.Probes) -> None:
    """Of a CPU and of two workers that share what stands in for a GPU."""
    try:
        gpu, name = probes.gpu()
        cpu = probes.cpu()
    finally:
        probes.stop()
    assert cpu is not None
    for timing in (cpu, gpu.timing):
        assert timing.epoch > 0
        assert timing.start > 0
    assert (gpu.at_once, name) == (2, "CPU")
    assert gpu.shared_epoch > 0


def test_probes_of_this_machine_are_processes_that_end() -> None:
    probes = probing.here(Sample.of(PROTOCOL, (3, 5), digits()), 1, "", 2, with_cpu=True, device="cpu")
    running = [probe._process for probe in (*probes._sharing, probes._cpu) if isinstance(probe, probing.LocalProbe)]
    assert len(running) == 3
    check_both_sides(probes)
    assert all(process.poll() is not None for process in running)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, num_gpus=1, _node_ip_address="127.0.0.1", **quiet)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_probes_of_a_cluster_share_one_gpu_and_give_it_back() -> None:
    check_both_sides(probing.on_ray(Sample.of(PROTOCOL, (3, 5), digits()), 1, 2, with_cpu=True, device="cpu"))
    ready, _ = ray.wait([ray.remote(lambda: None).options(num_gpus=1).remote()], timeout=60)
    assert ready


@pytest.mark.usefixtures("cluster")
def test_a_gpu_that_is_not_there_is_told_on_a_cluster_too() -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch finds a GPU")
    probes = probing.on_ray(Sample.of(PROTOCOL, (3,), digits()), 1, 1, with_cpu=False)
    try:
        with pytest.raises(NoAnswer, match=r"^PyTorch \S+ is built for (CUDA \S+|CPUs alone) and finds none$"):
            probes.gpu()
    finally:
        probes.stop()


# A choice


class Measured:
    """Probes that have measured already."""

    def __init__(self, gpu: Gpu | NoAnswer = FAST_GPU, cpu: Timing = SLOW_CPU) -> None:
        self._gpu, self._cpu = gpu, cpu
        self.stopped = False

    def gpu(self) -> tuple[Gpu, str]:
        if isinstance(self._gpu, NoAnswer):
            raise self._gpu
        return self._gpu, "NVIDIA H200"

    def cpu(self) -> Timing:
        return self._cpu

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudyFolder]:
    made = StudyFolder.create(tmp_path / "study", {"kind": "schedule_sweep", "protocol": PROTOCOL.flat("json")})
    made.trials.mkdir()
    yield made
    made.close()


def planned(protocol: TrialConfig = PROTOCOL, trials: int = 8) -> Plan:
    names = [f"t{number}" for number in range(trials)]
    return Plan(protocol, (3, 5), [PlannedTrial(name, name, "thesis", (3, 5), CENTERED) for name in names])


def settled(
    folder: StudyFolder, resources: Resources, node: NodeCapacity = WORKSTATION, measured: Measured | None = None, plan: Plan | None = None
) -> tuple[float | None, str]:
    """What trials get of a GPU, and what is told, in a study on this node; what is not said beforehand has been `measured`."""
    choosing = Choosing(folder, plan or planned(), digits(), replace(resources, ray_address=resources.ray_address or "127.0.0.1:6379"))
    choosing._probes = measured  # type: ignore[assignment]
    found, sentence = choosing.settle([node])
    assert measured is None or measured.stopped
    return found.gpus_per_trial, sentence


def test_a_study_takes_what_was_measured_to_be_faster_says_so_and_keeps_it(folder: StudyFolder) -> None:
    share, said = settled(folder, Resources(), measured=Measured())
    assert share == 0.5
    assert (
        said
        == "GPU (H200): about 32 s with 2 trials on each at a time; 8 CPU cores: about 14 min; running on the GPU (--device cpu to change)"
    )
    assert json.loads((folder.path / "study.json").read_text())["device"] == {"gpus_per_trial": 0.5, "chosen": said}
    assert settled(folder, Resources()) == (0.5, "")  # asks nobody again
    assert settled(folder, Resources(device="gpu")) == (0.5, "")


def test_a_study_that_took_the_cpus_keeps_them_until_a_gpu_is_asked_for(folder: StudyFolder) -> None:
    slow = Measured(replace(FAST_GPU, timing=Timing(1000.0), shared_epoch=1000.0))
    share, said = settled(folder, Resources(), measured=slow)
    assert share == 0
    assert said.endswith("running on the CPUs (--device gpu to change)")
    assert settled(folder, Resources()) == (0, "")
    share, said = settled(folder, Resources(device="gpu"), measured=Measured())
    assert share == 0.5
    assert said.endswith("running on the GPU for --device gpu")
    assert folder.description["device"]["gpus_per_trial"] == 0.5


@pytest.mark.parametrize(
    ("resources", "node", "share"),
    [
        (Resources(gpus_per_trial=0.25), WORKSTATION, 0.25),
        (Resources(gpus_per_trial=0), WORKSTATION, 0),
        (Resources(device="gpu", gpus_per_trial=0.25), WORKSTATION, 0.25),
        (Resources(device="cpu"), WORKSTATION, 0),
        (Resources(), LAPTOP, 0),
    ],
)
def test_what_is_said_or_leaves_no_choice_needs_no_probe_and_no_words(
    folder: StudyFolder, resources: Resources, node: NodeCapacity, share: float
) -> None:
    assert settled(folder, resources, node) == (share, "")


@pytest.mark.parametrize(
    ("cpus", "memory", "trials", "most", "workers"),
    [(8, 2**35, 8, None, 2), (1, 2**35, 8, None, 1), (8, 2**20, 8, None, 1), (8, 2**35, 1, None, 1), (8, 2**35, 8, 1, 1)],
)
def test_trials_share_a_gpu_within_its_memory_beside_a_core_each_and_within_what_is_allowed(
    folder: StudyFolder, cpus: float, memory: int, trials: int, most: int | None, workers: int
) -> None:
    measured = Measured(replace(FAST_GPU, memory=memory))
    resources = Resources(max_concurrent=most)
    assert settled(folder, resources, NodeCapacity(cpus, 1), measured, planned(trials=trials))[0] == share_of(workers)


def test_a_third_of_a_gpu_has_room_three_times() -> None:
    for workers in range(1, 9):
        assert Resources(gpus_per_trial=share_of(workers)).share([NodeCapacity(16, 1)]).slots([NodeCapacity(16, 1)]) == workers


def test_tensor_cores_are_a_reason_for_a_gpu(folder: StudyFolder) -> None:
    slow = Measured(replace(FAST_GPU, timing=Timing(1000.0), shared_epoch=2000.0))
    share, said = settled(folder, Resources(), measured=slow, plan=planned(PROTOCOL.replace(precision="tf32")))
    assert share == 1
    assert said.endswith("running on the GPU for --precision tf32")


def test_a_gpu_that_cannot_be_used_leaves_the_cpus_unless_it_is_asked_for(folder: StudyFolder) -> None:
    failed = NoAnswer("PyTorch 2.11 is built for CPUs alone and finds none")
    with pytest.raises(InvalidInput, match=r"^--device gpu: no GPU can be used \(PyTorch 2\.11 is built for CPUs alone and finds none\)$"):
        settled(folder, Resources(device="gpu"), measured=Measured(failed))
    share, said = settled(folder, Resources(), measured=Measured(failed))
    assert share == 0
    assert "not measured (PyTorch 2.11 is built for CPUs alone and finds none); 8 CPU cores: about 14 min; running on the CPUs" in said


def test_a_cluster_without_a_gpu_is_told_where_one_is_needed(folder: StudyFolder) -> None:
    with pytest.raises(InvalidInput, match=r"^--device gpu: no node of the Ray cluster has a GPU$"):
        settled(folder, Resources(device="gpu"), LAPTOP)
    settled(folder, Resources(), measured=Measured())
    with pytest.raises(InvalidInput, match=r"^--resume \S+: was begun on GPUs, and there is none here; --device cpu goes on without$"):
        settled(folder, Resources(), LAPTOP)
    assert settled(folder, Resources(device="cpu"), LAPTOP) == (0, "")


def test_a_study_that_was_begun_before_there_was_a_choice_goes_on_as_it_was(folder: StudyFolder) -> None:
    folder.trial("t0").begin({"trial": "t0"})
    assert settled(folder, Resources(), LAPTOP) == (0, "")
    del folder.description["device"]
    assert settled(folder, Resources(), WORKSTATION) == (1, "")


@pytest.mark.parametrize("junk", [7, [], {"gpus_per_trial": "half"}, {"gpus_per_trial": 2}, {}])
def test_a_choice_that_was_altered_is_told(folder: StudyFolder, junk: Any) -> None:
    folder.description["device"] = junk
    with pytest.raises(InvalidInput, match=r"^--resume \S+: study\.json is damaged \(device\)$"):
        settled(folder, Resources())


def test_this_machines_gpu_is_tried_while_ray_starts_and_called_by_its_number(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, BOARD)
    monkeypatch.setattr(probing, "here", partial(probing.here, device="cpu"))
    choosing = Choosing(folder, planned(), digits(), Resources())
    choosing.begin()
    try:
        resources, said = choosing.settle([NodeCapacity(2, 1)])
    finally:
        choosing.stop()
    assert resources.gpus_per_trial is not None
    assert said.startswith("GPU 0 (A100-SXM4-40GB): about ")
    assert "; 2 CPU cores: about " in said


@pytest.mark.parametrize("resources", [Resources(device="cpu"), Resources(gpus_per_trial=0.5), Resources()])
def test_nothing_is_tried_where_there_is_no_choice(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch, resources: Resources) -> None:
    pretend(monkeypatch, *([] if resources == Resources() else [BOARD]))
    monkeypatch.setattr(probing, "here", lambda *_: pytest.fail("tries a GPU"))
    Choosing(folder, planned(), digits(), resources).begin()


SWEEP = """
import sys
from pytest import MonkeyPatch
from tests.nvml import a100, pretend
pretend(MonkeyPatch(), a100("a"))
from hybridep.study.study import main
from studies.schedule_sweep import Args, plan
sys.exit(main("schedule_sweep", Args, plan, sys.argv[1:]))
"""


def test_a_study_beside_a_gpu_that_pytorch_cannot_use_runs_on_the_cpus_and_says_so_once(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("PyTorch finds a GPU")
    short = ("--sizes", "64", "12", "10", "--T1", "6", "--T2", "3", "--train-samples", "200", "--epochs", "1", "--seeds", "0")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-c", SWEEP, "--search", "thesis", "--out", "study", *short]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("GPU 0")]
    assert said.startswith("GPU 0 (A100-SXM4-40GB): not measured (PyTorch ")
    assert said.endswith("; running on the CPUs (--device gpu to change)")
    assert json.loads((tmp_path / "study" / "study.json").read_text())["device"] == {"gpus_per_trial": 0.0, "chosen": said}
