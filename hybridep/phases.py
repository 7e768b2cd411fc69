"""The phases of one update: nudged relaxations from the free equilibrium, stacked, and their difference ĝ (thesis eq. 4, 8, 11)."""

import torch
from torch import Tensor

from hybridep.estimators import Estimator
from hybridep.networks import LayeredNetwork
from hybridep.relaxation import Equilibrium, Relaxation


def estimate(
    network: LayeredNetwork,
    relaxation: Relaxation,
    estimator: Estimator,
    beta: float,
    x: Tensor,
    drive: Tensor,
    free: Equilibrium,
    target: Tensor,
) -> tuple[list[Tensor], Equilibrium]:
    """Run the nudged phases of an estimator from the free equilibrium, stacked as one batch, and difference them.

    x [n, channels, height, width], drive of that x, target [n, classes]; beta carries the drawn sign. Returns ĝ for each parameter
    (mean over the batch, the direction that descends the loss) and the stacked nudged equilibria, phases·n rows.
    """
    n = x.shape[0]
    nudges = [float(b) for b in estimator.nudges]
    coefficients = [float(c) for c in estimator.coefficients]
    pushed = [b for b in nudges if b != 0]
    stacked = [_stack(block, len(pushed)) for block in free.state]
    betas = drive.new_tensor(pushed).mul_(beta).repeat_interleave(n)
    nudged = relaxation.nudged(network.bind(_stack(drive, len(pushed)), stacked, target.repeat(len(pushed), 1), betas, at_rest=True))
    state = nudged.state
    if len(pushed) < len(nudges):
        # The free phase stands first, as the only one with a nudge of 0.
        state = [torch.cat([f, s]) for f, s in zip(free.state, state, strict=True)]
        at = nudges.index(0.0)
        nudges = [0.0, *pushed]
        coefficients = [coefficients[at], *coefficients[:at], *coefficients[at + 1 :]]
    return network.gradient(x, drive, state, target, coefficients, nudges, beta), nudged


def _stack(block: Tensor, phases: int) -> Tensor:
    return block if phases == 1 else torch.cat([block] * phases)
