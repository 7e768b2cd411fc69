"""Search for strategies with more accuracy for fewer nudged phases than the thesis's five, which run beside them on the same seeds.

Examples:
    python studies/schedule_sweep.py
    python studies/schedule_sweep.py --dataset fashion-mnist --epochs 10 --relaxation adaptive
    python studies/schedule_sweep.py --resume results/<study> --confirm 15
    python studies/schedule_sweep.py --search none --contenders alternating split_sign --decide
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from hybridep.command import as_command
from hybridep.config import MOST_EPOCHS, InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, OWN, load
from hybridep.deciding import FIRST_LOOK
from hybridep.policies import FAMILIES
from hybridep.presets import ONE_SIDED, PARTIAL, PROTOCOLS, STRATEGIES, adapted
from hybridep.schedules import Schedule
from hybridep.study.arguments import DataNote, ProtocolName, Seeds, StudyArgs, chosen_seeds, given
from hybridep.study.checks import MOST_SEEDS, MOST_TRIALS, check_choice, check_choices, require
from hybridep.study.command_line import Option
from hybridep.study.plan import Deciding, Plan, PlannedTrial, SearchPlan, controls
from hybridep.study.study import main
from search_spaces import SPACES, Limits, Space

SEARCHES = ("thesis", "random", "quasi-random", "tpe", "nsga2", "gp", "grid", "none")
# A map of p_std × β: piecewise has no parameters that would be its own without being searched.
GRID_FAMILIES = ("constant",)
GRID_SPACES = ("schedule", "schedule+nudge")
DEFAULT_SPACE = "signs"
# What --contenders takes; what all are compared with is none of them.
NAMED = {name: strategy for name, strategy in {**STRATEGIES, **ONE_SIDED, **PARTIAL}.items() if name != "centered"}
CONFIRM = 5
# One training image in so many is held out where the protocol holds out none.
VALIDATION_SHARE = 6


@dataclass(frozen=True)
class Args(StudyArgs):
    protocol: ProtocolName = None
    """Where network and training come from."""
    seeds: Seeds = ()
    """Seeds that every strategy runs on."""
    search: Annotated[str, Option(choices=SEARCHES)] = "tpe"
    """Who chooses strategies. thesis: nobody, its five run alone; grid: the space's mean p_std and β are laid out on a grid; none: the
    contenders of --decide run alone."""
    trials: int = 12
    """Strategies to search, beside the thesis's five."""
    space: Annotated[str | None, Option(choices=SPACES, otherwise=f"{DEFAULT_SPACE}; with --search grid {GRID_SPACES[0]}")] = None
    """What is searched. signs: the schedule, and which estimators of one or two nudged phases it mixes. schedule, +nudge, +relaxation: the
    schedule, with β, with T1 and T2 too, of the protocol's own estimators. estimators, cheap: the schedule, and all estimators that there
    are, or all that take at most one phase."""
    families: Annotated[tuple[str, ...], Option(choices=FAMILIES, otherwise="all; all schedules in space signs; constant on a grid")] = ()
    """Families of schedules and policies to search."""
    skew_range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest mean of p_std to search."""
    beta_range: Annotated[
        tuple[float, float] | None,
        Option(otherwise=lambda preset: " ".join(f"{bound:g}" for bound in Limits.around(preset.protocol).beta)),
    ] = None
    """Lowest and highest β to search, in a space with +nudge."""
    grid: tuple[int, int] = (5, 5)
    """Points of the grid along skew and along β."""
    patience: int = 3
    """Epochs after which a searched strategy that is lost (at chance, saturated, on every seed) is not trained further; 0 trains all."""
    histograms: Annotated[bool, Option("reporting")] = False
    """Report histograms of every layer's activations each epoch, for TensorBoard."""
    tensorboard_seeds: Annotated[bool, Option("reporting")] = False
    """In TensorBoard, show each seed as a run of its own beside the means of strategies."""
    data_note: DataNote = None
    """What the images are where they are not the official ones, as "a JPEG copy of the images"; the report says so."""
    confirm: Annotated[int | None, Option(otherwise=f"{CONFIRM}; 0 with --decide")] = None
    """After the search, run the thesis's strategies and those near the front (within a standard error; with one seed those on it) on this
    many seeds that the search has not seen: what is claimed rests on these. 0 for none; --search thesis has nothing to confirm."""
    decide: bool = False
    """After the search, add fresh seeds in rounds to its best strategies, to centered and to the controls, until it is decided for each
    margin and share whether any strategy comes within that many points of centered at no more than that share of its nudged phases."""
    margins: tuple[float, ...] = (1.0, 0.5)
    """With --decide: points of accuracy below centered that may be given up."""
    shares: tuple[float, ...] = (75.0, 50.0, 25.0)
    """With --decide: percent of centered's nudged phases that may be spent."""
    contenders: Annotated[tuple[str, ...], Option(choices=NAMED, otherwise="none")] = ()
    """With --decide: strategies that take part by name, beside the two most accurate ones of the search for each share."""
    decide_seeds: int = 27
    """With --decide: the most fresh seeds for each strategy. Rounds end after 5, 8, 12, 18, 27, 41, 62, ... seeds."""
    instead: ClassVar[Mapping[str, str]] = {
        "validation": "1/6 of the training images where the protocol has none; with --search thesis or none the protocol's"
    }


