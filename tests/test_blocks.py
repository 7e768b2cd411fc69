"""`Blocks`: what a GPU drives in captured blocks reaches what `Adaptive` reaches sample by sample, in as many updates."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridep.blocks import EVERY, Blocks
from hybridep.captured import CapturedPhases
from hybridep.datasets import Dataset, load
from hybridep.networks import Dynamics
from hybridep.presets import adapted
from hybridep.relaxation import Adaptive, FixedSteps, Relaxation
from hybridep.replays import Replays
from hybridep.trainer import Trainer
from tests.test_graph import Case as OfGraph
from tests.test_relaxation import Case


def assert_equal(found: object, expected: object) -> None:
    for name in ("steps", "residual", "converged"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12)
    for block, own in zip(found.state, expected.state, strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(block, own, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
@pytest.mark.parametrize("limit", [1, 3, 7, 60])
def test_blocks_reach_what_shrinking_reaches_in_as_many_updates(kind: str, cost: str, limit: int) -> None:
    case = Case(kind, cost, n=31, gain=1.0)
    policy = Adaptive(1e-6, T1=limit, T2=limit, check_every=EVERY)
    blocks = Blocks(policy, Replays("cpu"))
    network, drive = case.network, case.network.input_drive(case.x)
    chooses = network.bind(drive, network.zeros(drive)).chooses

    def free(drive: Tensor) -> Dynamics:
        return network.bind(drive, network.zeros(drive), at_rest=True)

    def nudged(drive: Tensor, target: Tensor, betas: Tensor, *state: Tensor) -> Dynamics:
        return network.bind(drive, list(state), target, betas, at_rest=True)

    for _ in range(3):  # the second time, blocks are under way before the first answer
        expected = policy.free(free(drive))
        found = blocks.relax("free", policy.free_stages(chooses), free, drive)
        assert_equal(found, expected)
        betas = drive.new_full((len(drive),), 0.3)
        inputs = (drive, case.target, betas, *expected.state)
        assert_equal(blocks.relax("nudged", policy.nudged_stages(chooses), nudged, *inputs), policy.nudged(nudged(*inputs)))


GRAPHS: list[dict[str, object]] = [
    {"sizes": (12, 9, 10), "channels": (), "skip": ("x:y",), "lateral": ("h1",)},
    {"sizes": (12, 10), "channels": (), "dynamics": "energy", "activation": "tanh"},
    {"sizes": (9, 10), "channels": (3, 4), "kernel": 3, "padding": 1, "pooling": "max", "skip": ("c1:h1",)},
    {"sizes": (10,), "channels": (3, 4), "kernel": 3, "padding": 1, "pooling": "average", "dynamics": "energy", "cost": "cross_entropy"},
]


@pytest.mark.parametrize("fields", GRAPHS, ids=["lateral", "energy", "max-pooling", "energy-average-pooling"])
@pytest.mark.parametrize("limit", [1, 7, 60])
def test_blocks_reach_the_same_on_graphs(fields: dict[str, object], limit: int) -> None:
    case = OfGraph(n=31, **{"activation": "hard_sigmoid", "init_gain": 1.0, **fields})
    policy = Adaptive(1e-9, T1=limit, T2=limit, check_every=EVERY)
    blocks = Blocks(policy, Replays("cpu"))
    network = case.network
    # The larger an image, the sooner its units saturate.
    drive = network.input_drive(case.x * torch.linspace(0, 20, 31, dtype=torch.float64).view(-1, 1, 1, 1))
    chooses = case.bind(case.zeros()).chooses

    def free(drive: Tensor) -> Dynamics:
        return network.bind(drive, network.zeros(drive), at_rest=True)

    def nudged(drive: Tensor, target: Tensor, betas: Tensor, *state: Tensor) -> Dynamics:
        return network.bind(drive, list(state), target, betas, at_rest=True)

    for _ in range(3):
        expected = policy.free(free(drive))
        assert_equal(blocks.relax("free", policy.free_stages(chooses), free, drive), expected)
        betas = drive.new_full((len(drive),), 0.3)
        inputs = (drive, case.target, betas, *expected.state)
        assert_equal(blocks.relax("nudged", policy.nudged_stages(chooses), nudged, *inputs), policy.nudged(nudged(*inputs)))
    if limit == 60:
        assert len(expected.steps.unique()) > 1  # some samples were held while others moved
        assert (min(min(batches) for batches in blocks._batches.values()) < 31) == case.bind(case.zeros()).shrinks


def test_a_batch_gets_smaller_where_that_pays_and_ends_where_it_would_have() -> None:
    case = Case("conv", n=31, gain=4.0)
    policy = Adaptive(1e-9, T1=400, T2=20, check_every=EVERY)
    blocks = Blocks(policy, Replays("cpu"))
    case.x *= torch.linspace(0, 20, 31, dtype=torch.float64).view(-1, 1, 1, 1)  # the larger, the sooner units saturate
    network, drive = case.network, case.network.input_drive(case.x)

    def bind(drive: Tensor) -> Dynamics:
        return network.bind(drive, network.zeros(drive), at_rest=True)

    found = blocks.relax("free", policy.free_stages(True), bind, drive)
    assert min(min(batches) for batches in blocks._batches.values()) < 31
    assert_equal(found, policy.free(bind(drive)))


class PretendReplays(Replays):
    """What graphs do, without them: the work of a key's first call, on inputs and into outputs of its own."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.first: dict[Any, tuple[Callable[..., list[Tensor]], list[Tensor], list[Tensor]]] = {}

    def __call__(self, key: Any, work: Callable[..., list[Tensor]], *inputs: Tensor, **given: object) -> list[Tensor]:
        if key not in self.first:
            own = [tensor.clone() for tensor in inputs]
            made = self._made(key, work, own)
            self.first[key] = work, own, made if key[0] == "open" else [tensor.clone() for tensor in made]
            return self.first[key][2]
        work, own, outputs = self.first[key]
        for tensor, new in zip(own, inputs, strict=True):
            assert tensor.dtype == new.dtype
            tensor.copy_(new)
        for tensor, new in zip(outputs, self._made(key, work, own), strict=True):
            tensor.copy_(new)
        return outputs

    def forget(self) -> None:
        self.first.clear()

    def _made(self, key: Any, work: Callable[..., list[Tensor]], own: list[Tensor]) -> list[Tensor]:
        """Outputs, and where a batch of blocks is opened, all that lies at its place in a graph's memory."""
        outputs = work(*own)
        if key[0] == "open":
            (batch,) = inspect.getclosurevars(work).nonlocals["opened"]
            return [*outputs, *batch.constants]
        return outputs


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


