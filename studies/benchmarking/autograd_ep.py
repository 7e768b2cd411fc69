"""`AutogradEP`: EP as published implementations write it, with Φ differentiated automatically at every step."""

import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridep.architectures import Convolutional
from hybridep.config import TrialConfig
from hybridep.estimators import Stencil
from hybridep.graphs import Graph
from hybridep.kernels import flat
from hybridep.networks.layered import ORACLE_ACTIVATIONS
from studies.benchmarking.implementation import Outcome, sgd

POOLING: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda z: z,
    "average": lambda z: F.avg_pool2d(z, 2),
    "max": lambda z: F.max_pool2d(z, 2),
}


class AutogradEP:
    """T1 and T2 synchronous steps of s ← ρ(∂Φ/∂s); weights follow the difference of Φ between the phases. Squared error, chains only.

    Of a graph with dynamics=energy, Φ is −E and a step s ← clip(s + ε ∂Φ/∂s), for activations that are straight between their bounds.

    It computes what `FixedSteps` computes in closed form, on contiguous [n, channels, height, width] tensors. It is here to be compared
    with: nothing is done to make it fast, and nothing to make it slow.
    """

    def __init__(self, config: TrialConfig, dtype: torch.dtype = torch.float32) -> None:
        self.config = config
        network = config.network
        # Networks without convolutions never ask for these.
        kernel, stride, padding, pooling = (
            (network.kernel, network.stride, network.padding, network.pooling) if isinstance(network, Convolutional) else (1, 1, 0, "none")
        )
        self.activation = ORACLE_ACTIVATIONS[network.activation]
        self.step_size = network.step_size if isinstance(network, Graph) and network.dynamics == "energy" else None
        self.pool = POOLING[pooling]
        self.shapes = config.layer_shapes()
        self.synapses: list[nn.Conv2d | nn.Linear] = [
            nn.Conv2d(below[0], above[0], kernel, stride, padding, dtype=dtype)
            if len(above) == 3
            else nn.Linear(torch.Size(below).numel(), above[0], dtype=dtype)
            for below, above in pairwise(self.shapes)
        ]
        self.optimizer = sgd([list(synapse.parameters()) for synapse in self.synapses], config, fused=False)

    def phi(self, x: Tensor, neurons: list[Tensor], target: Tensor, beta: float) -> Tensor:
        """Φ − βℓ, [n]."""
        layers = [x, *neurons]
        phi = torch.zeros((), dtype=x.dtype)
        for synapse, below, above in zip(self.synapses, layers, layers[1:], strict=False):
            if isinstance(synapse, nn.Conv2d):
                phi = phi + (self.pool(synapse(below)) * above).sum(dim=(1, 2, 3))
            else:
                phi = phi + (synapse(below.flatten(1)) * above).sum(dim=1)
        if self.step_size is not None:
            phi = phi - 0.5 * torch.stack([s.square().flatten(1).sum(dim=1) for s in neurons]).sum(dim=0)
        if beta != 0:
            phi = phi - beta * 0.5 * ((neurons[-1] - target) ** 2).sum(dim=1)
        return phi

    def relax(self, x: Tensor, neurons: list[Tensor], target: Tensor, beta: float, steps: int) -> list[Tensor]:
        for _ in range(steps):
            gradients = torch.autograd.grad(self.phi(x, neurons, target, beta).sum(), neurons)
            if self.step_size is not None:
                gradients = tuple(s.detach() + self.step_size * gradient for s, gradient in zip(neurons, gradients, strict=True))
            neurons = [self.activation(gradient).requires_grad_() for gradient in gradients]
        return neurons

    def update(self, x: Tensor, target: Tensor, stencil: Stencil) -> Outcome:
        with torch.enable_grad():
            started = time.perf_counter()
            zeros = [torch.zeros(len(x), *shape, dtype=x.dtype).requires_grad_() for shape in self.shapes[1:]]
            free = self.relax(x, zeros, target, 0.0, self.config.T1)
            nudges = [float(b) * self.config.beta for b in stencil.nudges]
            phases = [self.relax(x, free, target, beta, self.config.T2) if beta else free for beta in nudges]
            seconds = time.perf_counter() - started
            self.optimizer.zero_grad()
            terms = zip(stencil.coefficients, phases, nudges, strict=True)
            objective = torch.stack([float(-c) * self.phi(x, neurons, target, beta).mean() for c, neurons, beta in terms]).sum()
            torch.autograd.backward(objective / self.config.beta)
            self.optimizer.step()
        free_steps = torch.full((len(x),), float(self.config.T1))
        nudged_steps = torch.full((len(x) * stencil.nudged_phases,), float(self.config.T2))
        return Outcome(self._gradient(), free_steps, nudged_steps, seconds)

    def load(self, parameters: list[Tensor]) -> None:
        """Take over the parameters of a `LayeredNetwork` of the same configuration."""
        with torch.no_grad():
            for index, synapse in enumerate(self.synapses):
                weight, bias = parameters[2 * index : 2 * index + 2]
                if isinstance(synapse, nn.Conv2d):
                    synapse.weight.copy_(weight)
                else:
                    synapse.weight[:, self._columns(index)] = weight.to(synapse.weight)
                list(synapse.parameters())[1].copy_(bias)

    def _gradient(self) -> list[Tensor]:
        """ĝ, ordered as in a `LayeredNetwork`: the direction that descends the loss."""
        gradient = []
        for index, synapse in enumerate(self.synapses):
            weight, bias = (parameter.grad for parameter in synapse.parameters())
            assert weight is not None and bias is not None
            gradient += [-weight if isinstance(synapse, nn.Conv2d) else -weight[:, self._columns(index)], -bias]
        return gradient

    def _columns(self, index: int) -> Tensor:
        """Where the closed form's units of a dense connection's input stand here: it flattens images with their channels last."""
        shape = self.shapes[index] if index else (torch.Size(self.shapes[0]).numel(),)
        return flat(torch.arange(torch.Size(shape).numel()).view(1, *shape))[0]
