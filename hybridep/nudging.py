"""`Nudging`: a minibatch's gradient as a table, ĝ = Σ weight · G(row) + Σ free_weight · G(free), with G = ∂Φ/∂θ (thesis eq. 1-10).

An estimator makes the table; relaxation fills in the states; the network sums; the ledger counts the rows that were relaxed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Minibatch:
    """What an estimator may know of a minibatch after its free phase.

    `n` samples; `beta`, the strength of the nudge, above 0; `uniform` in [0, 1), this update's number of the stream `signs`, the same for
    every strategy of a seed; `losses()` gives ℓ of the free states, [n], and `samples()` which training images they are, [n]: asking waits
    for the device. Tables are made in `dtype`, the precision of training.
    """

    n: int
    beta: float
    uniform: float = 0.0
    losses: Callable[[], Floats] | None = None
    samples: Callable[[], Rows] | None = None
    dtype: type[np.floating[Any]] = np.float64

    def among(self, chosen: Rows) -> "Minibatch":
        """The samples at these places as a minibatch of their own."""
        losses, samples = self.losses, self.samples
        return Minibatch(
            len(chosen),
            self.beta,
            self.uniform,
            None if losses is None else lambda: losses()[chosen],
            None if samples is None else lambda: samples()[chosen],
            self.dtype,
        )


@dataclass(frozen=True)
class Nudging:
    """Rows to relax again: sample `rows` [m], each towards its target with signed `beta` [m], entering the gradient with `weight` [m].

    `free_weight` [n] is the weight of each sample's free state, None where none has any. The weights of one sample sum to 0, and
    Σ weight · beta over a sample's rows is 1/n in expectation. `phases` is how many whole minibatches the rows are, stacked in order;
    None for any other set of rows.
    """

    n: int
    rows: Rows
    beta: Floats
    weight: Floats
    free_weight: Floats | None = None
    phases: int | None = None

    def __post_init__(self) -> None:
        for array in (self.rows, self.beta, self.weight, self.free_weight):
            if array is not None:
                array.setflags(write=False)  # tables are shared

    @classmethod
    def whole(cls, n: int, beta: Sequence[Floats], weight: Sequence[Floats], free_weight: Floats | None = None) -> "Nudging":
        """Whole phases, one after the other: `beta` and `weight` have [n] of each."""
        rows = np.tile(np.arange(n), len(beta))
        return cls(n, rows, np.concatenate(beta), np.concatenate(weight), free_weight, len(beta))

    def scattered(self, chosen: Rows, n: int, share: float | Floats) -> "Nudging":
        """This table, made for the samples at the places `chosen` of a minibatch of n, as one of that minibatch.

        Weights are multiplied by `share`, a number or one for each chosen sample.
        """
        shares = np.broadcast_to(np.asarray(share, dtype=self.weight.dtype), (self.n,))
        free = None
        if self.free_weight is not None:
            free = np.zeros(n, dtype=self.weight.dtype)
            free[chosen] = self.free_weight * shares
        return Nudging(n, chosen[self.rows], self.beta, self.weight * shares[self.rows], free)

    def and_also(self, other: "Nudging") -> "Nudging":
        """Both tables of the same minibatch in one."""
        frees = [table.free_weight for table in (self, other) if table.free_weight is not None]
        return Nudging(
            self.n,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.beta, other.beta]),
            np.concatenate([self.weight, other.weight]),
            sum(frees[1:], frees[0]) if frees else None,
        )

    def in_dtype(self, dtype: type[np.floating[Any]]) -> "Nudging":
        """The same table in this precision."""
        arrays = (self.beta, self.weight, self.free_weight)
        if all(array is None or array.dtype == dtype for array in arrays):
            return self
        beta, weight, free = (None if array is None else array.astype(dtype) for array in arrays)
        assert beta is not None and weight is not None
        return Nudging(self.n, self.rows, beta, weight, free, self.phases)

    def of(self, kept: NDArray[np.bool_]) -> "Nudging":
        """The same rows, of which those of samples outside `kept` [n] weigh nothing."""
        free = None if self.free_weight is None else self.free_weight * kept
        return Nudging(self.n, self.rows, self.beta, self.weight * kept[self.rows], free, self.phases)

    def one_sided(self, beta: float) -> "Nudging | None":
        """Standard's estimate from the same states: rows nudged by +β against the free state; None where a weighted sample has none."""
        nudged = np.isclose(self.beta, beta) & (self.weight != 0)
        covered = np.zeros(self.n, dtype=np.bool_)
        covered[self.rows[self.weight != 0]] = True
        having = np.zeros(self.n, dtype=np.bool_)
        having[self.rows[nudged]] = True
        if not covered.any() or np.any(covered & ~having):
            return None
        scale = np.asarray(1 / (beta * self.n), dtype=self.weight.dtype)
        return Nudging(self.n, self.rows, self.beta, np.where(nudged, scale, 0), np.where(having, -scale, 0), self.phases)

    def sums(self) -> Floats:
        """Of each sample, the sum of its weights, [n]: 0 where the table is consistent."""
        total = np.asarray(np.bincount(self.rows, self.weight, self.n), dtype=np.float64)
        return total if self.free_weight is None else total + self.free_weight

    def slopes(self) -> Floats:
        """Of each sample, Σ weight · beta, [n]: 1/n in expectation."""
        return np.asarray(np.bincount(self.rows, self.weight * self.beta, self.n), dtype=np.float64)
