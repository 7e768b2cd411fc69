"""The nudged phases of one update: the rows of a table of nudgings, relaxed from the free equilibrium, and their weighted sum ĝ."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hybridep.kernels import take
from hybridep.networks import Dynamics, LayeredNetwork
from hybridep.nudging import Floats, Nudging
from hybridep.relaxation import Equilibrium, Relaxation


@dataclass(frozen=True)
class States:
    """All that a minibatch was relaxed to: its free equilibrium, and a nudged one for each row of a table, [rows, ...]."""

    free: Equilibrium
    nudged: Equilibrium


def relax(network: LayeredNetwork, relaxation: Relaxation, nudging: Nudging, drive: Tensor, free: Equilibrium, target: Tensor) -> States:
    """Relax the rows of a table from the free equilibrium, as one batch.

    drive is that of the minibatch, target [n, classes].
    """
    betas = _tensor(nudging.beta, drive)
    if len(nudging.rows) == 0:
        none = betas
        return States(free, Equilibrium([block[:0] for block in free.state], none, none, none < 0))
    if nudging.phases is not None:
        dynamics = bind_phases(network, nudging.phases, drive, target, betas, free.state)
    else:
        rows = torch.from_numpy(np.array(nudging.rows)).to(drive.device)
        dynamics = bind_rows(network, rows, drive, target, betas, free.state)
    return States(free, relaxation.nudged(dynamics))


def bind_phases(network: LayeredNetwork, phases: int, drive: Tensor, target: Tensor, betas: Tensor, free: list[Tensor]) -> Dynamics:
    """Dynamics of whole nudged phases, stacked, from the free state; betas [phases · n]."""
    starts = [_stack(block, phases) for block in free]
    return network.bind(_stack(drive, phases), starts, target.repeat(phases, 1), betas, at_rest=True)


def bind_rows(network: LayeredNetwork, rows: Tensor, drive: Tensor, target: Tensor, betas: Tensor, free: list[Tensor]) -> Dynamics:
    """Dynamics of the samples at these places, from their free states; rows and betas [rows]."""
    return network.bind(take(drive, rows), [take(block, rows) for block in free], target[rows], betas, at_rest=True)


def weigh(network: LayeredNetwork, nudging: Nudging, x: Tensor, states: States, target: Tensor) -> list[Tensor]:
    """ĝ for each parameter, the direction that descends the loss, from the states of a table's rows.

    x [n, channels, height, width], target [n, classes]. The table may have other weights than the one that was relaxed, not other rows.
    """
    nudged = states.nudged.state
    weights, betas = nudging.weight, nudging.beta
    if nudging.phases is not None:
        if nudging.free_weight is None:
            return network.gradient(x, nudged, target, _tensor(weights, x), _tensor(betas, x))
        state = [torch.cat([own, others]) for own, others in zip(states.free.state, nudged, strict=True)]
        return network.gradient(x, state, target, *(_tensor(values, x) for values in with_free(nudging)))
    free_rows = np.empty(0, dtype=np.int64) if nudging.free_weight is None else np.flatnonzero(nudging.free_weight)
    rows = np.concatenate([free_rows, nudging.rows])
    if len(rows) == 0:
        return [torch.zeros_like(parameter) for parameter in network.parameters]
    # Samples without a row are left out of all sums.
    samples, places = free_rows, None
    if not np.array_equal(free_rows, nudging.rows):  # where they are equal, both are whole phases of these samples
        samples, found = np.unique(rows, return_inverse=True)
        places = torch.from_numpy(found.astype(np.int64)).to(x.device)
    kept = torch.from_numpy(samples).to(x.device)
    state = nudged
    if len(free_rows):
        assert nudging.free_weight is not None
        chosen = torch.from_numpy(free_rows).to(x.device)
        state = [torch.cat([take(own, chosen), others]) for own, others in zip(states.free.state, nudged, strict=True)]
        weights = np.concatenate([nudging.free_weight[free_rows], weights])
        betas = np.concatenate([np.zeros(len(free_rows), dtype=betas.dtype), betas])
    return network.gradient(x[kept], state, target[kept], _tensor(weights, x), _tensor(betas, x), places)


def estimate(
    network: LayeredNetwork, relaxation: Relaxation, nudging: Nudging, x: Tensor, drive: Tensor, free: Equilibrium, target: Tensor
) -> tuple[list[Tensor], Equilibrium]:
    """ĝ and the nudged equilibria of a table, [rows, ...]."""
    states = relax(network, relaxation, nudging, drive, free, target)
    return weigh(network, nudging, x, states, target), states.nudged


def with_free(nudging: Nudging) -> tuple[Floats, Floats]:
    """Weights and β of all states that enter the gradient: those of the free phase, where it does, before the table's rows."""
    if nudging.free_weight is None:
        return nudging.weight, nudging.beta
    betas = np.concatenate([np.zeros(nudging.n, dtype=nudging.beta.dtype), nudging.beta])
    return np.concatenate([nudging.free_weight, nudging.weight]), betas


def _tensor(values: Floats, like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(values)).to(like)


def _stack(block: Tensor, phases: int) -> Tensor:
    return block if phases == 1 else torch.cat([block] * phases)
