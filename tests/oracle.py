"""The physics in its plainest form: Φ and ℓ written out, everything else by autograd on them. The closed forms are tested against it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hybridep.estimators import ESTIMATORS, Stencil, StencilEstimator, stencil
from hybridep.networks import Dynamics, LayeredNetwork
from hybridep.nudging import Minibatch, Nudging

ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "hard_sigmoid": lambda x: 0.5 * (1 + torch.clamp(x - 1, -1, 1)),
    "unit_hard_sigmoid": lambda x: torch.clamp(x, 0, 1),
    "centered_hard_sigmoid": lambda x: torch.clamp(x, -0.5, 0.5),
}
STENCILS = tuple(dict.fromkeys(kind.stencil.name for kind in ESTIMATORS.values() if issubclass(kind, StencilEstimator)))
POOLS = {"none": lambda z: z, "average": lambda z: F.avg_pool2d(z, 2), "max": lambda z: F.max_pool2d(z, 2)}


@dataclass(frozen=True)
class Oracle:
    """A network's Φ = Σ_l s_l · P(W_l s_{l−1} + b_l) on its own copies of the parameters; layers above an image read it channels last."""

    parameters: list[Tensor]
    activation: str
    cost: str
    stride: int = 1
    padding: int = 0
    pooling: str = "none"

    @classmethod
    def of(cls, network: LayeredNetwork, activation: str, cost: str, **convolution) -> "Oracle":
        return cls([parameter.detach().clone().requires_grad_() for parameter in network.parameters], activation, cost, **convolution)

    def preactivations(self, x: Tensor, layers: Sequence[Tensor]) -> list[Tensor]:
        """W_l s_{l−1} + b_l before pooling, for each layer."""
        below, found = x, []
        for number, layer in enumerate(layers):
            weight, bias = self.parameters[2 * number : 2 * number + 2]
            if weight.dim() == 4:
                found.append(F.conv2d(below, weight, bias, stride=self.stride, padding=self.padding))
            else:
                found.append((below.flatten(1) if below is x else units(below)) @ weight.T + bias)
            below = layer
        return found

    def phi(self, x: Tensor, layers: Sequence[Tensor]) -> Tensor:
        drives = [POOLS[self.pooling](z) if z.dim() == 4 else z for z in self.preactivations(x, layers)]
        return sum((layer * drive).flatten(1).sum(dim=1) for layer, drive in zip(layers, drives, strict=True))

    def loss(self, layers: Sequence[Tensor], target: Tensor) -> Tensor:
        if self.cost == "mse":
            return 0.5 * ((layers[-1] - target) ** 2).sum(dim=1)
        weight, bias = self.parameters[-2:]
        return -(target * torch.log_softmax(units(layers[-1]) @ weight.T + bias, dim=1)).sum(dim=1)

    def nudged_phi(self, x: Tensor, layers: Sequence[Tensor], target: Tensor, beta: float) -> Tensor:
        return self.phi(x, layers) - beta * self.loss(layers, target)

    def step(self, x: Tensor, layers: Sequence[Tensor], target: Tensor, beta: float = 0.0) -> list[Tensor]:
        """s ← ρ(∂Φ/∂s), all layers at once."""
        leaves = [layer.detach().clone().requires_grad_() for layer in layers]
        drives = torch.autograd.grad(self.nudged_phi(x, leaves, target, beta).sum(), leaves)
        return [ACTIVATIONS[self.activation](drive) for drive in drives]

    def relax(self, x: Tensor, layers: Sequence[Tensor], target: Tensor, beta: float, steps: int) -> list[Tensor]:
        for _ in range(steps):
            layers = self.step(x, layers, target, beta)
        return list(layers)

    def slope(self, x: Tensor, layers: Sequence[Tensor], target: Tensor, beta: float) -> list[Tensor]:
        """G(β) = ∂Φ/∂θ, the nudge's part of Φ included, averaged over the batch (thesis eq. 1)."""
        total = self.nudged_phi(x, [layer.detach() for layer in layers], target, beta).mean()
        return list(torch.autograd.grad(total, self.parameters, materialize_grads=True))

    def estimate(
        self, estimator: Stencil, beta: float, x: Tensor, free: Sequence[Tensor], target: Tensor, steps: int
    ) -> tuple[list[Tensor], list[float]]:
        """ĝ = (1/β) Σ c_k G(b_k β), each nudged phase relaxed on its own, and for each parameter the size of the terms that cancel."""
        total = [torch.zeros_like(parameter) for parameter in self.parameters]
        size = [0.0] * len(total)
        for b, c in zip(estimator.nudges, estimator.coefficients, strict=True):
            state = self.relax(x, free, target, float(b) * beta, steps) if b else free
            for index, slope in enumerate(self.slope(x, state, target, float(b) * beta)):
                total[index] += float(c) / beta * slope
                size[index] += abs(float(c) / beta) * float(slope.norm())
        return total, size


def table(name: str, n: int, beta: float, dtype: type = np.float64) -> Nudging:
    """That of a stencil for n samples; a β below 0 is one of the other sign."""
    return stencil(name).nudging(Minibatch(n, abs(beta), dtype=dtype), 1 if beta > 0 else -1)


def units(layer: Tensor) -> Tensor:
    """[n, units], the channels of an image-like layer last."""
    return layer.permute(0, 2, 3, 1).flatten(1) if layer.dim() == 4 else layer


def assert_same_gradient(found: Sequence[Tensor], expected: Sequence[Tensor], size: Sequence[float], relative: float = 1e-10) -> None:
    """Each parameter's gradient within `relative` of the expected one's norm, and not finer than rounding leaves of its terms."""
    for index, (one, other, terms) in enumerate(zip(found, expected, size, strict=True)):
        assert one.shape == other.shape
        error, bound = float((one - other).norm()), relative * float(other.norm()) + 1e-14 * terms
        assert error <= bound, f"parameter {index}: off by {error}, {bound} allowed"


def rows(state: Sequence[Tensor], selected: Tensor) -> list[Tensor]:
    return [block[selected] for block in state]


def furthest(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Largest absolute difference of any unit."""
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True) if a.numel())


def assert_kept_move_as_alone(dynamics: Dynamics, selected: Tensor, alone: Dynamics, move: str) -> None:
    """Of a batch that has moved once, the selected samples go on as `alone`, dynamics of these from the same state, in four moves."""
    getattr(dynamics, move)()
    dynamics.keep(selected)
    getattr(alone, move)()
    for _ in range(3):
        getattr(dynamics, move)()
        getattr(alone, move)()
        torch.testing.assert_close(dynamics.change(), alone.change(), rtol=0, atol=1e-14)
    assert furthest(dynamics.state, alone.state) < 1e-14


def sweep_factors(factor: float, layers: int, cost: str, beta: float | None) -> list[float]:
    """How far a sweep moves each layer: the last one less under a nudge, whose squared error feeds back on it."""
    share = 1 / (1 + max(beta or 0.0, 0.0)) if cost == "mse" else 1.0
    return [factor] * (layers - 1) + [factor * share]
