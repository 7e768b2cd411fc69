"""The gradient of a network relaxed until it rests, in float64: what every implementation approximates."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hybridep.config import TrialConfig
from hybridep.estimators import stencil
from hybridep.networks import Dynamics
from hybridep.phases import estimate
from hybridep.relaxation import Adaptive, Equilibrium, Relaxation
from studies.benchmarking.implementation import ClosedForm, minibatch

# A sample rests when no unit moves by so much in a step, and is given up as unconverged after so many steps.
AT_REST, PATIENCE = 1e-10, 10_000


@dataclass(frozen=True)
class UntilRest:
    """The thesis's synchronous steps, each sample until it rests."""

    check_every: int = 20

    def free(self, dynamics: Dynamics) -> Equilibrium:
        n = len(dynamics.state[0])
        state = [torch.empty_like(block) for block in dynamics.state]
        steps, residual = state[0].new_full((n,), PATIENCE), state[0].new_full((n,), torch.inf)
        rows = torch.arange(n)
        for step in range(1, PATIENCE + 1):
            dynamics.step()
            if step % self.check_every and step < PATIENCE:
                continue
            change = dynamics.change()
            for block, current in zip(state, dynamics.state, strict=True):
                block[rows] = current
            residual[rows] = change
            steps[rows] = step
            moving = change >= AT_REST
            if not moving.any():
                break
            if not moving.all():
                rows = rows[moving]
                dynamics.keep(moving.nonzero().flatten())
        return Equilibrium(state, steps, residual, residual < AT_REST)

    nudged = free


SYNCHRONOUS = UntilRest()


@dataclass(frozen=True)
class Reference:
    """ĝ for each estimator, and the fraction of samples of which some phase has not come to rest."""

    gradients: dict[str, list[Tensor]]
    unconverged: dict[str, float]


@torch.no_grad()
def full_convergence(
    config: TrialConfig, parameters: list[Tensor], relaxation: Relaxation, batches: list[tuple[Tensor, Tensor]], estimators: tuple[str, ...]
) -> list[Reference]:
    """The reference for each minibatch, in the limit of a relaxation's own iteration."""
    closed_form = ClosedForm(config, relaxation, torch.float64)
    closed_form.load(parameters)
    return [_reference(closed_form, x.double(), target.double(), estimators) for x, target in batches]


def limit(relaxation: Relaxation) -> Relaxation:
    """The same relaxation, going on until it rests."""
    return replace(relaxation, tolerance=AT_REST, T1=PATIENCE, T2=PATIENCE) if isinstance(relaxation, Adaptive) else SYNCHRONOUS


def _reference(closed_form: ClosedForm, x: Tensor, target: Tensor, estimators: tuple[str, ...]) -> Reference:
    network, relaxation, beta = closed_form.network, closed_form.relaxation, closed_form.config.beta
    drive, free = closed_form.free_phase(x)
    gradients, unconverged = {}, {}
    for name in estimators:
        nudging = stencil(name).nudging(minibatch(x, beta))
        gradients[name], nudged = estimate(network, relaxation, nudging, x, drive, free, target)
        at_rest = free.converged & nudged.converged.view(-1, len(x)).all(dim=0)
        unconverged[name] = 1.0 - float(at_rest.double().mean())
    return Reference(gradients, unconverged)
