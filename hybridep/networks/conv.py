"""`ConvNet`: convolutional EP networks with pooling inside Φ, Φ = Σ_l s_l · P(W_l ∗ s_{l−1} + b_l), and fully connected layers on top.

The convention is that of Laborieux et al. (2021): the pooling choice of every update follows the pre-activation of the current state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from hybridep.kernels import affine, flat, image_layout, laid_out, take, unflat, units
from hybridep.networks.layered import Dynamics, LayeredNetwork, sum_by_sample


class NoPool:
    """P is the identity."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        return z, None

    def transpose(self, s: Tensor, choice: Tensor | None, size: tuple[int, int]) -> Tensor:
        return s

    def oracle(self, z: Tensor) -> Tensor:
        return z


class AveragePool:
    """Mean over 2×2 windows."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        return F.avg_pool2d(z, 2), None

    def transpose(self, s: Tensor, choice: Tensor | None, size: tuple[int, int]) -> Tensor:
        spread = F.interpolate(s, scale_factor=2.0, mode="nearest").mul_(0.25)
        return F.pad(spread, (0, size[1] - spread.shape[3], 0, size[0] - spread.shape[2]))

    def oracle(self, z: Tensor) -> Tensor:
        return F.avg_pool2d(z, 2)


class MaxPool:
    """Maximum over 2×2 windows; the choice is the position of each maximum."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled, choice = F.max_pool2d(z, 2, return_indices=True)
        return pooled, choice

    def transpose(self, s: Tensor, choice: Tensor | None, size: tuple[int, int]) -> Tensor:
        assert choice is not None
        return F.max_unpool2d(s, choice, [2, 2], output_size=size)

    def oracle(self, z: Tensor) -> Tensor:
        return F.max_pool2d(z, 2)


Pool = NoPool | AveragePool | MaxPool
POOLS: dict[str, Callable[[], Pool]] = {"none": NoPool, "average": AveragePool, "max": MaxPool}


