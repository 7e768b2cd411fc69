"""Orders of bias in β and the two regimes of the hybrid in p, told as a table and drawn (thesis eq. 5-13)."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.alignment import estimator_style
from analysis.canvas import INK, MUTED, Axes, Line2D, new_figure, save, style
from analysis.layout import BLUE, GREEN, ORANGE, SKY, VERMILLION
from analysis.vocabulary import strategy_label

HYBRID_STYLES = ((SKY, "o"), (BLUE, "s"), (INK, "^"), (GREEN, "D"), (ORANGE, "v"))
HOLLOW = ("random_sign", "negative", "alternating", "split_sign", "corrected")
LOWEST, HIGHEST = 1e-13, 10  # of the axis: nothing below is anything but rounding


def report(slopes: pd.DataFrame, regimes: pd.DataFrame) -> str:
    """Slopes beside theory, and the hybrid's regimes, for a terminal."""
    lines = ["", "Bias ≈ C · β^order, as a fraction of ‖BPTT‖, and its cosine with BPTT (±1: it changes the length of the update alone)"]
    lines += [f"{'estimator':<14}{'theory':>7}{'order':>9}{'C':>9}{'cosine':>9}   fitted on β"]
    for row in slopes.to_dict("records"):
        where = f"{row['low']:.2g} to {row['high']:.2g}, {row['points']} values" if row["low"] > 0 else "too few values clear of rounding"
        name = strategy_label(str(row["estimator"]))
        lines += [f"{name:<14}{row['theory']:>7}{row['order']:>9.3f}{row['coefficient']:>9.3g}{row['cosine']:>9.3f}   {where}"]
    if len(regimes):
        cheap, accurate = (strategy_label(str(regimes[name].iloc[0])) for name in ("cheap", "accurate"))
        lines += ["", f"Hybrid of {cheap} and {accurate}: its bias falls with p down to the crossing, then stays on {accurate}'s floor"]
        lines += [f"{'β':>8}{'crossing p':>12}{'p/β there':>11}{'slope above':>13}{'on the floor':>14}{'least':>8}{'at p':>9}"]
    for row in regimes.to_dict("records"):
        at_floor = f"{row['lowest_p_over_floor']:>14.3f}{row['least_over_floor']:>8.3f}{row['least_p']:>9.2g}"
        note = "" if row["at_rest"] else "   (phases not at rest)"
        lines += [f"{row['beta']:>8g}{row['crossing']:>12.2g}{row['crossing_over_beta']:>11.2f}{row['slope_above']:>13.3f}{at_floor}{note}"]
    return "\n".join(lines)


def draw(
    curves: pd.DataFrame, slopes: pd.DataFrame, hybrid: pd.DataFrame, regimes: pd.DataFrame, folder: Path, caption: str, beta: float
) -> None:
    """bias_order.png and .pdf: bias over β with the fitted slopes, and the hybrid's bias over p with its floor."""
    with style():
        figure = new_figure(7.2, 4.2)
        left, right = figure.subplots(1, 2)
        _draw_orders(left, curves, slopes, beta)
        _draw_hybrid(right, hybrid, regimes)
        figure.supxlabel(f"{caption}; thick lines: the values of β that a slope is fitted on", fontsize=7.5, color=MUTED)
        save(figure, folder / "bias_order")


def _draw_orders(axes: Axes, curves: pd.DataFrame, slopes: pd.DataFrame, beta: float) -> None:
    shown = curves[curves["at_rest"]]
    for row in slopes.to_dict("records"):
        own = shown[shown["estimator"] == row["estimator"]]
        colour, marker = estimator_style(str(row["estimator"]))
        # Those that lie on another's points are hollow and larger, so that both are seen.
        size, face = (6.0, "none") if row["estimator"] in HOLLOW else (3.0, colour)
        label = f"{strategy_label(str(row['estimator']))}: {row['order']:.2f}"
        axes.plot(own["beta"], own["bias"], marker, color=colour, mfc=face, ms=size, mew=0.8, label=label)
        if row["low"] > 0:
            fitted, swept = np.array([row["low"], row["high"]]), own["beta"].iloc[[0, -1]].to_numpy()
            for ends, width, strength in ((swept, 0.8, 0.6), (fitted, 4.0, 0.3)):
                axes.plot(ends, row["coefficient"] * ends ** row["order"], color=colour, lw=width, alpha=strength, zorder=1)
    axes.set_xlim(curves["beta"].min() / 1.5, curves["beta"].max() * 1.5)
    noise = shown.groupby("beta")["noise"].median()
    axes.fill_between(noise.index, LOWEST, noise, color=MUTED, alpha=0.15, linewidth=0)
    axes.axvline(beta, ymin=0.35, color=MUTED, lw=0.8, ls=":")
    axes.annotate("protocol's β", (beta, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=7, color=MUTED)
    axes.annotate("numerical noise", (0.03, 0.03), xycoords="axes fraction", fontsize=7, color=MUTED)
    axes.set(xscale="log", yscale="log", xlabel="Nudge β", ylabel="Bias of the estimator ‖E[ĝ] − BPTT‖ / ‖BPTT‖", ylim=(LOWEST, HIGHEST))
    axes.set_title("Order of the bias in β", loc="left", fontweight="bold")
    axes.legend(title="Estimator: fitted slope", loc="lower right", alignment="left", title_fontsize=7.5, fontsize=7.5, labelspacing=0.3)


def _draw_hybrid(axes: Axes, hybrid: pd.DataFrame, regimes: pd.DataFrame) -> None:
    shown = hybrid[hybrid["at_rest"]]
    for row, (colour, marker) in zip(regimes.to_dict("records"), itertools.cycle(HYBRID_STYLES), strict=False):
        own = shown[shown["beta"] == row["beta"]]
        label = f"β = {row['beta']:g}" + ("" if row["at_rest"] else " (not at rest)")
        axes.plot(own["p_std"], own["floor"], color=colour, lw=0.8, ls="--", alpha=0.7, zorder=1)
        axes.plot(own["p_std"], own["cheap_part"], color=colour, lw=0.8, ls="-", alpha=0.7, zorder=1)
        axes.plot(own["p_std"], own["bias"], marker, ms=3.0, color=colour, label=label)
        axes.plot([row["crossing"]] * row["at_rest"], own["floor"].head(1), "x", color=VERMILLION, ms=6, mew=1.4, zorder=5)
    # Even where nothing is at rest and so nothing shown, the axes say what was looked at.
    axes.set_xlim(hybrid["p_std"].min() / 1.5, 1.5)
    axes.set_ylim(hybrid["bias"].min() / 30, hybrid["bias"].max() * 8)
    axes.set(xscale="log", yscale="log", xlabel="Probability p_std of the cheap estimator", ylabel="Bias of the hybrid / ‖BPTT‖")
    axes.set_title("Two regimes of the hybrid in p_std", loc="left", fontweight="bold")
    axes.add_artist(axes.legend(loc="upper left", ncols=3, columnspacing=1.2, handletextpad=0.2))
    cheap, accurate = (strategy_label(str(regimes[name].iloc[0])) for name in ("cheap", "accurate"))
    parts = [
        Line2D([], [], color=MUTED, lw=0.8, label=f"p_std · bias of {cheap}"),
        Line2D([], [], color=MUTED, lw=0.8, ls="--", label=f"floor: bias of {accurate}"),
        Line2D([], [], color=VERMILLION, lw=0, marker="x", ms=6, mew=1.4, label="the two cross"),
    ]
    axes.legend(handles=parts, loc="lower right", fontsize=7.5, labelspacing=0.3)
