"""Relaxation policies: how a network is brought to equilibrium. The loops stand here once, for every network and both phases."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hybridep.networks.layered import Dynamics


@dataclass(frozen=True)
class Equilibrium:
    """Where relaxation ended: state blocks [n, ...], and for each sample its network updates, its last change and whether it converged."""

    state: list[Tensor]
    steps: Tensor
    residual: Tensor
    converged: Tensor


class Relaxation(Protocol):
    """A policy with a step limit for each phase."""

    def free(self, dynamics: Dynamics) -> Equilibrium: ...

    def nudged(self, dynamics: Dynamics) -> Equilibrium: ...


@dataclass(frozen=True)
class FixedSteps:
    """The thesis protocol: T1 synchronous steps for the free phase, T2 for a nudged one, whatever they reach.

    `converged` holds where the last step moved no unit by `tolerance` or more; it is reported and decides nothing.
    """

    T1: int
    T2: int
    tolerance: float = 1e-4

    def free(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(dynamics, self.T1)

    def nudged(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(dynamics, self.T2)

    def _relax(self, dynamics: Dynamics, steps: int) -> Equilibrium:
        for _ in range(steps):
            dynamics.step()
        residual = dynamics.change()
        return Equilibrium(dynamics.state, torch.full_like(residual, steps), residual, residual < self.tolerance)


@dataclass(frozen=True)
class Adaptive:
    """Block-wise sweeps until each sample has converged: no unit moves by `tolerance` or more in a sweep. At most T1 or T2 sweeps.

    Odd and even layers form a bipartite system whose Jacobian is similar to a symmetric one, the very case for which Young (1954)
    analysed successive over-relaxation: moving each half `over_relaxation` times as far shortens the slow tail most. The first
    `plain_sweeps` are not over-relaxed, so that the branch a bistable sample settles on is that of the plain dynamics.

    The batch shrinks as samples converge, in sixteenths of its size, so that few shapes occur; a sample that has converged early
    is swept along until then. Steps count the sweeps that were really spent on each sample. Convergence is looked at every
    `check_every` sweeps: each look waits for the device.
    """

    tolerance: float
    T1: int
    T2: int
    over_relaxation: float = 1.25
    plain_sweeps: int = 3
    check_every: int = 2

    def free(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(dynamics, self.T1)

    def nudged(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(dynamics, self.T2)

    def _relax(self, dynamics: Dynamics, limit: int) -> Equilibrium:
        n = dynamics.state[0].shape[0]
        grain = max(1, n // 16)
        rows = torch.arange(n, device=dynamics.state[0].device)
        state = [torch.empty_like(block) for block in dynamics.state]
        steps = state[0].new_zeros(n)
        residual = state[0].new_zeros(n)
        for sweep in range(1, limit + 1):
            dynamics.sweep(1.0 if sweep <= self.plain_sweeps else self.over_relaxation)
            if sweep % self.check_every and sweep < limit:
                continue
            change = dynamics.change()
            # Counted this way round, NaN is moving.
            moving = len(rows) - int((change < self.tolerance).sum())
            going_on = 0 if sweep == limit else -(-moving // grain) * grain
            if going_on >= len(rows):
                continue
            order = torch.argsort(change, descending=True)
            kept, left = order[:going_on], order[going_on:]
            done = rows[left]
            for block, current in zip(state, dynamics.state, strict=True):
                block[done] = current[left]
            steps[done] = sweep
            residual[done] = change[left]
            if going_on == 0:
                break
            rows = rows[kept]
            dynamics.keep(kept)
        return Equilibrium(state, steps, residual, residual < self.tolerance)
