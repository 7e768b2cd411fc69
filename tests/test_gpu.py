"""Acceptance on a machine with CUDA: `pytest -m gpu`.

It needs PyTorch, NumPy, pydantic, threadpoolctl and pytest; the parts that need more are skipped where that is missing. Everything else
that is known of the library is tested on CPUs; here stands what a GPU alone can show.
"""

import functools
import json
import math
import os
import re
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridep.captured import PlainPhases
from hybridep.config import TrialConfig
from hybridep.datasets import DATASETS, Dataset
from hybridep.networks import LayeredNetwork, make_network
from hybridep.presets import ONE_SIDED, PRESETS, PROTOCOLS, STRATEGIES, adapted
from hybridep.relaxation import Adaptive, FixedSteps, Relaxation
from hybridep.stack import StackTrainer
from hybridep.streams import stream
from hybridep.trainer import Trainer
from tests.golden import FILE, SIZES, config, images, key, runs, trained

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU with CUDA"),
]

GOLDEN = json.loads(FILE.read_text())
# As far as a GPU's sums may lead in two epochs: images that are told otherwise, and parts of every number that is no count.
IMAGES = {"train_acc": 4, "val_acc": 3, "test_acc": 4}
PART = 0.05
# Adaptive phases are looked at less often on a GPU: they take some more updates there, and end elsewhere within the tolerance.
LATER = ("free_steps", "nudged_steps")
COUNTS = ("epoch", "updates", "p_std", "cheap_updates", "nudged_phases", "longest_cheap_run", "learning_rate")


@functools.cache
def dataset(protocol: str) -> Dataset:
    return images(PROTOCOLS[protocol].dataset)


