"""Output costs ℓ(s, y) and the pull −∂ℓ/∂s with which a nudge acts on the last layer."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridep.kernels import flat, laid_out, unflat


class Cost(ABC):
    """ℓ of the last layer of the dynamics; `readout` is (weight [classes, units], bias [classes]) if one stands outside the dynamics."""

    has_readout: bool
    # ∂²ℓ/∂s² of a unit of the last layer: how strongly a nudge makes it feed back on itself.
    own_curvature: float

    @abstractmethod
    def scores(self, last: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        """[n, classes], the largest is the prediction."""

    @abstractmethod
    def loss(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        """ℓ of each sample, [n]; target [n, classes] is one-hot."""

    @abstractmethod
    def pull(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        """−∂ℓ/∂s, like last."""

    @abstractmethod
    def readout_gradient(self, last: Tensor, target: Tensor, weights: Tensor, readout: tuple[Tensor, ...]) -> list[Tensor]:
        """−Σ weights · ∂ℓ/∂(readout weight, bias) over the rows; weights [n]. Empty without a readout."""


class SquaredError(Cost):
    """ℓ = ½‖s − y‖² on output units that take part in the dynamics."""

    has_readout = False
    own_curvature = 1.0

    def scores(self, last: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return last

    def loss(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return 0.5 * (last - target).square().sum(dim=1)

    def pull(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return target - last

    def readout_gradient(self, last: Tensor, target: Tensor, weights: Tensor, readout: tuple[Tensor, ...]) -> list[Tensor]:
        return []


class CrossEntropy(Cost):
    """ℓ = −Σ y log softmax(W s + b): a readout of the last layer that takes no part in the dynamics."""

    has_readout = True
    own_curvature = 0.0

    def scores(self, last: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return F.linear(flat(last), *readout)

    def loss(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return F.cross_entropy(self.scores(last, readout), target, reduction="none")

    def _error(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return target - torch.softmax(self.scores(last, readout), dim=1)

    def pull(self, last: Tensor, target: Tensor, readout: tuple[Tensor, ...]) -> Tensor:
        return laid_out(unflat(self._error(last, target, readout) @ readout[0], tuple(last.shape[1:])))

    def readout_gradient(self, last: Tensor, target: Tensor, weights: Tensor, readout: tuple[Tensor, ...]) -> list[Tensor]:
        error = self._error(last, target, readout) * weights[:, None]
        return [error.T @ flat(last), error.sum(dim=0)]


COSTS: dict[str, Cost] = {"mse": SquaredError(), "cross_entropy": CrossEntropy()}