@dataclass(frozen=True)
class Convolution:
    """W ∗ s + b, pooled; s [n, c, h, w]. `shape` is that of the layer above, without n, and `size` the sides before pooling."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: int
    pool: Pool
    below: tuple[int, int]

    @property
    def chooses(self) -> bool:
        return isinstance(self.pool, MaxPool)

    @property
    def size(self) -> tuple[int, int]:
        height, width = ((side + 2 * self.padding - self.weight.shape[2]) // self.stride + 1 for side in self.below)
        return height, width

    def forward(self, s: Tensor) -> tuple[Tensor, Tensor | None]:
        z = F.conv2d(s, self.weight, self.bias, stride=self.stride, padding=self.padding)
        # A single channel has no layout of its own: what is made from it comes with channels first, which all that follows would inherit.
        return self.pool.forward(laid_out(z))

    def transpose(self, s: Tensor, choice: Tensor | None) -> Tensor:
        """∂(s · forward)/∂(layer below), with the pooling choice held."""
        size, kernel = self.size, self.weight.shape[2]
        rest = [b - ((a - 1) * self.stride - 2 * self.padding + kernel) for a, b in zip(size, self.below, strict=True)]
        spread = self.pool.transpose(s, choice, size)
        below = F.conv_transpose2d(spread, self.weight, stride=self.stride, padding=self.padding, output_padding=(rest[0], rest[1]))
        return laid_out(below)

    def gradient(self, below: Tensor, s: Tensor, choice: Tensor | None) -> list[Tensor]:
        """Σ over rows of ∂(s · forward)/∂(weight, bias)."""
        spread = self.pool.transpose(s, choice, self.size)
        weight = conv2d_weight(below, list(self.weight.shape), spread, stride=self.stride, padding=self.padding)
        return [weight, spread.sum(dim=(0, 2, 3))]

    def oracle(self, s: Tensor) -> Tensor:
        return self.pool.oracle(F.conv2d(s, self.weight, self.bias, stride=self.stride, padding=self.padding))


@dataclass(frozen=True)
class Dense:
    """W s + b on the layer below, flattened with its channels last: the order in which it lies in memory."""

    weight: Tensor
    bias: Tensor
    below: tuple[int, ...]
    chooses: ClassVar[bool] = False

    def forward(self, s: Tensor) -> tuple[Tensor, None]:
        # NumPy's product is twice as fast as PyTorch's on so few columns.
        return affine(flat(s), self.weight.T, self.bias, out=s.new_empty(len(s), len(self.bias))), None

    def transpose(self, s: Tensor, choice: None) -> Tensor:
        return laid_out(unflat(s @ self.weight, self.below))

    def gradient(self, below: Tensor, s: Tensor, choice: None) -> list[Tensor]:
        return [s.T @ flat(below), s.sum(dim=0)]

    def oracle(self, s: Tensor) -> Tensor:
        return F.linear(flat(s), self.weight, self.bias)


class ConvNet(LayeredNetwork):
    """Convolutions to `shapes[1], shapes[2], …` ([channels, height, width], as TrialConfig.layer_shapes gives) and dense layers above.

    The state is a list of layers. Image-like layers are kept channels-last: convolutions and pooling are several times faster so.
    """

    def __init__(
        self,
        shapes: list[tuple[int, ...]],
        kernel: int,
        stride: int,
        padding: int,
        pooling: str,
        activation: str,
        cost: str,
        init_gain: float,
        generator: np.random.Generator,
        like: Tensor,
    ) -> None:
        super().__init__(activation, cost)
        convolutional = [len(shape) == 3 for shape in shapes[1:]]
        weight_shapes: list[tuple[int, ...]] = [
            (above[0], below[0], kernel, kernel) if is_convolution else (above[0], torch.Size(below).numel())
            for below, above, is_convolution in zip(shapes, shapes[1:], convolutional, strict=False)
        ]
        self._initialise(weight_shapes, init_gain, generator, like)
        for index, is_convolution in enumerate(convolutional):
            if is_convolution:
                self.parameters[2 * index] = self.parameters[2 * index].contiguous(memory_format=image_layout(like))
        self.shapes = shapes[1:-1] if self.cost.has_readout else shapes[1:]
        pool = POOLS[pooling]()
        self.connections: list[Convolution | Dense] = []
        for index in range(len(self.shapes)):
            weight, bias = self.parameters[2 * index : 2 * index + 2]
            below = shapes[index]
            if convolutional[index]:
                self.connections.append(Convolution(weight, bias, stride, padding, pool, (below[1], below[2])))
            else:
                self.connections.append(Dense(weight, bias, below))

    def input_drive(self, x: Tensor) -> Tensor:
        return self.connections[0].forward(laid_out(x))[0]

    def zeros(self, drive: Tensor) -> list[Tensor]:
        return [laid_out(drive.new_zeros(drive.shape[0], *shape)) for shape in self.shapes]

    def bind(
        self, drive: Tensor, state: list[Tensor], target: Tensor | None = None, beta: Tensor | None = None, at_rest: bool = False
    ) -> Dynamics:
        return ConvDynamics(self, drive, list(state), target, beta, at_rest)

    def layer_states(self, state: list[Tensor]) -> list[Tensor]:
        return state

    def phi(self, x: Tensor, layers: list[Tensor]) -> Tensor:
        pairs = zip(self.connections, [x, *layers], layers, strict=False)
        return torch.stack([flat(connection.oracle(below) * s).sum(dim=1) for connection, below, s in pairs]).sum(dim=0)

    def parameter_gradient(self, x: Tensor, state: list[Tensor], weights: Tensor, samples: Tensor | None = None) -> list[Tensor]:
        weighted = [s * as_column(weights, s) for s in state]
        # The input and its pooling choice are the same in all phases, so their weighted states are added up first.
        below, above = laid_out(x), sum_by_sample(weighted[0], x.shape[0], samples)
        gradient = self._connection_gradient(0, below, above)
        for index in range(1, len(state)):
            gradient += self._connection_gradient(index, state[index - 1], weighted[index])
        return gradient

    def _connection_gradient(self, index: int, below: Tensor, above: Tensor) -> list[Tensor]:
        connection = self.connections[index]
        if isinstance(connection, Dense):
            return connection.gradient(below, above, None)
        choice = connection.forward(below)[1] if connection.chooses else None
        return connection.gradient(below, laid_out(above), choice)


class ConvDynamics(Dynamics):
    """Updated layer by layer; the pooling choices of the newest forward passes are kept for the way down."""

    carries = True
    shrinks = True

    def __init__(
        self, network: ConvNet, drive: Tensor, state: list[Tensor], target: Tensor | None, beta: Tensor | None, at_rest: bool
    ) -> None:
        self.network = network
        self.chooses = any(connection.chooses for connection in network.connections[1:])
        self.whole = drive, target, beta
        self.restart(state)
        self.at_rest = at_rest

    def restart(self, state: list[Tensor]) -> None:
        self.drive, self.target, self.beta = self.whole
        self.state = state
        self.previous = list(state)
        # On the way up from each layer, the one by which it then feels the layer above; None where it has yet to be made.
        self.choices: list[Tensor | None] = [None] * len(state)
        self.at_rest = False

    def _up(self, layer: int) -> Tensor:
        """The drive from the layer below, not to be written over; it also renews the choice of that layer."""
        if layer == 0:
            return self.drive
        up, self.choices[layer - 1] = self.network.connections[layer].forward(self.state[layer - 1])
        return up

    def _down(self, layer: int) -> Tensor:
        """The drive from the layer above, a new tensor."""
        connection = self.network.connections[layer + 1]
        if connection.chooses and self.choices[layer] is None:
            self._up(layer + 1)
        return connection.transpose(self.state[layer + 1], self.choices[layer])  # type: ignore[arg-type]

    def _response(self, layer: int, up: Tensor) -> Tensor:
        """ρ(∂Φ/∂s) of one layer, a new tensor."""
        if layer + 1 < len(self.state):
            return self.network.activate_(self._down(layer).add_(up))
        if self.beta is None or self.target is None:
            return self.network.activate_(up.clone())
        pull = self.network.cost.pull(self.state[layer], self.target, self.network.readout)
        return self.network.activate_(torch.addcmul(up, pull, as_column(self.beta, pull)))

    def _response_to_zeros(self, layer: int) -> Tensor:
        """The same where the neighbours are zeros and nothing nudges: a convolution of zeros is its bias, and a pool of that too."""
        if layer == 0:
            return self.network.activate_(self.drive.clone())
        bias = self.network.connections[layer].bias
        zeros = torch.zeros_like(self.state[layer])
        return self.network.activate_(zeros.add_(bias.view(-1, *[1] * (zeros.dim() - 2))))

    def step(self) -> None:
        layers = range(len(self.state))
        self.previous = self.state
        if self.at_rest and self.beta is None:
            self.state = [self._response_to_zeros(layer) for layer in layers]
        else:
            ups = [self._up(layer) for layer in layers]
            self.state = [self._response(layer, up) for layer, up in zip(layers, ups, strict=True)]
        if self.moving is not None:
            for old, new in zip(self.previous, self.state, strict=True):
                torch.lerp(old, new, as_column(self.moving, new), out=new)
        self.choices = [None] * len(self.state)
        self.at_rest = False

    def sweep(self, factor: float = 1.0) -> None:
        self.previous = list(self.state)
        # The half that the perturbation enters goes first: the input drives layer 1, the nudge the last layer.
        last = len(self.state) - 1
        first = 0 if self.beta is None else last % 2
        for half in (first, 1 - first):
            for layer in range(half, len(self.state), 2):
                if self.at_rest and self.beta is None and half == first:
                    self._move(layer, self._response_to_zeros(layer), factor)
                # From the free equilibrium a nudge has come no further than to the layer below the last one.
                elif not self.at_rest or self.beta is None or layer >= last - 1:
                    self._move(layer, self._response(layer, self._up(layer)), factor)
        self.at_rest = False

    def _move(self, layer: int, new: Tensor, factor: float) -> None:
        old = self.state[layer]
        weight = self.weight(factor)
        if self.beta is not None and layer + 1 == len(self.state):
            weight = weight * self.network.nudged_share(self.beta)
        if isinstance(weight, Tensor):
            torch.lerp(old, new, as_column(weight, new), out=new)
        elif weight != 1.0:
            torch.lerp(old, new, weight, out=new)
        self.state[layer] = new

    def change(self) -> Tensor:
        changes = [units((new - old).abs_()).amax(dim=1) for new, old in zip(self.state, self.previous, strict=True)]
        return reduce(torch.maximum, changes)

    def constants(self) -> list[Tensor]:
        return [self.drive, *(tensor for tensor in (self.target, self.beta) if tensor is not None)]

    def carried(self) -> list[Tensor]:
        return [*self.state, *(choice for choice in self.choices if choice is not None)]

    def carry_on(self, carried: list[Tensor]) -> None:
        layers = len(self.state)
        self.state = list(carried[:layers])
        chosen = iter(carried[layers:])
        self.choices = [None if choice is None else next(chosen) for choice in self.choices]

    def keep(self, rows: Tensor) -> None:
        self.drive = take(self.drive, rows)
        self.state = [take(s, rows) for s in self.state]
        self.previous = list(self.state)
        self.choices = [None if choice is None else take(choice, rows) for choice in self.choices]
        if self.target is not None and self.beta is not None:
            self.target, self.beta = self.target[rows], self.beta[rows]


def as_column(values: Tensor, s: Tensor) -> Tensor:
    """[n] as a column that broadcasts over s [n, ...]."""
    return values.view(-1, *[1] * (s.dim() - 1))
