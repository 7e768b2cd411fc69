"""Train the strategies of one table of the thesis under its protocol, and set the results beside the published ones."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from hybridep.command import as_command
from hybridep.config import InvalidInput, TrialConfig
from hybridep.presets import ONE_SIDED, PRESETS, PROTOCOLS, STRATEGIES, Preset
from hybridep.study.arguments import DataNote, FolderArgs
from hybridep.study.checks import MOST_TRIALS, check_choice, check_choices, require, require_seeds
from hybridep.study.command_line import Option
from hybridep.study.plan import Plan, PlannedTrial
from hybridep.study.study import main
from search_spaces.pieces import STARTS

TABLES: Final = ("mnist", "fashion-mnist", "cifar10", "fashion-conv", "hopfield-mnist", "hopfield-conv")
POLICIES: Final = ("fixed", "adaptive", "converged")
# The free phase run to rest: what then differs between strategies is the bias in β alone.
CONVERGED: Final[dict[str, Any]] = {"relaxation": "adaptive", "tolerance": 1e-6, "T1": 300}


def of_table(value: Callable[[Preset], Any]) -> Callable[[Preset], str]:
    """What --help says of a value that each table has its own of: that of the table which is named."""
    return lambda preset: str(value(preset)) if preset in map(PRESETS.get, TABLES) else "the table's"


@dataclass(frozen=True)
class Args(FolderArgs):
    table: Annotated[str | None, Option(choices=TABLES)] = None
    """Table 1 (mnist), 2 (fashion-mnist) or 3 (cifar10) of the thesis, fashion-conv, a bench on which one-sided updates
    collapse, or hopfield-mnist and hopfield-conv, continuous Hopfield networks."""
    strategies: Annotated[tuple[str, ...], Option("strategy", (*STRATEGIES, *ONE_SIDED), otherwise="the table's")] = ()
    """Strategies to run."""
    relaxation: Annotated[tuple[str, ...], Option("relaxation", POLICIES, otherwise="fixed; fixed and converged for fashion-conv")] = ()
    """One or more ways to relax: fixed (T1 and T2 steps, as in the thesis), adaptive (to --tolerance, within T1 and T2), converged (to 1e-6
    within 300 free steps)."""
    tolerance: Annotated[float | None, Option("relaxation", otherwise=of_table(lambda preset: f"{preset.tolerance:g}"))] = None
    """adaptive: a sample has converged when no unit moves by more in a step."""
    start: Annotated[tuple[str, ...], Option("relaxation", STARTS, otherwise="zeros")] = ()
    """Where free phases start, one or both of zeros (as in the thesis) and last (the last epoch's equilibrium of the same image)."""
    seeds: Annotated[tuple[int, ...], Option(otherwise=of_table(lambda preset: " ".join(map(str, preset.seeds))))] = ()
    """Seeds, each a trial of its own. With fewer, fewer epochs or fewer images, every output says so."""
    epochs: Annotated[int | None, Option("training", otherwise=of_table(lambda preset: preset.protocol.epochs))] = None
    """Passes over the training images."""
    train_samples: Annotated[int | None, Option("data", otherwise=of_table(lambda preset: preset.protocol.train_samples or "all"))] = None
    """First N training images."""
    test_samples: Annotated[int | None, Option("data", otherwise=of_table(lambda preset: preset.protocol.test_samples or "all"))] = None
    """First N test images, which accuracy is measured on after each epoch."""
    T1: Annotated[int | None, Option("relaxation", otherwise=of_table(lambda preset: preset.protocol.T1))] = None
    """Free-phase steps of fixed, and the most of adaptive."""
    stack: Annotated[int | None, Option("resources", otherwise="trials run on Ray")] = None
    """Train so many trials at once as one stack of networks, in this process instead of on Ray: on a GPU in little more time than one
    takes. A stack that the device's memory does not hold is split."""
    init_gain: Annotated[float | None, Option("network", otherwise=of_table(lambda preset: preset.protocol.network.init_gain))] = None
    """Factor on PyTorch's default initial weights and biases; the thesis does not tell its own."""
    inputs: Annotated[Literal["standardised", "unit"] | None, Option("data", otherwise=of_table(lambda preset: preset.protocol.inputs))] = (
        None
    )
    """What pixels become: standardised (less the data's mean, by its standard deviation) or unit (in [0, 1])."""
    decay_epochs: Annotated[int | None, Option("training", otherwise="those of the run")] = None
    """Epochs from full learning rates to the lowest; 100 in the code that the thesis extends."""
    crops: Annotated[Literal["black", "edge"] | None, Option("data", otherwise=of_table(lambda preset: preset.protocol.crops))] = None
    """cifar10: what random crops are padded with, black or the edge's pixels."""
    data_note: DataNote = None
    """What the images are where they are not the official ones, as "a JPEG copy of the images"; every output says so."""
    precision: Annotated[Literal["float32", "tf32"] | None, Option("training", otherwise="float32")] = None
    """Of products on a GPU: tf32 rounds their factors for tensor cores, but in a phase's last steps."""


def plan(args: Args) -> Plan:
    """A trial for each seed, policy and strategy, seed by seed, so that there is a table to look at early."""
    table = check_choice("table", args.table, TABLES)
    known = STRATEGIES | ONE_SIDED
    check_choices("strategies", args.strategies, known)
    strategies = args.strategies or tuple(PRESETS[table].published or known)
    seeds = args.seeds or PRESETS[table].seeds
    require_seeds(seeds)
    if args.stack is not None:
        require("stack", args.stack, 1, MOST_TRIALS)
    protocol = chosen_protocol(args, PROTOCOLS[table])
    policies = chosen_policies(args, table, protocol)
    first = next(iter(policies))
    trials = [
        PlannedTrial(
            name=f"{policy}-{strategy}-{seed}",
            # A strategy under two policies is two strategies to whoever looks for a front.
            strategy=strategy if policy == first else f"{strategy} ({policy})",
            origin="thesis",
            seeds=(seed,),
            overrides={**known[strategy], **relaxation},
        )
        for seed in seeds
        for policy, relaxation in policies.items()
        for strategy in strategies
    ]
    return Plan(protocol.replace(**policies[first]), seeds, trials, stack=args.stack or 0)


def chosen_protocol(args: Args, protocol: TrialConfig) -> TrialConfig:
    """The table's protocol with the options that were given."""
    if args.epochs is not None and args.epochs <= protocol.warmup_epochs:
        raise InvalidInput(f"--epochs {args.epochs}: must be more than {protocol.warmup_epochs}, for which the learning rates warm up")
    if args.crops is not None and not protocol.augment:
        raise InvalidInput(f"--crops {args.crops}: applies to --table cifar10 only")
    names = ("epochs", "train_samples", "test_samples", "T1", "init_gain", "inputs", "decay_epochs", "crops", "precision")
    return protocol.replace(**{name: getattr(args, name) for name in names if getattr(args, name) is not None})


def chosen_policies(args: Args, table: str, protocol: TrialConfig) -> dict[str, dict[str, Any]]:
    """The relaxation policies by name, as TrialConfig values."""
    usual = ("fixed", "converged") if table == "fashion-conv" else ("fixed",)
    check_choices("relaxation", args.relaxation, POLICIES)
    names = args.relaxation or usual
    if args.tolerance is not None and "adaptive" not in names:
        raise InvalidInput(f"--tolerance {args.tolerance:g}: applies to --relaxation adaptive only")
    if args.T1 is not None and names == ("converged",):
        raise InvalidInput(f"--T1 {args.T1}: applies to --relaxation fixed and adaptive only")
    tolerance = PRESETS[table].tolerance if args.tolerance is None else args.tolerance
    policies: dict[str, dict[str, Any]] = {
        "fixed": {"relaxation": "fixed", "tolerance": None, "T1": protocol.T1},
        "adaptive": {"relaxation": "adaptive", "tolerance": tolerance, "T1": protocol.T1},
        "converged": CONVERGED,
    }
    check_choices("start", args.start, STARTS)
    chosen = {name: policies[name] for name in names}
    if args.start:
        chosen = {f"{name}-{start}": {**policies[name], "start": start} for name in names for start in args.start}
    for policy in chosen.values():
        protocol.replace(**policy)
    return chosen


def write_report(folder: Path) -> None:
    from analysis.thesis_report import write_thesis_report

    print(write_thesis_report([folder], folder), flush=True)


if __name__ == "__main__":
    as_command(lambda: main("thesis_tables", Args, plan, write_report=write_report))
