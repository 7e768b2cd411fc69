"""Convolutional networks: dynamics, sweeps and gradients equal autograd on Φ for random shapes, pooling ties excluded by construction."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hybridep.estimators import stencil
from hybridep.networks import ConvNet
from hybridep.phases import estimate
from hybridep.relaxation import FixedSteps
from hybridep.streams import stream
from tests.oracle import (
    ACTIVATIONS,
    POOLS,
    STENCILS,
    Oracle,
    assert_kept_move_as_alone,
    assert_same_gradient,
    furthest,
    rows,
    sweep_factors,
    table,
)

EXAMPLES = settings(max_examples=60, deadline=None)
# Biases that put pre-activations inside the linear stretch of the hard sigmoids: saturated units are equal, and equal units tie in pooling.
CENTRES = {"tanh": 0.0, "sigmoid": 0.0, "hard_sigmoid": 1.0, "unit_hard_sigmoid": 0.5, "centered_hard_sigmoid": 0.0}


class Case:
    """A random network whose shapes are found by running torch's own layers, with a batch; None where a layer has no room left."""

    def __init__(
        self,
        image=(1, 9, 7),
        maps=(2, 3),
        dense=(5, 3),
        kernel=3,
        stride=1,
        padding=1,
        pooling="max",
        activation="tanh",
        cost="mse",
        n=3,
        seed=0,
        gain=0.5,
        dtype=torch.float64,
    ):
        generator = stream(seed, "initialisation")
        shapes, probe = [image], torch.zeros(1, *image)
        self.fits = True
        for count in maps:
            if min(probe.shape[2:]) + 2 * padding < kernel:
                self.fits = False
                return
            probe = F.conv2d(probe, torch.zeros(count, probe.shape[1], kernel, kernel), stride=stride, padding=padding)
            if pooling != "none" and min(probe.shape[2:]) < 2:
                self.fits = False
                return
            probe = POOLS[pooling](probe)
            shapes.append(tuple(probe.shape[1:]))
        shapes += [(units,) for units in dense]
        self.network = ConvNet(
            shapes,
            kernel=kernel,
            stride=stride,
            padding=padding,
            pooling=pooling,
            activation=activation,
            cost=cost,
            init_gain=gain,
            generator=generator,
            like=torch.empty(0, dtype=dtype),
        )
        for bias in self.network.parameters[1::2]:
            bias += CENTRES[activation]
        self.network.refresh()
        self.cost = cost
        self.oracle = Oracle.of(self.network, activation, cost, stride=stride, padding=padding, pooling=pooling)
        self.x = torch.from_numpy(generator.normal(size=(n, *image))).to(dtype)
        self.target = F.one_hot(torch.from_numpy(generator.integers(0, dense[-1], size=n)), dense[-1]).to(dtype)
        self.drive = self.network.input_drive(self.x)
        low, high = self.network.lowest, self.network.highest
        inside = 0.05 * (high - low)
        self.random_state = [
            torch.from_numpy(generator.uniform(low + inside, high - inside, size=tuple(layer.shape))).to(dtype) for layer in self.zeros()
        ]

    def __repr__(self):
        return f"Case of {self.oracle}" if self.fits else "Case without room"

    def zeros(self) -> list[Tensor]:
        return self.network.zeros(self.drive)

    def bind(self, state, beta=None, at_rest=False):
        betas = None if beta is None else self.drive.new_full((len(self.x),), beta)
        return self.network.bind(self.drive, state, None if beta is None else self.target, betas, at_rest=at_rest)

    def untied(self, layers) -> bool:
        """Whether no two pre-activations of a pooling window are so close that rounding could choose between them."""
        if self.oracle.pooling != "max":
            return True
        gaps = []
        for z in self.oracle.preactivations(self.x, layers):
            if z.dim() == 4:
                windows = F.unfold(z.detach().flatten(0, 1)[:, None], 2, stride=2)
                top = windows.topk(2, dim=1).values
                gaps.append(float((top[:, 0] - top[:, 1]).min()))
        return min(gaps) > 1e-9


