"""Schedules of p_std over training progress (thesis eq. 14, 15 and section 5), and what a schedule implies before anything is trained:
its mean, its expected nudged phases and its longest run of cheap updates."""

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridep.strategy import DRAWS, spread_draws

FAMILIES: Final[dict[str, type["Schedule"]]] = {}
PERS: Final = ("epoch", "update")
PARTS: Final = 100  # of an epoch, at whose middles the curve is read for its mean


def _root(decreasing: Callable[[float], float], value: float, low: float, high: float) -> float:
    """Where a decreasing function takes `value` in [low, high], by bisection down to neighbouring floats."""
    while low < (middle := low + (high - low) / 2) < high:
        if decreasing(middle) > value:
            low = middle
        else:
            high = middle
    return low + (high - low) / 2


@dataclass(frozen=True)
class Schedule:
    """p_std as a function of progress in [0, 1); `skew` is its mean over progress, whatever the family.

    A family is a frozen dataclass `class Name(Schedule, family="name")` that defines `curve`; its fields are its parameters, and
    defining it is all that `FAMILIES` and `make_schedule` need. Construction fails with ValueError for a parameter out of range.
    """

    skew: float | None
    family: ClassVar[str]
    # Whether an epoch takes the curve's value at its start, as eq. 14 and 15 have it, and not the curve's mean over the epoch.
    at_start: ClassVar[bool] = False

    def __init_subclass__(cls, family: str) -> None:
        cls.family = family
        FAMILIES[family] = cls

    def __post_init__(self) -> None:
        if self.skew is None or not 0 <= self.skew <= 1:
            raise ValueError(f"skew {self.skew}: must lie in [0, 1] for family {self.family}")

    @property
    def mean(self) -> float:
        """Mean of p_std over progress."""
        assert self.skew is not None
        return self.skew

    def curve(self, progress: float) -> float:
        """p_std at a progress that is known to lie in [0, 1)."""
        raise NotImplementedError

    def p_std(self, progress: float) -> float:
        """Probability that a minibatch uses the cheap estimator; ValueError for progress outside [0, 1)."""
        if not 0 <= progress < 1:
            raise ValueError(f"progress {progress}: must lie in [0, 1)")
        return self.curve(progress)

    def probabilities(self, epochs: int, updates_per_epoch: int, per: Literal["epoch", "update"] = "epoch") -> NDArray[np.float64]:
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
            return np.array([self.p_std(update / updates) for update in range(updates)])
        return np.repeat([self._in_epoch(epoch, epochs) for epoch in range(epochs)], updates_per_epoch)

    def _in_epoch(self, epoch: int, epochs: int) -> float:
        if self.at_start:
            return self.p_std(epoch / epochs)
        return math.fsum(self.p_std((epoch + (part + 0.5) / PARTS) / epochs) for part in range(PARTS)) / PARTS


@dataclass(frozen=True)
class Constant(Schedule, family="constant"):
    """The same p_std throughout: 1 is the thesis's standard, ½ its stochastic hybrid, 0 its centered."""

    at_start: ClassVar[bool] = True

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


@dataclass(frozen=True)
class Cosine(Schedule, family="cosine"):
    """½(1 + cos πt^γ), eq. 14 at skew ½: cheap early, accurate late. γ follows from the skew."""

    at_start: ClassVar[bool] = True

    def curve(self, progress: float) -> float:
        return _cosine(progress, self.mean)


@dataclass(frozen=True)
class InverseCosine(Schedule, family="inverse_cosine"):
    """The cosine of the same skew run backwards, eq. 15 at skew ½: accurate early, cheap late."""

    at_start: ClassVar[bool] = True

    def curve(self, progress: float) -> float:
        return _reversed_cosine(progress, self.mean)


@dataclass(frozen=True)
class Linear(Schedule, family="linear"):
    """A straight line, the steepest that stays within [0, 1] at its mean: from 1 to 0 at skew ½."""

    rising: bool = False

    def curve(self, progress: float) -> float:
        slope = 2 * min(self.mean, 1 - self.mean)
        ahead = progress - 0.5 if self.rising else 0.5 - progress
        return min(1.0, max(0.0, self.mean + slope * ahead))


