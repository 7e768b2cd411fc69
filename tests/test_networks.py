"""Networks: the closed forms of MLPs of any depth equal autograd on Φ, and what every network promises about states, weights and costs."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.estimators import stencil
from hybridep.networks import MLP, make_network
from hybridep.phases import estimate
from hybridep.relaxation import FixedSteps
from hybridep.streams import stream
from tests.oracle import ACTIVATIONS, STENCILS, Oracle, assert_same_gradient, furthest, rows, sweep_factors, table

EXAMPLES = settings(max_examples=60, deadline=None)
FLOAT64 = torch.empty(0, dtype=torch.float64)


class Case:
    """A random MLP with a batch, in float64 unless told otherwise."""

    def __init__(self, sizes, activation="tanh", cost="mse", n=3, seed=0, gain=0.8, dtype=torch.float64):
        generator = stream(seed, "initialisation")
        self.network = MLP(tuple(sizes), activation, cost, gain, generator, torch.empty(0, dtype=dtype))
        self.cost = cost
        self.oracle = Oracle.of(self.network, activation, cost)
        self.x = torch.from_numpy(generator.normal(size=(n, 1, 1, sizes[0]))).to(dtype)
        self.target = F.one_hot(torch.from_numpy(generator.integers(0, sizes[-1], size=n)), sizes[-1]).to(dtype)
        self.drive = self.network.input_drive(self.x)
        low, high = self.network.lowest, self.network.highest
        self.random_state = [
            torch.from_numpy(generator.uniform(low, high, size=block.shape)).to(dtype) for block in self.network.zeros(self.drive)
        ]

    def zero_layers(self) -> list[Tensor]:
        return self.network.layer_states(self.network.zeros(self.drive))

    def bind(self, state, beta=None, at_rest=False):
        betas = None if beta is None else self.drive.new_full((len(self.x),), beta)
        return self.network.bind(self.drive, state, None if beta is None else self.target, betas, at_rest=at_rest)


CASES = st.builds(
    Case,
    # 2 to 6 layers of weights.
    sizes=st.lists(st.integers(1, 7), min_size=3, max_size=7).map(lambda sizes: [*sizes[:-1], sizes[-1] + 1]),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    cost=st.sampled_from(["mse", "cross_entropy"]),
    n=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    gain=st.sampled_from([0.5, 1.0, 1.5]),
)
NUDGES = st.sampled_from([0.05, 0.35, 1.0, -0.1, -1.0])


@EXAMPLES
@given(CASES, NUDGES, st.integers(1, 12))
def test_every_step_of_a_trajectory_equals_autograd_on_phi(case, beta, steps):
    for nudge in (None, beta):
        dynamics = case.bind(case.network.zeros(case.drive), nudge, at_rest=True)
        expected = case.zero_layers()
        for _ in range(steps):
            before, expected = expected, case.oracle.step(case.x, expected, case.target, nudge or 0.0)
            dynamics.step()
            assert furthest(case.network.layer_states(dynamics.state), expected) < 1e-12
            moved = torch.stack([(a - b).abs().amax(dim=1) for a, b in zip(expected, before, strict=True)]).amax(dim=0)
            torch.testing.assert_close(dynamics.change(), moved, rtol=0, atol=1e-12)


@EXAMPLES
@given(CASES, NUDGES)
def test_a_step_from_any_state_equals_autograd_on_phi(case, beta):
    dynamics = case.bind(case.random_state, beta)
    dynamics.step()
    expected = case.oracle.step(case.x, case.network.layer_states(case.random_state), case.target, beta)
    assert furthest(case.network.layer_states(dynamics.state), expected) < 1e-12


@EXAMPLES
@given(CASES, NUDGES, st.sampled_from([1.0, 1.25, 0.5]))
def test_a_sweep_is_the_two_halves_one_after_the_other(case, beta, factor):
    for nudge in (None, beta):
        state = case.network.layer_states(case.random_state)
        # Free phases are driven from the input side, nudged ones from the output side.
        first = 0 if nudge is None else (len(state) - 1) % 2
        for half in (first, 1 - first):
            target = case.oracle.step(case.x, state, case.target, nudge or 0.0)
            moved_by = sweep_factors(factor, len(state), case.cost, nudge)
            state = [s + moved_by[i] * (t - s) if i % 2 == half else s for i, (s, t) in enumerate(zip(state, target, strict=True))]
        dynamics = case.bind(case.random_state, nudge)
        dynamics.sweep(factor)
        assert furthest(case.network.layer_states(dynamics.state), state) < 1e-12
        moved = torch.cat([(a - b).abs() for a, b in zip(dynamics.state, case.random_state, strict=True)], dim=1).amax(dim=1)
        torch.testing.assert_close(dynamics.change(), moved, rtol=0, atol=1e-12)


@EXAMPLES
@given(CASES, st.sampled_from(STENCILS), st.sampled_from([0.05, 0.35, 1.0, -0.35]), st.integers(1, 10))
def test_the_gradient_of_every_stencil_equals_autograd_on_phi(case, estimator, beta, T1):
    T2 = len(case.zero_layers()) + 1  # so many that the nudge is felt in every layer
    relaxation = FixedSteps(T1, T2)
    free = relaxation.free(case.bind(case.network.zeros(case.drive)))
    nudging = table(estimator, len(case.x), beta)
    found, _ = estimate(case.network, relaxation, nudging, case.x, case.drive, free, case.target)
    layers = case.oracle.relax(case.x, case.zero_layers(), case.target, 0.0, T1)
    expected, size = case.oracle.estimate(stencil(estimator), beta, case.x, layers, case.target, T2)
    assert_same_gradient(found, expected, size)


@EXAMPLES
@given(CASES)
def test_phi_is_written_as_the_thesis_has_it(case):
    layers = case.network.layer_states(case.random_state)
    torch.testing.assert_close(case.network.phi(case.x, layers), case.oracle.phi(case.x, layers).detach(), rtol=0, atol=1e-12)
    betas = torch.linspace(-1, 1, len(case.x), dtype=torch.float64)
    expected = case.oracle.phi(case.x, layers) - betas * case.oracle.loss(layers, case.target)
    torch.testing.assert_close(case.network.nudged_phi(case.x, layers, case.target, betas), expected.detach(), rtol=0, atol=1e-12)


@EXAMPLES
@given(CASES, st.sampled_from([1.0, 1.25]))
def test_a_sweep_from_rest_leaves_out_no_more_than_what_is_superfluous(case, factor):
    zeros = case.network.zeros(case.drive)
    plain, short = case.bind(zeros), case.bind(zeros, at_rest=True)
    for sweep in range(3):
        plain.sweep(factor if sweep else 1.0)
        short.sweep(factor if sweep else 1.0)
        assert furthest(plain.state, short.state) < 1e-14


@EXAMPLES
@given(CASES, NUDGES)
def test_a_nudged_sweep_from_the_free_equilibrium_may_take_it_for_rest(case, beta):
    free = case.bind(case.network.zeros(case.drive))
    for _ in range(500):
        free.sweep()
    disturbed = float(free.change().max())
    plain, short = case.bind(free.state, beta), case.bind(free.state, beta, at_rest=True)
    for _ in range(3):
        plain.sweep()
        short.sweep()
    # What is left of the free phase's movement is all that the short first sweep does not see.
    assert furthest(plain.state, short.state) <= 1e-12 + 100 * disturbed


def test_binding_copies_the_state_that_it_starts_from():
    case = Case([4, 5, 6, 3])
    state = [block.clone() for block in case.random_state]
    for beta in (None, 0.5):
        dynamics = case.bind(state, beta)
        for _ in range(3):
            dynamics.step()
            dynamics.sweep(1.25)
        assert furthest(state, case.random_state) == 0


@pytest.mark.parametrize("beta", [None, 0.5])
@pytest.mark.parametrize("move", ["step", "sweep"])
def test_the_samples_that_go_on_move_as_if_they_had_always_been_alone(beta, move):
    case = Case([4, 5, 6, 5, 3], n=5)
    selected = torch.tensor([3, 0, 4])
    dynamics = case.bind(case.random_state, beta)
    getattr(dynamics, move)()
    dynamics.keep(selected)
    betas = None if beta is None else torch.full((3,), beta, dtype=torch.float64)
    alone = case.network.bind(
        case.drive[selected], rows(case.random_state, selected), None if beta is None else case.target[selected], betas
    )
    getattr(alone, move)()
    for _ in range(3):
        getattr(dynamics, move)()
        getattr(alone, move)()
        torch.testing.assert_close(dynamics.change(), alone.change(), rtol=0, atol=1e-14)
    assert furthest(dynamics.state, alone.state) < 1e-14


@pytest.mark.parametrize("sizes", [(5, 4, 3), (5, 4, 6, 3), (5, 4, 6, 2, 3), (5, 4, 6, 2, 7, 3)])
def test_weights_changed_in_place_are_seen_after_refresh(sizes):
    case = Case(sizes)
    for parameter in case.network.parameters:
        parameter.mul_(0.5).add_(0.1)
    case.network.refresh()
    changed = Oracle.of(case.network, "tanh", "mse")
    dynamics = case.network.bind(case.network.input_drive(case.x), case.random_state)
    dynamics.step()
    assert (
        furthest(case.network.layer_states(dynamics.state), changed.step(case.x, case.network.layer_states(case.random_state), case.target))
        < 1e-12
    )


def test_nudge_strengths_may_differ_between_samples():
    case = Case([4, 5, 3], n=3)
    betas = torch.tensor([0.0, 0.5, -1.0], dtype=torch.float64)
    dynamics = case.network.bind(case.drive, case.random_state, case.target, betas)
    dynamics.step()
    for sample, beta in enumerate(betas.tolist()):
        alone = case.bind(case.random_state, beta)
        alone.step()
        assert furthest(rows(dynamics.state, torch.tensor([sample])), rows(alone.state, torch.tensor([sample]))) == 0


# Costs


@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_the_pull_of_a_cost_is_its_negative_gradient(cost):
    case = Case([4, 5, 3], cost=cost, n=4)
    layers = [layer.clone() for layer in case.network.layer_states(case.random_state)]
    loss = case.oracle.loss([*layers[:-1], last := layers[-1].clone().requires_grad_()], case.target)
    torch.testing.assert_close(case.network.loss(case.random_state, case.target), loss.detach(), rtol=0, atol=1e-14)
    (slope,) = torch.autograd.grad(loss.sum(), last)
    torch.testing.assert_close(case.network.cost.pull(layers[-1], case.target, case.network.readout), -slope, rtol=0, atol=1e-14)


def test_scores_are_the_output_units_with_mse_and_the_readout_with_cross_entropy():
    squared, readout = Case([4, 5, 3]), Case([4, 5, 3], cost="cross_entropy")
    assert squared.network.layers == readout.network.layers == 2
    assert torch.equal(squared.network.scores(squared.random_state), squared.random_state[1])
    weight, bias = readout.network.readout
    hidden = readout.random_state[0]
    assert (hidden.shape[1], weight.shape, bias.shape) == (5, (3, 5), (3,))
    torch.testing.assert_close(readout.network.scores(readout.random_state), hidden @ weight.T + bias)


# Saturation


def test_saturation_is_the_fraction_of_hidden_units_within_a_hundredth_of_a_bound():
    case = Case([4, 4, 2], activation="sigmoid", n=2)
    hidden = torch.tensor([[0.0, 0.0099, 0.0101, 0.5], [0.9899, 0.9901, 1.0, 0.2]], dtype=torch.float64)
    output = torch.ones(2, 2, dtype=torch.float64)
    assert float(case.network.saturation([hidden, output])) == pytest.approx(4 / 8)
    case = Case([4, 4, 2], activation="tanh", n=2)
    assert float(case.network.saturation([2 * hidden - 1, output])) == pytest.approx(4 / 8)
    # With a readout there are no output units among the layers.
    case = Case([4, 4, 2, 2], activation="sigmoid", cost="cross_entropy", n=2)
    assert float(case.network.saturation([hidden, output])) == pytest.approx(8 / 12)


# Initial weights


def test_initial_weights_are_pytorchs_default_times_the_gain():
    network = make_network(TrialConfig(sizes=(64, 200, 10), init_gain=0.5), stream(3, "initialisation"), FLOAT64)
    for number, fan_in in enumerate((64, 200)):
        weight, bias = network.parameters[2 * number : 2 * number + 2]
        bound = 0.5 / math.sqrt(fan_in)
        # Uniform within the bound: the largest of many comes near it, and the deviation is bound / √3.
        assert 0.99 * bound < float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert abs(float(weight.mean())) < 4 * bound / math.sqrt(3 * weight.numel())
        assert 0.5 * bound < float(bias.abs().max()) <= bound


def test_initial_weights_are_the_same_in_both_precisions_and_follow_the_seed():
    def weights(seed, dtype, **values):
        return make_network(TrialConfig(**values), stream(seed, "initialisation"), torch.empty(0, dtype=dtype)).parameters

    for values in ({}, {"network": "conv", "channels": (3, 4), "sizes": (10,)}):
        double, single = weights(5, torch.float64, **values), weights(5, torch.float32, **values)
        assert all(torch.equal(a.float(), b) for a, b in zip(double, single, strict=True))
        assert not torch.equal(double[0], weights(6, torch.float64, **values)[0])
        scaled = weights(5, torch.float64, init_gain=1.0, **values)
        assert all(torch.equal(2 * a, b) for a, b in zip(double, scaled, strict=True))


# Precision


@pytest.mark.parametrize("estimator", ["standard", "centered", "fourth_order"])
def test_float32_gradients_are_within_1e_4_of_float64_at_the_fashion_mnist_protocol_and_no_worse_than_autograd(estimator):
    beta, relaxation = 0.1, FixedSteps(120, 12)

    def closed_form(case):
        free = relaxation.free(case.bind(case.network.zeros(case.drive)))
        nudging = table(estimator, len(case.x), beta, np.float32 if case.x.dtype == torch.float32 else np.float64)
        return estimate(case.network, relaxation, nudging, case.x, case.drive, free, case.target)[0]

    def autograd(case):
        free = case.oracle.relax(case.x, case.zero_layers(), case.target, 0.0, relaxation.T1)
        return case.oracle.estimate(stencil(estimator), beta, case.x, free, case.target, relaxation.T2)[0]

    single, double = (Case([784, 256, 256, 10], n=32, gain=0.5, seed=1, dtype=dtype) for dtype in (torch.float32, torch.float64))
    for found, slow, expected in zip(closed_form(single), autograd(single), closed_form(double), strict=True):
        assert found.dtype == torch.float32
        error, slow_error = (float((g.double() - expected).norm() / expected.norm()) for g in (found, slow))
        # Measured: 4e-5 in the first layer, 2e-7 in the last. Dividing differences by β costs what the rounding of states leaves.
        assert error < 1e-4
        assert error < 2 * slow_error + 1e-6
