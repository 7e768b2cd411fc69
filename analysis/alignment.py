"""Alignment of estimators with BPTT over training, summarised over seeds, told as a table and drawn (thesis Figure 4)."""

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.canvas import INK, MUTED, Axes, Figure, new_figure, save, style, ticker
from analysis.layout import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from analysis.vocabulary import strategy_label

ESTIMATOR_STYLES = {
    "standard": (VERMILLION, "s"),
    "negative": (PURPLE, "v"),
    "random_sign": (ORANGE, "P"),
    "centered": (BLUE, "o"),
    "second_order": (GREEN, "^"),
    "fourth_order": (INK, "D"),
    "alternating": (SKY, "X"),
    "split_sign": (VERMILLION, "d"),
    "corrected": (PURPLE, "*"),
}
MORE_STYLES = tuple((colour, marker) for marker in "<>ph" for colour in (BLUE, GREEN, ORANGE, PURPLE))


def estimator_style(name: str) -> tuple[str, str]:
    """Colour and marker of an estimator; of one that is not the platform's own, always the same ones of a few."""
    return ESTIMATOR_STYLES.get(name) or MORE_STYLES[sum(name.encode()) % len(MORE_STYLES)]


PHASES = {"protocol": "phases as in training", "at rest": "phases run to rest"}


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (0 for one seed) of cosine and relative error over the seeds, for each checkpoint."""
    keys = ["phases", "estimator", "layer", "epoch"]
    groups = rows.groupby(keys, sort=False)
    values = groups[["cosine", "relative_error"]].agg(["mean", "std"])
    values.columns = pd.Index(["cosine", "cosine_std", "relative_error", "relative_error_std"])
    values["seeds"] = groups["seed"].nunique()
    values.loc[values["seeds"] == 1, ["cosine_std", "relative_error_std"]] = 0.0
    for column in ("bptt_steps", "bptt_change", "free_unconverged", "nudged_unconverged"):
        values[f"most_{column}"] = groups[column].max()
    return values.reset_index()


def report(summary: pd.DataFrame, shortened: str = "") -> str:
    """The cosines at each checkpoint, and how deep BPTT went, for a terminal."""
    lines = [f"Shortened run: {shortened}."] if shortened else []
    whole = summary[summary["layer"] == "all"]
    for phases, title in PHASES.items():
        own = whole[whole["phases"] == phases]
        estimators = list(dict.fromkeys(own["estimator"]))
        lines += ["", f"Cosine similarity with BPTT, {title} (mean ± standard deviation over seeds)"]
        lines += ["epoch  " + "  ".join(f"{strategy_label(name):>15}" for name in estimators)]
        for epoch, group in own.groupby("epoch"):
            cells = group.set_index("estimator").loc[estimators]
            lines += [f"{epoch:5}  " + "  ".join(f"{_spread(row):>15}" for row in cells.itertuples())]
    steps, change = whole["most_bptt_steps"], whole["most_bptt_change"].max()
    lines += [
        "",
        f"BPTT through {steps.min()} to {steps.max()} free steps; twice as many change no layer's gradient by more than {change:.2%}.",
    ]
    if change >= 0.01:
        lines += ["That is 1 % or more: take more with --bptt-steps, or let them be found."]
    at_rest = whole[whole["phases"] == "at rest"]
    if at_rest["most_nudged_unconverged"].max() > 0:
        moving = ", ".join(strategy_label(name) for name in at_rest.loc[at_rest["most_nudged_unconverged"] > 0, "estimator"].unique())
        lines += [f"At this β the nudged phases of some samples never come to rest: {moving}."]
    if (left := whole["most_free_unconverged"].max()) > 0:
        lines += [f"At a checkpoint up to {left:.1%} of the samples had no free equilibrium at rest; BPTT is less certain there."]
    return "\n".join(lines)


def _spread(row: Any) -> str:
    return f"{row.cosine:.4f} ± {row.cosine_std:.3f}" if row.seeds > 1 else f"{row.cosine:.4f}"


def draw(summary: pd.DataFrame, folder: Path, caption: str) -> None:
    """gradient_alignment.png and .pdf: cosine and relative error over epochs, bands of one standard deviation over seeds."""
    with style():
        figure = alignment_figure(summary[summary["layer"] == "all"], caption)
        save(figure, folder / "gradient_alignment")


def alignment_figure(summary: pd.DataFrame, caption: str) -> Figure:
    figure = new_figure(6.6, 4.6)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for (cosine, error), (phases, title) in zip(panels.T, PHASES.items(), strict=True):
        own = summary[summary["phases"] == phases]
        _curves(cosine, own, "cosine")
        _curves(error, own, "relative_error")
        cosine.set_title(title[0].upper() + title[1:], loc="left", fontweight="bold")
        error.set(xlabel="Training epoch", yscale="log")
        error.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        error.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        error.yaxis.set_minor_formatter(ticker.NullFormatter())
        _epochs(error, own["epoch"])
    panels[0, 0].set_ylabel("Cosine similarity with BPTT")
    panels[1, 0].set_ylabel("Relative error\n‖ĝ − BPTT‖ / ‖BPTT‖")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6)
    figure.supxlabel(caption, fontsize=7.5, color=MUTED)
    return figure


def _curves(axes: Axes, own: pd.DataFrame, column: str) -> None:
    for name, curve in own.groupby("estimator", sort=False):
        colour, marker = estimator_style(str(name))
        value, deviation = curve[column], curve[f"{column}_std"]
        # A band stays where the quantity can be: a cosine at most 1, an error on its logarithmic axis.
        low, high = value - deviation, value + deviation
        low, high = (low, high.clip(upper=1)) if column == "cosine" else (low.clip(lower=value / 10), high)
        axes.plot(curve["epoch"], value, marker=marker, ms=3.5, color=colour, label=strategy_label(str(name)))
        axes.fill_between(curve["epoch"], low, high, color=colour, alpha=0.15, linewidth=0)


def _epochs(axes: Axes, epochs: pd.Series) -> None:
    """Early epochs, where most checkpoints lie, apart; zero still on the axis."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    last = int(epochs.max())
    axes.xaxis.set_major_locator(ticker.FixedLocator([tick for tick in (0, 1, 2, 5, 10, 20, 50, 100, 200) if tick <= last]))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
    axes.set_xlim(-0.15, last * 1.1)
