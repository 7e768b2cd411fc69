"""Where a training sample's free phase starts: at zeros, as in the thesis, or at the equilibrium that it came to an epoch ago.

Evaluation always starts from zeros: what it reports does not depend on which images were trained on.
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.kernels import flat, unflat
from hybridep.networks import Dynamics, LayeredNetwork


class Starts(Protocol):
    """Samples are named by their rows: the places that they have among the training samples. Each is visited once an epoch."""

    def bind(self, rows: Tensor, drive: Tensor) -> Dynamics:
        """The free dynamics of samples, at their start; rows [n], drive [n, ...]."""

    def keep(self, rows: Tensor, state: list[Tensor]) -> None:
        """Told of the free equilibria of samples, blocks [n, ...]."""

    def state_dict(self) -> dict[str, Any]:
        """All that later starts depend on."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class FromZeros:
    """The same start for every sample in every epoch."""

    def __init__(self, network: LayeredNetwork) -> None:
        self.network = network

    def bind(self, rows: Tensor, drive: Tensor) -> Dynamics:
        return self.network.bind(drive, self.network.zeros(drive), at_rest=True)

    def keep(self, rows: Tensor, state: list[Tensor]) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class FromLast(FromZeros):
    """Each sample's equilibrium of the epoch before; in the first epoch, zeros.

    They are kept in half precision, as blocks [samples, units]: an epoch's updates move an equilibrium further than the rounding does.
    """

    def __init__(self, network: LayeredNetwork, samples: int, drive: Tensor) -> None:
        """Takes all its memory at once; `drive` is that of any samples."""
        super().__init__(network)
        self.shapes = [tuple(block.shape[1:]) for block in network.zeros(drive)]
        self.kept = [torch.zeros(samples, math.prod(shape), dtype=torch.float16, device=drive.device) for shape in self.shapes]
        self.visits = 0

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self.kept)

    def bind(self, rows: Tensor, drive: Tensor) -> Dynamics:
        if self.visits < len(self.kept[0]):
            return super().bind(rows, drive)
        kept = [block.index_select(0, rows).to(drive.dtype) for block in self.kept]
        dynamics = self.network.bind(drive, [unflat(units, shape) for units, shape in zip(kept, self.shapes, strict=True)])
        dynamics.warm = True
        return dynamics

    def keep(self, rows: Tensor, state: list[Tensor]) -> None:
        for block, new in zip(self.kept, state, strict=True):
            block.index_copy_(0, rows, flat(new).to(block.dtype))
        self.visits += len(rows)

    def state_dict(self) -> dict[str, Any]:
        return {"visits": self.visits, "kept": [block.clone() for block in self.kept]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """A trial that kept no equilibria has none to go on from: the next epoch starts from zeros."""
        self.visits = state.get("visits", 0)
        for block, saved in zip(self.kept, state.get("kept", self.kept), strict=True):
            block.copy_(saved)


def make_starts(config: TrialConfig, network: LayeredNetwork, samples: int, drive: Tensor) -> Starts:
    """What a configuration names, for so many training samples."""
    return FromLast(network, samples, drive) if config.start == "last" else FromZeros(network)
