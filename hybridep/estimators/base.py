"""`Estimator`: turns a minibatch into a table of nudgings, perhaps with a memory; `Stencil`: a finite-difference rule for G'(0)."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import factorial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from hybridep.nudging import Floats, Minibatch, Nudging
from hybridep.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import Tensor

ESTIMATORS: "Registry[Estimator]" = Registry("estimator")


class Estimator(Entry):
    """A rule for the gradient of one minibatch.

    What it remembers is in private attributes: each trainer has instances of its own (`fresh`), and saves them (`state_dict`).
    """

    registry: ClassVar[Registry[Any]] = ESTIMATORS
    # After how many uses on the same minibatch its memory has settled, and over how many uses from then on its signs average out; 0 where
    # they do so in the limit alone.
    settles_after: ClassVar[int] = 0
    averages_over: ClassVar[int] = 1
    # Whether `refine`, where there is one, needs the gradient of a whole minibatch that this estimator alone has made: it then refuses
    # mixtures sample by sample, in which it would not be called.
    refines: ClassVar[bool] = False

    @abstractmethod
    def nudging(self, minibatch: Minibatch, generator: np.random.Generator) -> Nudging:
        """The table for one minibatch. `generator` is this update's own, the same for every strategy of a seed."""

    @property
    @abstractmethod
    def nudged_phases(self) -> float:
        """Nudged relaxations per update, as the thesis counts them; a phase on a part of the samples counts as that part."""

    @property
    def order(self) -> int | None:
        """The power of β that leads the bias averaged over the signs, None where theory does not say."""
        return None

    def refine(self, gradient: "list[Tensor]") -> "list[Tensor]":
        """What is made of the gradient of the table that this estimator gave last."""
        return gradient

    def hear(self, one_sided: "Sequence[Tensor]", accurate: "Sequence[Tensor]") -> None:
        """Told of standard's and the accurate estimate of one and the same minibatch, where both were measured."""

    # Whether `hear` does anything: both estimates cost a sum over the states.
    listens: ClassVar[bool] = False

    def fresh(self) -> Self:
        """The same estimator without memories."""
        return type(self)(**dict(self))

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: plain numbers, strings, lists and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what an estimator that gave `state` did; ValueError, and nothing changed, for a damaged one."""
        if state:
            raise ValueError(f"estimator {self.name}: has no memory, but its state holds {', '.join(state)}")


@dataclass(frozen=True)
class Stencil:
    """ĝ = (1/β) Σ_k c_k · G(b_k β): `nudges` are the b_k, 0 the free phase, and `coefficients` the c_k.

    Construction fails with ValueError unless Σc = 0 and Σcb = 1, exactly.
    """

    name: str
    nudges: tuple[Fraction | int, ...]
    coefficients: tuple[Fraction | int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "nudges", tuple(Fraction(b) for b in self.nudges))
        object.__setattr__(self, "coefficients", tuple(Fraction(c) for c in self.coefficients))
        if len(self.nudges) != len(self.coefficients):
            raise ValueError(f"estimator {self.name}: {len(self.nudges)} nudges but {len(self.coefficients)} coefficients")
        if len(set(self.nudges)) != len(self.nudges):
            raise ValueError(f"estimator {self.name}: nudges ({', '.join(map(str, self.nudges))}) are not distinct")
        if any(c == 0 for c in self.coefficients):
            raise ValueError(f"estimator {self.name}: a coefficient is 0, its phase would be relaxed for nothing")
        if self.moment(0) != 0:
            raise ValueError(f"estimator {self.name}: coefficients sum to {self.moment(0)}, must be 0")
        if self.moment(1) != 1:
            raise ValueError(f"estimator {self.name}: Σ c·b is {self.moment(1)}, must be 1")

    def moment(self, order: int) -> Fraction:
        """Σ_k c_k b_k^order / order!, the weight of β^(order-1) G^(order)(0) in the Taylor expansion of ĝ."""
        total = sum((c * b**order for b, c in zip(self.nudges, self.coefficients, strict=True)), Fraction(0))
        return total / factorial(order)

    @property
    def nudged_phases(self) -> int:
        """Nudged relaxations per update (the thesis's cost)."""
        return sum(b != 0 for b in self.nudges)

    @property
    def bias_order(self) -> int:
        """The power of β that leads the bias of one update (1 for standard, eq. 7; 2 for centered, eq. 10)."""
        order = 2
        while self.moment(order) == 0:
            order += 1
        return order - 1

    @property
    def averaged_bias_order(self) -> int:
        """The power of β that leads the bias averaged over +β and −β: odd powers cancel."""
        order = self.bias_order
        while order % 2 == 1 or self.moment(order + 1) == 0:
            order += 1
        return order

    def nudging(self, minibatch: Minibatch, signs: "int | Floats" = 1) -> Nudging:
        """The table, with β multiplied by `signs`, one for all samples or one for each."""
        if isinstance(signs, int):
            return _whole_table(self, minibatch.n, minibatch.beta * signs, minibatch.dtype is np.float32)
        return _table(self, minibatch.n, minibatch.beta * signs, minibatch.dtype)


def _table(stencil: Stencil, n: int, beta: "float | Floats", dtype: "type[np.floating[Any]]") -> Nudging:
    scale = np.asarray(beta * n).astype(dtype)  # of G(bβ)/β, averaged over the minibatch
    strength = np.asarray(beta).astype(dtype)
    betas, weights, free = [], [], None
    for b, c in zip(stencil.nudges, stencil.coefficients, strict=True):
        weight = np.broadcast_to(dtype(c) / scale, (n,))
        if b == 0:
            free = weight
        else:
            betas.append(np.broadcast_to(dtype(b) * strength, (n,)))
            weights.append(weight)
    return Nudging.whole(n, betas, weights, free)


@lru_cache(maxsize=64)
def _whole_table(stencil: Stencil, n: int, beta: float, single: bool) -> Nudging:
    """The same table update after update: making it would take as long as a step of a small network."""
    return _table(stencil, n, beta, np.float32 if single else np.float64)
