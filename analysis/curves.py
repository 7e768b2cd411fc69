"""Learning curves of strategies: means and deviations over the seeds that count for them."""

import pandas as pd

from analysis.answer import Answer

CURVES = ("accuracy", "nudged_phases", "p_std", "free_residual")


def mean_curves(answer: Answer, names: list[str]) -> pd.DataFrame:
    """A row for each of the named strategies and epoch, in order: strategy, epoch, means of CURVES, accuracy_std (NaN for one seed).

    A confirmed strategy's curves are those of its confirmation seeds, as its other numbers are.
    """
    curves = answer.study.curves
    rows = curves[curves["strategy"].isin(names)].assign(accuracy=lambda table: table[answer.strategies.metric])
    confirmed = rows.loc[rows["origin"] == "confirm", "strategy"].unique()
    rows = rows[(rows["origin"] == "confirm") | ~rows["strategy"].isin(confirmed)]
    rows = rows.drop_duplicates(["strategy", "seed", "epoch"])
    groups = rows.groupby(["strategy", "epoch"], sort=True)
    means = groups[list(CURVES)].mean()
    means.insert(1, "accuracy_std", groups["accuracy"].std(ddof=1))
    return means.reset_index()
