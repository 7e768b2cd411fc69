"""Search for strategies with more accuracy for fewer nudged phases than the thesis's five, which run beside them on the same seeds.

Examples:
    python studies/schedule_sweep.py
    python studies/schedule_sweep.py --dataset fashion-mnist --epochs 10 --relaxation adaptive
    python studies/schedule_sweep.py --resume results/<study> --confirm 15
"""

from dataclasses import dataclass

from hybridep.command import as_command
from hybridep.config import MOST_EPOCHS, InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, OWN, load
from hybridep.policies import FAMILIES
from hybridep.presets import PROTOCOLS, STRATEGIES, adapted
from hybridep.schedules import Schedule
from hybridep.study.arguments import StudyArgs, given
from hybridep.study.choices import check_choice, chosen_seeds
from hybridep.study.plan import Plan, PlannedTrial, SearchPlan, controls
from hybridep.study.ranges import MOST_SEEDS, MOST_TRIALS, require
from hybridep.study.study import main
from search_spaces import Limits, Space

SEARCHES = ("thesis", "random", "quasi-random", "tpe", "nsga2", "gp", "grid")
# A map of p_std × β: piecewise has no parameters that would be its own without being searched.
GRID_FAMILIES = ("constant",)
GRID_SPACES = ("schedule", "schedule+nudge")
DEFAULT_SPACE = "signs"
# One training image in so many is held out where the protocol holds out none.
VALIDATION_SHARE = 6


@dataclass(frozen=True)
class Args(StudyArgs):
    protocol: str | None = None
    """Where network and training come from: digits, mnist, fashion-mnist, cifar10 or fashion-conv; the dataset's own if not given."""
    seeds: tuple[int, ...] = ()
    """Seeds that every strategy runs on; the protocol's own if not given."""
    search: str = "tpe"
    """thesis (its five strategies alone), random, quasi-random, tpe, nsga2, gp, or grid (the space's skew and β on a grid)."""
    trials: int = 12
    """Strategies to search, beside the thesis's five."""
    space: str | None = None
    """What is searched. signs: the schedule, and which estimators of one or two nudged phases it mixes; schedule, schedule+nudge,
    schedule+nudge+relaxation: of the protocol's own estimators; estimators, cheap: of all there are, or of all that take at most one phase.
    signs if not given (grid: schedule)."""
    families: tuple[str, ...] = ()
    """Families to search; all if not given (space signs: all schedules, which do not listen to training; grid: constant)."""
    skew_range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest mean of p_std to search."""
    beta_range: tuple[float, float] | None = None
    """Lowest and highest β to search, in a space with +nudge; a quarter of the protocol's β to four times it if not given."""
    grid: tuple[int, int] = (5, 5)
    """Points of the grid along skew and along β."""
    patience: int = 3
    """Epochs after which a searched strategy that is lost (at chance, saturated, on every seed) is not trained further; 0 trains all."""
    histograms: bool = False
    """Report histograms of every layer's activations each epoch, for TensorBoard."""
    tensorboard_seeds: bool = False
    """In TensorBoard, show each seed as a run of its own beside the means of strategies."""
    confirm: int = 5
    """After the search, run the thesis's strategies and those near the front (within a standard error; with one seed those on it) on this
    many seeds that the search has not seen: what is claimed rests on these. 0 for none; --search thesis has nothing to confirm."""


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
    require("confirm", args.confirm, 0, MOST_SEEDS)
    if args.search == "thesis":
        _refuse(args, "thesis", "trials", "space", "families", "skew_range", "beta_range", "grid", "confirm")
    _refuse(args, args.search, *(("trials",) if args.search == "grid" else ("grid",)))
    if args.search == "grid" and args.space not in (None, *GRID_SPACES):
        raise InvalidInput(f"--space {args.space}: must be {' or '.join(GRID_SPACES)} with --search grid, which lays out skew and β")
    if min(args.grid) < 1 or args.grid[0] * args.grid[1] > MOST_TRIALS:
        raise InvalidInput(
            f"--grid {args.grid[0]} {args.grid[1]}: must be two numbers of points, at least 1 each and {MOST_TRIALS:,} in all"
        )
    confirm = 0 if args.search == "thesis" else args.confirm
    seeds = chosen_seeds(args, confirm)
    protocol = chosen_protocol(args)
    name = args.space or (GRID_SPACES[0] if args.search == "grid" else DEFAULT_SPACE)
    limits = Limits.around(protocol, args.families or _families(args.search, name), args.skew_range, args.beta_range)
    space = Space.named(name, limits)
    _refuse_overruled(args, name, space)
    if args.beta_range is not None and not space.has_beta:
        raise InvalidInput(f"--beta-range {args.beta_range[0]} {args.beta_range[1]}: space {name} has no β, take one with +nudge")
    fixed = [PlannedTrial(name, name, "thesis", seeds, strategy) for name, strategy in STRATEGIES.items()]
    fixed += controls(protocol, STRATEGIES["centered"], seeds)
    if args.search == "grid":
        for number, strategy in enumerate(space.grid(args.grid), start=1):
            protocol.replace(**strategy)
            fixed.append(PlannedTrial(f"search-{number:04d}", f"search-{number:04d}", "search", seeds, strategy))
    searches = args.search not in ("thesis", "grid")
    search = SearchPlan(space, protocol, args.search, args.trials, seeds) if searches else None
    fresh = tuple(range(max(seeds) + 1, max(seeds) + 1 + confirm))
    return Plan(protocol, seeds, fixed, search, fresh, args.patience, args.histograms, args.tensorboard_seeds)


