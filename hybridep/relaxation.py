"""Relaxation policies: how a network is brought to equilibrium. The loops stand here once, for every network and both phases."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import torch
from torch import Tensor

from hybridep.kernels import take
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


# Of the free steps allowed, the share in which a sample's branch must show; the rest is for what follows.
SETTLING: Final = 0.75


@dataclass(frozen=True)
class Adaptive:
    """Block-wise sweeps until each sample has converged: no unit moves by `tolerance` or more in a sweep. At most T1 or T2 updates.

    Odd and even layers form a bipartite system whose Jacobian is similar to a symmetric one, the very case for which Young (1954)
    analysed successive over-relaxation: moving each half `over_relaxation` times as far shortens the slow tail most. The first
    `plain_sweeps` are not over-relaxed: they are every other synchronous step, so that the branch a bistable sample settles on is that of
    the thesis's dynamics. Where a pooling choice makes layers feed back on themselves, and equilibria many, that does not hold: a free
    phase then takes synchronous steps until no unit moves by `settled` times the tolerance, and sweeps from there. A free phase that
    starts near an equilibrium stays on its branch, and with its choices: it sweeps at once, over-relaxed.

    The batch shrinks as samples converge, in thirty-seconds of its size, so that few shapes occur; a sample that has converged early
    is swept along until then. Steps count the updates that were really spent on each sample. Convergence is looked at every
    `check_every` updates: each look waits for the device.
    """

    tolerance: float
    T1: int
    T2: int
    over_relaxation: float = 1.25
    plain_sweeps: int = 3
    settled: float = 10.0
    check_every: int = 2

    def free(self, dynamics: Dynamics) -> Equilibrium:
        if dynamics.warm or not dynamics.chooses:
            return self._sweep(dynamics, self.T1)
        settling = max(1, int(SETTLING * self.T1))
        near = self._until(self.settled * self.tolerance, settling, dynamics, lambda step: dynamics.step())
        if settling == self.T1:
            return near
        dynamics.restart(near.state)
        rest = self._sweep(dynamics, self.T1 - settling)
        return replace(rest, steps=near.steps + rest.steps)

    def nudged(self, dynamics: Dynamics) -> Equilibrium:
        return self._sweep(dynamics, self.T2)

    def _sweep(self, dynamics: Dynamics, limit: int) -> Equilibrium:
        # Where the branch shows before the first sweep, or is that of the free equilibrium, each plain sweep would be one wasted.
        plain = 0 if dynamics.chooses or dynamics.warm else self.plain_sweeps

        def sweep(number: int) -> None:
            dynamics.sweep(1.0 if number <= plain else self.over_relaxation)

        return self._until(self.tolerance, limit, dynamics, sweep)

    def _until(self, near: float, limit: int, dynamics: Dynamics, update: Callable[[int], None]) -> Equilibrium:
        """Update, told the number of each time, until the last sample has moved by less than `near`, at most `limit` times.

        Whatever `near` is, a sample has converged where it moved by less than the policy's own tolerance.
        """
        start = dynamics.state[0]
        n = len(start)
        grain = max(1, n // 32)
        rows = torch.arange(n, device=start.device)
        # Of the samples that left together: rows, steps, residual, then their state block by block.
        ended: list[list[Tensor]] = []
        for number in range(1, limit + 1):
            update(number)
            if number % self.check_every and number < limit:
                continue
            change = dynamics.change()
            # Counted this way round, NaN is moving.
            moving = len(rows) - int((change < near).sum())
            going_on = 0 if number == limit else -(-moving // grain) * grain
            if going_on >= len(rows):
                continue
            order = torch.argsort(change, descending=True)
            kept, left = order[:going_on], order[going_on:]
            residual = change[left]
            ended.append([rows[left], torch.full_like(residual, number), residual, *(take(block, left) for block in dynamics.state)])
            if going_on == 0:
                break
            rows = rows[kept]
            dynamics.keep(kept)
        places, steps, residual, *state = (torch.cat(parts) for parts in zip(*ended, strict=True))
        back = torch.argsort(places)
        steps, residual = steps[back], residual[back]
        return Equilibrium([take(block, back) for block in state], steps, residual, residual < self.tolerance)
