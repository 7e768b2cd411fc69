"""The relaxation benchmark at sizes that take seconds: what it compares agrees, and what it writes is whole. Times are never asserted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.relaxation_speed import as_text, tolerances_figure, with_speed
from hybridep.config import TrialConfig
from hybridep.diagnostics import agreement
from hybridep.estimators import stencil
from hybridep.presets import PROTOCOLS
from hybridep.relaxation import Adaptive, FixedSteps
from studies import relaxation_benchmark
from studies.benchmarking.autograd_ep import AutogradEP
from studies.benchmarking.implementation import ClosedForm
from studies.benchmarking.products import flops_per_step, operations, share_in_products
from studies.benchmarking.reference import SYNCHRONOUS, full_convergence, limit

MLP = TrialConfig(sizes=(64, 12, 8, 10), T1=7, T2=4, beta=0.5)
CONV = TrialConfig(
    network="conv", channels=(3, 4), sizes=(6, 10), activation="hard_sigmoid", init_gain=1.0, T1=7, T2=4, beta=0.35, learning_rates=(0.1,)
)
ENERGY = CONV.replace(network="graph", activation="unit_hard_sigmoid", dynamics="energy", pooling="max")
AVERAGE = CONV.replace(pooling="average", kernel=2, padding=0, channels=(3,))


def minibatch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.normal(size=(n, 1, 8, 8)))
    return x, torch.eye(10, dtype=torch.float64)[torch.arange(n) % 10]


@pytest.mark.parametrize("estimator", ["standard", "centered", "second_order"])
@pytest.mark.parametrize("config", [MLP, CONV, AVERAGE, ENERGY], ids=["mlp", "max-pooling", "average-pooling", "energy"])
def test_autograd_and_fixed_steps_give_the_same_gradient(config: TrialConfig, estimator: str) -> None:
    closed_form = ClosedForm(config, FixedSteps(config.T1, config.T2), torch.float64)
    autograd = AutogradEP(config, torch.float64)
    autograd.load(closed_form.network.parameters)
    expected, found = (implementation.update(*minibatch(), stencil(estimator)) for implementation in (autograd, closed_form))
    for part, other in zip(expected.gradient, found.gradient, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-9, atol=1e-12)
    assert expected.free_steps.tolist() == found.free_steps.tolist() == [7] * 6
    assert expected.nudged_steps.tolist() == found.nudged_steps.tolist() == [4] * 6 * stencil(estimator).nudged_phases


def test_measuring_an_update_leaves_the_weights_as_they_are() -> None:
    for implementation in (AutogradEP(CONV), ClosedForm(CONV, Adaptive(1e-3, 50, 50))):
        closed_form = ClosedForm(CONV, FixedSteps(1, 1))
        implementation.load(closed_form.network.parameters)
        x, target = (part.float() for part in minibatch())
        first, second = (implementation.update(x, target, stencil("centered")) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first.gradient, second.gradient, strict=True))


@pytest.mark.parametrize("config", [MLP, AVERAGE], ids=["mlp", "average-pooling"])
def test_every_relaxation_has_the_same_limit_where_there_is_one_equilibrium(config: TrialConfig) -> None:
    parameters = ClosedForm(config, FixedSteps(1, 1), torch.float64).network.parameters
    adaptive = limit(Adaptive(1e-2, 5, 5))
    references = [
        full_convergence(config, parameters, relaxation, [minibatch()], ("standard",))[0] for relaxation in (SYNCHRONOUS, adaptive)
    ]
    assert [reference.unconverged["standard"] for reference in references] == [0, 0]
    torch.testing.assert_close(references[0].gradients["standard"], references[1].gradients["standard"], rtol=1e-6, atol=1e-9)
    patient = ClosedForm(config, FixedSteps(400, 400), torch.float64)
    gradient = patient.update(*minibatch(), stencil("standard")).gradient
    assert agreement(gradient, references[0].gradients["standard"]).relative_error < 1e-6
    hasty = ClosedForm(config, FixedSteps(2, 1), torch.float64)
    gradient = hasty.update(*minibatch(), stencil("standard")).gradient
    assert agreement(gradient, references[0].gradients["standard"]).relative_error > 1e-3


def test_a_step_costs_two_products_a_connection_without_that_of_the_input() -> None:
    assert flops_per_step(PROTOCOLS["fashion-mnist"]) == 2 * 2 * (256 * 256 + 256 * 10)
    convolution, dense = 16 * 32 * 9 * 14 * 14, 32 * 7 * 7 * 10
    assert flops_per_step(PROTOCOLS["fashion-conv"]) == 2 * 2 * (convolution + dense)
    for name in ("mnist", "fashion-mnist", "fashion-conv"):
        found = operations(PROTOCOLS[name], 4)
        assert sum(operation.flops for operation in found) == 4 * flops_per_step(PROTOCOLS[name])


@pytest.mark.parametrize("config", [MLP, CONV, CONV.replace(stride=2, padding=0, pooling="none", channels=(3,))])
def test_all_backends_of_an_operation_compute_the_same_shape(config: TrialConfig) -> None:
    for operation in operations(config, 4):
        shapes = {tuple(np.shape(call())) for call in operation.backends.values()}
        assert len(shapes) == 1, operation.name


def test_the_share_of_products_counts_those_of_torch_and_of_numpy_alone() -> None:
    a = torch.randn(300, 300)

    def only(name: str) -> Callable[[], object]:
        return {"torch": lambda: a @ a, "numpy": lambda: np.matmul(a.numpy(), a.numpy()), "neither": lambda: torch.sort(a)}[name]

    assert share_in_products(only("torch")) > 0.5
    assert share_in_products(only("numpy")) > 0.5
    assert share_in_products(only("neither")) == 0


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks and minibatches that take no time."""
    mlp = PROTOCOLS["fashion-mnist"].replace(sizes=(784, 12, 8, 10), batch_size=16, T1=9, T2=3)
    conv = PROTOCOLS["fashion-conv"].replace(channels=(2, 3), batch_size=16, train_samples=160, T1=9, T2=3)
    cifar = PROTOCOLS["cifar10"].replace(channels=(2, 2, 3), batch_size=8, T1=9, T2=3)
    monkeypatch.setattr(relaxation_benchmark, "PROTOCOLS", {"fashion-mnist": mlp, "fashion-conv": conv, "cifar10": cifar})
    monkeypatch.setattr(relaxation_benchmark, "FREE_STEPS", {"fashion-conv": 11})
    monkeypatch.setattr("studies.benchmarking.products.ROUNDS", 1)
    monkeypatch.setattr("studies.benchmarking.products.SHORTEST_ROUND", 1e-6)