@st.composite
def cases(draw):
    case = Case(
        image=(draw(st.integers(1, 3)), draw(st.integers(5, 13)), draw(st.integers(5, 13))),
        maps=tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))),
        dense=(*draw(st.lists(st.integers(1, 6), max_size=2)), draw(st.integers(2, 4))),
        kernel=draw(st.integers(1, 4)),
        stride=draw(st.integers(1, 3)),
        padding=draw(st.integers(0, 2)),
        pooling=draw(st.sampled_from(sorted(POOLS))),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        cost=draw(st.sampled_from(["mse", "cross_entropy"])),
        n=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 2**32)),
    )
    assume(case.fits)
    return case


NUDGES = st.sampled_from([0.05, 0.35, 1.0, -0.1, -1.0])


@EXAMPLES
@given(cases(), NUDGES)
def test_a_step_from_any_state_equals_autograd_on_phi(case, beta):
    assume(case.untied(case.random_state))
    for nudge in (None, beta):
        dynamics = case.bind(case.random_state, nudge)
        dynamics.step()
        expected = case.oracle.step(case.x, case.random_state, case.target, nudge or 0.0)
        assert furthest(dynamics.state, expected) < 1e-12
        moved = torch.stack([(a - b).abs().flatten(1).amax(dim=1) for a, b in zip(expected, case.random_state, strict=True)]).amax(dim=0)
        torch.testing.assert_close(dynamics.change(), moved, rtol=0, atol=1e-12)


@EXAMPLES
@given(cases(), NUDGES, st.integers(1, 8))
def test_every_step_of_a_trajectory_equals_autograd_on_phi(case, beta, steps):
    expected = case.random_state
    for nudge in (None, beta):
        dynamics = case.bind(expected, nudge)
        for _ in range(steps):
            assume(case.untied(expected))
            expected = case.oracle.step(case.x, expected, case.target, nudge or 0.0)
            dynamics.step()
            assert furthest(dynamics.state, expected) < 1e-12


@EXAMPLES
@given(cases(), NUDGES, st.sampled_from([1.0, 1.25, 0.5]))
def test_a_sweep_is_the_two_halves_one_after_the_other(case, beta, factor):
    for nudge in (None, beta):
        state = case.random_state
        dynamics = case.bind(case.random_state, nudge)
        # Free phases are driven from the input side, nudged ones from the output side.
        first = 0 if nudge is None else (len(state) - 1) % 2
        for _ in range(2):
            before = state
            for half in (first, 1 - first):
                assume(case.untied(state))
                target = case.oracle.step(case.x, state, case.target, nudge or 0.0)
                moved_by = sweep_factors(factor, len(state), case.cost, nudge)
                state = [s + moved_by[i] * (t - s) if i % 2 == half else s for i, (s, t) in enumerate(zip(state, target, strict=True))]
            dynamics.sweep(factor)
            assert furthest(dynamics.state, state) < 1e-12
            moved = torch.stack([(a - b).abs().flatten(1).amax(dim=1) for a, b in zip(state, before, strict=True)]).amax(dim=0)
            torch.testing.assert_close(dynamics.change(), moved, rtol=0, atol=1e-12)


@EXAMPLES
@given(cases(), st.sampled_from(STENCILS), st.sampled_from([0.05, 0.35, 1.0, -0.35]), st.integers(1, 5))
def test_the_gradient_of_every_stencil_equals_autograd_on_phi(case, estimator, beta, T1):
    T2 = len(case.random_state) + 1  # so many that the nudge is felt in every layer
    relaxation = FixedSteps(T1, T2)
    free = relaxation.free(case.bind(case.random_state))
    nudging = table(estimator, len(case.x), beta)
    found, nudged = estimate(case.network, relaxation, nudging, case.x, case.drive, free, case.target)
    layers = case.oracle.relax(case.x, case.random_state, case.target, 0.0, T1)
    assume(case.untied(layers))
    for phase in range(stencil(estimator).nudged_phases):
        assume(case.untied(rows(nudged.state, slice(phase * len(case.x), (phase + 1) * len(case.x)))))
    expected, size = case.oracle.estimate(stencil(estimator), beta, case.x, layers, case.target, T2)
    assert_same_gradient(found, expected, size)


