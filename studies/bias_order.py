"""Measure how the bias of each estimator grows with β, and where the hybrid's two regimes meet (thesis section 2, eq. 5-13)."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch

from analysis.bias import draw, report
from hybridep.command import as_command
from hybridep.config import BETA_RANGE, MOST_SEED, InvalidInput, TrialConfig
from hybridep.datasets import Dataset
from hybridep.diagnostics import Biases, agreement, diagnostic_batch, fit_order, in_double, mixture
from hybridep.estimators import ESTIMATORS, averaging
from hybridep.study.arguments import DiagnosticArgs, chosen_protocol
from hybridep.study.checks import check_choices, require
from hybridep.study.command_line import Option
from hybridep.study.recorded import Diagnosis, diagnose
from hybridep.trainer import Trainer

SMOOTH = ("tanh", "sigmoid")
PER_DECADE = 6
LOWEST_P = 1e-5


@dataclass(frozen=True)
class Args(DiagnosticArgs):
    estimators: Annotated[tuple[str, ...], Option(choices=averaging())] = averaging()
    """The estimators to measure; those whose signs change are averaged over them, corrected once its memory has settled."""
    beta_range: tuple[float, float] = (1e-4, 1.0)
    """Lowest and highest β, six values a decade."""
    hybrid_betas: tuple[float, ...] = (1e-3, 1e-2, 1e-1)
    """β at which the hybrid of the protocol's cheap and accurate estimators is followed over p_std."""
    trained: int = 5
    """Epochs of training, with the accurate estimator, before the bias is measured; 0: initial weights."""
    samples: int = 16
    """Images of the batch, the first of the training images."""
    seed: int = 0
    """Seed of weights and training."""


def plan(args: Args) -> Diagnosis:
    """What the arguments ask for; InvalidInput in one line where they make no sense."""
    check_choices("estimators", args.estimators, averaging(), least=1)
    low, high = args.beta_range
    if not BETA_RANGE[0] <= low < high <= BETA_RANGE[1]:
        raise InvalidInput(
            f"--beta-range {low:g} {high:g}: must be two values from {BETA_RANGE[0]:g} to {BETA_RANGE[1]:g}, the lower first"
        )
    for beta in args.hybrid_betas:
        require("hybrid-betas", beta, *BETA_RANGE)
    if not args.hybrid_betas:
        raise InvalidInput("--hybrid-betas (): must be at least one β")
    require("seed", args.seed, 0, MOST_SEED)
    protocol = chosen_protocol(args, family="constant", skew=0.0, seed=args.seed)
    require("trained", args.trained, 0, protocol.epochs, "the epochs of the protocol")
    if protocol.network.activation not in SMOOTH:
        raise InvalidInput(
            f"--activation {protocol.network.activation}: must be {' or '.join(SMOOTH)}, an order of bias supposes a smooth G(β)"
        )
    return Diagnosis(protocol, (args.seed,), args.samples)


@torch.no_grad()
def study(args: Args, plan: Diagnosis, dataset: Dataset, folder: Path) -> None:
    """Train, then write bias.csv, slopes.csv, hybrid.csv, regimes.csv and the figure."""
    config = plan.protocol
    trainer = Trainer(config, dataset)
    for _ in range(args.trained):
        trainer.train_epoch()
    x, target = diagnostic_batch(config, dataset, trainer.train_rows[: args.samples])
    biases = Biases(in_double(config, trainer.network), x, target)

    curves = pd.DataFrame([row for name in args.estimators for row in sweep(biases, name, args.beta_range)])
    slopes = pd.DataFrame([fitted(name, curves[curves["estimator"] == name]) for name in args.estimators])
    fit = slopes.set_index("estimator").loc[curves["estimator"], ["low", "high"]].to_numpy()
    curves["fitted"] = curves["at_rest"] & (curves["beta"] >= fit[:, 0]) & (curves["beta"] <= fit[:, 1])
    hybrid = pd.DataFrame([row for beta in args.hybrid_betas for row in mixed(biases, config, beta)])
    regimes = pd.DataFrame([regime(beta, hybrid[hybrid["beta"] == beta], config) for beta in args.hybrid_betas])
    for name, frame in {"bias": curves, "slopes": slopes, "hybrid": hybrid, "regimes": regimes}.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    print(caption(args, config), findings(biases), sep="\n")
    print(report(slopes, regimes))
    draw(curves, slopes, hybrid, regimes, folder, caption(args, config), config.beta)


