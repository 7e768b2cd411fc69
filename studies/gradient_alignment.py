"""Align estimators with the BPTT gradient while a network trains (thesis Appendix B, Figure 4)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pandas as pd
import torch

from analysis.alignment import draw, report, summarise
from hybridep.command import as_command
from hybridep.config import MOST_EPOCHS, MOST_STEPS, InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, Dataset
from hybridep.diagnostics import TO_REST, alignment, diagnostic_batch, free_phase, in_double, settled_bptt
from hybridep.estimators import ESTIMATORS, averaging
from hybridep.networks import LayeredNetwork
from hybridep.presets import ONE_SIDED, PROTOCOLS, STRATEGIES
from hybridep.relaxation import Adaptive
from hybridep.study.arguments import DiagnosticArgs, Earlier, Seeds, chosen_protocol, chosen_seeds, usual_seeds
from hybridep.study.checks import check_choice, check_choices, require
from hybridep.study.command_line import Option
from hybridep.study.recorded import Diagnosis, diagnose, write_table
from hybridep.trainer import Trainer, make_relaxation

ROWS = "alignment.csv"
EPOCHS = 50
CHECKPOINTS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50)
TRAINED_WITH = {**STRATEGIES, **ONE_SIDED}
# To rest as far as alignment to many digits can tell; trained networks have samples that are slow to get there.
CONVERGED = Adaptive(tolerance=1e-9, T1=10_000, T2=1_000, over_relaxation=TO_REST.over_relaxation)


@dataclass(frozen=True)
class Args(DiagnosticArgs):
    estimators: Annotated[tuple[str, ...], Option(choices=averaging())] = ("standard", "centered", "alternating")
    """The estimators to align; their signs average out, alternating's over both."""
    strategy: Annotated[str, Option(choices=TRAINED_WITH)] = "standard"
    """What trains the network, standard in the thesis's Appendix B."""
    checkpoints: tuple[int, ...] = CHECKPOINTS
    """Epochs after which gradients are compared; those after the last epoch are left out, and the last epoch is added."""
    samples: Annotated[int | None, Option(otherwise=lambda preset: f"{preset.protocol.batch_size}, the batch size")] = None
    """Images of the diagnostic batch, the first of the training images."""
    bptt_steps: Annotated[
        int | None, Option(otherwise="at each checkpoint so many that doubling them changes the gradient of no layer by 1 %")
    ] = None
    """Free steps K that BPTT goes back through."""
    seeds: Seeds = ()
    """Seeds to train on."""
    earlier: Earlier = None
    """Folder of a run that was cut short: seeds that it finished are taken over, the rest is trained. With the same other arguments."""
    instead: ClassVar[Mapping[str, str]] = {"epochs": str(EPOCHS)}


def plan(args: Args) -> Diagnosis:
    """What the arguments ask for; InvalidInput in one line where they make no sense."""
    check_choices("estimators", args.estimators, averaging(), least=1)
    check_choice("strategy", args.strategy, TRAINED_WITH)
    if not args.checkpoints:
        raise InvalidInput("--checkpoints: must name at least one epoch")
    for checkpoint in args.checkpoints:
        require("checkpoints", checkpoint, 0, MOST_EPOCHS)
    if args.bptt_steps is not None:
        require("bptt-steps", args.bptt_steps, 1, MOST_STEPS)
    protocol = chosen_protocol(args, epochs=EPOCHS, **TRAINED_WITH[args.strategy])
    seeds = chosen_seeds(args)
    samples = protocol.batch_size if args.samples is None else args.samples
    return Diagnosis(
        protocol,
        seeds,
        samples,
        shortened(args, protocol, seeds),
        table=ROWS,
        columns={"seed": int, "epoch": int, "layer": str},
        same=("estimators", "checkpoints", "bptt_steps"),
    )


def shortened(args: Args, protocol: TrialConfig, seeds: tuple[int, ...]) -> str:
    """How a run falls short of all epochs, images and seeds, or "" where it does not."""
    published = PROTOCOLS[args.protocol or args.dataset]
    images, all_images = (config.train_samples or DATASETS[args.dataset].train for config in (protocol, published))
    usual = len(usual_seeds(args))
    parts = [
        (protocol.epochs < EPOCHS, f"{protocol.epochs} of {EPOCHS} epochs"),
        (images < all_images, f"{images:,} of {all_images:,} training images"),
        (len(seeds) < usual, f"{len(seeds)} of {usual} seeds"),
    ]
    return ", ".join(text for short, text in parts if short)


