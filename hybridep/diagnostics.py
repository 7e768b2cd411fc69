"""How good a gradient estimate is: the BPTT reference, alignment with it, and orders of bias (thesis section 2 and Appendix B).

Every gradient here is a list with a tensor for each parameter, the mean over the batch of the direction that descends the loss. That is
the sign of `hybridep.phases.estimate`, so the reference is −∂L/∂θ.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.datasets import Dataset
from hybridep.estimators import Estimator
from hybridep.images import Images
from hybridep.networks import LayeredNetwork, make_network
from hybridep.nudging import Minibatch, Nudging
from hybridep.phases import estimate
from hybridep.relaxation import Adaptive, Equilibrium, Relaxation
from hybridep.streams import stream

Gradient = list[Tensor]
Floats = NDArray[np.float64]

# For float64. Not over-relaxed: a nudged output layer with squared error then comes to rest for β up to about 1 instead of 0.6.
TO_REST: Final = Adaptive(tolerance=1e-14, T1=2_000, T2=2_000, over_relaxation=1.0)


def in_double(config: TrialConfig, network: LayeredNetwork) -> LayeredNetwork:
    """A float64 copy of the network that `config` describes, with the weights of `network`."""
    like = torch.empty(0, dtype=torch.float64, device=network.parameters[0].device)
    double = make_network(config, stream(config.seed, "initialisation"), like)
    for parameter, trained in zip(double.parameters, network.parameters, strict=True):
        parameter.copy_(trained)
    double.refresh()
    return double


def free_phase(network: LayeredNetwork, relaxation: Relaxation, x: Tensor, start: list[Tensor] | None = None) -> tuple[Tensor, Equilibrium]:
    """The drive of x and its free equilibrium, relaxed from the state `start`, or from zeros."""
    drive = network.input_drive(x)
    return drive, relaxation.free(network.bind(drive, network.zeros(drive) if start is None else start))


# The BPTT reference


@contextmanager
def _differentiable(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Let autograd follow the parameters, which training keeps it away from."""
    for parameter in parameters:
        parameter.requires_grad_()
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


class _Backwards:
    """Backpropagation from the loss back through free steps s ← F(s) at an equilibrium.

    There every step is the same map at the same point, so that one graph of F serves them all and K may grow at no cost of memory:
    through K steps ∂L/∂θ = (∂F/∂θ)ᵀ Σ_{k<K} ((∂F/∂s)ᵀ)ᵏ ∂L/∂s.
    """

    def __init__(self, network: LayeredNetwork, x: Tensor, target: Tensor, state: list[Tensor]) -> None:
        self.parameters = network.parameters
        self.before = [layer.detach().clone().requires_grad_() for layer in network.layer_states(state)]
        drives = torch.autograd.grad(network.phi(x, self.before).sum(), self.before, create_graph=True)
        self.after = network.updated(self.before, drives)
        loss = network.cost.loss(self.before[-1], target, network.readout).mean()
        adjoints = torch.autograd.grad(loss, [*self.before, *network.readout], materialize_grads=True)
        self.adjoint = adjoints[: len(self.before)]
        # A readout outside the dynamics meets the loss directly, whatever K is.
        self.direct = adjoints[len(self.before) :]
        self.adjoints = [torch.zeros_like(adjoint) for adjoint in self.adjoint]
        self.steps = 0

    def through(self, steps: int) -> Gradient:
        """−∂L/∂θ through so many steps, at least as many as in the last call."""
        for _ in range(steps - self.steps):
            for total, adjoint in zip(self.adjoints, self.adjoint, strict=True):
                total += adjoint
            self.adjoint = torch.autograd.grad(self.after, self.before, self.adjoint, retain_graph=True, materialize_grads=True)
        self.steps = steps
        slopes = torch.autograd.grad(self.after, self.parameters, self.adjoints, retain_graph=True, materialize_grads=True)
        inside = len(slopes) - len(self.direct)
        return [slope.neg() for slope in slopes[:inside]] + [slope.neg() for slope in self.direct]


