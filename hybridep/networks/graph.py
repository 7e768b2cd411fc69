"""`GraphNetwork`: layers joined by any edges, Φ = Σ_edges s_above · forward(s_below), lateral ones once a pair; groups updated at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hybridep.graphs import INPUT, OUTPUT, Wiring
from hybridep.kernels import flat, image_layout, laid_out, take, unflat
from hybridep.networks.conv import POOLS, Convolution, Dense, as_column
from hybridep.networks.layered import Dynamics, LayeredNetwork, sum_by_sample
from hybridep.networks.rules import Energy, Primitive, Rule

# The place of the input among the layers, which are counted from 0.
GIVEN: Final = -1


class Lateral:
    """W s within a layer, W symmetric with a zero diagonal: what is trained stands above it, [units, units], and 0 elsewhere."""

    def __init__(self, upper: Tensor) -> None:
        self.upper = upper
        self.weight = torch.empty_like(upper)
        self.refresh()

    def refresh(self) -> None:
        torch.add(self.upper, self.upper.T, out=self.weight)

    def forward(self, s: Tensor) -> Tensor:
        return s @ self.weight

    def gradient(self, s: Tensor, weighted: Tensor) -> Tensor:
        """Σ over rows of ∂(½ s · forward)/∂upper."""
        return torch.triu(weighted.T @ s, diagonal=1)

    def oracle(self, s: Tensor) -> Tensor:
        """Its product with s counts each pair once, where s · forward counts it twice."""
        return F.linear(s, torch.triu(self.upper, diagonal=1))


@dataclass(frozen=True)
class Joint:
    """A connection in its place: the layers that it joins, the number of its pair of parameters, and whether it has a bias of its own."""

    below: int
    above: int
    connection: Convolution | Dense
    number: int
    biased: bool

    @property
    def chooses(self) -> bool:
        return self.connection.chooses


class GraphNetwork(LayeredNetwork):
    """The network of a `Wiring`, as `Graph.wiring` has checked it.

    The state is a list of layers, image-like ones channels-last. The drive is what the input adds to the layers that it leads to, side by
    side, [n, units], their biases included. `parameters` holds a pair for each edge: the first that leads to a layer has the layer's bias,
    those of other edges are empty. `step_size` is that of the energy's dynamics; without one, the primitive's are meant.
    """

    def __init__(
        self,
        wiring: Wiring,
        activation: str,
        cost: str,
        init_gain: float,
        step_size: float | None,
        generator: np.random.Generator,
        like: Tensor,
    ) -> None:
        super().__init__(activation, cost)
        self.descends = step_size is not None
        self.rule: Rule = Primitive(activation) if step_size is None else Energy(activation, step_size)
        names = [name for name in wiring.shapes if name != INPUT and not (self.cost.has_readout and name == OUTPUT)]
        self.shapes = [wiring.shapes[name] for name in names]
        places = {INPUT: GIVEN, **{name: place for place, name in enumerate(names)}}
        self.joints: list[Joint] = []
        self.laterals: dict[int, tuple[Lateral, int]] = {}
        reached: set[str] = set()
        for number, edge in enumerate(wiring.edges):
            below, above = wiring.shapes[edge.below], wiring.shapes[edge.above]
            kernel = edge.kernel
            shape: tuple[int, ...] = (
                (above[0], torch.Size(below).numel()) if kernel is None else (above[0], below[0], kernel.side, kernel.side)
            )
            self._initialise([shape], init_gain, generator, like)
            weight, bias = self.parameters[-2:]
            own = edge.above not in reached
            reached.add(edge.above)
            if not own:
                self.parameters[-1], bias = bias[:0].clone(), torch.zeros_like(bias)
            if edge.lateral:
                self.parameters[-2] = weight.triu_(diagonal=1)
                self.laterals[places[edge.above]] = Lateral(weight), number
            elif edge.above in places:
                connection: Convolution | Dense
                if kernel is None:
                    connection = Dense(weight, bias, below)
                else:
                    weight = self.parameters[-2] = weight.contiguous(memory_format=image_layout(weight))
                    connection = Convolution(weight, bias, kernel.stride, kernel.padding, POOLS[kernel.pooling](), (below[1], below[2]))
                self.joints.append(Joint(places[edge.below], places[edge.above], connection, number, own))
        layers = range(len(names))
        self.from_input = [[joint for joint in self.joints if joint.above == layer and joint.below == GIVEN] for layer in layers]
        self.incoming = [[joint for joint in self.joints if joint.above == layer and joint.below != GIVEN] for layer in layers]
        self.outgoing = [[joint for joint in self.joints if joint.below == layer] for layer in layers]
        self.groups = colouring(len(names), [(joint.below, joint.above) for joint in self.joints if joint.below != GIVEN])
        self.columns: list[slice | None] = []
        units = 0
        for shape, joints in zip(self.shapes, self.from_input, strict=True):
            end = units + torch.Size(shape).numel() * bool(joints)
            self.columns.append(slice(units, end) if joints else None)
            units = end

    def refresh(self) -> None:
        for lateral, _ in self.laterals.values():
            lateral.refresh()

    def neighbours(self, layer: int) -> set[int]:
        """The layers that an edge joins with this one, itself where it has a lateral one."""
        joined = {joint.below for joint in self.incoming[layer]} | {joint.above for joint in self.outgoing[layer]}
        return joined | ({layer} & self.laterals.keys())

    def input_drive(self, x: Tensor) -> Tensor:
        x = laid_out(x)
        drives = [reduce(torch.add, [joint.connection.forward(x)[0] for joint in joints]) for joints in self.from_input if joints]
        return torch.cat([flat(drive) for drive in drives], dim=1) if len(drives) > 1 else flat(drives[0])

    def zeros(self, drive: Tensor) -> list[Tensor]:
        return [laid_out(drive.new_zeros(drive.shape[0], *shape)) for shape in self.shapes]

    def bind(
        self, drive: Tensor, state: list[Tensor], target: Tensor | None = None, beta: Tensor | None = None, at_rest: bool = False
    ) -> Dynamics:
        return GraphDynamics(self, drive, list(state), target, beta, at_rest)

    def layer_states(self, state: list[Tensor]) -> list[Tensor]:
        return state

    def phi(self, x: Tensor, layers: list[Tensor]) -> Tensor:
        return self.rule.phi(lambda felt: self._primitive(x, felt), layers)

    def updated(self, layers: Sequence[Tensor], slopes: Sequence[Tensor]) -> list[Tensor]:
        return [self.rule.updated(s, slope) for s, slope in zip(layers, slopes, strict=True)]

    def _primitive(self, x: Tensor, felt: list[Tensor]) -> Tensor:
        below = [*felt, x]  # the input's place is -1
        drives = [(joint.above, joint.connection.oracle(below[joint.below])) for joint in self.joints]
        drives += [(layer, lateral.oracle(felt[layer])) for layer, (lateral, _) in self.laterals.items()]
        return torch.stack([flat(drive * felt[layer]).sum(dim=1) for layer, drive in drives]).sum(dim=0)

    def parameter_gradient(self, x: Tensor, state: list[Tensor], weights: Tensor, samples: Tensor | None = None) -> list[Tensor]:
        felt = [self.rule.felt(s) for s in state]
        weighted = [s * as_column(weights, s) for s in felt]
        x = laid_out(x)
        # The input and its pooling choice are the same in all phases, so their weighted states are added up first.
        summed = {joint.above: sum_by_sample(weighted[joint.above], x.shape[0], samples) for joint in self.joints if joint.below == GIVEN}
        inside = len(self.parameters) - 2 * self.cost.has_readout
        gradient = [parameter.new_empty(0) for parameter in self.parameters[:inside]]
        for joint in self.joints:
            below, above = (x, summed[joint.above]) if joint.below == GIVEN else (felt[joint.below], weighted[joint.above])
            choice = joint.connection.forward(below)[1] if joint.chooses else None
            weight, bias = joint.connection.gradient(below, laid_out(above), choice)  # type: ignore[arg-type]
            gradient[2 * joint.number] = weight
            if joint.biased:
                gradient[2 * joint.number + 1] = bias
        for layer, (lateral, number) in self.laterals.items():
            gradient[2 * number] = lateral.gradient(felt[layer], weighted[layer])
        return gradient


def colouring(layers: int, edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of layers that no edge joins, each layer in the first group that has room for it, from the input upwards.

    >>> colouring(4, [(0, 1), (1, 2), (2, 3)])
    [[0, 2], [1, 3]]
    >>> colouring(3, [(0, 1), (1, 2), (0, 2)])
    [[0], [1], [2]]
    """
    joined = {frozenset(edge) for edge in edges}
    groups: list[list[int]] = []
    for layer in range(layers):
        free = (group for group in groups if not any(frozenset((layer, other)) in joined for other in group))
        found = next(free, None)
        if found is None:
            groups.append([layer])
        else:
            found.append(layer)
    return groups


