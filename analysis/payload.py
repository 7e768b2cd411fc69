"""What the page's script draws from: figures, curves of strategies to choose from, and what is said of each where it is pointed at."""

from typing import Any

import numpy as np

from analysis.answer import Answer
from analysis.escape import for_html
from analysis.figures import (
    DASHES,
    Spec,
    attainment_figure,
    causes_figure,
    curve_layouts,
    curve_traces,
    decision_figure,
    front_figure,
    heat_map_figure,
    hypervolume_figure,
    importances_figure,
    seeds_figure,
)
from analysis.layout import FOUND_COLOURS, MOST_CURVES, THESIS_COLOURS, default_selection, drawn_strategies
from analysis.tables import accuracy_words
from analysis.vocabulary import COSTS, strategy_label
from analysis.words import count, share

MOST_EPOCHS = 120  # epochs of a curve that it embeds
UNFINISHED = 40  # strategies without a result whose curves it embeds
LONGEST = 60  # characters of what a strategy is, where it is pointed at

Payload = dict[str, Any]


def payload(answer: Answer) -> Payload:
    """Everything that the page draws, ready for JSON."""
    names = drawn_strategies(answer)
    with_curves = names[:MOST_CURVES] + unfinished(answer)
    costs = [cost for cost in COSTS if (cost != "train_seconds" or answer.load) and answer.strategies.table[cost].notna().any()]
    return {
        "costs": [{"key": cost, "title": COSTS[cost]} for cost in costs],
        "fronts": {cost: {"near": front_figure(answer, cost), "whole": front_figure(answer, cost, whole=True)} for cost in costs},
        "figures": _figures(answer),
        "causesStacked": causes_figure(answer, stacked=True),
        "curves": curve_traces(answer, with_curves, MOST_EPOCHS),
        "curveLayouts": curve_layouts(answer),
        "labels": {name: strategy_label(name) for name in with_curves},
        "selected": [name for name in default_selection(answer) if name in with_curves],
        "hover": {name: hover_text(answer, name) for name in names},
        "colours": THESIS_COLOURS,
        "foundColours": FOUND_COLOURS,
        "dashes": DASHES,
    }


def _figures(answer: Answer) -> dict[str, Spec]:
    """Those beside the front and the curves that have something to show, by the id of their place."""
    found = {
        "seeds": seeds_figure(answer),
        "decision": decision_figure(answer),
        "causes": causes_figure(answer),
        "heat": heat_map_figure(answer),
        "importances": importances_figure(answer),
        "attainment": attainment_figure(answer),
        "progress": hypervolume_figure(answer),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def hover_text(answer: Answer, name: str) -> str:
    """What is told of a strategy where it is pointed at: four short lines."""
    row: Any = answer.strategies.table.loc[name]
    what = str(row["description"])
    accuracy = accuracy_words(row) + ("" if row["trained"] < row["n_seeds"] else " %")
    cost = f"{count(row['nudged_phases'])} nudged phases"
    part = row["nudged_phases"] / (answer.strategies.table["nudged_phases"].get("centered", np.nan) or np.nan)
    seeds = f", {row['n_seeds']} seeds" if row["trained"] == row["n_seeds"] > 1 else ""
    return "<br>".join(
        [
            f"<b>{for_html(strategy_label(name))}</b>",
            for_html(what if len(what) <= LONGEST else what[: LONGEST - 1] + "…"),
            f"{accuracy}{seeds}",
            f"{cost}, {share(part)} of centered" if np.isfinite(part) else cost,
        ]
    )


def unfinished(answer: Answer) -> list[str]:
    """Strategies that have curves but no result yet, as many as the page embeds."""
    started = answer.study.trials["strategy"].unique()
    return [name for name in started if name not in answer.strategies.table.index][:UNFINISHED]


def thinning(answer: Answer) -> str | None:
    """A sentence on what a large study's page leaves out."""
    total, points = len(answer.strategies.table), len(drawn_strategies(answer))
    if total <= MOST_CURVES:
        return None
    shown = f"{points:,} of {total:,} strategies as points" if points < total else f"all {total:,} strategies as points"
    return (
        f"To stay light, this page holds {shown}, and curves of the {MOST_CURVES} of them that are of the thesis, on a front or nearest to "
        "it; strategies.csv, trials.csv and curves.csv hold all."
    )
