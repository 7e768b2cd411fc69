"""Checks of the values on a command line, each mistake in one line: numbers by what all that is done with them can hold, names by a list.

A protocol's own numbers have their ranges in `TrialConfig`; those of a dataset end with its images.
"""

from collections.abc import Collection, Sequence
from typing import Final

from hybridep.config import MOST_SEED, InvalidInput

# Each seed of a trial is a network of its own in its worker's memory.
MOST_SEEDS: Final = 1_000
# Each trial is a folder, a row in several tables and a point in the page.
MOST_TRIALS: Final = 100_000
MOST_REPETITIONS: Final = 100_000
MOST_THREADS: Final = 1_024


def require(option: str, value: float, low: float, high: float, why: str = "") -> None:
    """InvalidInput in one line unless `value`, given as --option, is a number from `low` to `high`."""
    if not low <= value <= high:
        raise InvalidInput(f"--{option} {_worded(value)}: must be {_worded(low)} to {_worded(high)}{f', {why}' if why else ''}")


def require_seeds(seeds: Sequence[int], fresh: int = 0) -> None:
    """InvalidInput unless these are different seeds, with room for `fresh` more above the largest."""
    most = MOST_SEED - fresh
    if not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) <= most:
        raise InvalidInput(f"--seeds {' '.join(map(str, seeds))}: must be different numbers from 0 to {most}")
    if len(seeds) > MOST_SEEDS:
        raise InvalidInput(f"--seeds: {len(seeds):,} seeds are given, must be at most {MOST_SEEDS:,}")


def _worded(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def check_choice(option: str, value: str | None, allowed: Collection[str], more: str = "") -> str:
    """The value; InvalidInput where it is none of those allowed."""
    if value is None or value not in allowed:
        raise InvalidInput(f"--{option} {value or ''!r}: must be one of {', '.join(allowed)}{more}")
    return value


def check_choices(option: str, values: Sequence[str], allowed: Collection[str], least: int = 0) -> None:
    """InvalidInput where a value is none of those allowed, one is given twice, or there are too few."""
    for value in values:
        check_choice(option, value, allowed)
    if len(values) < least or len(set(values)) < len(values):
        raise InvalidInput(f"--{option} {' '.join(values) or '()'}: must be different ones of {', '.join(allowed)}")
