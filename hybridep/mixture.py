"""`Mixture`: draws where the cheap and where the accurate estimator is used (thesis eq. 11), and counts what that costs."""

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hybridep.draws import GRAINS, Draw
from hybridep.estimators import Estimator
from hybridep.nudging import Minibatch, Nudging
from hybridep.streams import stream

if TYPE_CHECKING:
    from torch import Tensor

COUNTS: Final = ("updates", "cheap_updates", "nudged_phases", "cheap_run", "longest_cheap_run")


class Mixture:
    """A cheap and an accurate estimator, mixed minibatch by minibatch or sample by sample, and the ledger of their cost.

    Every update takes one number from the stream `draws` and one from `signs`, whatever p_std, the draw and the estimators are: strategies
    with the same seed see the same random numbers at the same update, so that they differ only in what they do with them. What needs
    more numbers takes them from a generator of that update alone.
    """

    def __init__(self, cheap: Estimator, accurate: Estimator, draw: Draw, grain: str, seed: int) -> None:
        if grain not in draw.grains:
            raise ValueError(f"grain {grain!r}: draw {draw.name} has only {', '.join(draw.grains)}")
        for estimator in (cheap, accurate):
            if grain == "sample" and estimator.refines:
                raise ValueError(f"grain 'sample': estimator {estimator.name} works on whole minibatches, must be {GRAINS[0]}")
        self.cheap = cheap.fresh()
        self.accurate = accurate.fresh()
        self.draw = draw.model_copy(deep=True)
        self.grain = grain
        self.updates = 0
        self.cheap_updates = Fraction(0)
        self.nudged_phases = Fraction(0)
        self.cheap_run = 0
        self.longest_cheap_run = 0
        self._seed = seed
        self._draws = stream(seed, "draws")
        self._signs = stream(seed, "signs")
        self._used: Estimator | None = None

    @property
    def listens(self) -> bool:
        """Whether an estimator wants to hear of standard's and the accurate estimate of the same minibatch."""
        return self.cheap.listens or self.accurate.listens

    @property
    def refines(self) -> bool:
        """Whether an estimator changes the gradient of its table."""
        return any(one.refines or type(one).refine is not Estimator.refine for one in (self.cheap, self.accurate))

    def nudging(self, p: float, minibatch: Minibatch) -> tuple[Nudging, Nudging | None]:
        """The table of the next minibatch at p_std = p, and what of it is the accurate estimate; counts the update.

        The second has the same rows, those of cheap samples without weight; None where no sample is accurate.
        """
        if not 0 <= p <= 1:
            raise ValueError(f"p_std {p}: must lie in [0, 1]")
        p = float(p)  # a NumPy float would turn the counts into NumPy integers
        uniform, sign = self._draws.random(), self._signs.random()
        minibatch = Minibatch(minibatch.n, minibatch.beta, sign, minibatch.losses, minibatch.samples, minibatch.dtype)
        generator = stream(self._seed, "samples", self.updates)
        if self.grain == "minibatch":
            cheap = self.draw.cheap(p, uniform)
            self._used = self.cheap if cheap else self.accurate
            table = self._used.nudging(minibatch, generator).in_dtype(minibatch.dtype)
            self._count(table, Fraction(int(cheap)))
            return table, None if cheap else table
        chosen = self.draw.cheap_samples(p, minibatch.n, generator)
        self._used = None
        table = self._by_sample(chosen, minibatch, generator).in_dtype(minibatch.dtype)
        self._count(table, Fraction(int(chosen.sum()), minibatch.n))
        return table, None if chosen.all() else table.of(~chosen)

    def _by_sample(self, cheap: "np.ndarray[Any, np.dtype[np.bool_]]", minibatch: Minibatch, generator: np.random.Generator) -> Nudging:
        tables = []
        for estimator, places in ((self.cheap, np.flatnonzero(cheap)), (self.accurate, np.flatnonzero(~cheap))):
            if len(places) == minibatch.n:
                return estimator.nudging(minibatch, generator)
            if len(places):
                own = estimator.nudging(minibatch.among(places), generator)
                tables.append(own.scattered(places, minibatch.n, len(places) / minibatch.n))
        return tables[0].and_also(tables[1])

    def _count(self, table: Nudging, cheap: Fraction) -> None:
        self.updates += 1
        self.cheap_updates += cheap
        self.nudged_phases += Fraction(len(table.rows), table.n)
        self.cheap_run = self.cheap_run + 1 if cheap == 1 else 0
        self.longest_cheap_run = max(self.longest_cheap_run, self.cheap_run)

    def refine(self, gradient: "list[Tensor]") -> "list[Tensor]":
        """What the estimator of the last table makes of that table's gradient."""
        return gradient if self._used is None else self._used.refine(gradient)

    def hear(self, one_sided: "Sequence[Tensor]", accurate: "Sequence[Tensor]") -> None:
        """Told of both estimates of one minibatch."""
        self.cheap.hear(one_sided, accurate)
        self.accurate.hear(one_sided, accurate)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next table depends on, and the counts; fractions as [numerator, denominator]."""
        return {
            "cheap": self.cheap.name,
            "accurate": self.accurate.name,
            "draw": self.draw.name,
            "counts": {name: list(Fraction(getattr(self, name)).as_integer_ratio()) for name in COUNTS},
            "carried": self.draw.carried,
            "streams": {"draws": self._draws.bit_generator.state, "signs": self._signs.bit_generator.state},
            "memories": {"cheap": self.cheap.state_dict(), "accurate": self.accurate.state_dict()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the mixture that gave `state` was; ValueError, and nothing changed, if it is another mix or damaged."""
        for name, own in (("cheap", self.cheap.name), ("accurate", self.accurate.name), ("draw", self.draw.name)):
            if state.get(name) != own:
                raise ValueError(f"mixture state: {name} {state.get(name)!r}, must be {own!r}")
        try:
            numbers = [number for name in COUNTS for number in state["counts"][name]] + [state["carried"]]
            if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
                raise ValueError(f"{numbers} must all be integers from 0")
            counts = [Fraction(*state["counts"][name]) for name in COUNTS]
            generators = [_restored(state["streams"][name]) for name in ("draws", "signs")]
            cheap, accurate = self.cheap.fresh(), self.accurate.fresh()
            cheap.load_state_dict(state["memories"]["cheap"])
            accurate.load_state_dict(state["memories"]["accurate"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise ValueError(f"mixture state: damaged ({type(error).__name__}: {error})") from None
        self.draw.restore(state["carried"])
        for name, count in zip(COUNTS, counts, strict=True):
            setattr(self, name, count if name in ("cheap_updates", "nudged_phases") else int(count))
        self._draws, self._signs = generators
        self.cheap, self.accurate = cheap, accurate


def exactly(value: Fraction) -> int | float:
    """A count as it is reported: whole numbers as whole numbers."""
    return value.numerator if value.denominator == 1 else float(value)


def _restored(state: dict[str, Any]) -> np.random.Generator:
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = state
    return generator
