"""`Architecture`: a network as configuration, its fields validated against a dataset's shape before PyTorch is imported."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from hybridep.datasets import DatasetInfo
from hybridep.registry import Entry, Registry, worded

if TYPE_CHECKING:
    from torch import Tensor

    from hybridep.networks import LayeredNetwork
    from hybridep.networks.stack import StackedMLP

ARCHITECTURES: "Registry[Architecture]" = Registry("network", "hybridep.graphs")

Activation = Literal["tanh", "sigmoid", "hard_sigmoid", "unit_hard_sigmoid", "centered_hard_sigmoid"]
Shape = tuple[int, ...]

# What a machine can be expected to hold: pixels along a kernel, units of a layer for one sample, weights of the network.
MOST_SIDE: Final = 1_000
MOST_UNITS: Final = 10**7
MOST_WEIGHTS: Final = 10**9


class Architecture(Entry):
    """What a network is made of. ValueError from `layer_shapes` names a layer that does not fit."""

    registry: ClassVar[Registry[Any]] = ARCHITECTURES

    sizes: tuple[int, ...] = Field(
        (64, 128, 10), description="mlp: input, hidden and output units; conv and graph: the fully connected layers on top, output last"
    )
    activation: Activation = Field("tanh", description="of every layer of the dynamics")
    init_gain: float = Field(0.5, ge=1e-12, le=1e6, description="factor on PyTorch's default initial weights and biases")
    cost: Literal["mse", "cross_entropy"] = Field(
        "mse", description="mse of output units, or cross_entropy of a readout beside the dynamics"
    )

    @abstractmethod
    def layer_shapes(self, info: DatasetInfo) -> list[Shape]:
        """Shapes of the input and of every layer after it, (channels, height, width) or (units,)."""

    @abstractmethod
    def make(self, info: DatasetInfo, generator: np.random.Generator, like: "Tensor") -> "LayeredNetwork":
        """The network, with initial weights drawn from `generator`, on the device and in the dtype of `like`."""

    def connections(self, info: DatasetInfo) -> int:
        """Number of connections that have weights, each with a learning rate of its own; the readout included."""
        return len(self.layer_shapes(info)) - 1

    @property
    def stacks(self) -> bool:
        """Whether several networks of this shape can be trained as one stack (`make_stack`)."""
        return False

    def make_stack(self, count: int, like: "Tensor") -> "StackedMLP":
        """So many networks of this shape as one, their parameters zeros."""
        raise NotImplementedError(f"network {self.name} has no stacks")

    @property
    def layout(self) -> str:
        """The numbers of maps and units in one word: `16-32-10`."""
        return worded(self.sizes)

    def _check_output(self, info: DatasetInfo) -> None:
        if not self.sizes:
            raise ValueError("sizes () must name the output at least")
        if any(size < 1 for size in self.sizes):
            raise ValueError(f"sizes {worded(self.sizes)} must be 1 or more each")
        if self.sizes[-1] != info.classes:
            raise ValueError(f"sizes {worded(self.sizes)} ends in {self.sizes[-1]}, but {info.name} has {info.classes} classes")

    def _check_extent(self, shapes: list[Shape], weights: int) -> list[Shape]:
        """The shapes; ValueError where a layer or all weights are more than a machine can be expected to hold."""
        largest = max(shapes, key=prod)
        if prod(largest) > MOST_UNITS:
            raise ValueError(f"{self.name} {self.layout}: a layer has {prod(largest):,} units, must have at most {MOST_UNITS:,}")
        if weights > MOST_WEIGHTS:
            raise ValueError(f"{self.name} {self.layout}: has {weights:,} weights, must have at most {MOST_WEIGHTS:,}")
        return shapes


class FullyConnected(Architecture, name="mlp"):
    """Fully connected layers, input first."""

    def layer_shapes(self, info: DatasetInfo) -> list[Shape]:
        self._check_output(info)
        pixels = prod(info.shape)
        if len(self.sizes) < 3:
            raise ValueError(f"sizes {worded(self.sizes)} must name the input, at least one hidden layer and the output")
        if self.sizes[0] != pixels:
            raise ValueError(f"sizes {worded(self.sizes)} starts with {self.sizes[0]}, but {info.name} has {pixels} pixels")
        return self._check_extent([(size,) for size in self.sizes], _dense(self.sizes))

    def make(self, info: DatasetInfo, generator: np.random.Generator, like: "Tensor") -> "LayeredNetwork":
        from hybridep.networks.mlp import MLP

        return MLP(self.sizes, self.activation, self.cost, self.init_gain, generator, like)

    @property
    def stacks(self) -> bool:
        return self.cost == "mse"  # a readout's products are those of one network

    def make_stack(self, count: int, like: "Tensor") -> "StackedMLP":
        from hybridep.networks.stack import StackedMLP

        return StackedMLP(self.sizes, self.activation, self.cost, count, like)


class Convolutional(Architecture, name="conv"):
    """Convolutions with pooling, and fully connected layers on top."""

    channels: tuple[int, ...] = Field((), description="feature maps of each convolution")
    kernel: int = Field(3, ge=1, le=MOST_SIDE, description="side of each convolution's kernel in pixels")
    stride: int = Field(1, ge=1, le=MOST_SIDE, description="pixels between two places of the kernel")
    padding: int = Field(1, ge=0, le=MOST_SIDE, description="pixels of zeros around the input of each convolution")
    pooling: Literal["max", "average", "none"] = Field("max", description="over 2×2 windows, after each convolution")

    @property
    def layout(self) -> str:
        return worded((*self.channels, *self.sizes))

    def layer_shapes(self, info: DatasetInfo) -> list[Shape]:
        if not self.channels:
            self._check_output(info)
            raise ValueError("channels () must name the feature maps of at least one convolution when network=conv")
        shapes = self._chain(info)
        kernels = sum(before * maps for before, maps in pairwise((info.shape[0], *self.channels))) * self.kernel**2
        return self._check_extent(shapes, kernels + _dense((prod(shapes[len(self.channels)]), *self.sizes)))

    def _chain(self, info: DatasetInfo) -> list[Shape]:
        """Shapes of the input, of the convolutions one after the other, and of the layers on top."""
        self._check_output(info)
        if any(count < 1 for count in self.channels):
            raise ValueError(f"channels {worded(self.channels)} must be 1 or more each")
        shapes: list[Shape] = [info.shape]
        for number, maps in enumerate(self.channels, start=1):
            _, *sides = shapes[-1]
            try:
                shapes.append((maps, *convolved(sides, self.kernel, self.stride, self.padding, self.pooling)))
            except ValueError as error:
                raise ValueError(f"convolution {number}: {error}") from None
        return shapes + [(size,) for size in self.sizes]

    def make(self, info: DatasetInfo, generator: np.random.Generator, like: "Tensor") -> "LayeredNetwork":
        from hybridep.networks.conv import ConvNet

        return ConvNet(
            self.layer_shapes(info),
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            pooling=self.pooling,
            activation=self.activation,
            cost=self.cost,
            init_gain=self.init_gain,
            generator=generator,
            like=like,
        )


def convolved(sides: Sequence[int], kernel: int, stride: int, padding: int, pooling: str) -> tuple[int, ...]:
    """Sides of what a convolution makes of an image with these, after pooling; ValueError where nothing is left."""
    if any(side + 2 * padding < kernel for side in sides):
        raise ValueError(f"kernel {kernel} is larger than its input {by(sides)} with padding {padding}")
    made = [(side + 2 * padding - kernel) // stride + 1 for side in sides]
    pooled = made if pooling == "none" else [side // 2 for side in made]
    if any(side < 1 for side in pooled):
        raise ValueError(f"its {by(made)} feature map pools to nothing")
    return tuple(pooled)


def _dense(sizes: tuple[int, ...]) -> int:
    return sum(before * after for before, after in pairwise(sizes))


def by(sides: Sequence[int]) -> str:
    """`16×14×14`."""
    return "×".join(map(str, sides))
