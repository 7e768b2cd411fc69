"""What a study is to train: fixed trials, a search, and what is to be decided."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hybridep.config import TrialConfig
from search_spaces import Space

# The controls train centered for these shares of its epochs: half costs what one-sided strategies do, three quarters what the thesis's
# hybrids do.
CONTROL_SHARES: Final = (0.5, 0.75)


@dataclass(frozen=True)
class PlannedTrial:
    """A trial to run: its name (also that of its folder), its strategy as overrides of the protocol, and its seeds."""

    name: str
    strategy: str
    origin: str
    seeds: tuple[int, ...]
    overrides: Mapping[str, Any]

    def ray_config(self, protocol: TrialConfig) -> dict[str, Any]:
        """The flat dictionary that the trial gets through Ray and that stands in every line of its result.json."""
        labels = {"trial": self.name, "strategy": self.strategy, "origin": self.origin, "seeds": list(self.seeds)}
        labels["description"] = protocol.replace(**self.overrides).describe(protocol)
        return {**labels, **self.overrides}


@dataclass(frozen=True)
class SearchPlan:
    """What is searched: a space under a protocol, by a sampler, for so many trials, each on the same seeds."""

    space: Space
    protocol: TrialConfig
    sampler: str
    trials: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Deciding:
    """What is to be decided: does any strategy come within each of `margins` of `target` at no more than each of `shares` of its nudged
    phases? Both are fractions. `seeds` are taken in their order, as many as the budget has.

    `overrides` are those of the strategies that take part by name: the target, the `controls` and the contenders that were `named`. What
    a search prefers comes beside them.
    """

    margins: tuple[float, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    overrides: Mapping[str, Mapping[str, Any]]
    controls: tuple[str, ...]
    named: tuple[str, ...] = ()
    target: str = "centered"


@dataclass(frozen=True)
class Plan:
    """All that a study trains. `fresh_seeds` are those on which the candidates run again when the search has ended; what is to be decided
    takes seeds of its own.

    A searched trial that has been lost for `patience` epochs is not trained further; 0 trains all to the end. `histograms` has workers
    report those of activations; `tensorboard_seeds` gives each seed a run of its own in TensorBoard.
    With a `stack` its trials, all of them fixed, train in this process instead of on Ray, so many networks at once.
    """

    protocol: TrialConfig
    seeds: tuple[int, ...]
    fixed: Sequence[PlannedTrial]
    search: SearchPlan | None = None
    fresh_seeds: tuple[int, ...] = ()
    patience: int = 0
    histograms: bool = False
    tensorboard_seeds: bool = False
    deciding: Deciding | None = None
    stack: int = 0

    @property
    def choices(self) -> dict[str, list[str]]:
        """The names that the search chooses from, by kind; none where nothing is searched."""
        return self.search.space.limits.choices if self.search else {}

    def choosing(self, choices: Mapping[str, Sequence[str]]) -> "Plan":
        """The same plan with the names that a study was begun with; InvalidInput where there is none of that name any more."""
        if not self.search:
            return self
        space = replace(self.search.space, limits=self.search.space.limits.choosing(choices))
        return replace(self, search=replace(self.search, space=space))

    @property
    def trials(self) -> int:
        """How many trials are planned, those that confirm or decide not counted: their number is not known yet."""
        return len(self.fixed) + (self.search.trials if self.search else 0)


def controls(
    protocol: TrialConfig, centered: Mapping[str, Any], seeds: tuple[int, ...], shares: Sequence[float] = CONTROL_SHARES
) -> list[PlannedTrial]:
    """What a saving must beat: `centered` trained for as many epochs as cost the same, one trial for each share."""
    lengths = {math.ceil(share * protocol.epochs) for share in shares}
    names = {f"centered_{epochs}_epochs": epochs for epochs in sorted(lengths) if protocol.warmup_epochs < epochs < protocol.epochs}
    return [PlannedTrial(name, name, "control", seeds, {**centered, "epochs": epochs}) for name, epochs in names.items()]
