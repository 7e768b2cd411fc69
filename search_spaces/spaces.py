"""Named search spaces, each a tuple of pieces, and what can be done with one: draw a strategy, find one in it, lay a grid over it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hybridep.config import InvalidInput, TrialConfig
from hybridep.policies import FAMILIES
from hybridep.schedules import Schedule
from search_spaces.pieces import Limits, Overrides, Piece, cheap, estimators, nudge, relaxation, schedule, signs

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

# Add a line for a new space, or to give an old one another piece.
SPACES: Final[dict[str, tuple[Piece, ...]]] = {
    "signs": (schedule, signs),
    "schedule": (schedule,),
    "schedule+nudge": (schedule, nudge),
    "schedule+nudge+relaxation": (schedule, nudge, relaxation),
    "estimators": (schedule, estimators),
    "cheap": (schedule, cheap),
}


@dataclass(frozen=True)
class Space:
    """A define-by-run search space: called with an Optuna trial, it returns a strategy as overrides of the protocol."""

    pieces: tuple[Piece, ...]
    limits: Limits

    @classmethod
    def named(cls, name: str, limits: Limits) -> "Space":
        """A space of `SPACES`; InvalidInput for another name."""
        if name not in SPACES:
            raise InvalidInput(f"space {name!r}: must be one of {', '.join(SPACES)}")
        pieces = SPACES[name]
        if cheap in pieces or signs in pieces:  # there may be no estimator that is accurate enough to measure agreement with
            deaf = tuple(family for family in limits.families if "agreement" not in FAMILIES[family].listens_to)
            if not deaf:
                raise InvalidInput(
                    f"families {' '.join(limits.families)}: compare with an accurate estimator, space {name} may choose none"
                )
            limits = replace(limits, families=deaf)
        return cls(pieces, limits)

    @property
    def has_beta(self) -> bool:
        return nudge in self.pieces

    @property
    def has_estimators(self) -> bool:
        """Whether it chooses the estimators that are mixed."""
        return any(piece in self.pieces for piece in (signs, estimators, cheap))

    @property
    def has_grain(self) -> bool:
        """Whether it chooses if whole minibatches or single samples are drawn."""
        return any(piece in self.pieces for piece in (estimators, cheap))

    @property
    def has_warm_starts(self) -> bool:
        """Whether some of its strategies start free phases from the last epoch's equilibria."""
        return relaxation in self.pieces and "last" in self.limits.starts

    def __call__(self, trial: "BaseTrial") -> Overrides:
        overrides: Overrides = {}
        for piece in self.pieces:
            overrides |= piece(trial, self.limits)
        return overrides

    def point(self, protocol: TrialConfig, strategy: Mapping[str, Any]) -> dict[str, Any] | None:
        """The parameters with which this space gives `strategy` (overrides of the protocol), or None where it lies outside."""
        from optuna.trial import FixedTrial

        wanted = protocol.replace(**strategy)
        fields = {name: value for name, value in wanted.flat().items() if value is not None}
        trial = FixedTrial(fields)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Optuna only warns of a value out of range
                found = protocol.replace(**self(trial))
        except (ValueError, UserWarning):
            return None
        return dict(trial.params) if found == wanted else None

    def grid(self, counts: Sequence[int]) -> list[Overrides]:
        """Every family at evenly spaced skews, and at geometrically spaced β where the space has β; `counts` are those of skews and βs.

        For maps of p_std × β use the constant family alone. Families keep the defaults of their other parameters.
        """
        for family in self.limits.families:
            if not issubclass(FAMILIES[family], Schedule):
                raise InvalidInput(f"families {family}: is an adaptive policy, which has no skew to lay a grid over")
        skews = np.linspace(*self.limits.skew, counts[0]).tolist()
        betas = np.geomspace(*self.limits.beta, counts[1]).tolist() if self.has_beta else [None]
        return [
            {"family": family, "skew": skew} | ({} if beta is None else {"beta": beta})
            for family, skew, beta in product(self.limits.families, skews, betas)
        ]