def run(official_files: Callable[..., object], tmp_path: Path, *options: str) -> Path:
    files = official_files("fashion-mnist", train=200, test=10)
    out = tmp_path / "out"
    code = relaxation_benchmark.main(["--data-dir", str(files.data_dir), "--out", str(out), *options])  # type: ignore[attr-defined]
    assert code == 0
    return out


@pytest.mark.usefixtures("small")
def test_a_run_has_a_row_for_each_implementation_side_by_side(official_files: Callable[..., object], tmp_path: Path) -> None:
    threads = [1, 2] if len(os.sched_getaffinity(0)) > 1 else [1]
    options = f"--protocol fashion-mnist fashion-conv cifar10 --updates 0 2 --repetitions 2 --threads {' '.join(map(str, threads))}"
    out = run(official_files, tmp_path, *options.split())
    table = pd.read_csv(out / "results.csv")
    cases = table.groupby(["protocol", "threads", "updates", "estimator"])["implementation"].apply(list)
    assert len(cases) == 3 * len(threads) * 2 * 2
    assert all(found == ["autograd", "fixed", "adaptive"] for found in cases)
    assert (table[["milliseconds", "gflops", "best_gflops"]] > 0).all(axis=None)
    fixed = table[table["implementation"] != "adaptive"]
    conv = fixed["protocol"] == "fashion-conv"
    assert (fixed.loc[conv, "free_steps_mean"] == 11).all()
    assert (fixed.loc[~conv, "free_steps_p99"] == 9).all()
    by_name = fixed.pivot(index=["protocol", "threads", "updates", "estimator"], columns="implementation", values="gradient_error")
    np.testing.assert_allclose(by_name["autograd"], by_name["fixed"], rtol=0.05, atol=1e-3)
    speed = with_speed(table)
    assert (speed.loc[speed["implementation"] == "autograd", "speed"] == 1).all()
    steps = table.pivot(index=["protocol", "updates", "estimator", "implementation"], columns="threads", values="free_steps_mean")
    np.testing.assert_allclose(steps[threads[0]], steps[threads[-1]], rtol=0.02)
    products = pd.read_csv(out / "products.csv")
    assert set(products["threads"]) == set(threads)
    assert set(products["protocol"]) == {"fashion-mnist", "fashion-conv", "cifar10"}
    assert json.loads((out / "study.json").read_text())["arguments"]["updates"] == [0, 2]
    assert (out / "speed.png").stat().st_size > 5000
    assert len(as_text(table).splitlines()) == 1 + len(table)