class GraphDynamics(Dynamics):
    """Updated layer by layer; the pooling choices of the newest forward passes are kept for the way down."""

    carries = True

    def __init__(
        self, network: GraphNetwork, drive: Tensor, state: list[Tensor], target: Tensor | None, beta: Tensor | None, at_rest: bool
    ) -> None:
        self.network = network
        self.chooses = any(joint.chooses for joint in network.joints if joint.below != GIVEN)
        self.shrinks = any(isinstance(joint.connection, Convolution) for joint in network.joints if joint.below != GIVEN)
        self.whole = drive, target, beta
        self.restart(state)
        self.at_rest = at_rest
        if at_rest and beta is None and network.rule.silent_at_zero:
            self.silent.update(range(len(state)))

    def restart(self, state: list[Tensor]) -> None:
        self.drive, self.target, self.beta = self.whole
        self.state = state
        self.previous = list(state)
        # What the connections see of each layer, where it has been made; layers of which that is known to be zeros; the pooling choices of
        # each layer's way up, by the number of the joint.
        self.felt: list[Tensor | None] = [None] * len(state)
        self.silent: set[int] = set()
        self.choices: dict[int, Tensor | None] = {}
        self.at_rest = False

    def _felt(self, layer: int) -> Tensor:
        found = self.felt[layer]
        if found is None:
            found = self.felt[layer] = self.network.rule.felt(self.state[layer])
        return found

    def _up(self, joint: Joint) -> Tensor:
        """What a layer feels of one below it, a new tensor; it also renews the choice of the way down."""
        up, self.choices[joint.number] = joint.connection.forward(self._felt(joint.below))
        return up

    def _down(self, joint: Joint) -> Tensor:
        """What a layer feels of one above it, a new tensor."""
        if joint.chooses and self.choices.get(joint.number) is None:
            self._up(joint)
        return joint.connection.transpose(self._felt(joint.above), self.choices.get(joint.number))  # type: ignore[arg-type]

    def _ups(self, layer: int) -> list[Tensor]:
        """What a layer feels of those below it that are not silent, new tensors."""
        return [self._up(joint) for joint in self.network.incoming[layer] if joint.below not in self.silent]

    def _constants(self, layer: int) -> list[Tensor]:
        """What a layer feels of the input, and of a silent layer below it: the bias. Not to be written over."""
        shape, columns = self.network.shapes[layer], self.network.columns[layer]
        drives = [] if columns is None else [unflat(self.drive[:, columns], shape)]
        silent = (joint for joint in self.network.incoming[layer] if joint.biased and joint.below in self.silent)
        return drives + [joint.connection.bias.view(-1, *[1] * (len(shape) - 1)) for joint in silent]

    def _move(self, layer: int, ups: list[Tensor], factor: float | None = None) -> Tensor:
        """The next state of one layer, a new tensor; that of a sweep where a factor is given."""
        network, s = self.network, self.state[layer]
        parts = ups + [self._down(joint) for joint in network.outgoing[layer] if joint.above not in self.silent]
        if layer in network.laterals and layer not in self.silent:
            parts.append(network.laterals[layer][0].forward(self._felt(layer)))
        drive, *others = parts or [torch.zeros_like(s)]
        for other in (*others, *self._constants(layer)):
            drive.add_(other)
        pull, share = None, None
        if self.beta is not None and self.target is not None and layer == len(self.state) - 1:
            pull = network.cost.pull(s, self.target, network.readout).mul_(as_column(self.beta, s))
            share = as_column(network.nudged_share(self.beta), s)
        if factor is None:
            return network.rule.step(s, drive, pull)
        return network.rule.sweep(s, drive, pull, factor, share, layer in network.laterals)

    def _accept(self, layer: int, new: Tensor) -> None:
        if self.moving is not None:
            torch.lerp(self.state[layer], new, as_column(self.moving, new), out=new)
        self.state[layer] = new
        self.felt[layer] = None
        self.silent.discard(layer)
        for joint in self.network.outgoing[layer]:
            self.choices.pop(joint.number, None)

    def step(self) -> None:
        layers = range(len(self.state))
        self.previous = list(self.state)
        ups = [self._ups(layer) for layer in layers]
        for layer, new in enumerate([self._move(layer, ups[layer]) for layer in layers]):
            self._accept(layer, new)
        self.at_rest = False

    def sweep(self, factor: float = 1.0) -> None:
        self.previous = list(self.state)
        last = len(self.state) - 1
        groups = self.network.groups
        if self.beta is not None:
            # What the perturbation enters goes first: the input drives the first group, the nudge the last layer's.
            groups = sorted(groups, key=lambda group: last not in group)
        # From the free equilibrium, a nudge moves the last layer and whatever is joined to what has moved.
        moved: set[int] = set()
        for group in groups:
            going = group
            if self.at_rest and self.beta is not None:
                going = [layer for layer in group if layer == last or self.network.neighbours(layer) & moved]
            for layer in going:
                self._accept(layer, self._move(layer, self._ups(layer), factor))
            moved |= set(going)
        self.at_rest = False

    def change(self) -> Tensor:
        changes = [flat((new - old).abs_()).amax(dim=1) for new, old in zip(self.state, self.previous, strict=True)]
        return reduce(torch.maximum, changes)

    def constants(self) -> list[Tensor]:
        return [self.drive, *(tensor for tensor in (self.target, self.beta) if tensor is not None)]

    def carried(self) -> list[Tensor]:
        return [*self.state, *(choice for _, choice in sorted(self.choices.items()) if choice is not None)]

    def carry_on(self, carried: list[Tensor]) -> None:
        layers = len(self.state)
        self.state = list(carried[:layers])
        self.felt = [None] * layers
        chosen = iter(carried[layers:])
        self.choices = {number: None if choice is None else next(chosen) for number, choice in sorted(self.choices.items())}

    def keep(self, rows: Tensor) -> None:
        self.drive = take(self.drive, rows)
        self.state = [take(s, rows) for s in self.state]
        self.previous = list(self.state)
        self.felt = [None] * len(self.state)
        self.choices = {number: None if choice is None else take(choice, rows) for number, choice in self.choices.items()}
        if self.target is not None and self.beta is not None:
            self.target, self.beta = self.target[rows], self.beta[rows]