@pytest.mark.parametrize("run", runs(), ids=key)
def test_a_golden_run_gives_on_a_gpu_what_it_gives_on_a_cpu(run: tuple[str, str, str, int]) -> None:
    samples, _, tests = SIZES[run[0]]
    adaptive = run[2] == "adaptive"
    shares = {"train_acc": 1 / samples, "val_acc": 1 / (tests // 3), "test_acc": 1 / tests}
    rows, _ = trained(config(*run), dataset(run[0]), "cuda:0")
    for row, golden in zip(rows, GOLDEN[key(run)], strict=True):
        for column, expected in golden.items():
            if column in COUNTS:
                assert row[column] == expected, column
            elif column in LATER and adaptive:
                assert row[column] >= expected * (1 - PART), column
            elif column in IMAGES:
                assert abs(row[column] - expected) <= (1 + adaptive) * IMAGES[column] * shares[column] + 1e-9, column
            elif column == "free_residual" and adaptive:
                assert math.isfinite(row[column])
            elif column != "collapsed" and not math.isnan(expected):
                assert row[column] == pytest.approx(expected, rel=PART, abs=1e-5), column


SCATTERED: list[dict[str, Any]] = [
    {"skew": 1.0, "cheap": "part"},
    {"skew": 0.6, "grain": "sample"},
    {"skew": 0.5, "cheap": "corrected"},
    {"skew": 0.5, "augment": True},
    {"network": "graph", "sizes": (24, 10), "skip": ("x:y",), "dynamics": "energy", "activation": "unit_hard_sigmoid", "cheap": "part"},
]


def in_double(strategy: dict[str, Any]) -> TrialConfig:
    return adapted("digits", {"relaxation": "fixed", "epochs": 2, "dtype": "float64", "train_samples": 200, **strategy})


@pytest.mark.parametrize("strategy", SCATTERED)
def test_graphs_change_no_weight_of_what_is_not_whole_minibatches_alone(strategy: dict[str, Any]) -> None:
    captured, plain = (Trainer(in_double(strategy), dataset("digits"), "cuda:0") for _ in range(2))
    plain.phases = PlainPhases(plain.network, plain.relaxation, plain.starts)
    for trainer in (captured, plain):
        for _ in range(2):
            trainer.train_epoch()
    for own, expected in zip(captured.network.parameters, plain.network.parameters, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-8, atol=1e-10)


def test_free_phases_from_the_last_equilibria_lead_where_they_lead_on_a_cpu() -> None:
    here, there = (Trainer(in_double({"start": "last"}), dataset("digits"), device) for device in ("cuda:0", "cpu"))
    for trainer in (here, there):
        for _ in range(2):
            trainer.train_epoch()
    for own, expected in zip(here.network.parameters, there.network.parameters, strict=True):
        torch.testing.assert_close(own.cpu(), expected, rtol=1e-4, atol=1e-6)


def prepared(name: str, batch: int = 128) -> tuple[LayeredNetwork, Tensor, Tensor]:
    """A protocol's network on the GPU, and the drives of two minibatches."""
    protocol = PROTOCOLS[name]
    network = make_network(protocol, stream(0, "initialisation"), torch.empty(0, device="cuda"))
    generator = torch.Generator(device="cuda").manual_seed(1)
    shape = (batch, *DATASETS[protocol.dataset].shape)
    first, second = (network.input_drive(torch.randn(shape, generator=generator, device="cuda")) for _ in range(2))
    return network, first, second


def free(network: LayeredNetwork, relaxation: Relaxation, drive: Tensor) -> list[Tensor]:
    return relaxation.free(network.bind(drive, network.zeros(drive), at_rest=True)).state


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-conv", "cifar10"])
@torch.no_grad()
def test_fixed_steps_are_captured_as_a_graph_and_never_wait_for_the_device(name: str) -> None:
    network, drive, other = prepared(name)
    relaxation = FixedSteps(PROTOCOLS[name].T1, PROTOCOLS[name].T2)
    free(network, relaxation, drive)
    torch.cuda.set_sync_debug_mode("error")
    try:
        free(network, relaxation, drive)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        free(network, relaxation, drive)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = free(network, relaxation, drive)
    drive.copy_(other)
    graph.replay()
    for block, expected in zip(captured, free(network, relaxation, other), strict=True):
        torch.testing.assert_close(block, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@torch.no_grad()
def test_adaptive_waits_for_the_device_once_a_look(name: str) -> None:
    network, drive, _ = prepared(name)
    tolerance = PRESETS[name].tolerance
    assert tolerance is not None
    relaxation = Adaptive(tolerance, PROTOCOLS[name].T1, PROTOCOLS[name].T2)
    dynamics = network.bind(drive, network.zeros(drive), at_rest=True)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = relaxation.free(dynamics)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.set_warn_always(always)
    waits = sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)
    assert waits == math.ceil(int(found.steps.max()) / relaxation.check_every)


@pytest.mark.parametrize("relaxation", ["fixed", "adaptive"])
def test_a_stack_gives_what_its_networks_give_alone_captured_and_with_fixed_steps_without_waiting(relaxation: str) -> None:
    protocol = PROTOCOLS["mnist"].replace(train_samples=300, test_samples=100, epochs=5, T1=30, T2=10)
    if relaxation == "adaptive":
        protocol = protocol.replace(relaxation="adaptive", tolerance=1e-3)
    strategies = [STRATEGIES["standard"], STRATEGIES["centered"], STRATEGIES["cosine"], ONE_SIDED["alternating"]]
    configs = [protocol.replace(**strategy, seed=seed) for seed, strategy in enumerate(strategies)]
    alone, together = ([Trainer(config, dataset("mnist"), "cuda:0") for config in configs] for _ in range(2))
    stack = StackTrainer(together)
    for epoch in range(3):
        rows = stack.train_epoch()
        for row, trainer in zip(rows, alone, strict=True):
            expected = trainer.train_epoch()
            assert all(row[column] == expected[column] for column in COUNTS)
            assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3), epoch
    if relaxation == "adaptive":  # which waits for its looks
        return
    chosen = torch.arange(4 * protocol.batch_size, device="cuda") % 300
    with torch.no_grad():
        torch.cuda.set_sync_debug_mode("error")
        try:
            stack._update(chosen)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_two_trials_share_a_gpu_each_within_its_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    from ray import tune

    from hybridep.cluster.internals import LOOPBACK_SWITCH, ON_LOOPBACK
    from hybridep.trainable import StrategyTrial

    monkeypatch.setenv(LOOPBACK_SWITCH, "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")

    class Neighbour(StrategyTrial):
        """Waits in its first step for the other, and tries to take more than its half."""

        def step(self) -> dict[str, Any]:
            row = super().step()
            (tmp_path / self.trial_id).touch()
            end = time.monotonic() + 120
            while len(list(tmp_path.glob("*_0000*"))) < 2 and time.monotonic() < end:
                time.sleep(0.1)
            memory = torch.cuda.get_device_properties(0).total_memory
            try:
                torch.empty(int(0.6 * memory), dtype=torch.uint8, device="cuda")
            except torch.OutOfMemoryError:
                return {**row, "capped": True, "together": len(list(tmp_path.glob("*_0000*")))}
            return {**row, "capped": False, "together": 0}

    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **ON_LOOPBACK)
    try:
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(Neighbour, dataset="digits"), {"cpu": 1, "gpu": 0.5}),
            param_space={"skew": tune.grid_search([0.0, 1.0]), "epochs": 1},
            run_config=tune.RunConfig(storage_path=str(tmp_path / "ray"), verbose=0),
        ).fit()
    finally:
        ray.shutdown()
    assert not results.errors
    assert results.get_dataframe()[["capped", "together"]].to_numpy().tolist() == [[True, 2], [True, 2]]


def test_a_gpu_is_measured_alone_and_shared_before_a_study_begins() -> None:
    pytest.importorskip("tyro", reason="tyro, which studies need, is not installed")
    pytest.importorskip("ray", reason="Ray is not installed")
    from hybridep.probe import Sample
    from hybridep.study import probing

    sample = Sample.of(PROTOCOLS["digits"], (0, 1, 2), dataset("digits"))
    probes = probing.here(sample, 1, os.environ.get("CUDA_VISIBLE_DEVICES", "0"), 2, with_cpu=True)
    try:
        gpu, name = probes.gpu()
        cpu = probes.cpu()
    finally:
        probes.stop()
    assert name == torch.cuda.get_device_name(0)
    assert cpu is not None
    assert cpu.epoch > 0
    assert 0 < gpu.needed < gpu.memory == torch.cuda.get_device_properties(0).total_memory
    assert gpu.at_once == 2
    assert gpu.shared_epoch > 0


def test_devices_and_slices_are_those_of_nvidia_smi() -> None:
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    from hybridep.cluster.machine import gpus

    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    found = [uuid for gpu in gpus() for uuid in (gpu.uuid, *(part.uuid for part in gpu.slices or ()))]
    assert found == re.findall(r"UUID: ((?:GPU|MIG)-[0-9A-Za-z-]+)", listed)
