"""Why strategies differ: accuracy against what was measured in training, over p_std × β, and by the importance of each parameter."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.strategies import Strategies

# Measured quantity, axis title, and whether the axis is logarithmic.
CAUSES = {
    "longest_cheap_run": ("Longest one-sided run (updates)", True),
    "cheap_share": ("Share of cheap updates (mean p_std)", False),
    "free_residual": ("Free-phase residual, last epoch", True),
}
FEW = 8  # strategies below which a rank correlation says nothing
ENOUGH_TO_FIT = 20  # strategies below which importances say nothing
MOST_TO_FIT = 1000
TREES = 60
BINS = 10


@dataclass(frozen=True)
class Cause:
    """Spearman's rank correlation of mean accuracy with one measured quantity over `count` strategies; NaN for too few."""

    column: str
    title: str
    logarithmic: bool
    rho: float
    count: int


@dataclass(frozen=True)
class HeatMap:
    """Mean accuracy and number of strategies over share of cheap updates × β, [β bins, share bins]; NaN and 0 where there are none."""

    share_edges: np.ndarray
    beta_edges: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Importances:
    """How much of a random forest's R² each strategy parameter carries, per objective; `r2` says how far to trust that.

    `table` is indexed by parameter with a column per objective: the loss of out-of-fold R² when the parameter alone is shuffled.
    """

    table: pd.DataFrame
    r2: dict[str, float]
    strategies: int


def causes(strategies: Strategies) -> list[Cause]:
    """The measured quantities that vary between strategies, in the order of CAUSES."""
    found = []
    for column, (title, logarithmic) in CAUSES.items():
        pairs = strategies.table[[column, "accuracy"]].dropna()
        if pairs[column].nunique() < 2:
            continue
        told = len(pairs) >= FEW and pairs["accuracy"].nunique() > 1
        rho = float(stats.spearmanr(pairs[column], pairs["accuracy"]).statistic) if told else np.nan
        found.append(Cause(column, title, logarithmic, rho, len(pairs)))
    return found


def heat_map(strategies: Strategies) -> HeatMap | None:
    """None where β was the same for all."""
    table = strategies.table
    known = table.reindex(columns=["cheap_share", "beta", "accuracy"]).dropna().astype(float)
    if known["beta"].nunique() < 2:
        return None
    share_edges = np.linspace(0, 1, BINS + 1)
    beta_edges = _beta_edges(known["beta"].to_numpy())
    edges = [beta_edges, share_edges]
    count, _, _ = np.histogram2d(known["beta"], known["cheap_share"], bins=edges)
    total, _, _ = np.histogram2d(known["beta"], known["cheap_share"], bins=edges, weights=known["accuracy"])
    with np.errstate(invalid="ignore"):
        return HeatMap(share_edges, beta_edges, total / count, count.astype(int))


def importances(strategies: Strategies) -> Importances | None:
    """Importance of every parameter that varies, for accuracy and for nudged phases; None for too few strategies.

    A parameter that only some families have counts as absent in the others. Grouped permutation importance on held-out fifths.
    """
    # scikit-learn takes over a second to import, which a small study need not pay
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold

    table = strategies.table.dropna(subset=["accuracy", "nudged_phases"])
    fields = [name for name in strategies.fields if name != "knots" and table[name].astype("string").nunique(dropna=False) > 1]
    if len(table) < ENOUGH_TO_FIT or not fields:
        return None
    if len(table) > MOST_TO_FIT:
        table = table.sample(MOST_TO_FIT, random_state=0)
    inputs, owner = _encoded(table, fields)
    rng = np.random.default_rng(0)
    losses, scores = {}, {}
    for objective in ("accuracy", "nudged_phases"):
        target = table[objective].to_numpy(dtype=float)
        predicted = np.empty((len(fields) + 1, len(table)))
        for train, test in KFold(5, shuffle=True, random_state=0).split(inputs):
            forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.7, random_state=0).fit(inputs[train], target[train])
            predicted[-1, test] = forest.predict(inputs[test])
            for place in range(len(fields)):
                shuffled = inputs[test].copy()
                shuffled[:, owner == place] = shuffled[rng.permutation(len(test))][:, owner == place]
                predicted[place, test] = forest.predict(shuffled)
        scores[objective] = float(r2_score(target, predicted[-1]))
        losses[objective] = [max(0.0, scores[objective] - float(r2_score(target, values))) for values in predicted[:-1]]
    frame = pd.DataFrame(losses, index=pd.Index(fields, name="parameter")).sort_values("accuracy", ascending=False)
    return Importances(frame, scores, len(table))


def _beta_edges(beta: np.ndarray) -> np.ndarray:
    """Edges around each value where few were tried, else bins of equal width in log β."""
    values = np.unique(beta)
    if len(values) <= BINS:
        middles = np.sqrt(values[1:] * values[:-1])
        return np.concatenate([[values[0] ** 2 / middles[0]], middles, [values[-1] ** 2 / middles[-1]]])
    edges = np.geomspace(values[0], values[-1], BINS + 1)
    edges[0], edges[-1] = values[0], values[-1]  # geomspace may miss its ends by a rounding error, and with them a strategy
    return edges


def _encoded(table: pd.DataFrame, fields: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as they are, words as indicator columns, absence as a value of its own; and the field that each column belongs to."""
    columns, owner = [], []
    for place, name in enumerate(fields):
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.notna().sum() == table[name].notna().sum() and table[name].dtype != bool:
            absent = numbers.min() - 1
            columns.append(numbers.fillna(absent).to_numpy(dtype=float)[:, None])
        else:
            columns.append(pd.get_dummies(table[name].astype("string").fillna("none")).to_numpy(dtype=float))
        owner += [place] * columns[-1].shape[1]
    return np.hstack(columns), np.array(owner)
