"""The pieces of search spaces: functions that ask an Optuna trial for some of TrialConfig's fields and return them as overrides.

Every parameter has the name of the field that it sets (a knot's: `knot_0`, `knot_1`, ...), so that a configuration is a point of a space.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hybridep.config import InvalidInput, TrialConfig
from hybridep.estimators import ESTIMATORS
from hybridep.schedules import FAMILIES
from hybridep.strategy import DRAWS

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

KNOTS: Final = 4
MOST_CYCLES: Final = 8
TOLERANCES: Final = (1e-6, 1e-2)

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What a search may try of each parameter: a set of names, or lowest and highest value."""

    families: tuple[str, ...]
    skew: tuple[float, float]
    beta: tuple[float, float]
    T1: tuple[int, int]
    T2: tuple[int, int]

    @classmethod
    def around(
        cls,
        protocol: TrialConfig,
        families: tuple[str, ...] = (),
        skew: tuple[float, float] | None = None,
        beta: tuple[float, float] | None = None,
    ) -> "Limits":
        """The widest limits worth trying under a protocol, or narrower ones where they are given; InvalidInput if these make no sense."""
        unknown = [family for family in families if family not in FAMILIES]
        if unknown:
            raise InvalidInput(f"families {unknown[0]!r}: must be one of {', '.join(FAMILIES)}")
        if len(set(families)) < len(families):
            raise InvalidInput(f"families {' '.join(families)}: must differ from each other")
        if skew is not None and not 0 <= skew[0] <= skew[1] <= 1:
            raise InvalidInput(f"skew_range {skew[0]} {skew[1]}: must be two numbers in [0, 1], the lower first")
        if beta is not None and not 0 < beta[0] <= beta[1] < float("inf"):
            raise InvalidInput(f"beta_range {beta[0]} {beta[1]}: must be two positive numbers, the lower first")
        return cls(
            families=families or tuple(FAMILIES),
            skew=skew or (0.0, 1.0),
            beta=beta or (protocol.beta / 4, protocol.beta * 4),
            T1=(max(1, protocol.T1 // 4), protocol.T1 * 2),
            T2=(max(1, protocol.T2 // 4), protocol.T2 * 2),
        )


Piece = Callable[["BaseTrial", Limits], Overrides]


def schedule(trial: "BaseTrial", limits: Limits) -> Overrides:
    """A family with the parameters that it has, its skew, and how minibatches are drawn."""
    family = trial.suggest_categorical("family", limits.families)
    return {
        "family": family,
        "skew": trial.suggest_float("skew", *limits.skew),
        "draw": trial.suggest_categorical("draw", DRAWS),
        **FAMILY_PARAMETERS.get(family, no_parameters)(trial),
    }


def no_parameters(trial: "BaseTrial") -> Overrides:
    return {}


def direction(trial: "BaseTrial") -> Overrides:
    return {"rising": trial.suggest_categorical("rising", (False, True))}


def cycles(trial: "BaseTrial") -> Overrides:
    return {"cycles": trial.suggest_int("cycles", 2, MOST_CYCLES), **direction(trial)}


def knots(trial: "BaseTrial") -> Overrides:
    """`KNOTS` levels at even distances; the schedule shifts them to its skew."""
    levels = [trial.suggest_float(f"knot_{number}", 0.0, 1.0) for number in range(KNOTS)]
    return {"knots": tuple((number / (KNOTS - 1), level) for number, level in enumerate(levels))}


# Families that have more than a skew; add a line for a new one.
FAMILY_PARAMETERS: dict[str, Callable[["BaseTrial"], Overrides]] = {
    "linear": direction,
    "step": direction,
    "exponential": direction,
    "cyclic_cosine": cycles,
    "piecewise": knots,
}


def nudge(trial: "BaseTrial", limits: Limits) -> Overrides:
    """β, on a logarithmic scale."""
    return {"beta": trial.suggest_float("beta", *limits.beta, log=True)}


def relaxation(trial: "BaseTrial", limits: Limits) -> Overrides:
    """Fixed numbers of steps, or a tolerance with the protocol's T1 and T2 as the most allowed."""
    policy = trial.suggest_categorical("relaxation", ("fixed", "adaptive"))
    if policy == "adaptive":
        return {"relaxation": policy, "tolerance": trial.suggest_float("tolerance", *TOLERANCES, log=True)}
    steps = {name: trial.suggest_int(name, *getattr(limits, name), log=True) for name in ("T1", "T2")}
    return {"relaxation": policy, "tolerance": None, **steps}


def estimators(trial: "BaseTrial", limits: Limits) -> Overrides:
    """Any stencil with one nudged phase as the cheap one, any with more as the accurate one."""
    cheap = tuple(name for name, estimator in ESTIMATORS.items() if estimator.nudged_phases == 1)
    accurate = tuple(name for name in ESTIMATORS if name not in cheap)
    return {"cheap": trial.suggest_categorical("cheap", cheap), "accurate": trial.suggest_categorical("accurate", accurate)}
