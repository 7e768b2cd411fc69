"""Energy-based networks with closed-form dynamics and parameter gradients."""

import numpy as np
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.networks.conv import ConvNet
from hybridep.networks.layered import Dynamics, LayeredNetwork
from hybridep.networks.mlp import MLP

__all__ = ["MLP", "ConvNet", "Dynamics", "LayeredNetwork", "make_network"]


def make_network(config: TrialConfig, generator: np.random.Generator, like: Tensor) -> LayeredNetwork:
    """The network that a configuration describes, with initial weights drawn from `generator`, on the device and in the dtype of `like`."""
    if config.network == "mlp":
        return MLP(config.sizes, config.activation, config.cost, config.init_gain, generator, like)
    return ConvNet(
        config.layer_shapes(),
        kernel=config.kernel,
        stride=config.stride,
        padding=config.padding,
        pooling=config.pooling,
        activation=config.activation,
        cost=config.cost,
        init_gain=config.init_gain,
        generator=generator,
        like=like,
    )
