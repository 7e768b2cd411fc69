"""`Blocks`: adaptive relaxation driven as a GPU likes it: in captured blocks of updates, without waiting for each look.

The stages are those of `Adaptive`. A block is `EVERY` updates and a look. A sample that has converged is held where it is, so that a block
that nobody needed changes nothing; the batch gets smaller only where that pays. On a CPU the same runs without graphs, for tests.
"""

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from hybridep.kernels import take, tensor_cores
from hybridep.networks.layered import Dynamics
from hybridep.relaxation import Adaptive, Equilibrium, Stage
from hybridep.replays import Replays

EVERY: Final = 4  # updates between two looks: a look takes as long as one or two of them

# Sizes that a batch shrinks to, as parts of it, and the smallest: below, a GPU takes no less time.
SIZES: Final = (0.75, 0.5, 0.375, 0.25, 0.125)
SMALLEST: Final = 8

Begin = Callable[..., Dynamics]


@dataclass
class _Batch:
    """Some samples of a phase on their way: what they depend on, at fixed places, and `rows`, their places in the whole batch."""

    dynamics: Dynamics
    constants: list[Tensor]
    carried: list[Tensor]
    moving: Tensor
    steps: Tensor
    residual: Tensor
    rows: Tensor
    left: Tensor  # how many move, on the device, and where the CPU reads it
    answer: Tensor

    @property
    def all(self) -> list[Tensor]:
        return [*self.carried, self.moving, self.steps, self.residual, self.rows, self.left]


