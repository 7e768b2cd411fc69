"""`StackedMLP`: many MLPs of one shape as one network, with batched products: a GPU takes little longer for 16 than for one."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from hybridep.kernels import affine_each
from hybridep.networks.layered import LayeredNetwork, sum_by_sample
from hybridep.networks.mlp import MLP


class StackedMLP(MLP):
    """Networks that share nothing but their shape; every parameter is [networks, ...].

    Rows are those of the networks one after the other, as many of each: a minibatch is [networks · n, ...], and so are states, nudges and
    targets. What is done unit by unit knows nothing of it; products see [networks, n, units]. NaN in one network reaches no other.
    """

    def __init__(self, sizes: tuple[int, ...], activation: str, cost: str, count: int, like: Tensor) -> None:
        LayeredNetwork.__init__(self, activation, cost)
        if self.cost.has_readout:
            raise ValueError(f"cost {cost}: a stack has no readout, must be mse")
        self.count = count
        for below, above in pairwise(sizes):
            self.parameters += [like.new_zeros(count, above, below), like.new_zeros(count, above)]
        self._lay_out(sizes, like, (count,))

    def take(self, networks: Sequence[LayeredNetwork]) -> None:
        """Become these networks."""
        for number, parameter in enumerate(self.parameters):
            torch.stack([network.parameters[number] for network in networks], out=parameter)
        self.refresh()

    def give(self, networks: Sequence[LayeredNetwork]) -> None:
        """Make these networks what their places in the stack are."""
        for place, network in enumerate(networks):
            for parameter, stacked in zip(network.parameters, self.parameters, strict=True):
                parameter.copy_(stacked[place])
            network.refresh()

    def apart(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.count, -1))  # type: ignore[no-any-return]  # not annotated by PyTorch

    def input_drive(self, x: Tensor) -> Tensor:
        pixels = self.apart(x.flatten(1))
        drive = self.biases[0][:, None].repeat(1, pixels.shape[1], 1)
        drive[..., self.columns[0]] += pixels @ self.parameters[0].mT
        return drive.flatten(0, 1)

    def driven(self, below: Tensor, weight: Tensor, drive: Tensor, out: Tensor | None = None) -> Tensor:
        rows, drives = self.apart(below), self.apart(drive)
        if out is None:
            return torch.baddbmm(drives, rows, weight).flatten(0, 1)
        affine_each(rows, weight, drives, out=self.apart(out))
        return out

    def by_sample(self, rows: Tensor, n: int, samples: Tensor | None) -> Tensor:
        if samples is not None:
            if not rows.is_cuda:
                return self.apart(sum_by_sample(rows.flatten(0, 1), n, samples))
            # As a product: index_add_ adds in any order there.
            own = n // self.count
            chosen = torch.nn.functional.one_hot(self.apart(samples) % own, own).to(rows.dtype)
            return chosen.mT @ rows
        phases: Tensor = rows.unflatten(1, (-1, n // self.count))
        return phases.sum(dim=1)

    def saturation(self, state: list[Tensor]) -> Tensor:
        """As of one network, of each, [networks]."""
        margin = 0.01 * (self.highest - self.lowest)
        hidden = [self.apart(s) for s in self.layer_states(state)[:-1]]
        free = sum(((s >= self.lowest + margin) & (s <= self.highest - margin)).sum(dim=(1, 2)) for s in hidden)
        return 1 - torch.as_tensor(free) / sum(s[0].numel() for s in hidden)
