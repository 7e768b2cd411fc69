"""The ranges of the numbers on a command line: what everything that a study does with them later can hold.

A protocol's own numbers have theirs in `TrialConfig`; those of a dataset end with its images.
"""

from collections.abc import Sequence
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


def require_seeds(option: str, seeds: Sequence[int], fresh: int = 0) -> None:
    """InvalidInput unless these are different seeds, with room for `fresh` more above the largest."""
    most = MOST_SEED - fresh
    if not seeds or len(set(seeds)) < len(seeds) or not 0 <= min(seeds) <= max(seeds) <= most:
        raise InvalidInput(f"--{option} {' '.join(map(str, seeds))}: must be different numbers from 0 to {most}")
    if len(seeds) > MOST_SEEDS:
        raise InvalidInput(f"--{option}: {len(seeds):,} seeds are given, must be at most {MOST_SEEDS:,}")


def _worded(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