@dataclass(frozen=True)
class Step(Schedule, family="step"):
    """All cheap, then all accurate, switching at progress = skew; the other way round where rising, switching at 1 - skew."""

    rising: bool = False

    def curve(self, progress: float) -> float:
        # progress + skew, not 1 - skew: the sum of two rounded decimals that make 1 is exactly 1, and the switch falls on its epoch.
        return float(progress + self.mean >= 1 if self.rising else progress < self.mean)


@dataclass(frozen=True)
class Exponential(Schedule, family="exponential"):
    """exp(-kt), from 1 downwards; run backwards where rising. The rate k follows from the skew, 0 at skew 1."""

    rising: bool = False

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


@dataclass(frozen=True)
class CyclicCosine(Schedule, family="cyclic_cosine"):
    """The cosine run `cycles` times over training, each time from the top (warm restarts); run backwards where rising."""

    rising: bool = False
    cycles: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycles < 1:
            raise ValueError(f"cycles {self.cycles}: must be at least 1")

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


@dataclass(frozen=True)
class Piecewise(Schedule, family="piecewise"):
    """Straight lines between knots, constant before the first and after the last.

    `knots` are two or more (progress, p_std) pairs with strictly increasing progress, all in [0, 1]. With skew None they are taken as
    they are; otherwise all p_std are shifted by one constant and clipped to [0, 1] such that the mean is the skew.
    """

    knots: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if self.skew is not None:
            super().__post_init__()
        if not self._valid(self.knots):
            raise ValueError(f"knots {self.knots}: must be two or more (progress, p_std) pairs in [0, 1] with strictly increasing progress")
        object.__setattr__(self, "knots", tuple((float(progress), float(p)) for progress, p in self.knots))  # lists come from JSON

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


def make_schedule(
    family: str,
    skew: float | None = None,
    rising: bool | None = None,
    cycles: int | None = None,
    knots: Sequence[Sequence[float]] | None = None,
) -> Schedule:
    """The schedule of a family in `FAMILIES`; None means not given.

    Raises ValueError, in one line, for an unknown family, a parameter that the family does not have, one that it needs and that is
    missing, and a value out of range.
    """
    if family not in FAMILIES:
        raise ValueError(f"family {family!r}: must be one of {', '.join(FAMILIES)}")
    parameters = fields(FAMILIES[family])
    given = {"skew": skew, "rising": rising, "cycles": cycles, "knots": knots}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, value in arguments.items():
        if name not in (parameter.name for parameter in parameters):
            raise ValueError(f"{name} {value}: family {family} takes only {', '.join(parameter.name for parameter in parameters)}")
    for parameter in parameters:
        if parameter.name not in arguments and parameter.name != "skew" and parameter.default is MISSING:
            raise ValueError(f"{parameter.name} None: must be given for family {family}")
    return FAMILIES[family](**{"skew": None, **arguments})


def expected_nudged_phases(probabilities: ArrayLike, cheap_phases: int, accurate_phases: int) -> float:
    """Expected nudged phases over training, where the estimators need `cheap_phases` and `accurate_phases` an update.

    `probabilities` [updates] are p_std. It holds for `bernoulli`; `spread` differs from it by at most half an update's difference.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    return len(p) * accurate_phases - (accurate_phases - cheap_phases) * math.fsum(p)


def longest_cheap_run(probabilities: ArrayLike, draw: str = "bernoulli") -> float:
    """Expected length of the longest run of consecutive cheap updates.

    `probabilities` [updates] are p_std. For `spread` the run is deterministic and counted; for `bernoulli` it is Σ_k P(a run of k
    occurs), each term exact, and the sum good to about 1e-6 relative or 1e-9 absolute. Raises ValueError for a draw outside `DRAWS` or a
    probability outside [0, 1].
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError("probabilities: must be a list of numbers in [0, 1]")
    if draw not in DRAWS:
        raise ValueError(f"draw {draw!r}: must be one of {', '.join(DRAWS)}")
    if draw == "spread":
        misses = np.flatnonzero(~np.concatenate(([False], spread_draws(p), [False])))
        return float(np.max(np.diff(misses)) - 1)
    return _Runs(p).expected_longest()


