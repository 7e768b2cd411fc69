"""`Part`: less than one nudged phase an update, by nudging a part of the minibatch only."""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, model_validator

from hybridep.estimators.base import ESTIMATORS, Estimator
from hybridep.nudging import Floats, Minibatch, Nudging

if TYPE_CHECKING:
    from optuna.trial import BaseTrial
    from torch import Tensor


class Part(Estimator, name="part"):
    """An estimator of one phase on a fraction of the minibatch, drawn anew each time without replacement, and unbiased.

    By importance, a sample's chance follows the square root of its loss, mixed with `even` of an equal chance for all, so that no weight
    exceeds 1 / (even · part) of the usual one.
    """

    part: float = Field(0.5, ge=1e-9, le=1, description="fraction of each minibatch that is nudged")
    of: str = Field("alternating", description="the estimator, of one nudged phase, that is used on the part")
    by: Literal["uniform", "importance"] = Field("uniform", description="chances: the same for all, or by the square root of the loss")
    even: float = Field(0.25, ge=1e-9, le=1, description="by importance: share of the chances that is the same for all")

    _of: Estimator = PrivateAttr()

    @model_validator(mode="after")
    def _one_phase(self) -> Self:
        inner = ESTIMATORS.find(self.of)
        if inner is Part or (made := inner.create()).nudged_phases != 1:
            raise ValueError(f"of {self.of!r}: must be an estimator of one nudged phase, with no part of its own")
        self._of = made
        return self

    averages_over = 0

    @property
    def nudged_phases(self) -> float:
        return self.part

    @property
    def refines(self) -> bool:  # type: ignore[override]  # as the estimator on the part does
        return self._of.refines

    def nudging(self, minibatch: Minibatch, generator: np.random.Generator) -> Nudging:
        count = max(1, round(self.part * minibatch.n))
        if self.by == "uniform" or count == minibatch.n:
            # The mean over a random part is the mean over all in expectation.
            chosen = np.sort(generator.choice(minibatch.n, count, replace=False))
            share: float | Floats = 1.0
        else:
            assert minibatch.losses is not None
            chances = inclusion(importance(minibatch.losses(), self.even), count)
            chosen = systematic(chances, generator)
            share = len(chosen) / (minibatch.n * chances[chosen])  # from a mean over the chosen to 1 / (n · chance) of each
        return self._of.nudging(minibatch.among(chosen), generator).scattered(chosen, minibatch.n, share)

    def refine(self, gradient: "list[Tensor]") -> "list[Tensor]":
        return self._of.refine(gradient)

    def state_dict(self) -> dict[str, Any]:
        return {"of": self._of.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._of.load_state_dict(state.get("of", {}))

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        return {
            "part": trial.suggest_float("part", 0.1, 1.0),
            "of": trial.suggest_categorical("of", ("alternating", "split_sign", "standard")),
            "by": trial.suggest_categorical("by", ("uniform", "importance")),
        }

    def describe(self) -> str:
        drawn = " by importance" if self.by == "importance" else ""
        return f"{self.of.replace('_', ' ')} on {100 * self.part:.3g} % of each minibatch{drawn}"


def importance(losses: Floats, even: float) -> Floats:
    """Relative chances [n] that sum to 1: ∝ √loss, mixed with an equal share; equal where the losses say nothing."""
    roots = np.sqrt(np.maximum(losses.astype(np.float64), 0))
    total = roots.sum()
    if not np.isfinite(total) or total == 0:
        return np.full(len(losses), 1 / len(losses))
    return np.asarray((1 - even) * roots / total + even / len(losses))


def inclusion(relative: Floats, count: int) -> Floats:
    """Chances [n] of being among `count` samples, proportional to `relative` but for those that would exceed 1; they sum to `count`."""
    chances = np.ones(len(relative))
    open_ = np.ones(len(relative), dtype=np.bool_)
    left = float(count)
    while True:
        chances[open_] = left * relative[open_] / relative[open_].sum()
        over = open_ & (chances >= 1)
        if not over.any():
            return chances
        chances[over] = 1
        open_ &= ~over
        left = count - float((~open_).sum())
        if left <= 0 or not open_.any():
            chances[open_] = 0
            return chances


def systematic(chances: Floats, generator: np.random.Generator) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Samples drawn without replacement with exactly these chances (Madow, 1949), in random order along the line; their places, sorted."""
    order = generator.permutation(len(chances))
    ends = np.cumsum(chances[order])
    count = round(float(ends[-1]))
    ends[-1] = count  # without what rounding made of it
    points = generator.random() + np.arange(count)
    return np.sort(order[np.searchsorted(ends, points, side="right")])
