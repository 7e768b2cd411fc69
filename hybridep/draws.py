"""Draws: how p_std becomes choices of the cheap estimator, for whole minibatches or sample by sample."""

from abc import abstractmethod
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from hybridep.registry import Entry, Registry

GRAINS: Final = ("minibatch", "sample")
DRAWS: "Registry[Draw]" = Registry("draw")


class Draw(Entry):
    """Decides where the cheap estimator is used; `carried` is all that it remembers. `grains` are those that it has."""

    registry: ClassVar[Registry[Any]] = DRAWS
    grains: ClassVar[tuple[str, ...]] = GRAINS
    _carried: int = PrivateAttr(default=0)

    @property
    def carried(self) -> int:
        return self._carried

    def restore(self, carried: int) -> None:
        """Remember what a draw that gave `carried` did."""
        self._carried = carried

    @abstractmethod
    def cheap(self, p: float, uniform: float) -> bool:
        """True for the cheap estimator, at p_std = p in [0, 1] and with a uniform number in [0, 1)."""

    @abstractmethod
    def cheap_samples(self, p: float, n: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        """The same for each sample of a minibatch, [n]."""


class Bernoulli(Draw, name="bernoulli"):
    """Independent draws, as in the thesis: exact at p = 0 and 1 because the uniform number is below 1."""

    def cheap(self, p: float, uniform: float) -> bool:
        return uniform < p

    def cheap_samples(self, p: float, n: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        return generator.random(n) < p


class Spread(Draw, name="spread"):
    """Error diffusion: p accumulates, and the cheap estimator is used each time that the sum reaches a whole number.

    The count after any number of choices is the sum of p rounded to the nearest whole number, because the sum starts at ½ instead of 0.
    It is kept in integer units of 2^-60: floats would drift, and p = 1 could miss an update, or p = 0 fire one.
    """

    ONE: ClassVar[int] = 2**60
    _carried: int = PrivateAttr(default=2**60 // 2)

    def cheap(self, p: float, uniform: float) -> bool:
        self._carried += round(p * self.ONE)
        fires = self._carried >= self.ONE
        if fires:
            self._carried -= self.ONE
        return fires

    def cheap_samples(self, p: float, n: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        return np.array([self.cheap(p, 0.0) for _ in range(n)], dtype=np.bool_)