def study(args: Args, plan: Diagnosis, dataset: Dataset, folder: Path) -> None:
    """Train on each seed and write what its checkpoints show; the files are renewed after each seed."""
    rows = pd.DataFrame() if plan.finished is None else plan.finished[plan.finished["seed"].isin(plan.seeds)]
    finished = set() if rows.empty else set(rows["seed"])
    renew(args, plan, rows, folder)
    for seed in plan.seeds:
        if seed not in finished:
            rows = pd.concat([rows, pd.DataFrame(checkpoint_rows(args, plan, seed, dataset))], ignore_index=True)
            renew(args, plan, rows, folder)
    print("No gradient was left to compare at any checkpoint." if rows.empty else report(summarise(rows), plan.shortened))


def renew(args: Args, plan: Diagnosis, rows: pd.DataFrame, folder: Path) -> None:
    """Write the tables and the figure of what there is so far, seeds in the order that was asked for."""
    if rows.empty:
        return
    rows = rows.sort_values("seed", key=lambda seeds: seeds.map(plan.seeds.index), kind="stable", ignore_index=True)
    write_table(rows, folder / ROWS)
    summary = summarise(rows)
    write_table(summary, folder / "summary.csv")
    draw(summary, folder, caption(args, plan))


def checkpoint_rows(args: Args, plan: Diagnosis, seed: int, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Train one seed; at each checkpoint a row for each estimator, way of relaxing and layer."""
    config = plan.protocol.replace(seed=seed)
    trainer = Trainer(config, dataset)
    x, target = diagnostic_batch(config, dataset, trainer.train_rows[: plan.samples])
    test_acc = float("nan")
    for epoch in range(config.epochs + 1):
        if epoch:
            test_acc = float(trainer.train_epoch()["test_acc"])
        if trainer.diverged:
            print(f"seed {config.seed}: the weights are lost after epoch {epoch}, no gradient is left to compare", flush=True)
            return
        if epoch in args.checkpoints or epoch == config.epochs:
            found = compare(args, config, in_double(config, trainer.network), x, target)
            for row in found:
                yield {"seed": config.seed, "epoch": epoch, "test_acc": test_acc, **row}
            print(f"seed {config.seed}, epoch {epoch} of {config.epochs}, BPTT through {found[0]['bptt_steps']} steps", flush=True)


@torch.no_grad()
def compare(args: Args, config: TrialConfig, network: LayeredNetwork, x: torch.Tensor, target: torch.Tensor) -> list[dict[str, Any]]:
    """Estimators against BPTT: with the phases that training runs, and with phases at rest, where β alone is to blame."""
    protocol = make_relaxation(config)
    _, reached = free_phase(network, protocol, x)
    # The equilibrium that training was on its way to: of several, another start may lead to another.
    _, free = free_phase(network, CONVERGED, x, reached.state)
    given = {} if args.bptt_steps is None else {"steps": args.bptt_steps, "limit": args.bptt_steps}
    reference = settled_bptt(network, x, target, free.state, **given)
    shared = {
        "bptt_steps": reference.steps,
        "bptt_change": reference.change,
        "free_unconverged": 1 - float(free.converged.double().mean()),
        "free_residual": float(reached.residual.mean()),
    }
    rows = []
    for phases, relaxation, start in (("protocol", protocol, reached), ("at rest", CONVERGED, free)):
        for name in args.estimators:
            found = alignment(network, relaxation, ESTIMATORS.make(name), config.beta, x, target, start, reference.gradient)
            for layer, agreement in enumerate((found.whole, *found.layers)):
                values = {"cosine": agreement.cosine, "relative_error": agreement.relative_error, "nudged_unconverged": found.unconverged}
                rows.append({"phases": phases, "estimator": name, "layer": str(layer or "all"), **values, **shared})
    return rows


def caption(args: Args, plan: Diagnosis) -> str:
    protocol = plan.protocol
    network = f"{protocol.network.name} {protocol.network.layout}"
    seeds = f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}"
    steps = f"T1 = {protocol.T1}, T2 = {protocol.T2}"
    relaxation = steps if protocol.relaxation == "fixed" else f"adaptive relaxation within {steps}"
    text = f"{protocol.dataset}, {network}, trained with {args.strategy} EP, β = {protocol.beta:g}, {relaxation}, {seeds}"
    return f"{text}\nShortened run: {plan.shortened}" if plan.shortened else text


main = partial(diagnose, "gradient_alignment", Args, plan, study)

if __name__ == "__main__":
    as_command(main)
