"""`Policy`: gives p_std. A schedule looks at progress alone; an adaptive policy also hears what training measures."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, model_validator

from hybridep.registry import Entry, Registry

FAMILIES: "Registry[Policy]" = Registry("family", "hybridep.schedules", "hybridep.adaptive")


@dataclass(frozen=True)
class Seen:
    """What one update measured; NaN where it did not.

    `residual` is the free phase's last change, mean over samples. `agreement` is the cosine of standard's estimate with the accurate one
    on the same minibatch, `relative_bias` the length of their difference as a fraction of the accurate one's.
    """

    residual: float = math.nan
    agreement: float = math.nan
    relative_bias: float = math.nan


class Policy(Entry):
    """p_std of one update after another. Its memory is in private attributes: each trainer has one of its own (`fresh`)."""

    registry: ClassVar[Registry[Any]] = FAMILIES
    # What `hear` needs of `Seen`: agreement costs sums over the states, and each waits for the device.
    listens_to: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def begin(self, epochs: int, updates_per_epoch: int, per: str) -> None:
        """Called once, before the first update."""

    @abstractmethod
    def p_std(self, update: int) -> float:
        """Probability of the cheap estimator at this update, counted from 0."""

    @abstractmethod
    def expected(self, update: int) -> float:
        """Σ p_std over the updates from this one to the last, as far as it can be told now."""

    @property
    def known_mean(self) -> float | None:
        """Mean of p_std over training; None where only training tells."""
        return None

    def hear(self, seen: Seen) -> None:
        """Told after each update what it measured."""

    def fresh(self) -> Self:
        """The same policy without memories."""
        return type(self)(**dict(self))

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: plain numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what a policy that gave `state` did."""


class AdaptivePolicy(Policy):
    """p_std between `lowest` and `highest`, by how well the measure that it hears bears cheap updates out.

    The measure is averaged over about `memory` updates. Until there is one, p_std is `lowest`. Construction fails with ValueError unless
    lowest <= highest.
    """

    lowest: float = Field(0.0, ge=0, le=1, description="p_std where the measure speaks against cheap updates, and before there is one")
    highest: float = Field(0.9, ge=0, le=1, description="p_std where the measure speaks for them")
    memory: float = Field(20.0, ge=1, le=1e6, description="updates over which the measure is averaged")

    measure: ClassVar[str]
    _mean: float = PrivateAttr(default=math.nan)
    _updates: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError(f"lowest {self.lowest}: must be at most highest, {self.highest}")
        return self

    @abstractmethod
    def trust(self, mean: float) -> float:
        """How far the averaged measure bears cheap updates out, from 0 to 1."""

    def begin(self, epochs: int, updates_per_epoch: int, per: str) -> None:
        self._updates = epochs * updates_per_epoch

    def p_std(self, update: int) -> float:
        if math.isnan(self._mean):
            return self.lowest
        return self.lowest + (self.highest - self.lowest) * min(1.0, max(0.0, self.trust(self._mean)))

    def expected(self, update: int) -> float:
        return (self._updates - update) * self.p_std(update)

    def hear(self, seen: Seen) -> None:
        value = getattr(seen, self.measure)
        if math.isnan(value):
            return
        self._mean = value if math.isnan(self._mean) else self._mean + (value - self._mean) / self.memory

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self._mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._mean = float(state["mean"])