def plan(args: Args) -> Plan:
    """What the arguments ask for; InvalidInput in one line where they make no sense."""
    if args.dataset.endswith(OWN):
        load(args.dataset)
    check_choice("dataset", args.dataset, DATASETS, f", or an {OWN} file of your own")
    check_choice("search", args.search, SEARCHES)
    if args.protocol is None and args.dataset not in PROTOCOLS:
        raise InvalidInput(f"--protocol: must be given for a dataset of your own, one of {', '.join(PROTOCOLS)}")
    check_choice("protocol", args.protocol or args.dataset, PROTOCOLS)
    require("trials", args.trials, 1, MOST_TRIALS, "--search thesis runs the thesis's five alone")
    require("patience", args.patience, 0, MOST_EPOCHS)
    if args.confirm is not None:
        require("confirm", args.confirm, 0, MOST_SEEDS)
    _check_deciding(args)
    searching = ("trials", "space", "families", "skew_range", "beta_range", "grid", "confirm")
    without = searching if args.search in ("none", "thesis") else ("trials",) if args.search == "grid" else ("grid",)
    for option, _ in given(args, *without):
        raise InvalidInput(f"{option}: means nothing to --search {args.search}")
    if args.search == "grid" and args.space not in (None, *GRID_SPACES):
        raise InvalidInput(f"--space {args.space}: must be {' or '.join(GRID_SPACES)} with --search grid, which lays out skew and β")
    if min(args.grid) < 1 or args.grid[0] * args.grid[1] > MOST_TRIALS:
        raise InvalidInput(
            f"--grid {args.grid[0]} {args.grid[1]}: must be two numbers of points, at least 1 each and {MOST_TRIALS:,} in all"
        )
    usual = 0 if args.search in ("none", "thesis") or args.decide else CONFIRM
    confirm = usual if args.confirm is None else args.confirm
    further = max(confirm, args.decide_seeds if args.decide else 0)
    seeds = chosen_seeds(args, further)
    fresh = tuple(range(max(seeds) + 1, max(seeds) + 1 + further))
    protocol = chosen_protocol(args)
    name = args.space or (GRID_SPACES[0] if args.search == "grid" else DEFAULT_SPACE)
    limits = Limits.around(protocol, args.families or _families(args.search, name), args.skew_range, args.beta_range)
    space = Space.named(name, limits)
    _refuse_overruled(args, name, space)
    if args.beta_range is not None and not space.has_beta:
        raise InvalidInput(f"--beta-range {args.beta_range[0]} {args.beta_range[1]}: space {name} has no β, take one with +nudge")
    deciding = _deciding(args, protocol, (*seeds, *fresh) if args.search == "none" else fresh) if args.decide else None
    if args.search == "none":
        return Plan(protocol, seeds, (), histograms=args.histograms, tensorboard_seeds=args.tensorboard_seeds, deciding=deciding)
    fixed = [PlannedTrial(name, name, "thesis", seeds, strategy) for name, strategy in STRATEGIES.items()]
    fixed += controls(protocol, STRATEGIES["centered"], seeds)
    if args.search == "grid":
        for number, strategy in enumerate(space.grid(args.grid), start=1):
            protocol.replace(**strategy)
            fixed.append(PlannedTrial(f"search-{number:04d}", f"search-{number:04d}", "search", seeds, strategy))
    searches = args.search not in ("thesis", "grid")
    search = SearchPlan(space, protocol, args.search, args.trials, seeds) if searches else None
    return Plan(protocol, seeds, fixed, search, fresh[:confirm], args.patience, args.histograms, args.tensorboard_seeds, deciding)