def bptt_gradient(network: LayeredNetwork, x: Tensor, target: Tensor, state: list[Tensor], steps: int) -> Gradient:
    """−∂L/∂θ by backpropagation through the last `steps` free steps, L the mean loss of the batch.

    `state` is the converged free equilibrium of x [n, channels, height, width], target is [n, classes]. ValueError for steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps {steps}: must be at least 1")
    with _differentiable(network.parameters):
        return _Backwards(network, x, target, state).through(steps)


@dataclass(frozen=True)
class Reference:
    """A BPTT gradient through `steps` steps, and by which fraction of its norm twice as many change it: the most over the layers."""

    gradient: Gradient
    steps: int
    change: float


def settled_bptt(
    network: LayeredNetwork,
    x: Tensor,
    target: Tensor,
    state: list[Tensor],
    tolerance: float = 0.01,
    steps: int = 8,
    limit: int = 2**12,
) -> Reference:
    """The BPTT gradient through `steps` steps, or the fewest doublings of it, that twice as many change by less than `tolerance`.

    Where no number up to `limit` is enough, the largest one tried, and its `change` tells. limit = steps measures a given number.
    """
    if steps < 1:
        raise ValueError(f"steps {steps}: must be at least 1")
    with _differentiable(network.parameters):
        backwards = _Backwards(network, x, target, state)
        gradient = backwards.through(steps)
        while True:
            doubled = backwards.through(2 * steps)
            change = float(np.max([layer.relative_error for layer in layer_agreements(doubled, gradient)]))
            # NaN, of a state that is not finite, ends the search too.
            if not change >= tolerance or 2 * steps > limit:
                return Reference(gradient, steps, change)
            gradient, steps = doubled, 2 * steps


# Alignment


@dataclass(frozen=True)
class Agreement:
    """Cosine similarity with a reference (NaN where either is zero), and distance from it as a fraction of its norm."""

    cosine: float
    relative_error: float


def agreement(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> Agreement:
    """How well a gradient agrees with a reference, all parameters together as one vector."""
    product = sum(float((a * b).sum()) for a, b in zip(gradient, reference, strict=True))
    lengths = norm(gradient) * norm(reference)
    return Agreement(product / lengths if lengths else math.nan, relative_norm(difference(gradient, reference), reference))


def layer_agreements(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> list[Agreement]:
    """The same for each layer, input side first: its weight and bias together."""
    return [agreement(gradient[at : at + 2], reference[at : at + 2]) for at in range(0, len(reference), 2)]


def norm(gradient: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in gradient))


def relative_norm(vector: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """‖vector‖ / ‖reference‖; of zero, nothing is 0 and anything else infinite."""
    length, whole = norm(vector), norm(reference)
    return length / whole if whole else (math.inf if length else length)


def difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> Gradient:
    return [one - other for one, other in zip(a, b, strict=True)]


def mixture(p: float, cheap: Sequence[Tensor], accurate: Sequence[Tensor]) -> Gradient:
    """p · cheap + (1 − p) · accurate: the expected hybrid update, or its bias (thesis eq. 11, 12)."""
    return [p * one + (1 - p) * other for one, other in zip(cheap, accurate, strict=True)]


@dataclass(frozen=True)
class Alignment:
    """Agreement of an estimator with a reference: all parameters together, and for each layer, input side first.

    `unconverged` is the fraction of its nudged phases that the relaxation policy did not bring to its tolerance.
    """

    whole: Agreement
    layers: list[Agreement]
    unconverged: float


def alignment(
    network: LayeredNetwork,
    relaxation: Relaxation,
    estimator: Estimator,
    beta: float,
    x: Tensor,
    target: Tensor,
    free: Equilibrium,
    reference: Sequence[Tensor],
) -> Alignment:
    """How well an estimator agrees with a reference on a batch, its nudged phases starting from `free`.

    Where the sign of β changes, the mean over the signs: what one minibatch can expect.
    """
    drive = network.input_drive(x)
    updates = averaging_uses(network, relaxation, estimator, beta, x, drive, free, target)
    whole = _mean([agreement(use.gradient, reference) for use in updates])
    layers = zip(*(layer_agreements(use.gradient, reference) for use in updates), strict=True)
    converged = torch.cat([use.nudged.converged for use in updates])
    return Alignment(whole, [_mean(layer) for layer in layers], float((~converged).double().mean()))


@dataclass(frozen=True)
class Use:
    """One use of an estimator: its table, ĝ, and the nudged equilibria of the table's rows."""

    nudging: Nudging
    gradient: Gradient
    nudged: Equilibrium


def averaging_uses(
    network: LayeredNetwork,
    relaxation: Relaxation,
    estimator: Estimator,
    beta: float,
    x: Tensor,
    drive: Tensor,
    free: Equilibrium,
    target: Tensor,
) -> list[Use]:
    """Uses of an estimator on one batch, one after the other, over which its signs average out, its memory having settled before.

    ValueError for an estimator whose choices average out in the limit alone.
    """
    if estimator.averages_over == 0:
        raise ValueError(f"estimator {estimator.name}: its choices average out over many minibatches only")
    own = estimator.fresh()
    generator = stream(0, "samples")
    uses = []
    for number in range(own.settles_after + own.averages_over):
        uniform = (number % own.averages_over + 0.5) / own.averages_over
        dtype = np.float64 if x.dtype == torch.float64 else np.float32
        nudging = own.nudging(Minibatch(len(x), beta, uniform, dtype=dtype), generator)
        gradient, nudged = estimate(network, relaxation, nudging, x, drive, free, target)
        uses.append(Use(nudging, own.refine(gradient), nudged))
    return uses[own.settles_after :]


