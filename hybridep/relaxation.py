"""Relaxation policies: how a network is brought to equilibrium. The loops stand here once, for every network and both phases."""

from dataclasses import dataclass, replace
from typing import Final, Protocol

import torch
from torch import Tensor

from hybridep.kernels import take, tensor_cores
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


# Steps at the end of a free phase that wipe out what tensor cores rounded before, to float32's own accuracy (docs/gpu.md).
EXACT_STEPS: Final = 20


@dataclass(frozen=True)
class FixedSteps:
    """The thesis protocol: T1 synchronous steps for the free phase, T2 for a nudged one, whatever they reach.

    `converged` holds where the last step moved no unit by `tolerance` or more; it is reported and decides nothing. With `tensor_cores` all
    but the last `EXACT_STEPS` of a free phase run in TF32.
    """

    T1: int
    T2: int
    tolerance: float = 1e-4
    tensor_cores: bool = False

    def free(self, dynamics: Dynamics) -> Equilibrium:
        if self.tensor_cores:
            with tensor_cores(True):
                for _ in range(self.T1 - EXACT_STEPS):
                    dynamics.step()
            return self._relax(dynamics, min(self.T1, EXACT_STEPS), before=max(0, self.T1 - EXACT_STEPS))
        return self._relax(dynamics, self.T1)

    def nudged(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(dynamics, self.T2)

    def _relax(self, dynamics: Dynamics, steps: int, before: int = 0) -> Equilibrium:
        for _ in range(steps):
            dynamics.step()
        residual = dynamics.change()
        return Equilibrium(dynamics.state, torch.full_like(residual, before + steps), residual, residual < self.tolerance)


# Of the free steps allowed, the share in which a sample's branch must show; the rest is for what follows.
SETTLING: Final = 0.75


@dataclass(frozen=True)
class Stage:
    """Part of an adaptive phase: updates of one kind until no unit of a sample moves by `near` or more, at most `limit` of them.

    Synchronous steps, or sweeps of which the first `plain` are not over-relaxed by `factor`. `rounded` lets them run on tensor cores.
    """

    near: float
    limit: int
    synchronous: bool = False
    plain: int = 0
    factor: float = 1.0
    rounded: bool = False

    def update(self, dynamics: Dynamics, number: int) -> None:
        """The update of that number, counted from 1."""
        if self.synchronous:
            dynamics.step()
        else:
            dynamics.sweep(1.0 if number <= self.plain else self.factor)


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
    `check_every` updates: each look waits for the device. (`hybridep.blocks` goes through the same stages without waiting, on a GPU.)

    With `tensor_cores` the synchronous steps of a free phase run in TF32; all that follows them is float32.
    """

    tolerance: float
    T1: int
    T2: int
    over_relaxation: float = 1.25
    plain_sweeps: int = 3
    settled: float = 10.0
    check_every: int = 2
    tensor_cores: bool = False

    def free_stages(self, chooses: bool, warm: bool = False) -> list[Stage]:
        """The stages of a free phase; `chooses` and `warm` as in `Dynamics`. Every sample goes through each."""
        if warm or not chooses:
            return [self._sweeps(self.T1, chooses or warm)]
        settling = max(1, int(SETTLING * self.T1))
        near = Stage(self.settled * self.tolerance, settling, synchronous=True, rounded=self.tensor_cores)
        return [near] if settling == self.T1 else [near, self._sweeps(self.T1 - settling, chooses)]

    def nudged_stages(self, chooses: bool, warm: bool = False) -> list[Stage]:
        """The one stage of a nudged phase."""
        return [self._sweeps(self.T2, chooses or warm)]

    def _sweeps(self, limit: int, on_its_branch: bool) -> Stage:
        # Where the branch shows before the first sweep, or is that of another equilibrium, each plain sweep would be one wasted.
        return Stage(self.tolerance, limit, plain=0 if on_its_branch else self.plain_sweeps, factor=self.over_relaxation)

    def free(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(self.free_stages(dynamics.chooses, dynamics.warm), dynamics)

    def nudged(self, dynamics: Dynamics) -> Equilibrium:
        return self._relax(self.nudged_stages(dynamics.chooses, dynamics.warm), dynamics)

    def _relax(self, stages: list[Stage], dynamics: Dynamics) -> Equilibrium:
        found = self._until(stages[0], dynamics)
        for stage in stages[1:]:
            dynamics.restart(found.state)
            rest = self._until(stage, dynamics)
            found = replace(rest, steps=found.steps + rest.steps)
        return found

    def _until(self, stage: Stage, dynamics: Dynamics) -> Equilibrium:
        """Update until the last sample is near enough.

        Whatever `stage.near` is, a sample has converged where it moved by less than the policy's own tolerance.
        """
        start = dynamics.state[0]
        n = len(start)
        grain = max(1, n // 32)
        rows = torch.arange(n, device=start.device)
        # Of the samples that left together: rows, steps, residual, then their state block by block.
        ended: list[list[Tensor]] = []
        with tensor_cores(stage.rounded):
            for number in range(1, stage.limit + 1):
                stage.update(dynamics, number)
                if number % self.check_every and number < stage.limit:
                    continue
                change = dynamics.change()
                # Counted this way round, NaN is moving.
                moving = len(rows) - int((change < stage.near).sum())
                going_on = 0 if number == stage.limit else -(-moving // grain) * grain
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
