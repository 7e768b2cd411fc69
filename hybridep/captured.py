"""`CapturedPhases`: a network's free and nudged phases as a GPU runs them, in graphs: fixed steps as one, adaptive ones block by block."""

import numpy as np
import torch
from torch import Tensor

from hybridep.blocks import Blocks
from hybridep.networks import Dynamics, LayeredNetwork
from hybridep.nudging import Nudging
from hybridep.phases import bind_phases
from hybridep.relaxation import Adaptive, Equilibrium, Relaxation
from hybridep.replays import Replays


class CapturedPhases:
    """What comes out holds until the same kind of phase runs again. `example` is an input of the network, on its device."""

    def __init__(self, network: LayeredNetwork, relaxation: Relaxation, example: Tensor) -> None:
        self.network = network
        self.relaxation = relaxation
        self.replays = Replays(example.device)
        drive = network.input_drive(example)
        dynamics = network.bind(drive, network.zeros(drive))
        self._chooses = dynamics.chooses
        self.blocks: Blocks | None = None
        if isinstance(relaxation, Adaptive) and dynamics.carries:
            self.blocks = Blocks(relaxation, self.replays)

    def forget(self) -> None:
        """Capture all anew: what the graphs read has moved."""
        self.replays.forget()
        if self.blocks is not None:
            self.blocks.forget()

    def free(self, drive: Tensor) -> Equilibrium:
        """The free equilibria of a minibatch, from zeros."""
        network, n = self.network, len(drive)
        if self.blocks is not None:
            stages = self.blocks.policy.free_stages(self._chooses)
            return self.blocks.relax(("free", n), stages, lambda drive: network.bind(drive, network.zeros(drive), at_rest=True), drive)

        def work(drive: Tensor) -> list[Tensor]:
            return _flat(self.relaxation.free(network.bind(drive, network.zeros(drive), at_rest=True)))

        return _equilibrium(work(drive) if isinstance(self.relaxation, Adaptive) else self.replays(("free", n), work, drive))

    def nudged(self, nudging: Nudging, drive: Tensor, target: Tensor, free: Equilibrium) -> Equilibrium:
        """The equilibria of a table of whole phases, [rows, ...]."""
        phases, betas = nudging.phases, torch.from_numpy(np.array(nudging.beta))
        assert phases is not None
        key = ("nudged", len(drive), phases)
        if self.blocks is not None:
            stages = self.blocks.policy.nudged_stages(self._chooses)

            def begin(betas: Tensor, drive: Tensor, target: Tensor, *state: Tensor) -> Dynamics:
                return bind_phases(self.network, phases, drive, target, betas, list(state))

            return self.blocks.relax(key, stages, begin, betas, drive, target, *free.state)

        def work(betas: Tensor, drive: Tensor, target: Tensor, *state: Tensor) -> list[Tensor]:
            return _flat(self.relaxation.nudged(bind_phases(self.network, phases, drive, target, betas, list(state))))

        inputs = (drive, target, *free.state)
        if isinstance(self.relaxation, Adaptive):
            return _equilibrium(work(betas.to(drive.device), *inputs))
        return _equilibrium(self.replays(key, work, betas, *inputs))


def _flat(found: Equilibrium) -> list[Tensor]:
    return [found.steps, found.residual, found.converged, *found.state]


def _equilibrium(flat: list[Tensor]) -> Equilibrium:
    return Equilibrium(flat[3:], *flat[:3])
