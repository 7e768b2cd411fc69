"""Energy-based networks with closed-form dynamics and parameter gradients."""

import numpy as np
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.datasets import DATASETS
from hybridep.networks.conv import ConvNet
from hybridep.networks.graph import GraphNetwork
from hybridep.networks.layered import Dynamics, LayeredNetwork
from hybridep.networks.mlp import MLP
from hybridep.networks.stack import StackedMLP

__all__ = ["MLP", "ConvNet", "Dynamics", "GraphNetwork", "LayeredNetwork", "StackedMLP", "make_network"]


def make_network(config: TrialConfig, generator: np.random.Generator, like: Tensor) -> LayeredNetwork:
    """The network that a configuration describes, with initial weights drawn from `generator`, on the device and in the dtype of `like`."""
    return config.network.make(DATASETS[config.dataset], generator, like)