STRATEGIES: list[dict[str, object]] = [
    {},
    {"skew": 1.0},
    {"skew": 0.5, "cheap": "corrected"},
    {"skew": 1.0, "cheap": "part"},
    {"skew": 0.6, "grain": "sample"},
    {"skew": 0.5, "augment": True},
    {"network": "graph", "sizes": (24, 10), "skip": ("x:y",), "dynamics": "energy", "activation": "unit_hard_sigmoid", "cheap": "part"},
    {"network": "conv", "channels": (3, 4), "sizes": (10,), "kernel": 3, "padding": 1, "activation": "hard_sigmoid", "cheap": "part"},
]


def captured_phases(trainer: Trainer, policy: Relaxation, replays: Replays) -> CapturedPhases:
    phases = CapturedPhases(trainer.network, policy, trainer.images.batch(trainer.train_rows[:1])[0])
    phases.replays = replays
    if phases.blocks is not None:
        phases.blocks.replays = replays
    return phases


@pytest.mark.parametrize("replays", [lambda: Replays("cpu"), PretendReplays], ids=["called", "replayed"])
@pytest.mark.parametrize("relaxation", ["fixed", "adaptive"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_captured_update_is_an_update(
    digits: Dataset, relaxation: str, strategy: dict[str, object], replays: Callable[[], Replays]
) -> None:
    """In float64; steps are compared where both look equally often."""
    config = adapted("digits", {"relaxation": relaxation, "epochs": 2, "dtype": "float64", "train_samples": 200, **strategy})
    plain, captured = Trainer(config, digits), Trainer(config, digits)
    policy: Relaxation = plain.relaxation
    if isinstance(policy, Adaptive):
        policy = Adaptive(1e-13, 400, 400, check_every=EVERY)
    plain.phases.relaxation = policy
    captured.phases = captured_phases(captured, policy, replays())
    captured._let_be_captured()
    for _ in range(2):
        expected, found = plain.train_epoch(), captured.train_epoch()
        for column, value in expected.items():
            if column != "epoch_seconds" and (isinstance(policy, FixedSteps) or not column.endswith("steps")):
                assert found[column] == pytest.approx(value, rel=1e-7, abs=1e-9, nan_ok=True), column
    for own, other in zip(captured.network.parameters, plain.network.parameters, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-9)
    # What is saved is the same on every device, and training goes on from it.
    saved = captured.state_dict()
    assert all(isinstance(group["lr"], float) for group in saved["optimizer"]["param_groups"])
    captured.load_state_dict(saved)
