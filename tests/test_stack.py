"""Stacks: networks trained together give the rows, weights and states of each trained alone; what cannot be stacked is told apart."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridep.captured import CapturedPhases
from hybridep.config import TrialConfig
from hybridep.datasets import Dataset, load
from hybridep.kernels import affine_each
from hybridep.networks import MLP, StackedMLP
from hybridep.stack import Stacks, StackTrainer, grouped, stackable
from hybridep.streams import stream
from hybridep.study.study import main
from hybridep.trainer import Row, Trainer
from studies.thesis_tables import Args, plan

# 4 updates an epoch, the last of them with 4 samples.
SMALL = {"train_samples": 100, "test_samples": 60, "validation": 20, "batch_size": 24, "sizes": (64, 24, 10), "T1": 8, "T2": 4}
SMALL |= {"epochs": 3, "dtype": "float64"}

WHOLE: list[dict[str, Any]] = [
    {"skew": 1.0, "seed": 1},
    {"skew": 0.0, "seed": 2, "beta": 0.5, "learning_rates": (0.1,)},
    {"family": "cosine", "skew": 0.5, "seed": 3, "momentum": 0.0, "epochs": 5},
    {"cheap": "alternating", "skew": 0.5, "seed": 1, "weight_decay": 1e-2, "init_gain": 1.0},
]
SCATTERED: list[dict[str, Any]] = [
    *WHOLE[:2],
    {"cheap": "part", "cheap_part": 0.3, "cheap_by": "importance", "skew": 0.5, "seed": 4},
    {"cheap": "split_sign", "accurate": "fourth_order", "grain": "sample", "skew": 0.5, "seed": 5, "init_gain": 1.0},
]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def config(**values: Any) -> TrialConfig:
    return TrialConfig.create(**{**SMALL, **values})


def trainers(digits: Dataset, strategies: list[dict[str, Any]], **values: Any) -> list[Trainer]:
    return [Trainer(config(**{**strategy, **values}), digits) for strategy in strategies]


def assert_same_rows(found: Row, expected: Row) -> None:
    assert list(found) == list(expected)
    for column, value in expected.items():
        if column != "epoch_seconds" and not (isinstance(value, float) and math.isnan(value)):
            assert found[column] == pytest.approx(value, rel=1e-12, abs=1e-12), column


@pytest.mark.parametrize("sizes", [(64, 24, 10), (64, 12, 9, 10), (64, 8, 7, 6, 10)], ids=str)
@pytest.mark.parametrize("strategies", [WHOLE, SCATTERED], ids=["whole", "scattered"])
def test_each_network_of_a_stack_has_the_rows_and_weights_of_the_network_trained_alone(
    digits: Dataset, strategies: list[dict[str, Any]], sizes: tuple[int, ...]
) -> None:
    alone, together = (trainers(digits, strategies, sizes=sizes) for _ in range(2))
    stack = StackTrainer(together)
    for _ in range(2):
        for found, trainer in zip(stack.train_epoch(), alone, strict=True):
            assert_same_rows(found, trainer.train_epoch())
    for own, trainer in zip(together, alone, strict=True):
        for found, expected in zip(own.network.parameters, trainer.network.parameters, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert own.activations() == trainer.activations()


def test_a_network_of_a_stack_can_stop_and_go_on_alone_or_in_another_stack(digits: Dataset) -> None:
    alone, together = (trainers(digits, WHOLE) for _ in range(2))
    StackTrainer(together).train_epoch()
    others = trainers(digits, WHOLE)
    for trainer, other in zip(together, others, strict=True):
        other.load_state_dict(trainer.state_dict())
    for trainer in alone:
        trainer.train_epoch()
    rows = [others[0].train_epoch(), *StackTrainer(others[1:3]).train_epoch()]
    rows += StackTrainer([others[3], *trainers(digits, WHOLE[:1])]).train_epoch()[:1]
    for found, trainer in zip(rows, alone, strict=True):
        assert_same_rows(found, trainer.train_epoch())


def test_what_a_stack_hands_back_lies_where_it_lay(digits: Dataset) -> None:
    """Graphs of a trainer that was captured alone before go on writing there."""
    together = by_blocks(trainers(digits, WHOLE[:2]))
    for trainer in together:
        trainer.train_epoch()

    def places() -> list[int]:
        return [tensor.data_ptr() for trainer in together for tensor in trainer._written()]

    before = places()
    StackTrainer(together).train_epoch()
    assert places() == before


def test_what_one_network_loses_reaches_no_other(digits: Dataset) -> None:
    lost = {"seed": 7, "learning_rates": (1e38,), "weight_decay": 1e6}
    alone, together = (trainers(digits, [WHOLE[0], lost, WHOLE[1]]) for _ in range(2))
    stack = StackTrainer(together)
    for _ in range(2):
        rows = stack.train_epoch()
    assert together[1].diverged
    assert rows[1]["collapsed"]
    for place in (0, 2):
        alone[place].train_epoch()
        assert_same_rows(rows[place], alone[place].train_epoch())


def by_blocks(trainers: list[Trainer]) -> list[Trainer]:
    """The same trainers, relaxing block by block, as on a GPU."""
    for trainer in trainers:
        example, _ = trainer.images.batch(trainer.train_rows[:1])
        trainer.phases = CapturedPhases(trainer.network, trainer.relaxation, example)
        trainer._let_be_captured()
    return trainers


@pytest.mark.parametrize("strategies", [WHOLE, SCATTERED], ids=["whole", "scattered"])
@pytest.mark.parametrize("sizes", [(64, 24, 10), (64, 12, 9, 10)], ids=str)
def test_each_network_of_an_adaptive_stack_has_the_rows_and_weights_of_the_network_trained_alone(
    digits: Dataset, sizes: tuple[int, ...], strategies: list[dict[str, Any]]
) -> None:
    adaptive = {"relaxation": "adaptive", "tolerance": 1e-4, "T1": 60, "T2": 30, "sizes": sizes}
    alone = by_blocks(trainers(digits, strategies, **adaptive))
    together = trainers(digits, strategies, **adaptive)
    expected = [[trainer.train_epoch() for trainer in alone] for _ in range(3)]
    stack = StackTrainer(together)
    found = [stack.train_epoch(), stack.train_epoch()]
    # Stopped, and gone on in two other stacks.
    others = trainers(digits, strategies, **adaptive)
    for trainer, other in zip(together, others, strict=True):
        other.load_state_dict(trainer.state_dict())
    found.append([*StackTrainer(others[:2]).train_epoch(), *StackTrainer(others[2:]).train_epoch()])
    assert len({row["free_steps"] for row in expected[-1]}) > 1  # networks converge each in its own time
    for rows, wanted in zip(found, expected, strict=True):
        for row, own in zip(rows, wanted, strict=True):
            assert_same_rows(row, own)
    for other, trainer in zip(others, alone, strict=True):
        for parameter, wanted_one in zip(other.network.parameters, trainer.network.parameters, strict=True):
            torch.testing.assert_close(parameter, wanted_one, rtol=0, atol=1e-12)


def test_scattered_tables_and_a_lost_network_change_nothing_for_the_others_of_an_adaptive_stack(digits: Dataset) -> None:
    lost = {"seed": 7, "learning_rates": (1e38,), "weight_decay": 1e6}
    strategies = [SCATTERED[2], lost, *SCATTERED]
    adaptive = {"relaxation": "adaptive", "tolerance": 1e-4, "T1": 60, "T2": 30}
    alone, together = (trainers(digits, strategies, **adaptive) for _ in range(2))
    stack, stacks_of_one = StackTrainer(together), [StackTrainer([trainer]) for trainer in alone]
    for _ in range(2):
        for place, (found, single) in enumerate(zip(stack.train_epoch(), stacks_of_one, strict=True)):
            (expected,) = single.train_epoch()
            if place != 1:
                assert_same_rows(found, expected)
    assert together[1].diverged
    for own, trainer in zip(together[2:], alone[2:], strict=True):
        for parameter, wanted in zip(own.network.parameters, trainer.network.parameters, strict=True):
            torch.testing.assert_close(parameter, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("values", "can"),
    [
        ({"seed": 9, "beta": 0.1, "epochs": 9, "cheap": "part"}, True),
        ({"sizes": (64, 25, 10)}, False),
        ({"activation": "sigmoid"}, False),
        ({"T1": 9}, False),
        ({"batch_size": 25}, False),
        ({"validation": 0}, False),
        ({"inputs": "unit"}, False),
        ({"relaxation": "adaptive", "tolerance": 1e-3}, False),
    ],
)
def test_networks_of_one_shape_on_the_same_data_can_be_stacked(values: dict[str, Any], can: bool) -> None:
    configs = [config(), config(**values)]
    assert stackable(configs) == can
    assert grouped(configs, 4) == ([[0, 1]] if can else [[0], [1]])


@pytest.mark.parametrize(
    "values",
    [
        {"family": "agreement"},
        {"family": "residual"},
        {"cheap": "corrected"},
        {"augment": True},
        {"start": "last"},
        {"cost": "cross_entropy"},
        {"network": "conv", "channels": (4,), "sizes": (10,)},
    ],
    ids=str,
)
def test_what_cannot_be_stacked_is_refused_and_trained_alone(digits: Dataset, values: dict[str, Any]) -> None:
    assert not stackable([config(**values), config(**values)])
    assert grouped([config(**values), config(), config(**values), config()], 4) == [[1, 3], [0], [2]]
    with pytest.raises(ValueError, match="cannot be trained as one stack"):
        StackTrainer(trainers(digits, [values, values]))
    alone, together = (trainers(digits, [values, *WHOLE[:2]]) for _ in range(2))
    for found, trainer in zip(Stacks(4, print).train_epoch(together), alone, strict=True):
        assert_same_rows(found, trainer.train_epoch())


def test_stacks_are_as_even_as_they_come() -> None:
    assert list(map(len, grouped([config(seed=seed) for seed in range(10)], 4))) == [4, 3, 3]


def test_a_stack_that_does_not_fit_is_halved_and_gives_the_same_numbers(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of memory that holds two networks; it runs out after the draws of an epoch."""
    predictions = StackTrainer._predictions

    def small(self: StackTrainer, *args: Any) -> Any:
        if len(self.trainers) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return predictions(self, *args)

    monkeypatch.setattr(StackTrainer, "_predictions", small)
    alone, together = (trainers(digits, WHOLE) for _ in range(2))
    said: list[str] = []
    stacks = Stacks(8, said.append)
    for _ in range(2):
        for found, trainer in zip(stacks.train_epoch(together), alone, strict=True):
            assert_same_rows(found, trainer.train_epoch())
    assert said == ["a stack of 4 networks does not fit the device's memory; goes on with stacks of 2"]


