"""What arguments choose among: checks of an option in one line, and the protocol and seeds that they come to."""

from collections.abc import Collection, Sequence
from typing import Any

from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS
from hybridep.presets import PRESETS, PROTOCOLS, adapted
from hybridep.study.ranges import require_seeds


def check_choice(option: str, value: str | None, allowed: Collection[str], more: str = "") -> None:
    """InvalidInput where a value is none of those allowed."""
    if value not in allowed:
        raise InvalidInput(f"--{option} {value or ''!r}: must be one of {', '.join(allowed)}{more}")


def check_choices(option: str, values: Sequence[str], allowed: Collection[str], least: int = 0) -> None:
    """InvalidInput where a value is none of those allowed, one is given twice, or there are too few."""
    for value in values:
        check_choice(option, value, allowed)
    if len(values) < least or len(set(values)) < len(values):
        raise InvalidInput(f"--{option} {' '.join(values) or '()'}: must be different ones of {', '.join(allowed)}")


def chosen_protocol(args: Any, **overrides: Any) -> TrialConfig:
    """The named protocol, or the dataset's own, with `overrides` and above them the options that were given."""
    check_choice("dataset", args.dataset, DATASETS)
    if args.protocol is not None:
        check_choice("protocol", args.protocol, PROTOCOLS)
    return adapted(args.protocol or args.dataset, {"dataset": args.dataset, **overrides, **args.options})


def usual_seeds(args: Any) -> tuple[int, ...]:
    """The protocol's own."""
    return PRESETS[args.protocol or args.dataset].seeds


def chosen_seeds(args: Any, fresh: int = 0) -> tuple[int, ...]:
    """The seeds that were given, or the protocol's own; above the largest there is room for `fresh` more."""
    seeds: tuple[int, ...] = args.seeds or usual_seeds(args)
    require_seeds("seeds", seeds, fresh)
    return seeds