class _Runs:
    """Runs of cheap updates among independent draws with probabilities p [updates]."""

    def __init__(self, p: NDArray[np.float64]) -> None:
        self.updates = len(p)
        # Products over windows come as differences of these sums; zeros, which have no logarithm, are counted beside them.
        self.log_sum = np.concatenate(([0.0], np.cumsum(np.log(np.where(p > 0, p, 1.0)))))
        self.zeros = np.concatenate(([0], np.cumsum(p == 0)))
        self.miss = np.concatenate(([1.0], 1 - p))
        self.known: dict[int, float] = {0: 1.0}

    def occurs(self, k: int) -> float:
        """P(a run of at least k occurs).

        With H_n its probability within the first n updates, a run is first completed at n if the k updates up to n are cheap, the one
        before them is not, and no run occurred before that: H_n = H_{n-1} + (1 - H_{n-k-1}) · miss_{n-k} · Π p. The lag of k + 1 lets k + 1
        terms be summed at a time.
        """
        if k not in self.known:
            window = np.exp(self.log_sum[k:] - self.log_sum[:-k]) * (self.zeros[k:] == self.zeros[:-k])
            completes = window * self.miss[: len(window)]
            possible = np.flatnonzero(completes > 1e-20)  # H stays 0 before the first of these and does not change after the last
            completes = completes[possible[0] : possible[-1] + 1] if possible.size else completes[:0]
            # H over these updates, behind k + 1 zeros: the lagged terms of a block are then the block k + 1 places earlier.
            lag = k + 1
            completed = np.zeros(lag + len(completes))
            for start in range(0, len(completes), lag):
                stop = min(start + lag, len(completes))
                gain = (1 - completed[start:stop]) * completes[start:stop]
                completed[lag + start : lag + stop] = gain.cumsum() + completed[lag + start - 1]
            self.known[k] = float(completed[-1])
        return self.known[k]

    def _first(self, level: float) -> int:
        """The smallest k at which P(a run of k) falls below `level`, `updates + 1` if none does."""
        low, high = 0, self.updates + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.occurs(middle) >= level else (low, middle)
        return high

    def expected_longest(self) -> float:
        """Σ_{k>=1} P(a run of k): k by k where it changes fast, through parabolas where it is smooth, nothing at all where it is 1 or 0."""
        if self.updates == 0:
            return 0.0
        certain = self._first(1 - 1e-9) - 1
        longest = min(self._first(1e-12), self.updates)
        return certain + self._sum(certain, longest, 1e-6 * max(certain, 1) / max(longest - certain, 1))

    def _parabola_sum(self, low: int, high: int) -> float:
        """Σ over low < k <= high of the parabola through the probabilities at low, the middle and high."""
        middle = (low + high) // 2
        nodes = (low, middle, high)
        k = np.arange(low + 1, high + 1, dtype=np.float64)
        total = 0.0
        for node in nodes:
            others = [other for other in nodes if other != node]
            total += self.occurs(node) * float(np.sum(np.prod([(k - other) / (node - other) for other in others], axis=0)))
        return total

    def _sum(self, low: int, high: int, tolerance: float) -> float:
        """Σ over low < k <= high of P(a run of k), to about `tolerance` a term."""
        if high - low <= 8:
            return math.fsum(self.occurs(k) for k in range(low + 1, high + 1))
        middle = (low + high) // 2
        fine = self._parabola_sum(low, middle) + self._parabola_sum(middle, high)
        if abs(fine - self._parabola_sum(low, high)) <= tolerance * (high - low):
            return fine
        return self._sum(low, middle, tolerance) + self._sum(middle, high, tolerance)
