"""`MLP`: fully connected EP networks as two blocks. Odd layers see only even ones and the reverse, so one matrix joins the halves."""

from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from hybridep.kernels import affine, take
from hybridep.networks.layered import Dynamics, LayeredNetwork, sum_by_sample


class MLP(LayeredNetwork):
    """Layers of `sizes[1:]` units on an input of `sizes[0]`: Φ = Σ_l s_l · (W_l s_{l−1} + b_l).

    The state is two blocks, the odd layers side by side [n, odd units] and the even ones [n, even units]. Layers that are not neighbours
    leave zeros in the matrix between the halves: none up to three layers, and few products are wasted up to six.
    """

    def __init__(
        self, sizes: tuple[int, ...], activation: str, cost: str, init_gain: float, generator: np.random.Generator, like: Tensor
    ) -> None:
        super().__init__(activation, cost)
        self._initialise([(above, below) for below, above in pairwise(sizes)], init_gain, generator, like)
        self._lay_out(sizes, like)

    def _lay_out(self, sizes: tuple[int, ...], like: Tensor, networks: tuple[int, ...] = ()) -> None:
        """Where each layer's units lie in the blocks, and the matrices between these; `networks` are axes that all have in front."""
        self.units = sizes[1:-1] if self.cost.has_readout else sizes[1:]
        self.columns: list[slice] = []
        widths = [0, 0]
        for number, units in enumerate(self.units):
            self.columns.append(slice(widths[number % 2], widths[number % 2] + units))
            widths[number % 2] += units
        self.to_even = like.new_zeros(*networks, widths[0], widths[1])
        self.to_odd = like.new_zeros(*networks, widths[1], widths[0])
        self.biases = (like.new_zeros(*networks, widths[0]), like.new_zeros(*networks, widths[1]))
        self.refresh()

    @property
    def last_block(self) -> int:
        """0 where the last layer of the dynamics is odd, 1 where it is even."""
        return (len(self.units) - 1) % 2

    def refresh(self) -> None:
        for number, columns in enumerate(self.columns):
            weight, bias = self.parameters[2 * number : 2 * number + 2]
            self.biases[number % 2][..., columns] = bias
            if number % 2 == 1:
                self.to_even[..., self.columns[number - 1], columns] = weight.mT
            elif number > 0:
                self.to_even[..., columns, self.columns[number - 1]] = weight
        # Both directions are kept contiguous: a thin matrix times a transposed one is several times slower.
        self.to_odd.copy_(self.to_even.mT)

    def derived(self) -> list[Tensor]:
        return [self.to_even, self.to_odd, *self.biases]

    def input_drive(self, x: Tensor) -> Tensor:
        drive = self.biases[0].repeat(x.shape[0], 1)
        drive[:, self.columns[0]] += x.flatten(1) @ self.parameters[0].T
        return drive

    def zeros(self, drive: Tensor) -> list[Tensor]:
        return [torch.zeros_like(drive), drive.new_zeros(drive.shape[0], self.biases[1].shape[-1])]

    def bind(
        self, drive: Tensor, state: list[Tensor], target: Tensor | None = None, beta: Tensor | None = None, at_rest: bool = False
    ) -> Dynamics:
        column = None if beta is None else beta[:, None]
        return MLPDynamics(self, drive, [block.clone() for block in state], target, column, at_rest)

    def layer_states(self, state: list[Tensor]) -> list[Tensor]:
        return [state[number % 2][:, columns] for number, columns in enumerate(self.columns)]

    def phi(self, x: Tensor, layers: list[Tensor]) -> Tensor:
        below = [x.flatten(1), *layers]
        pairs = zip(self.parameters[0::2], self.parameters[1::2], below, layers, strict=False)
        return torch.stack([(self.driven(s_below, weight.mT, bias) * s).sum(dim=1) for weight, bias, s_below, s in pairs]).sum(dim=0)

    def apart(self, rows: Tensor) -> Tensor:
        """Rows [rows, ...] as products take them: of a stack, network by network, [networks, rows of each, ...]."""
        return rows

    def driven(self, below: Tensor, weight: Tensor, drive: Tensor, out: Tensor | None = None) -> Tensor:
        """below · weight + drive, perhaps into `out`; below [rows, a], weight [a, b], drive [rows, b] or [b]."""
        return below @ weight + drive if out is None else affine(below, weight, drive, out)

    def by_sample(self, rows: Tensor, n: int, samples: Tensor | None) -> Tensor:
        """Rows [rows, units] summed over the states of each of n samples; `samples` as in `parameter_gradient`."""
        return sum_by_sample(rows, n, samples)

    def parameter_gradient(self, x: Tensor, state: list[Tensor], weights: Tensor, samples: Tensor | None = None) -> list[Tensor]:
        odd, even = map(self.apart, state)
        row_weights = self.apart(weights)
        weighted = odd * row_weights[..., None]
        joint = weighted.mT @ even
        sums = (weighted.sum(dim=-2), (row_weights[..., None, :] @ even)[..., 0, :])
        first = self.by_sample(weighted[..., self.columns[0]], x.shape[0], samples)
        gradient = [first.mT @ self.apart(x.flatten(1)), sums[0][..., self.columns[0]]]
        for number in range(1, len(self.units)):
            below, columns = self.columns[number - 1], self.columns[number]
            gradient.append(joint[..., below, columns].mT if number % 2 == 1 else joint[..., columns, below])
            gradient.append(sums[number % 2][..., columns])
        return gradient


