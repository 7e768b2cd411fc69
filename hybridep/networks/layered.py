"""What every layered EP network offers: the primitive Φ, its closed-form dynamics s ← ρ(∂Φ/∂s), and its parameter gradients ∂Φ/∂θ."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from hybridep.kernels import ACTIVATIONS, take
from hybridep.networks.costs import COSTS


class Dynamics(ABC):
    """A network bound to a batch: the state and everything that stays constant while it relaxes.

    `state` is a list of blocks, each [n, ...]; relaxation updates them in place, and `change` tells by how much.
    """

    state: list[Tensor]
    # Whether a layer's update depends on its own state by a choice that it makes; sweeps then reach other equilibria than steps do.
    chooses: bool = False
    # Whether a free phase starts near an equilibrium, on whose branch, and with whose choices, it is to stay.
    warm: bool = False
    # Whether the methods below `restart` are there, with which a GPU relaxes in captured blocks.
    carries: bool = False
    # Whether a smaller batch is so much faster on a GPU that leaving samples behind is worth while.
    shrinks: bool = False

    @abstractmethod
    def step(self) -> None:
        """One synchronous update: every layer from the previous values of its neighbours (the thesis's step)."""

    @abstractmethod
    def sweep(self, factor: float = 1.0) -> None:
        """One block-wise update: the odd and the even layers in turn, each half from the newest other half.

        Each unit moves `factor` times as far as ρ(∂Φ/∂s) − s, over-relaxed where that is above 1; under a nudge β > 0 those of the last
        layer by 1 / (1 + β) of that, for the squared error makes them feed back on themselves with −β and would let them swing.
        """

    @abstractmethod
    def change(self) -> Tensor:
        """Largest absolute change of any unit that the last update made, for each sample, [n]."""

    @abstractmethod
    def keep(self, rows: Tensor) -> None:
        """Go on with these samples alone."""

    @abstractmethod
    def restart(self, state: list[Tensor]) -> None:
        """Go on with all samples that there were at first, from this state, which is taken over."""

    def constants(self) -> list[Tensor]:
        """What stays as it is while the batch relaxes, a row for each sample: [n, ...] each."""
        raise NotImplementedError

    def carried(self) -> list[Tensor]:
        """What the next update depends on, a row for each sample: the state's blocks first."""
        raise NotImplementedError

    def carry_on(self, carried: list[Tensor]) -> None:
        """Go on from what `carried` gave on these dynamics, which is written over."""
        raise NotImplementedError

    # 1 for a sample that goes on, 0 for one that is held where it is, [n]; None where all go on.
    moving: Tensor | None = None

    def hold(self, moving: Tensor) -> None:
        """Move from here on only the samples where `moving` [n] is 1, and none where it is 0."""
        self.moving = moving
        self._weights: dict[float, Tensor] = {}

    def weight(self, factor: float) -> float | Tensor:
        """How far each sample's units move: `factor`, and not at all where it is held; [n] if they differ."""
        if self.moving is None:
            return factor
        if factor not in self._weights:
            self._weights[factor] = self.moving * factor
        return self._weights[factor]


class LayeredNetwork(ABC):
    """Layers 1…L on a static input, each connected to its neighbours alone: Φ = Σ_l s_l · forward_l(s_{l−1}).

    `parameters` holds weight and bias of each connection, input side first; with a readout cost the last pair is the readout.
    Initial values are PyTorch's default (uniform within 1/√fan-in) times `init_gain`, weights and biases alike.
    """

    # Whether a synchronous step is one of gradient descent on −`phi`, which lowers it where the step's size fits.
    descends: bool = False

    def __init__(self, activation: str, cost: str) -> None:
        self.activate_, self.lowest, self.highest = ACTIVATIONS[activation]
        self.activation = ORACLE_ACTIVATIONS[activation]
        self.cost = COSTS[cost]
        self.parameters: list[Tensor] = []

    @property
    def layers(self) -> int:
        """Number of connections that have weights, the readout included."""
        return len(self.parameters) // 2

    @property
    def readout(self) -> tuple[Tensor, ...]:
        return tuple(self.parameters[-2:]) if self.cost.has_readout else ()

    def _initialise(self, shapes: list[tuple[int, ...]], init_gain: float, generator: np.random.Generator, like: Tensor) -> None:
        for shape in shapes:
            bound = init_gain / math.sqrt(math.prod(shape[1:]))
            for size in (shape, shape[:1]):
                # Drawn in float64 on the CPU, so that every device and precision starts from the same weights.
                self.parameters.append(torch.from_numpy(generator.uniform(-bound, bound, size)).to(like))

    def refresh(self) -> None:
        """Renew what is derived from the parameters; call it after each change to them."""
        return None

    def derived(self) -> list[Tensor]:
        """What `refresh` renews, in place."""
        return []

    @abstractmethod
    def input_drive(self, x: Tensor) -> Tensor:
        """What the input x [n, channels, height, width] adds to ∂Φ/∂s: constant through all phases."""

    @abstractmethod
    def zeros(self, drive: Tensor) -> list[Tensor]:
        """The state that every free phase starts from."""

    @abstractmethod
    def bind(
        self, drive: Tensor, state: list[Tensor], target: Tensor | None = None, beta: Tensor | None = None, at_rest: bool = False
    ) -> Dynamics:
        """Dynamics from a copy of `state`, nudged by beta [n] towards target [n, classes] where these are given.

        `at_rest` promises that the state is zeros, or with a nudge the free equilibrium: the first sweep may then leave out work.
        """

    @abstractmethod
    def layer_states(self, state: list[Tensor]) -> list[Tensor]:
        """The state layer by layer, s_1 … s_L."""

    @abstractmethod
    def phi(self, x: Tensor, layers: list[Tensor]) -> Tensor:
        """Φ without the nudge, [n]; differentiable. The oracle that the closed forms are tested against."""

    @abstractmethod
    def parameter_gradient(self, x: Tensor, state: list[Tensor], weights: Tensor, samples: Tensor | None = None) -> list[Tensor]:
        """Σ weights · ∂Φ/∂θ over rows of states, without the readout; state [rows, ...], weights [rows].

        `samples` [rows] says of which sample of x each row is a state; where it is not given, the rows are whole minibatches, stacked.
        """

    def updated(self, layers: Sequence[Tensor], slopes: Sequence[Tensor]) -> list[Tensor]:
        """The layers after one synchronous step, `slopes` being ∂Φ/∂s: as autograd can follow it."""
        return [self.activation(slope) for slope in slopes]

    def nudged_share(self, beta: Tensor) -> Tensor:
        """What the last layer's moves in a sweep are multiplied by under a nudge, like beta: see `Dynamics.sweep`."""
        return 1 / (1 + self.cost.own_curvature * beta.clamp(min=0))

    def nudged_phi(self, x: Tensor, layers: list[Tensor], target: Tensor, beta: Tensor) -> Tensor:
        """Φ − βℓ, [n]."""
        return self.phi(x, layers) - beta * self.cost.loss(layers[-1], target, self.readout)

    def scores(self, state: list[Tensor]) -> Tensor:
        """[n, classes]."""
        return self.cost.scores(self.layer_states(state)[-1], self.readout)

    def loss(self, state: list[Tensor], target: Tensor) -> Tensor:
        """[n]."""
        return self.cost.loss(self.layer_states(state)[-1], target, self.readout)

    def saturation(self, state: list[Tensor]) -> Tensor:
        """Fraction of hidden units within 1 % of a bound of their activation, or lost to NaN; a scalar."""
        layers = self.layer_states(state)
        hidden = layers if self.cost.has_readout else layers[:-1]
        margin = 0.01 * (self.highest - self.lowest)
        free = sum(((s >= self.lowest + margin) & (s <= self.highest - margin)).sum() for s in hidden)
        return 1 - torch.as_tensor(free) / sum(s.numel() for s in hidden)

    def gradient(
        self, x: Tensor, state: list[Tensor], target: Tensor, weights: Tensor, betas: Tensor, samples: Tensor | None = None
    ) -> list[Tensor]:
        """ĝ = Σ weights · G(row) for each parameter: the direction that descends the loss.

        state [rows, ...]; weights and betas [rows], with a β of 0 for free states; target [n, classes] of x; `samples` as above.
        """
        gradient = self.parameter_gradient(x, state, weights, samples)
        if self.cost.has_readout:
            # Φ − βℓ depends on the readout through ℓ alone, so its G carries a factor β of its own.
            last = self.layer_states(state)[-1]
            targets = target.repeat(len(weights) // len(target), 1) if samples is None else target[samples]
            gradient += self.cost.readout_gradient(last, targets, weights * betas, self.readout)
        return gradient


def sum_by_sample(rows: Tensor, n: int, samples: Tensor | None) -> Tensor:
    """Rows [rows, ...] summed over the states of each of n samples, [n, ...]; `samples` as in `parameter_gradient`."""
    if samples is None:
        stacked: Tensor = rows.unflatten(0, (-1, n))  # not annotated by PyTorch
        return stacked.sum(dim=0)
    if rows.is_cuda:  # index_add_ adds there in any order
        chosen = torch.nn.functional.one_hot(samples, n).to(rows.dtype)
        product: Tensor = (chosen.T @ rows.flatten(1)).view(n, *rows.shape[1:])
        return product
    # Laid out as the rows are: images stay channels-last.
    sums = torch.zeros_like(take(rows, samples.new_zeros(n)))
    return sums.index_add_(0, samples, rows)


def hard_sigmoid(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.clamp(x - 1, -1, 1))


def unit_hard_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(x, 0, 1)


def centered_hard_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(x, -0.5, 0.5)


# Functions with a name, which networks that hold them can be pickled with.
ORACLE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "unit_hard_sigmoid": unit_hard_sigmoid,
    "centered_hard_sigmoid": centered_hard_sigmoid,
}
