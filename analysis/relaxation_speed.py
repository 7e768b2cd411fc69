"""The relaxation benchmark's results.csv as text and as figures: time, gradient error and use of the machine, by implementation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.canvas import INK, MUTED, Axes, Figure, new_figure, save, style
from analysis.layout import BLUE, GREEN, ORANGE, PURPLE, VERMILLION

TITLES = {"autograd": "autograd on Φ", "fixed": "FixedSteps", "adaptive": "Adaptive"}
COLOURS = {"autograd": ORANGE, "fixed": BLUE, "adaptive": GREEN}
MARKERS = {"autograd": "s", "fixed": "D", "adaptive": "o"}
PLACE = ["protocol", "updates", "threads"]
CASE = [*PLACE, "estimator"]


def with_speed(results: pd.DataFrame) -> pd.DataFrame:
    """The results and `speed`: how many times as fast as autograd, or as FixedSteps where autograd was not measured."""
    reference = "autograd" if (results["implementation"] == "autograd").any() else "fixed"
    milliseconds = results[results["implementation"] == reference].set_index(CASE)["milliseconds"]
    cases = pd.MultiIndex.from_frame(results[CASE])
    return results.assign(speed=milliseconds.reindex(cases).to_numpy() / results["milliseconds"])


def as_text(results: pd.DataFrame) -> str:
    """The results as a table for the terminal, a row for each implementation."""
    table = with_speed(results)
    steps = {
        phase: [f"{mean:.1f} / {high:.0f}" for mean, high in zip(table[f"{phase}_steps_mean"], table[f"{phase}_steps_p99"], strict=True)]
        for phase in ("free", "nudged")
    }
    shown = pd.DataFrame(
        {
            "protocol": table["protocol"],
            "threads": table["threads"],
            "updates": table["updates"],
            "estimator": table["estimator"],
            "implementation": [
                TITLES[name] + ("" if np.isnan(tolerance) else f" {tolerance:g}")
                for name, tolerance in zip(table["implementation"], table["tolerance"].astype(float), strict=True)
            ],
            "ms/update": table["milliseconds"].map("{:.1f}".format),
            "speed": table["speed"].map("{:.1f}×".format),
            "free steps": steps["free"],
            "nudged steps": steps["nudged"],
            "gradient error": table["gradient_error"].map("{:.2g}".format),
            "to own limit": table["own_gradient_error"].map(lambda error: "" if np.isnan(error) else f"{error:.2g}"),
            "GFLOP/s": table["gflops"].map("{:.1f}".format),
            "of best": (table["gflops"] / table["best_gflops"]).map("{:.0%}".format),
            "in products": table["products_share"].map(lambda share: "" if np.isnan(share) else f"{share:.0%}"),
        }
    )
    return shown.to_string(index=False)


def draw_relaxation_speed(results: pd.DataFrame, folder: Path) -> list[Path]:
    """`speed.png` and `.pdf`, or where Adaptive was measured at several tolerances `tolerances.png` and `.pdf`; returns the files."""
    several = (
        results.loc[results["implementation"] == "adaptive", ["protocol", "tolerance"]].drop_duplicates()["protocol"].duplicated().any()
    )
    name, draw = ("tolerances", tolerances_figure) if several else ("speed", speed_figure)
    with style():
        return save(draw(results), folder / name)


def speed_figure(results: pd.DataFrame) -> Figure:
    """Time, gradient error and arithmetic rate with the centered estimator, by protocol, age of weights, threads and implementation."""
    table = with_speed(results[results["estimator"] == "centered"])
    places = list(table[PLACE].drop_duplicates().itertuples(index=False, name=None))
    figure = new_figure(6.8, 1.2 + 0.45 * len(places))
    panels = figure.subplots(1, 3, sharey=True)
    titles = {"milliseconds": "Time per update (ms)", "gradient_error": "Relative gradient error", "gflops": "Relaxation (GFLOP/s)"}
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        _dots(axes, table, places, column)
        axes.set(xlabel=title, xscale="log")
        axes.margins(x=0.18)
    several = table["threads"].nunique() > 1
    labels = [f"{protocol}\n{_age(updates)}{f', {_count(threads)}' if several else ''}" for protocol, updates, threads in places]
    panels[0].set_yticks(range(len(places)), labels)
    panels[0].set_ylim(len(places) - 0.5, -0.5)
    figure.legend(*panels[2].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _dots(axes: Axes, table: pd.DataFrame, places: list[tuple[Any, ...]], column: str) -> None:
    for place, name in enumerate(TITLES):
        rows = table[table["implementation"] == name].set_index(PLACE)
        if rows.empty:
            continue
        rows = rows.loc[places]
        at = np.arange(len(places)) + 0.26 * (place - 1)  # apart, because the values often are not
        axes.plot(rows[column], at, MARKERS[name], color=COLOURS[name], markersize=4.5, label=TITLES[name])
        if column == "milliseconds" and name != "autograd":
            for y, value, speed in zip(at, rows[column], rows["speed"], strict=True):
                axes.annotate(f"{speed:.3g}×", (value, y), (5, 0), textcoords="offset points", va="center", fontsize=7, color=INK)
    if column == "gflops":
        best = table.groupby(PLACE, sort=False)["best_gflops"].first().loc[places]
        at = np.arange(len(places), dtype=float)
        axes.vlines(best, at - 0.4, at + 0.4, color=INK, linewidth=1.2, label="best kernels alone")


def tolerances_figure(results: pd.DataFrame) -> Figure:
    """Gradient error of Adaptive against its tolerance, beside that of FixedSteps, with the centered estimator."""
    # Errors do not depend on the number of threads.
    table = results[(results["estimator"] == "centered") & (results["threads"] == results["threads"].min())]
    protocols = list(table["protocol"].unique())
    figure = new_figure(1.2 + 2.6 * len(protocols), 3.0)
    panels = figure.subplots(1, len(protocols), squeeze=False)[0]
    colours = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE)
    for axes, protocol in zip(panels, protocols, strict=True):
        for number, (updates, rows) in enumerate(table[table["protocol"] == protocol].groupby("updates")):
            colour = colours[number % len(colours)]
            adaptive = rows[rows["implementation"] == "adaptive"].sort_values("tolerance")
            axes.plot(adaptive["tolerance"], adaptive["gradient_error"], "o-", color=colour, markersize=3.5, label=_age(updates))
            axes.axhline(rows.loc[rows["implementation"] == "fixed", "gradient_error"].item(), color=colour, linestyle=":", linewidth=1.2)
        axes.set(xscale="log", yscale="log", title=protocol, xlabel="Tolerance")
    panels[0].set_ylabel("Relative gradient error")
    panels[-1].plot([], [], ":", color=MUTED, label="FixedSteps")
    panels[-1].legend()
    return figure


def _count(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _age(updates: int) -> str:
    return f"after {updates} updates" if updates else "initial weights"
