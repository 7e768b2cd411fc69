"""What every implementation under measurement offers, and the closed form of `hybridep` as one of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.estimators import Stencil
from hybridep.networks import Dynamics, make_network
from hybridep.nudging import Minibatch
from hybridep.phases import estimate
from hybridep.relaxation import Equilibrium, Relaxation
from hybridep.streams import stream


@dataclass(frozen=True)
class Outcome:
    """What one update did: ĝ (input side first, weight and bias of each connection), steps of each sample, seconds spent relaxing.

    `free_steps` [n], `nudged_steps` [phases·n].
    """

    gradient: list[Tensor]
    free_steps: Tensor
    nudged_steps: Tensor
    relaxation_seconds: float


class Implementation(Protocol):
    """`update` does all that a minibatch x [n, channels, height, width] costs, the optimizer's step included."""

    @property
    def optimizer(self) -> torch.optim.SGD: ...

    def load(self, parameters: list[Tensor]) -> None: ...

    def update(self, x: Tensor, target: Tensor, stencil: Stencil) -> Outcome: ...


def sgd(layers: list[list[Tensor]], config: TrialConfig, fused: bool) -> torch.optim.SGD:
    """The protocol's optimizer, with a learning rate of 0: weights under measurement stay put, and the step costs the same."""
    groups = [{"params": parameters} for parameters in layers]
    return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, weight_decay=config.weight_decay, fused=fused)


def minibatch(x: Tensor, beta: float) -> Minibatch:
    return Minibatch(len(x), beta, dtype=np.float64 if x.dtype == torch.float64 else np.float32)


@dataclass
class Stopwatch:
    """A relaxation policy and the seconds spent in it."""

    relaxation: Relaxation
    seconds: float = 0.0

    def free(self, dynamics: Dynamics) -> Equilibrium:
        return self._timed(self.relaxation.free, dynamics)

    def nudged(self, dynamics: Dynamics) -> Equilibrium:
        return self._timed(self.relaxation.nudged, dynamics)

    def _timed(self, phase: Callable[[Dynamics], Equilibrium], dynamics: Dynamics) -> Equilibrium:
        started = time.perf_counter()
        equilibrium = phase(dynamics)
        self.seconds += time.perf_counter() - started
        return equilibrium


class ClosedForm:
    """A network of `hybridep` under one relaxation policy: the update of `hybridep.trainer` without its bookkeeping."""

    def __init__(self, config: TrialConfig, relaxation: Relaxation, dtype: torch.dtype = torch.float32) -> None:
        self.config = config
        self.relaxation = relaxation
        self.network = make_network(config, stream(config.seed, "initialisation"), torch.empty(0, dtype=dtype))
        parameters = self.network.parameters
        self.optimizer = sgd([parameters[at : at + 2] for at in range(0, len(parameters), 2)], config, fused=True)
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)

    def load(self, parameters: list[Tensor]) -> None:
        for parameter, loaded in zip(self.network.parameters, parameters, strict=True):
            parameter.copy_(loaded)
        self.network.refresh()

    def free_phase(self, x: Tensor, relaxation: Relaxation | None = None) -> tuple[Tensor, Equilibrium]:
        """The input's drive and the free equilibrium."""
        drive = self.network.input_drive(x)
        return drive, (relaxation or self.relaxation).free(self.network.bind(drive, self.network.zeros(drive), at_rest=True))

    @torch.no_grad()
    def update(self, x: Tensor, target: Tensor, stencil: Stencil) -> Outcome:
        watch = Stopwatch(self.relaxation)
        drive, free = self.free_phase(x, watch)
        gradient, nudged = estimate(self.network, watch, stencil.nudging(minibatch(x, self.config.beta)), x, drive, free, target)
        for parameter, direction in zip(self.network.parameters, gradient, strict=True):
            torch.neg(direction, out=parameter.grad)
        self.optimizer.step()
        self.network.refresh()
        return Outcome(gradient, free.steps, nudged.steps, watch.seconds)
