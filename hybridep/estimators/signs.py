"""Estimators of one nudged phase whose sign changes by rule instead of by chance: from use to use, and from sample to sample."""

from typing import Any

import numpy as np
from pydantic import PrivateAttr

from hybridep.estimators.stencils import ONE_SIDED, StencilEstimator
from hybridep.nudging import Floats, Minibatch


class ChangingSign(StencilEstimator):
    """Remembers the sign of its next use, which is the opposite of the last one."""

    stencil = ONE_SIDED
    signs = (1, -1)
    averages_over = 2
    _next: int = PrivateAttr(default=1)

    def turn(self) -> int:
        """The sign of this use."""
        sign, self._next = self._next, -self._next
        return sign

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.get("next") not in (-1, 1):
            raise ValueError(f"estimator {self.name}: its state is damaged (next sign {state.get('next')!r}, must be -1 or 1)")
        self._next = state["next"]


class Alternating(ChangingSign, name="alternating"):
    """One nudged phase whose sign flips each time that it is used: terms in ±β of neighbouring updates cancel in the momentum."""

    def sign(self, minibatch: Minibatch) -> int:
        return self.turn()


class SplitSign(ChangingSign, name="split_sign"):
    """One nudged phase, half of the minibatch at +β and the other half at −β; the halves change sides each time that it is used.

    Every second sample is in either half: minibatches are drawn in random order.
    """

    def sign(self, minibatch: Minibatch) -> Floats:
        signs = np.ones(minibatch.n)
        signs[1::2] = -1
        return self.turn() * signs
