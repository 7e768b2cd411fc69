"""Adaptive policies (thesis section 5): p_std follows what training measures."""

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hybridep.policies import AdaptivePolicy

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


class AgreementPolicy(AdaptivePolicy, name="agreement"):
    """Cheap while standard's estimate agrees with the accurate one, as measured on the accurate updates.

    p_std rises from `lowest` at a cosine of `threshold` to `highest` at a cosine of 1. With `highest` below 1 some updates stay accurate,
    and go on to measure.
    """

    highest: float = Field(0.9, ge=0, lt=1, description="p_std at full agreement; below 1, so that agreement goes on to be measured")
    threshold: float = Field(0.8, ge=-1, lt=1, description="cosine below which p_std is the lowest")

    measure: ClassVar[str] = "agreement"
    listens_to: ClassVar[frozenset[str]] = frozenset({"agreement"})

    def trust(self, mean: float) -> float:
        return (mean - self.threshold) / (1 - self.threshold)

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        return {
            "highest": trial.suggest_float("highest", 0.3, 0.98),
            "threshold": trial.suggest_float("threshold", 0.3, 0.99),
            "memory": trial.suggest_float("memory", 3.0, 300.0, log=True),
        }

    def describe(self) -> str:
        measured = f"cosine above {self.threshold:.3g}, over {self.memory:.3g} updates"
        return f"p_std up to {self.highest:.3g} while cheap and accurate agree ({measured})"


class ResidualPolicy(AdaptivePolicy, name="residual"):
    """Cheap while the free phase comes to rest: networks that collapse under one-sided updates relax slower and slower first.

    p_std is `highest` while the averaged residual is at most `limit`, and falls to `lowest` over the next factor of ten.
    """

    limit: float = Field(1e-3, ge=1e-15, le=1e6, description="residual of the free phase up to which p_std is the highest")

    measure: ClassVar[str] = "residual"
    listens_to: ClassVar[frozenset[str]] = frozenset({"residual"})

    def trust(self, mean: float) -> float:
        return 1.0 if mean <= self.limit else 1 - math.log10(mean / self.limit)

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        return {
            "highest": trial.suggest_float("highest", 0.3, 1.0),
            "limit": trial.suggest_float("limit", 1e-6, 1e-1, log=True),
            "memory": trial.suggest_float("memory", 3.0, 300.0, log=True),
        }

    def describe(self) -> str:
        return f"p_std up to {self.highest:.3g} while the free phase's residual is below {self.limit:.1e} (over {self.memory:.3g} updates)"