def test_the_batched_product_of_a_gpu_is_what_a_cpu_computes_network_by_network() -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 5, 4), (3, 4, 6), (3, 1, 6)))
    found = affine_each(x, weight, bias, out=x.new_empty(3, 5, 6))
    torch.testing.assert_close(found, torch.baddbmm(bias, x, weight), rtol=0, atol=1e-12)


def test_a_stack_has_the_closed_forms_of_its_networks_and_phi_as_their_oracle() -> None:
    like = torch.empty(0, dtype=torch.float64)
    networks = [MLP((6, 5, 4, 3), "tanh", "mse", 0.9, stream(seed, "initialisation"), like) for seed in range(3)]
    stack = StackedMLP((6, 5, 4, 3), "tanh", "mse", 3, like)
    stack.take(networks)
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, rows, weights = random(3 * 2, 6), [random(3 * 4, 8), random(3 * 4, 4)], random(3 * 4)
    whole, chosen = stack.parameter_gradient(x, rows, weights), torch.tensor([0, 1, 1, 0] * 3)
    samples = chosen + 2 * torch.arange(3).repeat_interleave(4)
    scattered = stack.parameter_gradient(x, rows, weights, samples)
    for place, network in enumerate(networks):
        own, images = slice(4 * place, 4 * place + 4), x[2 * place : 2 * place + 2]
        state = [block[own] for block in rows]
        for part, expected in zip(whole, network.parameter_gradient(images, state, weights[own]), strict=True):
            torch.testing.assert_close(part[place], expected, rtol=0, atol=1e-12)
        for part, expected in zip(scattered, network.parameter_gradient(images, state, weights[own], chosen[own]), strict=True):
            torch.testing.assert_close(part[place], expected, rtol=0, atol=1e-12)
        of_x = images[[0, 1, 0, 1]]
        phi = stack.phi(torch.cat([of_x] * 3), stack.layer_states(rows))
        torch.testing.assert_close(phi[own], network.phi(of_x, network.layer_states(state)), rtol=0, atol=1e-12)


