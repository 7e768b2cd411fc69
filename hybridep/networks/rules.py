"""How a layer of a graph moves: the thesis's s ← ρ(∂Φ/∂s), or gradient steps on the energy of a continuous Hopfield network."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hybridep.kernels import ACTIVATIONS, flat
from hybridep.networks.layered import ORACLE_ACTIVATIONS


class Rule(ABC):
    """Connections see `felt(s)` of a layer's state s [n, ...]; its `drive` is ∂Φ/∂felt, which the methods may overwrite.

    `pull` is β times that of the cost where the layer is nudged, like s. `factor` and `share` are those of `Dynamics.sweep`; share [n, ...]
    broadcasts over s.
    """

    # Whether zeros are felt as zeros.
    silent_at_zero: bool

    @abstractmethod
    def felt(self, s: Tensor) -> Tensor: ...

    @abstractmethod
    def step(self, s: Tensor, drive: Tensor, pull: Tensor | None) -> Tensor:
        """A layer's next state in a synchronous update."""

    @abstractmethod
    def sweep(self, s: Tensor, drive: Tensor, pull: Tensor | None, factor: float, share: Tensor | None, lateral: bool) -> Tensor:
        """Its next state in a sweep; `lateral` layers have units that are joined with each other, and are not over-relaxed."""

    @abstractmethod
    def phi(self, primitive: Callable[[list[Tensor]], Tensor], layers: list[Tensor]) -> Tensor:
        """What the states climb on, [n], of Φ as a function of what is felt."""

    @abstractmethod
    def updated(self, s: Tensor, slope: Tensor) -> Tensor:
        """`step` as autograd can follow it; `slope` is the derivative of `phi` by s."""


class Primitive(Rule):
    """s ← ρ(∂Φ/∂s)."""

    silent_at_zero = True

    def __init__(self, activation: str) -> None:
        self.activate_ = ACTIVATIONS[activation][0]
        self.activation = ORACLE_ACTIVATIONS[activation]

    def felt(self, s: Tensor) -> Tensor:
        return s

    def step(self, s: Tensor, drive: Tensor, pull: Tensor | None) -> Tensor:
        return self.activate_(drive if pull is None else drive.add_(pull))

    def sweep(self, s: Tensor, drive: Tensor, pull: Tensor | None, factor: float, share: Tensor | None, lateral: bool) -> Tensor:
        new = self.step(s, drive, pull)
        factor = min(factor, 1.0) if lateral else factor
        if share is not None:
            return torch.lerp(s, new, factor * share, out=new)
        return new if factor == 1.0 else torch.lerp(s, new, factor, out=new)

    def phi(self, primitive: Callable[[list[Tensor]], Tensor], layers: list[Tensor]) -> Tensor:
        return primitive(layers)

    def updated(self, s: Tensor, slope: Tensor) -> Tensor:
        return self.activation(slope)


@dataclass(frozen=True)
class Curve:
    """ρ between the bounds of the states: its first and second derivative, of s and r = ρ(s); None where ρ is straight, with `slope`."""

    slope: float = 1.0
    first: Callable[[Tensor, Tensor], Tensor] | None = None
    second: Callable[[Tensor, Tensor], Tensor] | None = None


def tanh_first(s: Tensor, r: Tensor) -> Tensor:
    return 1 - r * r


def tanh_second(s: Tensor, r: Tensor) -> Tensor:
    return -2 * r * (1 - r * r)


def sigmoid_first(s: Tensor, r: Tensor) -> Tensor:
    return r * (1 - r)


def sigmoid_second(s: Tensor, r: Tensor) -> Tensor:
    return r * (1 - r) * (1 - 2 * r)


class Energy(Rule):
    """s ← clip(s − ε ∂F/∂s) on F = E + βℓ, E = ½‖s‖² − Φ(ρ(s)); states are clipped to the bounds of ρ (Scellier and Bengio 2017).

    A sweep takes no steps of size ε but minimises: units of a layer do not see each other, so that each goes to the minimum of F along its
    own axis, at once where ρ is straight and by a Newton step elsewhere. Lateral layers take the step.

    Within the bounds the hard ρ are straight lines, and so they are felt: a derivative of 0 on the very bound, as autograd has it for a
    clipped number, would let units leak away from a bound that they are pushed against.
    """

    CURVES: ClassVar[dict[str, Curve]] = {
        "tanh": Curve(first=tanh_first, second=tanh_second),
        "sigmoid": Curve(first=sigmoid_first, second=sigmoid_second),
        "hard_sigmoid": Curve(slope=0.5),
        "unit_hard_sigmoid": Curve(),
        "centered_hard_sigmoid": Curve(),
    }

    def __init__(self, activation: str, step_size: float) -> None:
        _, self.lowest, self.highest = ACTIVATIONS[activation]
        self.activation = ORACLE_ACTIVATIONS[activation]
        self.curve = self.CURVES[activation]
        self.step_size = step_size
        self.silent_at_zero = activation != "sigmoid"

    def felt(self, s: Tensor) -> Tensor:
        if self.curve.first is None:
            return s if self.curve.slope == 1.0 else s * self.curve.slope
        return self.activation(s)

    def _towards(self, s: Tensor, drive: Tensor) -> Tensor:
        """ρ'(s) · drive, where the leak and the drive are in balance."""
        if self.curve.first is not None:
            return drive.mul_(self.curve.first(s, self.activation(s)))
        return drive if self.curve.slope == 1.0 else drive.mul_(self.curve.slope)

    def step(self, s: Tensor, drive: Tensor, pull: Tensor | None) -> Tensor:
        new = self._towards(s, drive)
        if pull is not None:
            new.add_(pull)
        if self.step_size != 1.0:
            new = torch.lerp(s, new, self.step_size, out=new)
        return new.clamp_(self.lowest, self.highest)

    def sweep(self, s: Tensor, drive: Tensor, pull: Tensor | None, factor: float, share: Tensor | None, lateral: bool) -> Tensor:
        if lateral:
            return self.step(s, drive, pull)
        reach: Tensor | float = factor if share is None else factor * share
        if self.curve.second is not None:
            # The curvature of F along a unit's axis, without the nudge's; where it is less than the leak's, the leak's.
            bend = 1 - self.curve.second(s, self.activation(s)) * drive
            own = bend.clamp_(min=1.0)
            reach = factor / (own if share is None else own + (1 / share - 1))
        new = self._towards(s, drive)
        if pull is not None:
            new.add_(pull)
        if not (isinstance(reach, float) and reach == 1.0):
            new = torch.lerp(s, new, reach, out=new)
        return new.clamp_(self.lowest, self.highest)

    def phi(self, primitive: Callable[[list[Tensor]], Tensor], layers: list[Tensor]) -> Tensor:
        leak = torch.stack([flat(s).square().sum(dim=1) for s in layers]).sum(dim=0)
        return primitive([self.felt(s) for s in layers]) - 0.5 * leak

    def updated(self, s: Tensor, slope: Tensor) -> Tensor:
        return torch.clamp(s + self.step_size * slope, self.lowest, self.highest)