class MLPDynamics(Dynamics):
    """Two buffers a block: an update writes the new values into the spare one and swaps."""

    carries = True

    def __init__(self, network: MLP, drive: Tensor, state: list[Tensor], target: Tensor | None, beta: Tensor | None, at_rest: bool) -> None:
        self.network = network
        self.weights = [network.to_odd, network.to_even]
        self.whole = drive, target, beta
        self.restart(state)
        self.at_rest = at_rest

    def restart(self, state: list[Tensor]) -> None:
        drive, self.target, self.beta = self.whole
        self.drives = [drive, self.network.biases[1]]
        self.share = None if self.beta is None else self.network.nudged_share(self.beta)
        self.state = state
        self.previous = [torch.empty_like(block) for block in state]
        self.at_rest = False

    def _update(self, block: int, other: Tensor, factor: float | None = None) -> None:
        """Move one block by factor · (ρ(∂Φ/∂s) − s), all the way in a synchronous step; the new values go over its previous ones."""
        new = self.network.driven(other, self.weights[block], self.drives[block], out=self.previous[block])
        if self.beta is not None and self.target is not None and block == self.network.last_block:
            columns = self.network.columns[-1]
            pull = self.network.cost.pull(self.state[block][:, columns], self.target, self.network.readout)
            new[:, columns].addcmul_(pull, self.beta)
        self._accept(block, self.network.activate_(new), factor)

    def _accept(self, block: int, new: Tensor, factor: float | None) -> None:
        old = self.state[block]
        if factor is not None and self.share is not None and block == self.network.last_block:
            columns = self.network.columns[-1]
            new[:, columns] = torch.lerp(old[:, columns], new[:, columns], self.share)
        weight = self.weight(1.0 if factor is None else factor)
        if isinstance(weight, Tensor):
            torch.lerp(old, new, weight[:, None], out=new)
        elif weight != 1.0:
            torch.lerp(old, new, weight, out=new)
        self.state[block], self.previous[block] = new, old

    def step(self) -> None:
        odd = self.state[0]
        self._update(0, self.state[1])
        self._update(1, odd)

    def sweep(self, factor: float = 1.0) -> None:
        # The half that the perturbation enters goes first: the input drives layer 1, the nudge the last layer.
        first = 0 if self.beta is None else self.network.last_block
        if self.at_rest:
            self._perturb(first)
        else:
            self._update(first, self.state[1 - first], factor)
        self._update(1 - first, self.state[first], factor)

    def _perturb(self, block: int) -> None:
        """The first half of the first sweep, without the product that a state at rest makes superfluous.

        A free phase starts from zeros, so that the drive is all that the odd layers see; a nudged one starts from the free equilibrium,
        where only the last layer sees something new.
        """
        self.at_rest = False
        new = self.previous[block]
        if self.beta is None or self.target is None:
            self.network.activate_(new.copy_(self.drives[block]))
        else:
            columns = self.network.columns[-1]
            last = self.network.driven(self.state[1 - block], self.weights[block][..., columns], self.drives[block][..., columns])
            last.addcmul_(self.network.cost.pull(self.state[block][:, columns], self.target, self.network.readout), self.beta)
            new.copy_(self.state[block])[:, columns] = self.network.activate_(last)
        self._accept(block, new, factor=1.0)

    def change(self) -> Tensor:
        changes = [(new - old).abs_().amax(dim=1) for new, old in zip(self.state, self.previous, strict=True) if new.shape[1]]
        return reduce(torch.maximum, changes)

    def keep(self, rows: Tensor) -> None:
        self.drives[0] = take(self.drives[0], rows)
        self.state = [take(block, rows) for block in self.state]
        self.previous = [torch.empty_like(block) for block in self.state]
        if self.target is not None and self.beta is not None:
            self.target, self.beta = self.target[rows], self.beta[rows]
            self.share = self.network.nudged_share(self.beta)

    def constants(self) -> list[Tensor]:
        return [self.drives[0], *(tensor for tensor in (self.target, self.beta, self.share) if tensor is not None)]

    def carried(self) -> list[Tensor]:
        return self.state

    def carry_on(self, carried: list[Tensor]) -> None:
        self.state = list(carried)
        self.previous = [torch.empty_like(block) for block in carried]
