"""Estimators of a minibatch's gradient, each a class in a file of its own kind, by their names in `ESTIMATORS`. Imports no PyTorch."""

from hybridep.estimators import corrected, part, signs
from hybridep.estimators.base import ESTIMATORS, Estimator, Stencil
from hybridep.estimators.stencils import StencilEstimator, stencil

__all__ = ["ESTIMATORS", "Estimator", "Stencil", "StencilEstimator", "averaging", "corrected", "part", "signs", "stencil"]


def averaging() -> tuple[str, ...]:
    """The estimators whose signs average out over a few uses, so that a bias of theirs can be told."""
    return tuple(name for name, kind in ESTIMATORS.items() if kind.averages_over > 0)