def _families(search: str, space: str) -> tuple[str, ...]:
    """The families that are searched where none are named; empty for all."""
    if search == "grid":
        return GRID_FAMILIES
    # What the default study finds can be drawn before training, and said in a few words.
    return tuple(name for name, kind in FAMILIES.items() if issubclass(kind, Schedule)) if space == DEFAULT_SPACE else ()


def _refuse(args: Args, search: str, *options: str) -> None:
    """InvalidInput for an option that means nothing to this search."""
    for option in options:
        if getattr(args, option) != getattr(Args(), option):
            raise InvalidInput(f"--{option.replace('_', '-')}: means nothing to --search {search}")


def _refuse_overruled(args: Args, name: str, space: Space) -> None:
    """InvalidInput for an option that all strategies would overrule: the thesis's by what they are, the others by what is searched."""
    thesis, pair = args.search == "thesis", space.has_estimators
    overruled = {
        "draw": args.search != "grid",
        "per": thesis,
        "grain": thesis or space.has_grain,
        **dict.fromkeys(("cheap", "accurate"), thesis or pair),
    }
    for option, value in given(args.options).items():
        if overruled.get(option.partition("_")[0]):
            by = "--search thesis" if thesis else f"--space {name}, which searches it"
            raise InvalidInput(f"--{option.replace('_', '-')} {value}: means nothing to {by}")


def chosen_protocol(args: Args) -> TrialConfig:
    """The protocol with the options that were given. A search selects on held-out images: a share of them, if the protocol has none."""
    name = args.protocol or args.dataset
    protocol, overrides = PROTOCOLS[name], {"dataset": args.dataset, **given(args.options)}
    if args.search != "thesis" and protocol.validation == 0 and "validation" not in overrides:
        images = min(DATASETS[args.dataset].train, overrides.get("train_samples", protocol.train_samples) or DATASETS[args.dataset].train)
        overrides["validation"] = images // VALIDATION_SHARE
    protocol = adapted(name, overrides)
    if args.search != "thesis" and protocol.validation == 0:
        raise InvalidInput("--validation 0: a search selects on images held out for validation, there must be some")
    return protocol


if __name__ == "__main__":
    as_command(lambda: main("schedule_sweep", Args, plan))
