"""`Graph`: a network of named layers and of edges between them, read from words and checked before PyTorch is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pydantic import Field

from hybridep.architectures import Convolutional, Shape, by, convolved
from hybridep.datasets import DatasetInfo
from hybridep.registry import worded

if TYPE_CHECKING:
    from torch import Tensor

    from hybridep.networks import LayeredNetwork

INPUT: Final = "x"
OUTPUT: Final = "y"
POOLINGS: Final = ("max", "average", "none")


@dataclass(frozen=True)
class Kernel:
    """What a convolution is made of beside its maps; see the fields of `Convolutional`."""

    side: int
    stride: int
    padding: int
    pooling: str


@dataclass(frozen=True)
class Edge:
    """A connection from the layer `below` to the one `above`; within one layer where both are the same. Without a kernel, each unit meets
    each.
    """

    below: str
    above: str
    kernel: Kernel | None = None

    @property
    def lateral(self) -> bool:
        return self.below == self.above


@dataclass(frozen=True)
class Wiring:
    """Layers by name, input first and output last, each with its shape, and the edges in the order of their weights."""

    shapes: dict[str, Shape]
    edges: tuple[Edge, ...]


class Graph(Convolutional, name="graph"):
    """Layers x (the input), c1, c2, … (`channels`), h1, h2, … and y (`sizes`), joined one after the other or by edges of their own."""

    sizes: tuple[int, ...] = Field((128, 10), description="the fully connected layers on top, output last")
    edges: tuple[str, ...] = Field(
        (),
        description="graph: in place of the chain x, c1, c2, ..., h1, h2, ..., y: every edge as below:above, as in x:h1 h1:y. "
        "A convolution may have its own kernel: c1:c2:kernel=5:stride=2:padding=0:pooling=none",
    )
    skip: tuple[str, ...] = Field((), description="graph: edges beside those of the chain, such as x:y")
    lateral: tuple[str, ...] = Field(
        (), description="graph: fully connected layers whose units are joined with each other, such as h1 (symmetric, none with itself)"
    )
    dynamics: Literal["primitive", "energy"] = Field(
        "primitive",
        description="graph: s ← ρ(∂Φ/∂s), the thesis's, or gradient steps on the energy of continuous Hopfield networks",
    )
    step_size: float = Field(0.5, ge=1e-6, le=1e3, description="graph: size ε of a gradient step when dynamics=energy")

    @property
    def layout(self) -> str:
        """`512-10`, with the edges that are no chain's: `512-10, skip x:y, lateral h1`."""
        parts = [worded((*self.channels, *self.sizes))]
        parts += [f"{name} {' '.join(words)}" for name in ("edges", "skip", "lateral") if (words := getattr(self, name))]
        return ", ".join(parts)

    def layer_shapes(self, info: DatasetInfo) -> list[Shape]:
        return list(self.wiring(info).shapes.values())

    def connections(self, info: DatasetInfo) -> int:
        return len(self.wiring(info).edges)

    def wiring(self, info: DatasetInfo) -> Wiring:
        """Layers and edges; ValueError, in one line, for an edge or a layer that does not fit."""
        chain = self._chain(info)
        hidden = [f"h{number}" for number in range(1, len(self.sizes))]
        names = [INPUT, *(f"c{number}" for number in range(1, len(self.channels) + 1)), *hidden, OUTPUT]
        shapes = dict(zip(names, chain, strict=True))
        words = [("edges", word) for word in self.edges] or [("", f"{a}:{b}") for a, b in pairwise(names)]
        words += [("skip", word) for word in self.skip]
        edges: list[Edge] = []
        for field, word in words:
            edge = self._edge(field, word, shapes)
            if any((edge.below, edge.above) == (other.below, other.above) for other in edges):
                raise ValueError(f"{field} {word}: joins {edge.below} and {edge.above}, which an edge joins already")
            edges.append(edge)
        self._check_paths(names, edges)
        if self.cost == "cross_entropy":
            edges = self._readout_last(names, edges)
        laterals = [self._lateral(name, shapes) for name in self.lateral]
        if len(set(laterals)) < len(laterals):
            raise ValueError(f"lateral {' '.join(self.lateral)}: must be different layers")
        last = edges[-1:] if self.cost == "cross_entropy" else []
        edges = [*edges[: len(edges) - len(last)], *laterals, *last]
        self._check_extent(chain, sum(_weights(edge, shapes) for edge in edges))
        return Wiring(shapes, tuple(edges))

    def _edge(self, field: str, word: str, shapes: dict[str, Shape]) -> Edge:
        names = list(shapes)
        below, _, rest = word.partition(":")
        above, *options = rest.split(":")
        for name in (below, above):
            if name not in shapes:
                raise ValueError(f"{field} {word}: layer {name!r} must be one of {', '.join(names)}")
        if above == INPUT:
            raise ValueError(f"{field} {word}: is a cycle through the input, which is given; must lead to one of {', '.join(names[1:])}")
        if below == above:
            raise ValueError(f"{field} {word}: joins a layer with itself; must be given as --lateral {above}")
        if names.index(below) > names.index(above):
            raise ValueError(f"{field} {word}: must lead from a layer to a later one, {above}:{below}, and acts both ways")
        if len(shapes[above]) == 1:
            if options:
                raise ValueError(f"{field} {word}: {above} is fully connected, must have no {options[0].partition('=')[0]}")
            return Edge(below, above)
        if len(shapes[below]) == 1:
            raise ValueError(f"{field} {word}: {above} has feature maps, must be reached from an image, not from {below}")
        kernel = self._kernel(field, word, options)
        try:
            made = convolved(shapes[below][1:], kernel.side, kernel.stride, kernel.padding, kernel.pooling)
        except ValueError as error:
            raise ValueError(f"{field} {word}: {error}") from None
        if made != shapes[above][1:]:
            raise ValueError(f"{field} {word}: makes maps of {by(made)}, must make {by(shapes[above][1:])}, as {above} is")
        return Edge(below, above, kernel)

    def _kernel(self, field: str, word: str, options: Sequence[str]) -> Kernel:
        values: dict[str, int | str] = {name: getattr(self, name) for name in ("kernel", "stride", "padding", "pooling")}
        for option in options:
            name, _, value = option.partition("=")
            if name not in values:
                raise ValueError(f"{field} {word}: {name or option!r} must be one of {', '.join(values)}, as in kernel=5")
            if name == "pooling":
                allowed, fits = ", ".join(POOLINGS), value in POOLINGS
            else:
                least = 0 if name == "padding" else 1
                allowed, fits = f"{least} to 1000", value.isascii() and value.isdecimal() and least <= int(value) <= 1000
            if not fits:
                raise ValueError(f"{field} {word}: {name} {value!r} must be {'one of ' if name == 'pooling' else ''}{allowed}")
            values[name] = value if name == "pooling" else int(value)
        return Kernel(int(values["kernel"]), int(values["stride"]), int(values["padding"]), str(values["pooling"]))

    def _lateral(self, name: str, shapes: dict[str, Shape]) -> Edge:
        dense = [own for own, shape in shapes.items() if len(shape) == 1 and own != INPUT]
        if self.cost == "cross_entropy":
            dense.remove(OUTPUT)
        if name not in shapes or name == INPUT:
            raise ValueError(f"lateral {name}: layer {name!r} must be one of {', '.join(dense)}")
        if name not in dense:
            what = "a readout beside the dynamics" if name == OUTPUT else f"{by(shapes[name])}, of feature maps"
            raise ValueError(f"lateral {name}: {name} is {what}; must be a fully connected layer, one of {', '.join(dense)}")
        return Edge(name, name)

    def _check_paths(self, names: list[str], edges: list[Edge]) -> None:
        reached = {INPUT}
        for name in names[1:]:
            if any(edge.above == name and edge.below in reached for edge in edges):
                reached.add(name)
                continue
            words = " ".join(self.edges)
            raise ValueError(f"edges {words}: layer {name} has no path from the input; must be reached from one of {', '.join(reached)}")

    def _readout_last(self, names: list[str], edges: list[Edge]) -> list[Edge]:
        last = names[-2]
        readouts = [edge for edge in edges if edge.above == OUTPUT]
        if [edge.below for edge in readouts] != [last] or last == INPUT:
            other = next((edge for edge in readouts if edge.below != last), readouts[0])
            raise ValueError(
                f"cost cross_entropy: its readout y stands beside the dynamics, must read {last} alone, not {other.below}"
                if last != INPUT
                else f"sizes {worded(self.sizes)} must name a layer below the readout when cost=cross_entropy"
            )
        return [edge for edge in edges if edge.above != OUTPUT] + readouts

    def make(self, info: DatasetInfo, generator: np.random.Generator, like: "Tensor") -> "LayeredNetwork":
        from hybridep.networks.graph import GraphNetwork

        return GraphNetwork(
            self.wiring(info),
            activation=self.activation,
            cost=self.cost,
            init_gain=self.init_gain,
            step_size=self.step_size if self.dynamics == "energy" else None,
            generator=generator,
            like=like,
        )


def _weights(edge: Edge, shapes: dict[str, Shape]) -> int:
    below, above = shapes[edge.below], shapes[edge.above]
    return prod(below) * prod(above) if edge.kernel is None else below[0] * above[0] * edge.kernel.side**2