def findings(biases: Biases) -> str:
    """How well converged the reference is, and how close centered EP comes to it, for a terminal."""
    free, reference = biases.free, biases.reference
    centered = biases.of(ESTIMATORS.make("centered"), 1e-3)
    lines = [f"Free phase: last change {float(free.residual.max()):.0e} at most, after {int(free.steps.max())} sweeps at most."]
    if moving := int((~free.converged).sum()):
        lines += [f"{moving} samples did not come to rest, so no bias can be measured: take a smaller --init-gain, or fewer epochs."]
    lines += [f"BPTT through {reference.steps} free steps; twice as many change no layer's gradient by more than {reference.change:.0e}."]
    lines += [f"Centered EP at β = 0.001 differs from BPTT by {centered.norm:.1e} of its norm."]
    return "\n".join(lines)


def sweep(biases: Biases, name: str, beta_range: tuple[float, float]) -> list[dict[str, Any]]:
    """The bias of one estimator over β, as a fraction of ‖BPTT‖, with what rounding alone would make of it."""
    low, high = np.log10(beta_range)
    rows = []
    for beta in np.logspace(low, high, max(2, round(PER_DECADE * (high - low)) + 1)):
        bias = biases.of(ESTIMATORS.make(name), float(beta))
        cosine = agreement(bias.vector, biases.reference.gradient).cosine
        rows.append({"estimator": name, "beta": beta, "bias": bias.norm, "cosine": cosine, "noise": bias.noise, "at_rest": bias.at_rest})
    return rows


def fitted(name: str, curve: pd.DataFrame) -> dict[str, Any]:
    """The power of β that the bias of one estimator follows, beside the one that its stencil has, and its cosine with BPTT there."""
    betas, norms, noise = (curve.loc[curve["at_rest"], column].to_numpy() for column in ("beta", "bias", "noise"))
    law = fit_order(betas, norms, noise)
    cosine = curve.loc[curve["beta"].between(law.low, law.high), "cosine"].mean()
    return {"estimator": name, "theory": ESTIMATORS.make(name).order, **asdict(law), "cosine": cosine}


def mixed(biases: Biases, config: TrialConfig, beta: float) -> list[dict[str, Any]]:
    """The bias of the expected hybrid update over p (eq. 12), and its two parts: p · bias of the cheap, bias of the accurate estimator."""
    cheap, accurate = (biases.of(estimator, beta) for estimator in (config.cheap, config.accurate))
    low = np.log10(LOWEST_P)
    return [
        {
            "beta": beta,
            "p_std": p,
            "bias": biases.norm(mixture(p, cheap.vector, accurate.vector)),
            "cheap_part": p * cheap.norm,
            "floor": accurate.norm,
            "at_rest": cheap.at_rest and accurate.at_rest,
        }
        for p in np.logspace(low, 0, round(-PER_DECADE * low) + 1).tolist()
    ]


def regime(beta: float, curve: pd.DataFrame, config: TrialConfig) -> dict[str, Any]:
    """The two regimes of eq. 13 at one β: the p where they cross, the slope from ten times that, and the bias below as parts of the floor.

    Where the two parts of eq. 12 point against each other the bias dips below the floor near the crossing: `least_over_floor`.
    """
    floor = curve["floor"].iloc[0]
    crossing = floor / curve["cheap_part"].iloc[-1]
    above = curve[curve["p_std"] >= 10 * crossing]
    least = curve.sort_values("bias").iloc[0]
    return {
        "cheap": config.cheap.name,
        "accurate": config.accurate.name,
        "beta": beta,
        "crossing": crossing,
        "crossing_over_beta": crossing / beta,
        "slope_above": np.polyfit(np.log(above["p_std"]), np.log(above["bias"]), 1)[0] if len(above) >= 4 else np.nan,
        "lowest_p_over_floor": curve["bias"].iloc[0] / floor,
        "least_over_floor": least["bias"] / floor,
        "least_p": least["p_std"],
        "at_rest": bool(curve["at_rest"].all()),
    }


def caption(args: Args, config: TrialConfig) -> str:
    weights = f"after {args.trained} epoch{'s' * (args.trained > 1)}" if args.trained else "initial weights"
    network = f"{config.network.name} {config.network.layout}, {config.network.activation}"
    return f"{config.dataset}, {network}, {weights}, {args.samples} samples, float64"


main = partial(diagnose, "bias_order", Args, plan, study)

if __name__ == "__main__":
    as_command(main)
