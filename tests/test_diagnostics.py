"""The BPTT reference against two other ways to the same gradient, alignment as geometry, and the orders of bias that section 2 derives."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.datasets import load
from hybridep.diagnostics import (
    TO_REST,
    Biases,
    agreement,
    alignment,
    bptt_gradient,
    fit_order,
    free_phase,
    in_double,
    layer_agreements,
    mixture,
    norm,
    settled_bptt,
)
from hybridep.estimators import ESTIMATORS, averaging
from hybridep.images import Images
from hybridep.networks import LayeredNetwork, make_network
from hybridep.relaxation import Adaptive
from hybridep.streams import stream
from hybridep.trainer import Trainer

DOUBLE = torch.empty(0, dtype=torch.float64)
CONFIGURATIONS = {
    "mlp": TrialConfig(sizes=(64, 24, 16, 10)),
    "sigmoid": TrialConfig(sizes=(64, 24, 10), activation="sigmoid", init_gain=1.0),
    "cross-entropy": TrialConfig(sizes=(64, 24, 16, 10), cost="cross_entropy"),
    "conv": TrialConfig(network="conv", channels=(4, 6), sizes=(10,), pooling="average"),
    "max-pool": TrialConfig(network="conv", channels=(4,), sizes=(12, 10), cost="cross_entropy"),
}


def batch(config: TrialConfig, n: int) -> tuple[Tensor, Tensor]:
    digits = load("digits")
    images = Images(digits.train_images, digits.train_labels, digits.info, config, DOUBLE)
    x, labels = images.batch(torch.arange(n))
    return x, images.one_hot(labels)


def network_of(config: TrialConfig) -> LayeredNetwork:
    return make_network(config, stream(0, "initialisation"), DOUBLE)


@cache
def at_rest(name: str, n: int = 6) -> tuple[LayeredNetwork, Tensor, Tensor, list[Tensor]]:
    """A network, a batch of digits and their free equilibrium."""
    network = network_of(CONFIGURATIONS[name])
    x, target = batch(CONFIGURATIONS[name], n)
    _, free = free_phase(network, TO_REST, x)
    assert free.converged.all()
    return network, x, target, free.state


def step(network: LayeredNetwork, x: Tensor, layers: list[Tensor]) -> list[Tensor]:
    drives = torch.autograd.grad(network.phi(x, layers).sum(), layers, create_graph=True)
    return [network.activation(drive) for drive in drives]


def unrolled_gradient(network: LayeredNetwork, x: Tensor, target: Tensor, state: list[Tensor], steps: int) -> list[Tensor]:
    """Backpropagation as it is usually written: take the steps one after another, then differentiate the loss."""
    for parameter in network.parameters:
        parameter.requires_grad_()
    layers = [layer.clone().requires_grad_() for layer in network.layer_states(state)]
    for _ in range(steps):
        layers = step(network, x, layers)
    loss = network.cost.loss(layers[-1], target, network.readout).mean()
    gradient = torch.autograd.grad(loss, network.parameters, materialize_grads=True)
    for parameter in network.parameters:
        parameter.requires_grad_(False)
    return [-part for part in gradient]


def implicit_gradient(network: LayeredNetwork, x: Tensor, target: Tensor, state: list[Tensor]) -> list[Tensor]:
    """−∂L/∂θ by the implicit function theorem: a linear system with the whole Jacobian instead of a series of steps."""
    shapes = [layer.shape for layer in network.layer_states(state)]

    def unpacked(flat: Tensor) -> list[Tensor]:
        parts = flat.split([math.prod(shape) for shape in shapes])
        return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def stepped(flat: Tensor) -> Tensor:
        return torch.cat([layer.flatten() for layer in step(network, x, unpacked(flat))])

    for parameter in network.parameters:
        parameter.requires_grad_()
    flat = torch.cat([layer.flatten() for layer in network.layer_states(state)]).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(stepped, flat)
    loss = network.cost.loss(unpacked(flat)[-1], target, network.readout).mean()
    slopes = torch.autograd.grad(loss, [flat, *network.readout])
    adjoint = torch.linalg.solve(torch.eye(len(flat), dtype=flat.dtype) - jacobian.T, slopes[0])
    gradient = list(torch.autograd.grad(stepped(flat), network.parameters, adjoint, materialize_grads=True))
    for part, direct in zip(gradient[len(gradient) - len(slopes) + 1 :], slopes[1:], strict=True):
        part += direct
    for parameter in network.parameters:
        parameter.requires_grad_(False)
    return [-part for part in gradient]


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_bptt_is_backpropagation_through_the_last_free_steps(name: str, steps: int) -> None:
    network, x, target, state = at_rest(name)
    unrolled = unrolled_gradient(network, x, target, state, steps)
    assert agreement(bptt_gradient(network, x, target, state, steps), unrolled).relative_error < 1e-10


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bptt_through_enough_steps_is_the_exact_gradient_of_the_equilibrium(name: str) -> None:
    network, x, target, state = at_rest(name, n=2)
    settled = settled_bptt(network, x, target, state, tolerance=1e-13)
    exact = implicit_gradient(network, x, target, state)
    assert agreement(settled.gradient, exact).relative_error < 1e-10
    assert all(layer.relative_error < 1e-10 for layer in layer_agreements(settled.gradient, exact))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_bptt_points_down_the_loss_at_the_equilibrium(name: str) -> None:
    network, x, target, state = at_rest(name)
    gradient = settled_bptt(network, x, target, state, tolerance=1e-12).gradient
    moved, length = network_of(CONFIGURATIONS[name]), 1e-4
    for parameter, direction in zip(moved.parameters, gradient, strict=True):
        parameter += length * direction
    moved.refresh()
    _, free = free_phase(moved, TO_REST, x)
    gained = float((network.loss(state, target) - moved.loss(free.state, target)).mean())
    assert gained == pytest.approx(length * norm(gradient) ** 2, rel=1e-2)


def test_the_reference_takes_the_fewest_doublings_that_change_it_by_under_one_percent() -> None:
    network, x, target, state = at_rest("mlp")
    reference = settled_bptt(network, x, target, state, steps=1)

    def change(steps: int) -> float:
        once, twice = (bptt_gradient(network, x, target, state, k) for k in (steps, 2 * steps))
        return max(layer.relative_error for layer in layer_agreements(twice, once))

    assert reference.steps > 1
    assert reference.change == pytest.approx(change(reference.steps), rel=1e-6)
    assert reference.change < 0.01 <= change(reference.steps // 2)
    assert agreement(reference.gradient, bptt_gradient(network, x, target, state, reference.steps)).relative_error < 1e-12


def test_a_given_number_of_steps_is_kept_and_its_change_told() -> None:
    network, x, target, state = at_rest("mlp")
    reference = settled_bptt(network, x, target, state, steps=2, limit=2)
    assert reference.steps == 2
    assert reference.change > 0.01


def test_a_reference_from_lost_weights_ends_and_is_not_a_number() -> None:
    network, x, target, state = at_rest("mlp")
    assert math.isnan(settled_bptt(network, x, target, [block * math.nan for block in state]).change)


@pytest.mark.parametrize("steps", [0, -3])
def test_fewer_than_one_step_is_refused(steps: int) -> None:
    network, x, target, state = at_rest("mlp")
    with pytest.raises(ValueError, match=f"^steps {steps}: must be at least 1$"):
        bptt_gradient(network, x, target, state, steps)
    with pytest.raises(ValueError, match=f"^steps {steps}: must be at least 1$"):
        settled_bptt(network, x, target, state, steps=steps)


def test_the_reference_leaves_a_network_in_training_as_it_was() -> None:
    trainer = Trainer(TrialConfig(epochs=2, train_samples=64), load("digits"))
    undisturbed = Trainer(trainer.config, load("digits"))
    undisturbed.train_epoch()
    trainer.train_epoch()
    x, labels = trainer.images.batch(torch.arange(8))
    _, free = free_phase(trainer.network, trainer.relaxation, x)
    settled_bptt(trainer.network, x, trainer.images.one_hot(labels), free.state)
    with pytest.raises(RuntimeError):
        bptt_gradient(trainer.network, x, torch.zeros(3, 10), free.state, 1)
    assert not any(parameter.requires_grad for parameter in trainer.network.parameters)
    rows = [{**each.train_epoch(), "epoch_seconds": 0.0} for each in (trainer, undisturbed)]
    np.testing.assert_equal(*rows)


def test_a_double_precision_copy_has_the_same_weights_and_nearly_the_same_equilibrium() -> None:
    config = TrialConfig(sizes=(64, 24, 10), epochs=1, train_samples=64)
    trainer = Trainer(config, load("digits"))
    trainer.train_epoch()
    double = in_double(config, trainer.network)
    for parameter, trained in zip(double.parameters, trainer.network.parameters, strict=True):
        assert parameter.dtype == torch.float64
        assert torch.equal(parameter.float(), trained)
    x, _ = trainer.images.batch(torch.arange(8))
    _, single = free_phase(trainer.network, trainer.relaxation, x)
    _, precise = free_phase(double, trainer.relaxation, x.double())
    for a, b in zip(single.state, precise.state, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-4, rtol=0)


gradients = st.lists(st.floats(-10, 10), min_size=8, max_size=8).map(
    lambda values: [torch.tensor(values[at : at + 2], dtype=torch.float64) for at in range(0, 8, 2)]
)


@given(gradients, st.floats(0.1, 10))
def test_scaling_changes_the_error_but_not_the_cosine(gradient: list[Tensor], factor: float) -> None:
    if norm(gradient) < 1e-3:
        return
    found = agreement([factor * part for part in gradient], gradient)
    assert found.cosine == pytest.approx(1)
    assert found.relative_error == pytest.approx(abs(factor - 1), abs=1e-12)
    assert agreement([-part for part in gradient], gradient).cosine == pytest.approx(-1)


@given(gradients, gradients)
def test_layers_make_up_the_whole(one: list[Tensor], other: list[Tensor]) -> None:
    if any(norm(other[at : at + 2]) < 1e-3 for at in (0, 2)):
        return
    whole, layers = agreement(one, other), layer_agreements(one, other)
    assert len(layers) == 2
    parts = [layer.relative_error * norm(other[at : at + 2]) for layer, at in zip(layers, (0, 2), strict=True)]
    assert math.hypot(*parts) == pytest.approx(whole.relative_error * norm(other), abs=1e-9)
    assert -1 - 1e-12 <= whole.cosine <= 1 + 1e-12 or norm(one) == 0


def test_a_gradient_of_zero_has_no_direction() -> None:
    zero, one = [torch.zeros(3)], [torch.ones(3)]
    assert math.isnan(agreement(zero, one).cosine)
    assert agreement(zero, one).relative_error == 1
    assert agreement(one, zero).relative_error == math.inf
    assert agreement(zero, zero).relative_error == 0


def test_centered_aligns_better_than_standard_with_the_reference() -> None:
    network, x, target, state = at_rest("mlp")
    _, free = free_phase(network, TO_REST, x)
    reference = settled_bptt(network, x, target, state, tolerance=1e-12).gradient
    found = {name: alignment(network, TO_REST, ESTIMATORS.make(name), 0.2, x, target, free, reference) for name in averaging()}
    assert len(found["standard"].layers) == network.layers
    assert 0.9 < found["standard"].whole.cosine < found["centered"].whole.cosine <= 1
    assert found["fourth_order"].whole.relative_error < found["centered"].whole.relative_error < found["standard"].whole.relative_error
    drawn, positive, negative = (found[name] for name in ("random_sign", "standard", "negative"))
    for mean, *sides in zip(*([each.whole, *each.layers] for each in (drawn, positive, negative)), strict=True):
        assert mean.cosine == pytest.approx(np.mean([side.cosine for side in sides]))
        assert mean.relative_error == pytest.approx(np.mean([side.relative_error for side in sides]))


def test_an_estimator_whose_choices_average_out_in_the_limit_alone_has_no_alignment() -> None:
    network, x, target, _ = at_rest("mlp")
    _, free = free_phase(network, TO_REST, x)
    reference = bptt_gradient(network, x, target, free.state, 8)
    with pytest.raises(ValueError, match=r"^estimator part: its choices average out over many minibatches only$"):
        alignment(network, TO_REST, ESTIMATORS.make("part"), 0.2, x, target, free, reference)


def test_nudged_phases_that_are_cut_short_are_counted() -> None:
    network, x, target, state = at_rest("mlp")
    _, free = free_phase(network, TO_REST, x)
    reference = bptt_gradient(network, x, target, state, 8)
    cut_short = Adaptive(tolerance=1e-9, T1=1, T2=2)
    assert alignment(network, cut_short, ESTIMATORS.make("centered"), 0.2, x, target, free, reference).unconverged == 1
    assert alignment(network, TO_REST, ESTIMATORS.make("centered"), 0.2, x, target, free, reference).unconverged == 0


@cache
def biases(name: str) -> Biases:
    network, x, target, _ = at_rest(name, n=4)
    return Biases(network, x, target)


BETAS = np.logspace(-4, -0.5, 22)


@pytest.mark.parametrize(
    ("estimator", "order", "deviation"),
    [
        ("standard", 1, 0.1),
        ("negative", 1, 0.1),
        ("random_sign", 2, 0.15),
        ("alternating", 2, 0.15),
        ("split_sign", 2, 0.15),
        ("corrected", 2, 0.15),
        ("centered", 2, 0.15),
        ("second_order", 2, 0.15),
        ("fourth_order", 4, 0.4),
    ],
)
@pytest.mark.parametrize("name", ["mlp", "sigmoid", "cross-entropy", "conv"])
def test_bias_grows_with_beta_to_the_power_that_theory_gives(name: str, estimator: str, order: int, deviation: float) -> None:
    found = [biases(name).of(ESTIMATORS.make(estimator), beta) for beta in BETAS]
    kept = np.array([bias.at_rest for bias in found])
    values, noise = (np.array([getattr(bias, field) for bias in found])[kept] for field in ("norm", "noise"))
    law = fit_order(BETAS[kept], values, noise)
    assert ESTIMATORS.make(estimator).order == order
    assert law.order == pytest.approx(order, abs=deviation)


@pytest.mark.parametrize("name", ["mlp", "sigmoid", "cross-entropy", "conv", "max-pool"])
def test_centered_at_a_small_beta_is_the_bptt_gradient(name: str) -> None:
    bias = biases(name).of(ESTIMATORS.make("centered"), 1e-3)
    assert bias.at_rest
    assert bias.norm < 1e-4


def test_noise_bounds_what_is_left_where_the_bias_itself_has_vanished() -> None:
    bias = biases("mlp").of(ESTIMATORS.make("fourth_order"), 1e-5)
    assert 0 < bias.norm < 3 * bias.noise < 1e-6


def test_a_phase_that_does_not_come_to_rest_is_told() -> None:
    network, x, target, _ = at_rest("mlp", n=4)
    hurried = Biases(network, x, target, Adaptive(1e-14, T1=2_000, T2=3, over_relaxation=1.0))
    assert not hurried.of(ESTIMATORS.make("standard"), 0.1).at_rest
    assert biases("mlp").of(ESTIMATORS.make("standard"), 0.1).at_rest


def test_the_sign_drawn_for_each_minibatch_cancels_the_odd_orders_of_the_expected_update() -> None:
    drawn, centered = (biases("mlp").of(ESTIMATORS.make(name), 0.1).vector for name in ("random_sign", "centered"))
    assert agreement(drawn, centered).relative_error < 1e-6


@pytest.mark.parametrize("beta", [1e-3, 1e-2, 1e-1])
def test_the_hybrid_bias_is_linear_in_p_above_its_crossing_and_centered_below(beta: float) -> None:
    cheap, accurate = (biases("mlp").of(ESTIMATORS.make(name), beta) for name in ("standard", "centered"))

    def hybrid(p: float) -> float:
        return biases("mlp").norm(mixture(p, cheap.vector, accurate.vector))

    crossing = accurate.norm / cheap.norm
    # Eq. 13 puts the crossing at p = β; the constants it leaves out are G'' and G''' of this network.
    assert 0.1 < crossing / beta < 10
    assert hybrid(1) == pytest.approx(cheap.norm)
    assert hybrid(0) == pytest.approx(accurate.norm)
    assert hybrid(crossing / 100) == pytest.approx(accurate.norm, rel=0.02)
    if crossing < 0.02:
        assert hybrid(1) / hybrid(0.5) == pytest.approx(2, rel=0.05)


@given(st.floats(0.5, 5), st.floats(1e-3, 1e3))
def test_a_power_law_is_found_exactly(order: float, coefficient: float) -> None:
    betas = np.logspace(-4, 0, 25)
    law = fit_order(betas, coefficient * betas**order, np.zeros(25))
    assert (law.order, law.coefficient) == (pytest.approx(order), pytest.approx(coefficient))
    assert (law.low, law.high, law.points) == (pytest.approx(1e-4), pytest.approx(1e-3), 7)


def test_the_fit_keeps_clear_of_rounding_below_and_of_higher_orders_above() -> None:
    betas = np.logspace(-6, 0, 61)
    noise = 1e-12 / betas
    law = fit_order(betas, betas**2 + 30 * betas**4 + noise, noise)
    assert law.order == pytest.approx(2, abs=0.02)
    assert law.low**2 == pytest.approx(100 * 1e-12 / law.low, rel=1)
    assert law.high < 0.01


def test_a_sweep_that_rounding_swallows_has_no_order() -> None:
    betas = np.logspace(-4, 0, 25)
    law = fit_order(betas, np.full(25, 1e-12), np.full(25, 1e-12))
    assert math.isnan(law.order)
    assert law.points == 0
