"""`Strategy`: draws the estimator of each minibatch from p_std (thesis eq. 11) and counts what was drawn."""

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridep.estimators import Estimator
from hybridep.streams import stream


class DrawRule(Protocol):
    """Decides update by update whether the cheap estimator is used; `carried` is all that it remembers."""

    carried: int

    def cheap(self, p: float, uniform: float) -> bool:
        """True for the cheap estimator, at p_std = p in [0, 1] and with a uniform number in [0, 1)."""
        ...


class Bernoulli:
    """Independent draws, as in the thesis: exact at p = 0 and 1 because the uniform number is below 1."""

    carried = 0

    def cheap(self, p: float, uniform: float) -> bool:
        return uniform < p


class Spread:
    """Error diffusion: p accumulates, and the cheap estimator is used each time that the sum reaches a whole number.

    The count after any number of updates is the sum of p rounded to the nearest whole number, because the sum starts at ½ instead of 0.
    It is kept in integer units of 2^-60: floats would drift, and p = 1 could miss an update, or p = 0 fire one.
    """

    ONE: Final = 2**60

    def __init__(self) -> None:
        self.carried = self.ONE // 2

    def cheap(self, p: float, uniform: float) -> bool:
        self.carried += round(p * self.ONE)
        fires = self.carried >= self.ONE
        if fires:
            self.carried -= self.ONE
        return fires


_RULES: Final[dict[str, type[Bernoulli] | type[Spread]]] = {"bernoulli": Bernoulli, "spread": Spread}
DRAWS: Final = tuple(_RULES)


def spread_draws(probabilities: ArrayLike) -> NDArray[np.bool_]:
    """Which updates `spread` makes cheap: [updates] from p_std [updates]."""
    rule = Spread()
    return np.array([rule.cheap(p, 0.0) for p in np.asarray(probabilities, dtype=np.float64).tolist()], dtype=np.bool_)


class Strategy:
    """Mixes a cheap and an accurate estimator, minibatch by minibatch, and keeps count.

    Every update takes one number from the stream `draws` and one from `signs`, whatever p_std, the draw rule and the estimators are:
    strategies with the same seed see the same random numbers at the same update, so that they differ only in what they do with them.
    """

    COUNTS: Final = ("updates", "cheap_updates", "nudged_phases", "cheap_run", "longest_cheap_run")

    def __init__(self, cheap: Estimator, accurate: Estimator, draw: str, seed: int) -> None:
        if draw not in DRAWS:
            raise ValueError(f"draw {draw!r}: must be one of {', '.join(DRAWS)}")
        self.cheap = cheap
        self.accurate = accurate
        self.draw = draw
        self.updates = 0
        self.cheap_updates = 0
        self.nudged_phases = 0
        self.cheap_run = 0
        self.longest_cheap_run = 0
        self._rule: DrawRule = _RULES[draw]()
        self._draws = stream(seed, "draws")
        self._signs = stream(seed, "signs")

    def choose(self, p: float) -> tuple[Estimator, int]:
        """The estimator of the next minibatch and the sign of its β, at p_std = p; counts the update."""
        if not 0 <= p <= 1:
            raise ValueError(f"p_std {p}: must lie in [0, 1]")
        cheap = self._rule.cheap(float(p), self._draws.random())  # a NumPy float would turn the counts into NumPy integers
        estimator = self.cheap if cheap else self.accurate
        sign = estimator.signs[int(self._signs.random() * len(estimator.signs))]
        self.updates += 1
        self.cheap_updates += cheap
        self.nudged_phases += estimator.nudged_phases
        self.cheap_run = self.cheap_run + 1 if cheap else 0
        self.longest_cheap_run = max(self.longest_cheap_run, self.cheap_run)
        return estimator, sign

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next draw depends on, and the counts, as dicts, strings and integers."""
        return {
            "cheap": self.cheap.name,
            "accurate": self.accurate.name,
            "draw": self.draw,
            "counts": {name: getattr(self, name) for name in self.COUNTS},
            "carried": self._rule.carried,
            "streams": {"draws": self._draws.bit_generator.state, "signs": self._signs.bit_generator.state},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the strategy that gave `state` was; ValueError, and nothing changed, if it is another mix or damaged."""
        for name, own in (("cheap", self.cheap.name), ("accurate", self.accurate.name), ("draw", self.draw)):
            if state.get(name) != own:
                raise ValueError(f"strategy state: {name} {state.get(name)!r}, must be {own!r}")
        try:
            numbers = [*(state["counts"][name] for name in self.COUNTS), state["carried"]]
            generators = [_restored(state["streams"][name]) for name in ("draws", "signs")]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"strategy state: damaged ({type(error).__name__}: {error})") from None
        if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"strategy state: {numbers} must all be integers from 0")
        *counts, self._rule.carried = numbers
        for name, count in zip(self.COUNTS, counts, strict=True):
            setattr(self, name, count)
        self._draws, self._signs = generators


def _restored(state: dict[str, Any]) -> np.random.Generator:
    generator = np.random.Generator(np.random.PCG64())
    generator.bit_generator.state = state
    return generator
