"""The phases of an update: stacked phases are the same as single ones, and their difference descends the loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridep.estimators import stencil
from hybridep.networks import MLP, ConvNet, LayeredNetwork
from hybridep.phases import estimate
from hybridep.relaxation import Adaptive, FixedSteps
from hybridep.streams import stream
from tests.oracle import STENCILS, furthest, rows, table

FLOAT64 = torch.empty(0, dtype=torch.float64)


class Case:
    """A small network of either kind, a batch of it and its free equilibrium."""

    def __init__(self, kind, cost="mse", n=5, seed=0, relaxation=None):
        generator = stream(seed, "initialisation")
        if kind == "mlp":
            self.network: LayeredNetwork = MLP((24, 7, 6, 3), "tanh", cost, 0.8, generator, FLOAT64)
        else:
            shapes = [(1, 6, 4), (3, 3, 2), (5,), (3,)]
            self.network = ConvNet(shapes, 3, 1, 1, "max", "sigmoid", cost, 0.8, generator, FLOAT64)
        self.x = torch.from_numpy(generator.normal(size=(n, 1, 6, 4)))
        self.target = torch.nn.functional.one_hot(torch.from_numpy(generator.integers(0, 3, size=n)), 3).double()
        self.relaxation = relaxation or FixedSteps(10, 6)
        self.relax()

    def relax(self):
        self.drive = self.network.input_drive(self.x)
        self.free = self.relaxation.free(self.network.bind(self.drive, self.network.zeros(self.drive)))

    def estimate(self, estimator, beta):
        nudging = table(estimator, len(self.x), beta)
        return estimate(self.network, self.relaxation, nudging, self.x, self.drive, self.free, self.target)

    def loss(self):
        return float(self.network.loss(self.free.state, self.target).mean())


CASES = pytest.mark.parametrize(("kind", "cost"), [(kind, cost) for kind in ("mlp", "conv") for cost in ("mse", "cross_entropy")])
TO_REST = Adaptive(1e-13, 2000, 2000)


@CASES
@pytest.mark.parametrize("estimator", STENCILS)
def test_stacked_phases_are_those_relaxed_one_by_one(kind, cost, estimator):
    case, n = Case(kind, cost), 5
    _, nudged = case.estimate(estimator, 0.4)
    pushed = [float(b) for b in stencil(estimator).nudges if b]
    assert len(nudged.steps) == len(pushed) * n
    assert nudged.steps.tolist() == [6] * len(pushed) * n
    for phase, b in enumerate(pushed):
        betas = torch.full((n,), b * 0.4, dtype=torch.float64)
        single = case.relaxation.nudged(case.network.bind(case.drive, case.free.state, case.target, betas))
        selected = torch.arange(phase * n, (phase + 1) * n)
        assert furthest(rows(nudged.state, selected), single.state) < 1e-14
        torch.testing.assert_close(nudged.residual[selected], single.residual, rtol=0, atol=1e-14)


@CASES
def test_the_free_equilibrium_survives_its_nudged_phases(kind, cost):
    case = Case(kind, cost)
    before = [block.clone() for block in case.free.state]
    for relaxation in (case.relaxation, Adaptive(1e-6, 30, 30)):
        for estimator in STENCILS:
            case.relaxation = relaxation
            case.estimate(estimator, 0.4)
    assert furthest(before, case.free.state) == 0


@CASES
@pytest.mark.parametrize("estimator", ["standard", "second_order", "centered"])
def test_a_negative_sign_pulls_away_from_the_target_and_differences_the_other_way(kind, cost, estimator):
    case = Case(kind, cost)
    negative, pushed_away = case.estimate(estimator, -0.2)
    positive, pulled = case.estimate(estimator, 0.2)
    losses = [
        float(case.network.loss(rows(equilibrium.state, torch.arange(5)), case.target).mean()) for equilibrium in (pulled, pushed_away)
    ]
    assert losses[0] < case.loss() < losses[1]
    cosine = sum(float((a * b).sum()) for a, b in zip(negative, positive, strict=True))
    norms = [sum(float(a.square().sum()) for a in gradient) ** 0.5 for gradient in (negative, positive)]
    assert cosine > 0.5 * norms[0] * norms[1]
    if estimator == "centered":
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(negative, positive, strict=True))


@CASES
@pytest.mark.parametrize("estimator", ["standard", "centered", "second_order", "fourth_order"])
def test_for_small_nudges_the_estimate_is_minus_the_gradient_of_the_loss_at_equilibrium(kind, cost, estimator):
    case = Case(kind, cost, relaxation=TO_REST)
    gradient, _ = case.estimate(estimator, 1e-4)
    assert case.free.converged.all()
    relative = 1e-3 if estimator == "standard" else 1e-5
    for index, parameter in enumerate(case.network.parameters):
        # The loss itself, relaxed anew at weights moved a little along one direction: no state is differentiated.
        direction = torch.from_numpy(stream(index, "order").normal(size=tuple(parameter.shape)))
        start, slopes = parameter.clone(), []
        for step in (1e-4, -1e-4):
            parameter.copy_(start + step * direction)
            case.network.refresh()
            case.relax()
            slopes.append(case.loss() / 2e-4)
        parameter.copy_(start)
        case.network.refresh()
        case.relax()
        slope = slopes[0] - slopes[1]
        assert float((gradient[index] * direction).sum()) == pytest.approx(-slope, rel=relative, abs=1e-8)


@CASES
def test_the_estimate_is_a_mean_over_the_batch(kind, cost):
    case = Case(kind, cost, n=4)
    whole, _ = case.estimate("fourth_order", 0.3)
    single = [torch.zeros_like(parameter) for parameter in case.network.parameters]
    for sample in range(4):
        alone = Case(kind, cost, n=4)
        alone.x, alone.target = case.x[sample : sample + 1], case.target[sample : sample + 1]
        alone.relax()
        for total, gradient in zip(single, alone.estimate("fourth_order", 0.3)[0], strict=True):
            total += gradient / 4
    for one, other in zip(whole, single, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_nothing_is_learned_from_an_output_that_is_the_target(kind):
    case = Case(kind, relaxation=TO_REST)
    case.target = case.network.scores(case.free.state).clone()
    for estimator in STENCILS:
        gradient, _ = case.estimate(estimator, 0.5)
        assert max(float(part.abs().max()) for part in gradient) < 1e-11


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["mlp", "conv"]), st.sampled_from(["mse", "cross_entropy"]), st.floats(0.05, 1.0), st.integers(0, 1000))
def test_centered_is_the_mean_of_the_one_sided_estimates_of_both_signs(kind, cost, beta, seed):
    case = Case(kind, cost, seed=seed)
    standard, negative, centered = (
        case.estimate(*arguments)[0] for arguments in (("standard", beta), ("standard", -beta), ("centered", beta))
    )
    for plus, minus, middle in zip(standard, negative, centered, strict=True):
        torch.testing.assert_close((plus + minus) / 2, middle, rtol=1e-9, atol=1e-12)