class Blocks:
    """Relaxes phases of the same shapes over and over, as `policy` says."""

    def __init__(self, policy: Adaptive, replays: Replays) -> None:
        self.policy = policy
        self.replays = replays
        self._batches: dict[Hashable, dict[int, _Batch]] = {}
        self._needed: dict[Hashable, int] = {}

    def forget(self) -> None:
        """Drop what belongs to graphs that are dropped."""
        self._batches.clear()
        self._needed.clear()

    def __getstate__(self) -> dict[str, object]:
        return {"policy": self.policy, "replays": self.replays}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def relax(self, key: Hashable, stages: Sequence[Stage], begin: Begin, *inputs: Tensor) -> Equilibrium:
        """Relax the batch that begin(*inputs) binds; `key` names the kind of phase and its shapes.

        The equilibrium's tensors hold until the next phase with this key.
        """
        whole = self._stage((key, 0), stages[0], begin, *inputs)
        steps = whole.steps
        for number, stage in enumerate(stages[1:], 1):
            before = whole

            def restarted(*state: Tensor, before: _Batch = before) -> Dynamics:
                dynamics = copy.copy(before.dynamics)
                dynamics.moving = None
                dynamics.restart([block.clone() for block in state])
                return dynamics

            whole = self._stage((key, number), stage, restarted, *before.carried[: len(before.dynamics.state)])
            steps = steps + whole.steps
        state = whole.carried[: len(whole.dynamics.state)]
        return Equilibrium(state, steps, whole.residual, whole.residual < self.policy.tolerance)

    def _stage(self, key: Hashable, stage: Stage, begin: Begin, *inputs: Tensor) -> _Batch:
        # The opening is long enough for the sweeps that differ from the rest.
        opening = min(stage.limit, EVERY * -(-(stage.plain + 1) // EVERY))
        batch = whole = self._open(key, stage, opening, begin, inputs)
        sizes = self._sizes(len(whole.moving)) if whole.dynamics.shrinks else []
        number, blocks = opening, 0
        while number < stage.limit:
            if sizes or blocks >= self._needed.get(key, 0):
                left = _read(batch)
                if left == 0:
                    break
                smaller = [size for size in sizes if left <= size < len(batch.moving)]
                if smaller:
                    batch = self._shrink(key, whole, batch, smaller[-1])
            count = min(EVERY, stage.limit - number)
            self._block(key, stage, batch, count)
            number, blocks = number + count, blocks + 1
        # As many blocks as last time, but one, are under way before the first answer is read.
        self._needed[key] = max(0, blocks - 1)
        if batch is not whole:
            self._put_back(key, whole, batch)
        return whole

    @staticmethod
    def _sizes(n: int) -> list[int]:
        """Largest first."""
        return sorted({size for part in SIZES if SMALLEST <= (size := int(part * n)) < n}, reverse=True)

    def _open(self, key: Hashable, stage: Stage, count: int, begin: Begin, inputs: Sequence[Tensor]) -> _Batch:
        opened: list[_Batch] = []
        # Made before capture: taking memory of the host is not to be captured.
        answer = _answer(inputs[-1]) if key not in self._batches else next(iter(self._batches[key].values())).answer

        def work(*inputs: Tensor) -> list[Tensor]:
            dynamics = begin(*inputs)
            n = len(dynamics.state[0])
            like = dynamics.state[0].new_empty(n)
            with tensor_cores(stage.rounded):
                for number in range(1, count + 1):
                    stage.update(dynamics, number)
            residual = dynamics.change()
            moving = (~(residual < stage.near)).to(like.dtype)
            rows = torch.arange(n, device=like.device)
            batch = _Batch(
                dynamics,
                dynamics.constants(),
                list(dynamics.carried()),
                moving,
                torch.full_like(like, count),
                residual,
                rows,
                moving.sum(),
                answer,
            )
            batch.answer.copy_(batch.left, non_blocking=True)
            opened[:] = [batch]
            return batch.all

        self.replays(("open", key), work, *inputs)
        if opened:
            self._batches[key] = {len(opened[0].moving): opened[0]}
        batches = self._batches[key]
        return batches[max(batches)]

    def _block(self, key: Hashable, stage: Stage, batch: _Batch, count: int) -> None:
        """`count` more updates of the samples that move, and a look."""

        def work() -> list[Tensor]:
            dynamics = batch.dynamics
            dynamics.carry_on(batch.carried)
            dynamics.hold(batch.moving)
            with tensor_cores(stage.rounded):
                for _ in range(count):
                    stage.update(dynamics, stage.plain + 1)
            change = dynamics.change()
            batch.residual.copy_(torch.where(batch.moving > 0, change, batch.residual))
            batch.steps.add_(batch.moving, alpha=count)
            batch.moving.mul_(~(change < stage.near))
            for own, new in zip(batch.carried, dynamics.carried(), strict=True):
                if own is not new:
                    own.copy_(new)
            torch.sum(batch.moving, dim=0, out=batch.left)
            batch.answer.copy_(batch.left, non_blocking=True)
            return []

        self.replays(("block", key, len(batch.moving), count), work, writes=lambda: batch.all)

    def _shrink(self, key: Hashable, whole: _Batch, batch: _Batch, size: int) -> _Batch:
        """Leave all samples but `size` behind, among them all that move."""
        batches = self._batches[key]
        if size not in batches:
            batches[size] = _part(whole, size, _answer(whole.moving))
        smaller = batches[size]

        def work() -> list[Tensor]:
            if batch is not whole:
                _put(whole, batch)
            kept = torch.argsort(batch.moving, descending=True, stable=True)[:size]
            for own, others in zip(smaller.constants + smaller.all[:-1], batch.constants + batch.all[:-1], strict=True):
                own.copy_(take(others, kept))
            return []

        self.replays(("shrink", key, len(batch.moving), size), work, writes=lambda: whole.all)
        return smaller

    def _put_back(self, key: Hashable, whole: _Batch, batch: _Batch) -> None:
        def work() -> list[Tensor]:
            _put(whole, batch)
            return []

        self.replays(("end", key, len(batch.moving)), work, writes=lambda: whole.all)


def _answer(like: Tensor) -> Tensor:
    """A place that the CPU reads without waiting for a copy, and the device writes to."""
    return torch.empty((), dtype=like.dtype, pin_memory=like.is_cuda)


def _read(batch: _Batch) -> int:
    """How many samples of the batch still move; waits for its last look."""
    if batch.moving.is_cuda:
        looked = torch.cuda.Event()
        looked.record()
        looked.synchronize()
    return int(batch.answer)


def _part(whole: _Batch, size: int, answer: Tensor) -> _Batch:
    """A batch of that size with places of its own; what lies there has no meaning yet."""
    first = torch.arange(size, device=whole.moving.device)
    dynamics = copy.copy(whole.dynamics)
    dynamics.carry_on([tensor.clone() for tensor in whole.carried])
    dynamics.keep(first)
    moving, steps, residual, rows = (take(each, first) for each in (whole.moving, whole.steps, whole.residual, whole.rows))
    left = whole.left.clone()
    return _Batch(dynamics, dynamics.constants(), list(dynamics.carried()), moving, steps, residual, rows, left, answer)


def _put(whole: _Batch, batch: _Batch) -> None:
    """Write where the samples of a smaller batch are now into the whole one."""
    for own, others in ((whole.steps, batch.steps), (whole.residual, batch.residual)):
        own.index_copy_(0, batch.rows, others)
    for own, others in zip(whole.carried[: len(whole.dynamics.state)], batch.carried, strict=False):
        own.index_copy_(0, batch.rows, others)