def _mean(found: Sequence[Agreement]) -> Agreement:
    return Agreement(sum(one.cosine for one in found) / len(found), sum(one.relative_error for one in found) / len(found))


# Bias


@dataclass(frozen=True)
class Bias:
    """ĝ(β) − g* of the expected update, its `norm` and about what rounding alone makes of that, both as fractions of ‖g*‖.

    `at_rest` holds where every phase of every sample converged: elsewhere there is no ĝ(β) to speak of.
    """

    vector: Gradient
    norm: float
    noise: float
    at_rest: bool


class Biases:
    """Biases of estimators on one batch, with g* the BPTT gradient `reference` through so many steps that more change nothing.

    x [n, channels, height, width] and target [n, classes] are float64, as the network.
    """

    def __init__(self, network: LayeredNetwork, x: Tensor, target: Tensor, relaxation: Relaxation = TO_REST) -> None:
        self.network, self.x, self.target, self.relaxation = network, x, target, relaxation
        self.drive, self.free = free_phase(network, relaxation, x)
        self.reference = settled_bptt(network, x, target, self.free.state, tolerance=1e-13)
        # The same equilibrium reached from beyond gives numbers that differ by what rounding and relaxation leave open.
        _, again = free_phase(network, relaxation, x, [1.1 * block for block in self.free.state])
        other = bptt_gradient(network, x, target, again.state, self.reference.steps)
        here, there = (self._phase_gradient(equilibrium) for equilibrium in (self.free, again))
        precision = torch.finfo(x.dtype).eps
        self._phase_noise = max(norm(difference(here, there)), precision * norm(here))
        self._reference_noise = max(norm(difference(other, self.reference.gradient)), precision * norm(other))

    def _phase_gradient(self, equilibrium: Equilibrium) -> Gradient:
        n = self.x.shape[0]
        return self.network.parameter_gradient(self.x, equilibrium.state, self.drive.new_full((n,), 1 / n))

    def of(self, estimator: Estimator, beta: float) -> Bias:
        """The bias of the expected update: where the sign of β changes, of the mean over the signs."""
        uses = averaging_uses(self.network, self.relaxation, estimator, beta, self.x, self.drive, self.free, self.target)
        expected = [torch.stack(parts).mean(dim=0) for parts in zip(*(use.gradient for use in uses), strict=True)]
        vector = difference(expected, self.reference.gradient)
        # Errors of the phases add up like independent ones and are divided by β; that of g* stays as it is.
        squares = sum(float(np.square(use.nudging.weight * beta).sum()) for use in uses)
        frees = sum(float(np.square(use.nudging.free_weight * beta).sum()) for use in uses if use.nudging.free_weight is not None)
        spread = math.sqrt((squares + frees) * len(self.x)) / len(uses)
        noise = (spread * self._phase_noise / beta + self._reference_noise) / norm(self.reference.gradient)
        at_rest = all(bool(phases.converged.all()) for phases in (self.free, *(use.nudged for use in uses)))
        return Bias(vector, self.norm(vector), noise, at_rest)

    def norm(self, vector: Sequence[Tensor]) -> float:
        """‖vector‖ / ‖g*‖."""
        return relative_norm(vector, self.reference.gradient)


@dataclass(frozen=True)
class PowerLaw:
    """bias ≈ coefficient · β^order, fitted on `points` values of β from `low` to `high`; NaN where too few of them qualify."""

    order: float
    coefficient: float
    low: float
    high: float
    points: int


def fit_order(betas: Floats, biases: Floats, noise: Floats, clearance: float = 100.0, decades: float = 1.0, fewest: int = 4) -> PowerLaw:
    """The slope of log bias over log β where the leading term rules.

    The rule: β that rounding does not reach are those from the largest down to the last before bias < `clearance` · noise. Among them
    the next order of β matters least on the lowest `decades`, and these are fitted by least squares.
    """
    descending = np.argsort(betas)[::-1]
    clear = descending[np.logical_and.accumulate(biases[descending] >= clearance * noise[descending])]
    kept = clear[betas[clear] <= betas[clear].min(initial=np.inf) * 10**decades * (1 + 1e-9)]
    if len(kept) < fewest:
        return PowerLaw(math.nan, math.nan, math.nan, math.nan, len(kept))
    slope, intercept = np.polyfit(np.log(betas[kept]), np.log(biases[kept]), 1)
    return PowerLaw(float(slope), float(np.exp(intercept)), float(betas[kept].min()), float(betas[kept].max()), len(kept))


def diagnostic_batch(config: TrialConfig, dataset: Dataset, rows: Tensor) -> tuple[Tensor, Tensor]:
    """x and one-hot target of these training images, the same for all seeds, in float64."""
    images = Images(dataset.train_images, dataset.train_labels, dataset.info, config, torch.empty(0, dtype=torch.float64))
    x, labels = images.batch(rows)
    return x, images.one_hot(labels)
