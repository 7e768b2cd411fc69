"""A network's free and nudged phases: `PlainPhases` as CPUs run them, `CapturedPhases` as a GPU does.

That is in graphs: fixed steps as one, adaptive ones block by block.
"""

from collections.abc import Callable, Hashable

import numpy as np
import torch
from torch import Tensor

from hybridep.blocks import Begin, Blocks
from hybridep.networks import Dynamics, LayeredNetwork
from hybridep.nudging import Nudging
from hybridep.phases import bind_phases, bind_rows, relax
from hybridep.relaxation import Adaptive, Equilibrium, Relaxation
from hybridep.replays import Replays
from hybridep.starts import Starts


class PlainPhases:
    """Phases as they come, each operation for itself. Those of training begin where `starts` says."""

    def __init__(self, network: LayeredNetwork, relaxation: Relaxation, starts: Starts) -> None:
        self.network = network
        self.relaxation = relaxation
        self.starts = starts
        self.replays = Replays(network.parameters[0].device, captures=False)

    def forget(self) -> None:
        pass

    def free(self, drive: Tensor, rows: Tensor | None = None) -> Equilibrium:
        """The free equilibria of a minibatch: of the training samples in these rows, or, from zeros, of any others."""
        if rows is None:
            return self.relaxation.free(self.network.bind(drive, self.network.zeros(drive), at_rest=True))
        found = self.relaxation.free(self.starts.bind(rows, drive))
        self.starts.keep(rows, found.state)
        return found

    def nudged(self, nudging: Nudging, drive: Tensor, target: Tensor, free: Equilibrium) -> Equilibrium:
        """The equilibria of a table, [rows, ...]."""
        return relax(self.network, self.relaxation, nudging, drive, free, target).nudged


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
        # A network that carries nothing from block to block waits for the device after each look, which no graph can.
        self._captures = self.blocks is not None or not isinstance(relaxation, Adaptive)

    def forget(self) -> None:
        """Capture all anew: what the graphs read has moved."""
        self.replays.forget()
        if self.blocks is not None:
            self.blocks.forget()

    def free(self, drive: Tensor, rows: Tensor | None = None) -> Equilibrium:
        """The free equilibria of a minibatch, from zeros, whichever rows it has."""
        network = self.network

        def begin(drive: Tensor) -> Dynamics:
            return network.bind(drive, network.zeros(drive), at_rest=True)

        if self.blocks is not None:
            return self.blocks.relax(("free", len(drive)), self.blocks.policy.free_stages(self._chooses), begin, drive)
        return self._whole(("free", len(drive)), self.relaxation.free, begin, drive)

    def nudged(self, nudging: Nudging, drive: Tensor, target: Tensor, free: Equilibrium) -> Equilibrium:
        """The equilibria of a table, [rows, ...]."""
        phases = nudging.phases
        if phases is None:
            return self._scattered(nudging, drive, target, free)

        def begin(betas: Tensor, drive: Tensor, target: Tensor, *state: Tensor) -> Dynamics:
            return bind_phases(self.network, phases, drive, target, betas, list(state))

        betas = torch.from_numpy(np.array(nudging.beta))
        return self.nudged_from((len(drive), phases), begin, betas, drive, target, *free.state)

    def _scattered(self, nudging: Nudging, drive: Tensor, target: Tensor, free: Equilibrium) -> Equilibrium:
        """Those of other rows than whole phases, filled up to quarters of one by the first row, for each size is captured by itself."""
        rows, n = len(nudging.rows), len(drive)
        if rows == 0 or not self._captures:
            return relax(self.network, self.relaxation, nudging, drive, free, target).nudged
        quarter = -(-n // 4)
        width = quarter * -(-rows // quarter)
        betas, samples = np.full(width, nudging.beta[0]), np.full(width, nudging.rows[0])
        betas[:rows], samples[:rows] = nudging.beta, nudging.rows

        def begin(betas: Tensor, samples: Tensor, drive: Tensor, target: Tensor, *state: Tensor) -> Dynamics:
            return bind_rows(self.network, samples, drive, target, betas, list(state))

        given = torch.from_numpy(betas), torch.from_numpy(samples)
        found = self.nudged_from((n, width, "rows"), begin, *given, drive, target, *free.state)
        return Equilibrium([block[:rows] for block in found.state], found.steps[:rows], found.residual[:rows], found.converged[:rows])

    def nudged_from(self, key: Hashable, begin: Begin, *inputs: Tensor) -> Equilibrium:
        """The equilibria of what begin(*inputs) binds; `key` names the shapes. The last input is on the network's device."""
        if self.blocks is not None:
            return self.blocks.relax(("nudged", key), self.blocks.policy.nudged_stages(self._chooses), begin, *inputs)
        return self._whole(("nudged", key), self.relaxation.nudged, begin, *inputs)

    def _whole(self, key: Hashable, relax: Callable[[Dynamics], Equilibrium], begin: Begin, *inputs: Tensor) -> Equilibrium:
        """A phase from begin(*inputs) to its end: fixed steps as one graph, adaptive ones, which wait for the device, without a graph."""

        def work(*inputs: Tensor) -> list[Tensor]:
            found = relax(begin(*inputs))
            return [found.steps, found.residual, found.converged, *found.state]

        if not self._captures:
            steps, residual, converged, *state = work(*(given.to(inputs[-1].device) for given in inputs))
        else:
            steps, residual, converged, *state = self.replays(key, work, *inputs)
        return Equilibrium(state, steps, residual, converged)