@EXAMPLES
@given(cases())
def test_phi_is_written_as_the_thesis_has_it(case):
    torch.testing.assert_close(
        case.network.phi(case.x, case.random_state), case.oracle.phi(case.x, case.random_state).detach(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("pooling", sorted(POOLS))
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 2, 0), (1, 1, 2), (2, 3, 1), (4, 2, 2)])
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_the_transpose_of_a_connection_is_its_adjoint_on_odd_and_even_sides(pooling, kernel, stride, padding, cost):
    for height, width in ((11, 12), (13, 10), (14, 14)):
        case = Case((2, height, width), (3,), (4,), kernel, stride, padding, pooling, cost=cost)
        below = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, height, width)))
        connection = case.network.connections[0]
        drive, choice = connection.forward(below)
        above = torch.randn(drive.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        bias = connection.bias.view(1, -1, 1, 1)
        # ⟨s, P(W∗x)⟩ = ⟨(P W)ᵀ s, x⟩; the bias passes through the pools unchanged.
        torch.testing.assert_close(
            (above * (drive - bias)).sum(), (connection.transpose(above, choice) * below).sum(), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("beta", [None, 0.5])
@pytest.mark.parametrize("move", ["step", "sweep"])
@pytest.mark.parametrize("pooling", sorted(POOLS))
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_the_samples_that_go_on_move_as_if_they_had_always_been_alone(beta, move, pooling, cost):
    case = Case(n=5, pooling=pooling, cost=cost, dense=(3,))
    selected = torch.tensor([3, 0, 4])
    betas = None if beta is None else torch.full((3,), beta, dtype=torch.float64)
    target = None if beta is None else case.target[selected]
    alone = case.network.bind(case.drive[selected], rows(case.random_state, selected), target, betas)
    assert_kept_move_as_alone(case.bind(case.random_state, beta), selected, alone, move)


@EXAMPLES
@given(cases(), st.sampled_from(["step", "sweep"]), st.sampled_from([1.0, 1.25]))
def test_a_first_move_from_rest_leaves_out_no_more_than_what_is_superfluous(case, first, factor):
    plain, short = case.bind(case.zeros()), case.bind(case.zeros(), at_rest=True)
    for move in (first, "sweep", "step"):
        for dynamics in (plain, short):
            dynamics.step() if move == "step" else dynamics.sweep(factor)
        assume(case.untied(plain.state))
        assert furthest(plain.state, short.state) < 1e-14
        torch.testing.assert_close(short.change(), plain.change(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("pooling", sorted(POOLS))
@pytest.mark.parametrize("beta", [0.35, -0.35])
@pytest.mark.parametrize("maps", [(2,), (2, 3), (2, 3, 2), (2, 2, 3, 2)])
def test_a_nudged_sweep_from_the_free_equilibrium_may_take_it_for_rest(maps, beta, pooling):
    case = Case((1, 40, 40), maps, (4, 3), pooling=pooling, activation="hard_sigmoid", gain=0.5)
    free = case.bind(case.zeros(), at_rest=True)
    for _ in range(500):
        free.step()
    disturbed = float(free.change().max())
    assert disturbed < 1e-9
    plain, short = case.bind(free.state, beta), case.bind(free.state, beta, at_rest=True)
    for _ in range(len(maps) + 2):
        plain.sweep(1.25)
        short.sweep(1.25)
        # What is left of the free phase's movement is all that the short first sweep does not see.
        assert furthest(plain.state, short.state) <= 1e-12 + 100 * disturbed
    assert furthest(short.state, free.state) > 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_image_like_layers_lie_with_their_channels_last(channels):
    case = Case((channels, 12, 12), (4, 6), (3,), activation="hard_sigmoid")
    dynamics = case.bind(case.zeros())
    dynamics.step()
    for layer in (case.drive, *dynamics.state[:2]):
        assert layer.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("beta", [None, 0.5])
def test_binding_copies_the_state_that_it_starts_from(beta):
    case = Case(activation="hard_sigmoid")
    state, drive = [layer.clone() for layer in case.random_state], case.drive.clone()
    dynamics = case.bind(state, beta)
    for _ in range(3):
        dynamics.step()
        dynamics.sweep(1.25)
    assert furthest([*state, case.drive], [*case.random_state, drive]) == 0


def test_steps_and_sweeps_may_follow_each_other():
    case = Case(maps=(2, 3, 2), image=(1, 17, 17))
    state, dynamics = case.random_state, case.bind(case.random_state)
    for move in ("sweep", "step", "sweep", "step", "step", "sweep", "sweep"):
        getattr(dynamics, move)()
        for half in (0, 1) if move == "sweep" else (None,):
            target = case.oracle.step(case.x, state, case.target)
            state = [t if half is None or number % 2 == half else s for number, (s, t) in enumerate(zip(state, target, strict=True))]
        assert furthest(dynamics.state, state) < 1e-12


def test_weights_changed_in_place_are_seen_after_refresh():
    case = Case()
    for parameter in case.network.parameters:
        parameter.mul_(0.5).add_(0.1)
    case.network.refresh()
    changed = Oracle.of(case.network, "tanh", "mse", padding=1, pooling="max")
    dynamics = case.network.bind(case.network.input_drive(case.x), case.random_state)
    dynamics.step()
    assert furthest(dynamics.state, changed.step(case.x, case.random_state, case.target)) < 1e-12


def test_pooling_drops_the_odd_row_and_column_at_the_far_side():
    for pooling in ("max", "average"):
        case = Case((1, 5, 5), (1,), (2,), kernel=1, padding=0, pooling=pooling)
        edge = torch.zeros(3, 1, 5, 5, dtype=torch.float64)
        edge[:, :, 4, :] = edge[:, :, :, 4] = 100.0
        assert torch.equal(case.network.input_drive(edge), case.network.input_drive(torch.zeros_like(edge)))


def test_fan_in_of_a_convolution_counts_its_kernel():
    case = Case((3, 13, 13), (64, 64), (2,), kernel=3, pooling="none", gain=0.5)
    for weight, fan_in in zip(case.network.parameters[:4:2], (27, 576), strict=True):
        assert 0.98 < float(weight.abs().max()) / (0.5 / np.sqrt(fan_in)) <= 1


@pytest.mark.parametrize("pooling", sorted(POOLS))
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
def test_float32_gradients_are_within_ten_roundings_of_float64_at_the_small_bench(pooling, cost):
    relaxation, beta = FixedSteps(30, 20), 0.35
    gradients = []
    for dtype, rounded in ((torch.float32, np.float32), (torch.float64, np.float64)):
        case = Case((1, 28, 28), (16, 32), (10,), pooling=pooling, activation="hard_sigmoid", cost=cost, n=4, seed=2, dtype=dtype)
        free = relaxation.free(case.bind(case.zeros()))
        nudging = table("centered", 4, beta, rounded)
        gradients.append(estimate(case.network, relaxation, nudging, case.x, case.drive, free, case.target)[0])
    _, size = case.oracle.estimate(stencil("centered"), beta, case.x, free.state, case.target, relaxation.T2)
    for single, double, terms in zip(*gradients, size, strict=True):
        assert single.dtype == torch.float32
        error = float((single.double() - double).norm())
        # Of the terms that cancel, because no difference can be finer; measured: 5 without pooling, 2.4 and 1.2 with.
        assert error < 10 * torch.finfo(torch.float32).eps * terms
        if pooling == "max":
            assert error < 3e-3 * float(double.norm())
