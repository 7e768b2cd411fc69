"""What warm starts take of a trial's memory: told before a study begins, and bounded by --start-memory. Imports no PyTorch."""

import math
from typing import Final

from hybridep.config import InvalidInput, TrialConfig
from hybridep.study.plan import Plan

BYTES_OF_A_UNIT: Final = 2  # hybridep.starts.FromLast keeps half precision
# Checkpoints of a trial hold the equilibria too.
CHECKPOINTS: Final = 2


def kept_bytes(config: TrialConfig, images: int) -> int:
    """What the equilibria of so many training images take on one seed."""
    layers = config.layer_shapes()[1:]
    if config.network.cost == "cross_entropy":
        layers = layers[:-1]  # the readout has no state
    return BYTES_OF_A_UNIT * images * sum(map(math.prod, layers))


def state_start_memory(plan: Plan, images: int, most: float) -> None:
    """Print what a trial with start last keeps of its equilibria, where a plan has such; InvalidInput where that is above `most` GiB."""
    starting = [len(trial.seeds) for trial in plan.fixed if plan.protocol.replace(**trial.overrides).start == "last"]
    if plan.search and (plan.search.space.has_warm_starts or plan.protocol.start == "last"):
        starting.append(len(plan.search.seeds))
    if not starting:
        return
    seeds = max(*starting, len(plan.fresh_seeds))
    needed = seeds * kept_bytes(plan.protocol, images)
    kept = f"keeps the equilibria of {images:,} images on {seeds} seed{'s' if seeds > 1 else ''}, {needed / 2**30:.3g} GiB"
    if needed > most * 2**30:
        raise InvalidInput(f"--start-memory {most:g}: a trial with start last {kept}; must be at least that, or start zeros")
    print(f"A trial with start last {kept} of memory, and up to {CHECKPOINTS} times that on disk", flush=True)
