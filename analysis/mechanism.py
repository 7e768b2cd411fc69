"""What `studies/collapse_mechanism.py` measured at updates of each strategy: drawn over training, and told as a table."""

from pathlib import Path

import pandas as pd

from analysis.alignment import estimator_style
from analysis.canvas import MUTED, Figure, new_figure, save, style
from analysis.layout import PURPLE
from analysis.vocabulary import strategy_label

# Column, title, whether its axis is logarithmic.
PANELS = (
    ("free_residual", "Free phase: last change of a unit", True),
    ("drift", "Drift without a nudge ÷ centered", True),
    ("bias", "First-order bias ÷ centered", True),
    ("bias_alignment", "Cosine of two updates' biases", False),
    ("error_of_pair", "Error of two updates' sum ÷ centered", True),
    ("weight_norm", "Norm of the weights", True),
)

# Elsewhere it has the colour of standard.
STYLES = {"split_sign": (PURPLE, "d")}


def over_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Median over the seeds of each quantity, for each strategy and pair of watched updates; `update` is the first of the pair."""
    columns = [name for name, _, _ in PANELS]
    pairs = rows.assign(update=rows["update"] - rows["update"].groupby([rows["strategy"], rows["seed"]]).diff().eq(1))
    return pairs.groupby(["strategy", "update"], sort=False)[columns].median().reset_index()


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each strategy: medians over all watched updates and seeds, and final test accuracy, mean and worst seed."""
    last = rows.loc[rows.groupby(["strategy", "seed"], sort=False)["update"].idxmax()]
    accuracy = last.groupby("strategy", sort=False)["test_acc"].agg(["mean", "min"])
    medians = rows.groupby("strategy", sort=False)[[name for name, _, _ in PANELS] + ["error"]].median()
    return medians.assign(test_acc=accuracy["mean"], worst_test_acc=accuracy["min"], seeds=rows.groupby("strategy")["seed"].nunique())


def report(rows: pd.DataFrame) -> str:
    """The summary for a terminal."""
    lines = ["", "Medians over training:"]
    head = ("test acc", "residual", "drift", "bias", "alignment", "error", "of a pair", "weights")
    lines += [f"{'':14}" + "".join(f"{name:>11}" for name in head)]
    for strategy, row in summary(rows).iterrows():
        cells = [
            f"{row[name]:.2g}" for name in ("free_residual", "drift", "bias", "bias_alignment", "error", "error_of_pair", "weight_norm")
        ]
        lines += [f"{strategy_label(str(strategy)):14}{row['test_acc']:>11.1%}" + "".join(f"{cell:>11}" for cell in cells)]
    return "\n".join(lines)


def draw(rows: pd.DataFrame, folder: Path, caption: str) -> None:
    """collapse_mechanism.png and .pdf."""
    with style():
        save(mechanism_figure(rows, caption), folder / "collapse_mechanism")


def mechanism_figure(rows: pd.DataFrame, caption: str) -> Figure:
    figure = new_figure(7.4, 4.6)
    panels = figure.subplots(2, 3, sharex=True)
    curves = over_training(rows)
    for axes, (column, title, logarithmic) in zip(panels.flat, PANELS, strict=True):
        for strategy, own in curves.groupby("strategy", sort=False):
            colour, marker = STYLES.get(str(strategy)) or estimator_style(str(strategy))
            axes.plot(own["update"], own[column], marker=marker, ms=2.5, lw=1, color=colour, label=strategy_label(str(strategy)))
        axes.set_title(title, loc="left", fontsize=8)
        if logarithmic and (curves[column] > 0).any():
            axes.set_yscale("log")
    for axes in panels[1]:
        axes.set_xlabel("Update")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6)
    figure.supxlabel(caption, fontsize=7.5, color=MUTED)
    return figure
