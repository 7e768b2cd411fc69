"""Whether gradient steps lower a network's energy: they do where their size fits its curvature."""

from typing import Final

import torch
from torch import Tensor

from hybridep.networks import LayeredNetwork
from hybridep.relaxation import Relaxation

# Of the range of a unit: what moves less has come to rest, and its energy is the same up to rounding.
MOVING: Final = 0.01


@torch.no_grad()
def rising_share(network: LayeredNetwork, relaxation: Relaxation, x: Tensor) -> float:
    """The share of samples x [n, channels, height, width] that go on moving where their free phase ends, at an energy that does not fall.

    Two further steps are looked at, for states that swing between two bounds are where they were after two. NaN for a network whose
    dynamics are no descent.
    """
    if not network.descends:
        return float("nan")
    drive = network.input_drive(x)
    free = relaxation.free(network.bind(drive, network.zeros(drive), at_rest=True))
    dynamics = network.bind(drive, free.state)
    before = network.phi(x, network.layer_states(dynamics.state))
    dynamics.step()
    # Counted this way round, NaN is moving and does not fall.
    still = dynamics.change() <= MOVING * (network.highest - network.lowest)
    dynamics.step()
    falls = network.phi(x, network.layer_states(dynamics.state)) > before
    return float((~(still | falls)).double().mean())