STUDY = ["--table", "mnist", "--seeds", "42", "123", "--strategies", "centered", "cosine", "--train-samples", "40", "--T1", "5"]
STUDY += ["--epochs", "3"]


def reported(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The epochs of each trial, without what depends on the clock."""
    clock = ("epoch_seconds", "time_total_s", "timestamp", "load", "pid")
    found = {}
    for path in sorted(folder.glob("ray/*/result.json")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [{name: value for name, value in row.items() if not name.startswith(clock)} for row in rows]
    return found


def run(*argv: str) -> int:
    return main("thesis_tables", Args, plan, argv=argv, write_report=lambda folder: None)


def test_a_study_trained_as_stacks_stops_goes_on_and_leaves_what_it_would_on_ray(
    tmp_path: Path, official_files: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data-dir", str(official_files("mnist", train=60, test=20).data_dir)]
    assert run(*STUDY, *data, "--stack", "8", "--out", str(tmp_path / "whole")) == 0
    whole = reported(tmp_path / "whole")
    assert {name: [row["epoch"] for row in rows] for name, rows in whole.items()} == {name: [1, 2, 3] for name in whole}
    assert len(whole) == 4
    assert not list((tmp_path / "whole").glob("ray/*/checkpoint*"))  # all have ended

    train_epoch = Stacks.train_epoch

    def stopped(self: Stacks, group: list[Trainer]) -> list[Row]:
        if group[0].epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, group)

    with monkeypatch.context() as patched:
        patched.setattr(Stacks, "train_epoch", stopped)
        assert run(*STUDY, *data, "--stack", "8", "--out", str(tmp_path / "stopped")) == 130
    assert all(len(rows) == 2 for rows in reported(tmp_path / "stopped").values())
    assert run("--resume", str(tmp_path / "stopped"), "--stack", "3") == 0
    for name, rows in reported(tmp_path / "stopped").items():
        for found, expected in zip(rows, whole[name], strict=True):
            assert found["test_acc_by_seed"] == expected["test_acc_by_seed"]
            assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
            assert found["config"] == expected["config"]
