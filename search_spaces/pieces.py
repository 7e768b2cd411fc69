"""The pieces of search spaces: functions that ask an Optuna trial for some of TrialConfig's fields and return them as overrides.

Every parameter has the name of the field that it sets (a knot's: `knot_0`, `knot_1`, ...), so that a configuration is a point of a space.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from hybridep.config import BETA_RANGE, MOST_STEPS, InvalidInput, TrialConfig
from hybridep.draws import DRAWS, GRAINS
from hybridep.estimators import ESTIMATORS
from hybridep.policies import FAMILIES
from hybridep.schedules import Schedule

if TYPE_CHECKING:
    from optuna.distributions import CategoricalChoiceType
    from optuna.trial import BaseTrial

TOLERANCES: Final = (1e-6, 1e-2)
STARTS: Final = ("zeros", "last")
# What names are searched, by the field of Limits that holds them.
CHOICES: Final[dict[str, Collection[str]]] = {"families": FAMILIES, "draws": DRAWS, "estimators": ESTIMATORS, "starts": STARTS}

Overrides = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What a search may try of each parameter: a set of names, or lowest and highest value."""

    families: tuple[str, ...]
    draws: tuple[str, ...]
    estimators: tuple[str, ...]
    starts: tuple[str, ...]
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
        least, most = BETA_RANGE
        if beta is not None and not least <= beta[0] <= beta[1] <= most:
            raise InvalidInput(f"beta_range {beta[0]} {beta[1]}: must be two numbers from {least:g} to {most:g}, the lower first")
        return cls(
            families=families or tuple(FAMILIES),
            draws=tuple(DRAWS),
            estimators=tuple(ESTIMATORS),
            starts=STARTS[:1] if protocol.augment else STARTS,
            skew=skew or (0.0, 1.0),
            beta=beta or (max(least, protocol.beta / 4), min(most, protocol.beta * 4)),
            T1=(max(1, protocol.T1 // 4), min(MOST_STEPS, protocol.T1 * 2)),
            T2=(max(1, protocol.T2 // 4), min(MOST_STEPS, protocol.T2 * 2)),
        )

    @property
    def choices(self) -> dict[str, list[str]]:
        """The names that a search chooses from, by kind. A search that goes on must choose from the same, in the same order."""
        return {kind: list(getattr(self, kind)) for kind in CHOICES}

    def choosing(self, choices: Mapping[str, Sequence[str]]) -> "Limits":
        """The same limits with names of an earlier search; InvalidInput where they are none, or there is no such class any more."""
        choices = {"starts": list(STARTS[:1]), **choices}  # of a study from before there was another
        for kind, known in CHOICES.items():
            names = choices.get(kind)
            if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                raise InvalidInput(f"{kind}: must be a list of names")
            if missing := [name for name in names if name not in known]:
                raise InvalidInput(f"{kind} {missing[0]!r}: was searched, and is none any more; there are {', '.join(known)}")
        families, draws, estimators, starts = (tuple(choices[kind]) for kind in CHOICES)
        return replace(self, families=families, draws=draws, estimators=estimators, starts=starts)


Piece = Callable[["BaseTrial", Limits], Overrides]


class Prefixed:
    """An Optuna trial that asks for parameters under their own names behind a prefix, as flat configurations have them."""

    def __init__(self, trial: "BaseTrial", prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        return self._trial.suggest_float(self._prefix + name, low, high, step=step, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._trial.suggest_int(self._prefix + name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: "tuple[CategoricalChoiceType, ...]") -> "CategoricalChoiceType":
        return self._trial.suggest_categorical(self._prefix + name, choices)


def schedule(trial: "BaseTrial", limits: Limits) -> Overrides:
    """A family with the parameters that it has (of a schedule, its skew too), and how minibatches are drawn."""
    name = trial.suggest_categorical("family", limits.families)
    family = FAMILIES[name]
    skew = {"skew": trial.suggest_float("skew", *limits.skew)} if issubclass(family, Schedule) else {}
    return {"family": name, **skew, "draw": trial.suggest_categorical("draw", limits.draws), **family.suggest(trial)}


def nudge(trial: "BaseTrial", limits: Limits) -> Overrides:
    """β, on a logarithmic scale."""
    return {"beta": trial.suggest_float("beta", *limits.beta, log=True)}


def relaxation(trial: "BaseTrial", limits: Limits) -> Overrides:
    """Fixed numbers of steps, or a tolerance with the protocol's T1 and T2 as the most allowed; and where free phases start."""
    policy = trial.suggest_categorical("relaxation", ("fixed", "adaptive"))
    start = {"start": trial.suggest_categorical("start", limits.starts)} if len(limits.starts) > 1 else {}
    if policy == "adaptive":
        return {"relaxation": policy, "tolerance": trial.suggest_float("tolerance", *TOLERANCES, log=True), **start}
    steps = {name: trial.suggest_int(name, *getattr(limits, name), log=True) for name in ("T1", "T2")}
    return {"relaxation": policy, "tolerance": None, **steps, **start}


def estimator(trial: "BaseTrial", role: str, names: tuple[str, ...]) -> Overrides:
    """One of these estimators as `role`, cheap or accurate, with the parameters that it has."""
    name = trial.suggest_categorical(role, names)
    prefix = f"{role}_"
    own = ESTIMATORS[name].suggest(Prefixed(trial, prefix))  # type: ignore[arg-type]  # as much of a trial as entries use
    return {role: name, **{prefix + field: value for field, value in own.items()}}


def costing(names: Sequence[str], least: float, most: float) -> tuple[str, ...]:
    """Those of these estimators that take so many nudged phases an update."""
    return tuple(name for name in names if least <= ESTIMATORS[name].create().nudged_phases <= most)


def _pair(trial: "BaseTrial", cheap: tuple[str, ...], accurate: tuple[str, ...]) -> Overrides:
    """Two estimators, and whether whole minibatches or single samples are drawn, where they work on samples."""
    pair = estimator(trial, "cheap", cheap) | estimator(trial, "accurate", accurate)
    if any(ESTIMATORS[pair[role]].create().refines for role in ("cheap", "accurate")):
        return pair
    grains = DRAWS[trial.params["draw"]].grains  # a draw of one's own may have one alone
    return pair | {"grain": grains[0] if len(grains) == 1 else trial.suggest_categorical("grain", GRAINS)}


def estimators(trial: "BaseTrial", limits: Limits) -> Overrides:
    """Any estimator of at most one nudged phase as the cheap one, any of more as the accurate one."""
    return _pair(trial, costing(limits.estimators, 0, 1), costing(limits.estimators, 1 + 1e-9, float("inf")))


def cheap(trial: "BaseTrial", limits: Limits) -> Overrides:
    """Two estimators of at most one nudged phase, so that no update costs more: what is left to find is how little is enough."""
    return _pair(trial, *2 * (costing(limits.estimators, 0, 1),))


def signs(trial: "BaseTrial", limits: Limits) -> Overrides:
    """Two estimators without parameters: one of one nudged phase as the cheap one, one of one or two as the accurate one."""
    plain = [name for name in limits.estimators if not ESTIMATORS[name].model_fields]
    return estimator(trial, "cheap", costing(plain, 1, 1)) | estimator(trial, "accurate", costing(plain, 1, 2))