@pytest.mark.usefixtures("small")
def test_tolerances_are_measured_beside_fixed_steps(official_files: Callable[..., object], tmp_path: Path) -> None:
    out = run(
        official_files,
        tmp_path,
        *["--protocol", "fashion-mnist", "--updates", "1", "--repetitions", "1", "--no-own-limit", "--tolerances", "0.01", "0.000001"],
    )
    table = pd.read_csv(out / "results.csv")
    centered = table[table["estimator"] == "centered"]
    assert centered["implementation"].tolist() == ["fixed", "adaptive", "adaptive"]
    assert centered["tolerance"].tolist()[1:] == [0.01, 1e-6]
    assert centered["own_gradient_error"].isna().tolist() == [False, True, True]
    assert "nan" not in as_text(table)
    assert (out / "tolerances.pdf").exists()
    (axes,) = tolerances_figure(table).axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1e-6, 0.01])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--protocol", "digits"], "'digits'"),
        (["--protocol"], "--protocol"),
        (["--updates", "-1"], "-1"),
        (["--updates"], "--updates"),
        (["--tolerances", "0"], "--tolerances 0"),
        (["--tolerances", "nan"], "--tolerances nan"),
        (["--repetitions", "0"], "--repetitions 0"),
        (["--threads", "0"], "--threads 0"),
        (["--threads"], "--threads"),
        (["--threads", "100000"], "--threads 100000"),
        (["--updates", "many"], "many"),
        (["--data-dir", "/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_told_in_one_line(options: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert relaxation_benchmark.main([*options, "--out", str(tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert named in complaint
    assert not (tmp_path / "out").exists()


def test_results_are_not_written_over_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.csv").write_text("mine")
    assert relaxation_benchmark.main(["--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_stacks_are_timed_beside_one_network_alone(tmp_path: Path, official_files: Callable[..., object]) -> None:
    files = official_files("fashion-mnist", train=2600, test=128)
    argv = ["--protocol", "mnist", "--stack", "2", "3", "--data-dir", str(files.data_dir), "--out", str(tmp_path / "out")]  # type: ignore[attr-defined]
    assert relaxation_benchmark.main(argv) == 0
    times = pd.read_csv(tmp_path / "out" / "stacks.csv")
    assert times["networks"].tolist() == [1, 2, 3]
    assert np.allclose(times["milliseconds"], times["of_each"] * times["networks"])


def test_networks_that_cannot_be_stacked_are_not_timed_as_stacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert relaxation_benchmark.main(["--protocol", "mnist", "fashion-conv", "--stack", "4", "--out", str(tmp_path / "out")]) == 2
    assert "--protocol fashion-conv: networks of this protocol cannot be stacked" in capsys.readouterr().err
