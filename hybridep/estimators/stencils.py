"""The estimators that are a stencil with one sign: the thesis's standard and centered, negative, random sign, and those of higher order."""

from fractions import Fraction
from typing import ClassVar, Final

import numpy as np

from hybridep.estimators.base import ESTIMATORS, Estimator, Stencil
from hybridep.nudging import Floats, Minibatch, Nudging

ONE_SIDED: Final = Stencil("standard", (0, 1), (-1, 1))


class StencilEstimator(Estimator):
    """A stencil on the whole minibatch; `signs` are the factors that β is multiplied by over the uses that average out."""

    stencil: ClassVar[Stencil]
    signs: ClassVar[tuple[int, ...]] = (1,)

    def sign(self, minibatch: Minibatch) -> "int | Floats":
        """The sign of β at this use: one for all samples, or one for each, [n]."""
        return self.signs[0]

    def nudging(self, minibatch: Minibatch, generator: np.random.Generator) -> Nudging:
        return self.stencil.nudging(minibatch, self.sign(minibatch))

    @property
    def nudged_phases(self) -> float:
        return self.stencil.nudged_phases

    @property
    def order(self) -> int:
        return self.stencil.averaged_bias_order if set(self.signs) == {-1, 1} else self.stencil.bias_order


class Standard(StencilEstimator, name="standard"):
    """One nudged phase at +β: the thesis's cheap estimator (eq. 4), with a bias of first order."""

    stencil = ONE_SIDED


class Negative(StencilEstimator, name="negative"):
    """One nudged phase at −β."""

    stencil = ONE_SIDED
    signs = (-1,)


class RandomSign(StencilEstimator, name="random_sign"):
    """One nudged phase at +β or −β, drawn for each minibatch."""

    stencil = ONE_SIDED
    signs = (-1, 1)
    averages_over = 2

    def sign(self, minibatch: Minibatch) -> int:
        return self.signs[int(minibatch.uniform * len(self.signs))]


class Centered(StencilEstimator, name="centered"):
    """Nudged phases at +β and −β: the thesis's accurate estimator (eq. 8), with a bias of second order."""

    stencil = Stencil("centered", (1, -1), (Fraction(1, 2), Fraction(-1, 2)))


class SecondOrder(StencilEstimator, name="second_order"):
    """One-sided, with nudged phases at β and 2β: a bias of second order."""

    stencil = Stencil("second_order", (0, 1, 2), (Fraction(-3, 2), 2, Fraction(-1, 2)))


class FourthOrder(StencilEstimator, name="fourth_order"):
    """Nudged phases at ±β and ±2β: a bias of fourth order (section 5)."""

    stencil = Stencil("fourth_order", (1, -1, 2, -2), (Fraction(2, 3), Fraction(-2, 3), Fraction(-1, 12), Fraction(1, 12)))


def stencil(name: str) -> Stencil:
    """The stencil of the estimator with this name; ValueError for one that is more than a stencil."""
    found = ESTIMATORS.find(name)
    if not issubclass(found, StencilEstimator):
        raise ValueError(f"estimator {name}: is more than a stencil")
    return found.stencil
