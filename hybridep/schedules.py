"""Schedules: policies whose p_std depends on training progress alone (thesis eq. 14, 15 and section 5), with a mean that is known."""

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from hybridep.policies import Policy
from hybridep.registry import worded

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

PERS: Final = ("epoch", "update")
KNOTS: Final = 4  # that a search tries
MOST_CYCLES: Final = 8
PARTS: Final = 100  # of an epoch, at whose middles the curve is read for its mean


def _root(decreasing: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a decreasing function takes `value` in [low, high], by bisection down to neighbouring floats."""
    while low < (middle := low + (high - low) / 2) < high:
        if decreasing(middle) > value:
            low = middle
        else:
            high = middle
    return low + (high - low) / 2


class Schedule(Policy):
    """p_std as a function of progress in [0, 1); `skew` is its mean over progress, whatever the family.

    A family is a class `class Name(Schedule, name="name")` that defines `curve`; its fields are its parameters. Construction fails
    with ValueError for a parameter out of range.
    """

    skew: float = Field(0.5, ge=0, le=1, description="mean of p_std over training")

    # Whether an epoch takes the curve's value at its start, as eq. 14 and 15 have it, and not the curve's mean over the epoch.
    at_start: ClassVar[bool] = False
    _planned: NDArray[np.float64] = PrivateAttr(default_factory=lambda: np.empty(0))

    @property
    def mean(self) -> float:
        """Mean of p_std over progress."""
        return self.skew

    @property
    def known_mean(self) -> float:
        return self.mean

    def begin(self, epochs: int, updates_per_epoch: int, per: str) -> None:
        self._planned = self.probabilities(epochs, updates_per_epoch, per)

    def p_std(self, update: int) -> float:
        return float(self._planned[update])

    def expected(self, update: int) -> float:
        return math.fsum(self._planned[update:])

    def describe(self) -> str:
        direction = ["rising" if self.rising else "falling"] if hasattr(self, "rising") else []
        usual = {name: info.default for name, info in type(self).model_fields.items()}
        fields = [f"{name} {worded(value)}" for name, value in self if name not in ("skew", "rising") and value != usual[name]]
        return ", ".join([self.name.replace("_", " "), f"mean p_std {self.mean:.3g}", *direction, *fields])

    def curve(self, progress: float) -> float:
        """p_std at a progress that is known to lie in [0, 1)."""
        raise NotImplementedError

    def at(self, progress: float) -> float:
        """Probability that a minibatch uses the cheap estimator; ValueError for progress outside [0, 1)."""
        if not 0 <= progress < 1:
            raise ValueError(f"progress {progress}: must lie in [0, 1)")
        return self.curve(progress)

    def probabilities(self, epochs: int, updates_per_epoch: int, per: str = "epoch") -> NDArray[np.float64]:
        """p_std of every update, [epochs · updates_per_epoch].

        With `per` epoch, p_std is constant within an epoch: the mean of the curve over it, so that the average is `mean` whatever the
        number of epochs. The thesis's own cosines have p_std(e / epochs) in epoch e (from 0), as eq. 14 and 15 do, and average up to
        1 / (2 epochs) more or less (cosine at 50 epochs: 0.51). With update, update u has p_std(u / updates).
        """
        if epochs < 1 or updates_per_epoch < 1:
            raise ValueError(f"epochs {epochs}, updates_per_epoch {updates_per_epoch}: both must be at least 1")
        if per not in PERS:
            raise ValueError(f"per {per!r}: must be one of {', '.join(PERS)}")
        if per == "update":
            updates = epochs * updates_per_epoch
            return np.array([self.at(update / updates) for update in range(updates)])
        return np.repeat([self._in_epoch(epoch, epochs) for epoch in range(epochs)], updates_per_epoch)

    def _in_epoch(self, epoch: int, epochs: int) -> float:
        if self.at_start:
            return self.at(epoch / epochs)
        return math.fsum(self.at((epoch + (part + 0.5) / PARTS) / epochs) for part in range(PARTS)) / PARTS


class Constant(Schedule, name="constant"):
    """The same p_std throughout: 1 is the thesis's standard, ½ its stochastic hybrid, 0 its centered."""

    at_start: ClassVar[bool] = True

    def describe(self) -> str:
        return f"p_std = {self.mean:.3g}"

    def curve(self, progress: float) -> float:
        return self.mean


@cache
def _cosine_terms() -> tuple[float, ...]:
    """(-1)^k π^2k / (2k)! for k = 1, 2, ... while they matter in float64."""
    terms = [-(math.pi**2) / 2]
    while abs(terms[-1]) > 1e-20:
        k = len(terms) + 1
        terms.append(-terms[-1] * math.pi**2 / (2 * k * (2 * k - 1)))
    return tuple(terms)


@cache
def _warp(skew: float) -> float:
    """The γ at which ½(1 + cos πt^γ) has mean `skew` over t in [0, 1], for skew in (0, 1).

    With a = 1/γ, the cosine's power series integrates to mean(a) = 1 + ½ Σ_k (-1)^k π^2k / (2k)! · a / (a + 2k), which falls from 1 to 0
    as a grows and converges fast for every a; the logarithm of a is what is searched, for extreme skews need extreme γ.
    """
    if skew == 0.5:
        return 1.0  # exactly, so that eq. 14 and 15 are met bit for bit

    def mean(log_a: float) -> float:
        a = math.exp(log_a)
        return 1 + 0.5 * math.fsum(term * a / (a + 2 * k) for k, term in enumerate(_cosine_terms(), start=1))

    return math.exp(-_root(mean, skew, -40.0, 40.0))


def _cosine(elapsed: float, skew: float) -> float:
    """Half a period of the cosine of eq. 14, from 1 to 0, with progress warped to t^γ so that its mean is `skew`."""
    if skew in (0, 1):
        return float(skew)
    return 0.5 * (1 + math.cos(math.pi * elapsed ** _warp(skew)))


def _reversed_cosine(elapsed: float, skew: float) -> float:
    """`_cosine` at 1 - elapsed, from 0 to 1, in the form that is eq. 15 exactly at skew ½."""
    if skew in (0, 1):
        return float(skew)
    warp = _warp(skew)
    warped = elapsed if warp == 1 else 1 - (1 - elapsed) ** warp
    return 0.5 * (1 - math.cos(math.pi * warped))


class Cosine(Schedule, name="cosine"):
    """½(1 + cos πt^γ), eq. 14 at skew ½: cheap early, accurate late. γ follows from the skew."""

    at_start: ClassVar[bool] = True

    def curve(self, progress: float) -> float:
        return _cosine(progress, self.mean)


class InverseCosine(Schedule, name="inverse_cosine"):
    """The cosine of the same skew run backwards, eq. 15 at skew ½: accurate early, cheap late."""

    at_start: ClassVar[bool] = True

    def curve(self, progress: float) -> float:
        return _reversed_cosine(progress, self.mean)


class Directed(Schedule):
    """A schedule that can be run either way."""

    rising: bool = Field(False, description="p_std grows over training instead of falling")

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        return {"rising": trial.suggest_categorical("rising", (False, True))}


class Linear(Directed, name="linear"):
    """A straight line, the steepest that stays within [0, 1] at its mean: from 1 to 0 at skew ½."""

    def curve(self, progress: float) -> float:
        slope = 2 * min(self.mean, 1 - self.mean)
        ahead = progress - 0.5 if self.rising else 0.5 - progress
        return min(1.0, max(0.0, self.mean + slope * ahead))


class Step(Directed, name="step"):
    """All cheap, then all accurate, switching at progress = skew; the other way round where rising, switching at 1 - skew."""

    def curve(self, progress: float) -> float:
        # progress + skew, not 1 - skew: the sum of two rounded decimals that make 1 is exactly 1, and the switch falls on its epoch.
        return float(progress + self.mean >= 1 if self.rising else progress < self.mean)


class Exponential(Directed, name="exponential"):
    """exp(-kt), from 1 downwards; run backwards where rising. The rate k follows from the skew, 0 at skew 1."""

    @cached_property
    def rate(self) -> float:
        """The k at which (1 - exp(-k)) / k, the mean of exp(-kt), is the skew; infinite at skew 0."""
        if self.mean in (0, 1):
            return 0.0 if self.mean == 1 else math.inf
        # 1 - k/2 <= (1 - exp(-k)) / k <= 1/k encloses the root.
        low, high = 2 * (1 - self.mean), min(1 / self.mean, sys.float_info.max)
        return _root(lambda k: -math.expm1(-k) / k, self.mean, low, high)

    def curve(self, progress: float) -> float:
        if self.mean == 0:
            return 0.0
        return math.exp(-self.rate * (1 - progress if self.rising else progress))


class CyclicCosine(Directed, name="cyclic_cosine"):
    """The cosine run `cycles` times over training, each time from the top (warm restarts); run backwards where rising."""

    cycles: int = Field(4, ge=1, le=10_000, description="number of restarts")

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        return {"cycles": trial.suggest_int("cycles", 2, MOST_CYCLES), **super().suggest(trial)}

    def curve(self, progress: float) -> float:
        position = self.cycles * progress
        # A restart that falls on an update must not be missed by a rounding error: p_std would be 0 there instead of 1.
        if abs(position - round(position)) < 1e-12:
            position = round(position)
        elapsed = position % 1
        return _reversed_cosine(elapsed, self.mean) if self.rising else _cosine(elapsed, self.mean)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def _clipped_mean(start: float, end: float) -> float:
    """Mean over a straight line from `start` to `end`, clipped to [0, 1]: the trapezoids between the points where it is cut."""
    cuts = [] if start == end else [_clip((bound - start) / (end - start)) for bound in (0.0, 1.0)]
    points = [0.0, *sorted(cuts), 1.0]
    values = [_clip(start + (end - start) * point) for point in points]
    return math.fsum((points[i + 1] - points[i]) * (values[i] + values[i + 1]) / 2 for i in range(len(points) - 1))


class Piecewise(Schedule, name="piecewise"):
    """Straight lines between knots, constant before the first and after the last.

    `knots` are two or more (progress, p_std) pairs with strictly increasing progress, all in [0, 1]. With skew None they are taken as
    they are; otherwise all p_std are shifted by one constant and clipped to [0, 1] such that the mean is the skew.
    """

    skew: float | None = Field(0.5, ge=0, le=1, description="mean of p_std over training; None takes the knots as they are")  # type: ignore[assignment]
    knots: tuple[tuple[float, float], ...] = Field(description="(progress, p_std) pairs")

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, values: Any) -> Any:
        knots = values.get("knots") if isinstance(values, dict) else None
        if knots is not None and not cls._valid(knots):
            raise ValueError(f"knots {knots}: must be two or more (progress, p_std) pairs in [0, 1] with strictly increasing progress")
        return values

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        """Levels at even distances; the schedule shifts them to its skew."""
        levels = [trial.suggest_float(f"knot_{number}", 0.0, 1.0) for number in range(KNOTS)]
        return {"knots": tuple((number / (KNOTS - 1), level) for number, level in enumerate(levels))}

    @staticmethod
    def _valid(knots: Sequence[Sequence[float]]) -> bool:
        try:
            pairs = len(knots) >= 2 and all(len(knot) == 2 for knot in knots)
            inside = all(0 <= number <= 1 for knot in knots for number in knot)
        except TypeError:
            return False
        return pairs and inside and all(left[0] < right[0] for left, right in pairwise(knots))

    @cached_property
    def _corners(self) -> tuple[tuple[float, float], ...]:
        """The knots with the constant ends written out, so that they cover [0, 1]."""
        first, last = self.knots[0], self.knots[-1]
        head = ((0.0, first[1]),) if first[0] > 0 else ()
        tail = ((1.0, last[1]),) if last[0] < 1 else ()
        return (*head, *self.knots, *tail)

    def _mean(self, shift: float) -> float:
        return math.fsum((right[0] - left[0]) * _clipped_mean(left[1] + shift, right[1] + shift) for left, right in pairwise(self._corners))

    @cached_property
    def shift(self) -> float:
        """The constant added to every p_std before clipping."""
        if self.skew is None:
            return 0.0
        if self.skew in (0, 1):
            return -1.0 if self.skew == 0 else 1.0  # p_std exactly 0 or 1 throughout
        return -_root(lambda lowering: self._mean(-lowering), self.skew, -1.0, 1.0)

    @property
    def mean(self) -> float:
        return self._mean(0.0) if self.skew is None else self.skew

    def curve(self, progress: float) -> float:
        right = bisect_right(self._corners, progress, key=lambda corner: corner[0])
        (start, low), (end, high) = self._corners[right - 1], self._corners[right]
        return _clip(low + (high - low) * (progress - start) / (end - start) + self.shift)
