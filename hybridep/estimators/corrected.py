"""`Corrected`: one nudged phase an update, minus what is remembered of its own first-order bias."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr

from hybridep.estimators.signs import ChangingSign
from hybridep.nudging import Minibatch

if TYPE_CHECKING:
    from optuna.trial import BaseTrial
    from torch import Tensor


class Corrected(ChangingSign, name="corrected"):
    """Alternating signs, with the first-order bias taken off each update.

    ĝ at sign s is g* + s·B + O(β²) with B = (β/2)·G''(0) (eq. 5). Half the difference of two neighbouring updates of opposite sign is an
    estimate of B, noisy because their minibatches differ; so is standard minus centered on one minibatch, without that noise. B is their
    running mean over about `memory` updates, and s·B is subtracted.
    """

    memory: float = Field(50.0, ge=1, le=1e6, description="updates over which the bias is averaged")

    refines = True
    listens = True
    settles_after = 2
    _last: "list[Tensor] | None" = PrivateAttr(default=None)
    _last_sign: int = PrivateAttr(default=0)
    _sign: int = PrivateAttr(default=1)
    _bias: "list[Tensor] | None" = PrivateAttr(default=None)
    # Σ of the weights that the running mean has given away, so that its first values count in full.
    _weight: float = PrivateAttr(default=0.0)

    def sign(self, minibatch: Minibatch) -> int:
        self._sign = self.turn()
        return self._sign

    def refine(self, gradient: "list[Tensor]") -> "list[Tensor]":
        # Restored memories come on the CPU.
        self._last, self._bias = (_on_device_of(gradient, kept) for kept in (self._last, self._bias))
        if self._last is not None and self._last_sign == -self._sign:
            self._learn([(new - old) * (self._sign / 2) for new, old in zip(gradient, self._last, strict=True)])
        self._last, self._last_sign = [part.clone() for part in gradient], self._sign
        if self._bias is None:
            return gradient
        return [part - bias * (self._sign / self._weight) for part, bias in zip(gradient, self._bias, strict=True)]

    def hear(self, one_sided: "Sequence[Tensor]", accurate: "Sequence[Tensor]") -> None:
        self._learn([cheap - exact for cheap, exact in zip(one_sided, accurate, strict=True)])

    def _learn(self, found: "list[Tensor]") -> None:
        kept = 1 - 1 / self.memory
        self._bias = _on_device_of(found, self._bias)
        if self._bias is None:
            self._bias = [part.new_zeros(part.shape) for part in found]
        for bias, part in zip(self._bias, found, strict=True):
            bias.mul_(kept).add_(part, alpha=1 - kept)
        self._weight = kept * self._weight + 1 - kept

    @property
    def order(self) -> int:
        return 2

    def state_dict(self) -> dict[str, Any]:
        def copied(tensors: "list[Tensor] | None") -> "list[Tensor] | None":
            return None if tensors is None else [part.clone() for part in tensors]

        return {
            **super().state_dict(),
            "last": copied(self._last),
            "last_sign": self._last_sign,
            "bias": copied(self._bias),
            "weight": self._weight,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._last, self._last_sign, self._bias, self._weight = (state[name] for name in ("last", "last_sign", "bias", "weight"))

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        return {"memory": trial.suggest_float("memory", 5.0, 500.0, log=True)}


def _on_device_of(gradient: "list[Tensor]", kept: "list[Tensor] | None") -> "list[Tensor] | None":
    return None if kept is None else [part.to(like) for part, like in zip(kept, gradient, strict=True)]