def _check_deciding(args: Args) -> None:
    """InvalidInput for what makes no sense of what is to be decided."""
    if not args.decide:
        if args.search == "none":
            raise InvalidInput("--search none: trains nothing without --decide and --contenders")
        for option, _ in given(args, "margins", "shares", "contenders", "decide_seeds"):
            raise InvalidInput(f"{option}: means nothing without --decide")
        return
    if args.search == "thesis":
        raise InvalidInput("--decide: means nothing to --search thesis; name strategies with --search none --contenders")
    for option, values, least in (("margins", args.margins, 0.0), ("shares", args.shares, 1.0)):
        if not values or len(set(values)) < len(values) or not all(least <= value <= 100 for value in values):
            shown = " ".join(f"{value:g}" for value in values) or "()"
            raise InvalidInput(f"--{option} {shown}: must be different numbers from {least:g} to 100")
    check_choices("contenders", args.contenders, NAMED, least=args.search == "none")
    require("decide-seeds", args.decide_seeds, FIRST_LOOK, MOST_SEEDS, "the first round has as many")


def _deciding(args: Args, protocol: TrialConfig, seeds: tuple[int, ...]) -> Deciding:
    """What is to be decided, over the first of `seeds`."""
    shares = tuple(share / 100 for share in args.shares)
    less = {trial.strategy: trial.overrides for trial in controls(protocol, STRATEGIES["centered"], (), [one for one in shares if one < 1])}
    overrides = {"centered": STRATEGIES["centered"], **less, **{name: NAMED[name] for name in args.contenders}}
    for strategy in overrides.values():
        protocol.replace(**strategy)
    margins = tuple(margin / 100 for margin in args.margins)
    return Deciding(margins, shares, seeds[: args.decide_seeds], overrides, tuple(less), args.contenders)


def _families(search: str, space: str) -> tuple[str, ...]:
    """The families that are searched where none are named; empty for all."""
    if search == "grid":
        return GRID_FAMILIES
    # What the default study finds can be drawn before training, and said in a few words.
    return tuple(name for name, kind in FAMILIES.items() if issubclass(kind, Schedule)) if space == DEFAULT_SPACE else ()


def _refuse_overruled(args: Args, name: str, space: Space) -> None:
    """InvalidInput for an option that all strategies would overrule: the thesis's by what they are, the others by what is searched."""
    thesis, pair = args.search in ("none", "thesis"), space.has_estimators
    overruled = {
        "draw": args.search != "grid",
        "per": thesis,
        "grain": thesis or space.has_grain,
        **dict.fromkeys(("cheap", "accurate"), thesis or pair),
    }
    for option, value in args.options.items():
        if overruled.get(option.partition("_")[0]):
            by = f"--search {args.search}" if thesis else f"--space {name}, which searches it"
            raise InvalidInput(f"--{option.replace('_', '-')} {value}: means nothing to {by}")


def chosen_protocol(args: Args) -> TrialConfig:
    """The protocol with the options that were given. A search selects on held-out images: a share of them, if the protocol has none."""
    name = args.protocol or args.dataset
    protocol, overrides = PROTOCOLS[name], {"dataset": args.dataset, **args.options}
    selects = args.search not in ("none", "thesis")
    if selects and protocol.validation == 0 and "validation" not in overrides:
        images = min(DATASETS[args.dataset].train, overrides.get("train_samples", protocol.train_samples) or DATASETS[args.dataset].train)
        overrides["validation"] = images // VALIDATION_SHARE
    protocol = adapted(name, overrides)
    if selects and protocol.validation == 0:
        raise InvalidInput("--validation 0: a search selects on images held out for validation, there must be some")
    return protocol


if __name__ == "__main__":
    as_command(lambda: main("schedule_sweep", Args, plan))
