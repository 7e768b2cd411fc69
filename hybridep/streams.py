"""Seeds are streams: every random choice of a trial draws from its own generator, derived from the trial's seed and the choice's name."""

from typing import Final

import numpy as np

STREAMS: Final = ("initialisation", "order", "augmentation", "draws", "signs", "samples")


def stream(seed: int, name: str, update: int | None = None) -> np.random.Generator:
    """A fresh generator for one named stream of a trial, or for one update of it; ValueError for a negative seed or an unknown name.

    The same arguments give the same numbers in every run and on every platform, and different names and updates are independent of each
    other. PCG64 is named rather than left to NumPy's default, which may change between versions.
    """
    if seed < 0:
        raise ValueError(f"seed {seed}: must be 0 or more")
    if name not in STREAMS:
        raise ValueError(f"stream {name!r}: must be one of {', '.join(STREAMS)}")
    # The name's bytes go in as one integer each, after the seed: unlike `hash`, this does not depend on PYTHONHASHSEED.
    key = tuple(name.encode()) + (() if update is None else (update,))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
