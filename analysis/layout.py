"""Colours, the accuracies that figures show, and the strategies whose curves are shown at first."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.front import front_rank
from analysis.vocabulary import THESIS

# Okabe and Ito's colours, which stay apart for every common kind of colour blindness; shapes repeat what colours say.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
THESIS_COLOURS = dict(zip(THESIS, (VERMILLION, BLUE, GREEN, PURPLE, ORANGE), strict=True))
FOUND_COLOURS = (SKY, "ink", PURPLE, ORANGE, GREEN, VERMILLION, BLUE)  # of selected curves; "ink" is black, or white on dark


MOST_POINTS = 1500  # strategies that figures show as points
MOST_CURVES = 250  # of these, strategies whose curves the page embeds


@dataclass(frozen=True)
class Window:
    """The accuracies that a front figure shows at first."""

    low: float
    high: float


def accuracy_window(answer: Answer) -> Window:
    """Around the front and centered, wide enough for whatever is not far below: a collapsed strategy must not flatten the rest."""
    table = answer.strategies.table
    known = table[table["accuracy"].notna()]
    if known.empty:
        return Window(0.0, 1.0)
    sound = (known["trained"] == known["n_seeds"]) & (known["confirmed"] | (not answer.strategies.confirmed))
    core = sound & (known.index.isin(answer.front) | (known.index == "centered"))
    core = core if core.any() else pd.Series(True, known.index)
    deviation = known["accuracy_std"].fillna(0.0)
    bottom, top = known["accuracy"] - deviation, known["accuracy"] + deviation
    low, high = float(bottom[core].min()), float(max(top[core].max(), known.loc[sound | core, "accuracy"].max()))
    room = max(2.5 * (high - low), 0.02)
    near = sound & (known["origin"] != "search") & (known["accuracy"] >= low - room)
    low = min(low, float(bottom[near].min())) if near.any() else low
    margin = max(0.08 * (high - low), 0.002)
    return Window(max(low - margin, -0.02), min(1.005, high + margin))


def default_selection(answer: Answer, most: int = 6) -> list[str]:
    """Strategies whose curves are shown at first: centered and standard, then the front, thinned evenly."""
    table = answer.strategies.table
    ends = [name for name in ("standard", "centered") if name in table.index]
    front = pd.Index(answer.front).difference(ends, sort=False)
    room = max(most - len(ends), 1)
    picked = (
        [front[place] for place in np.unique(np.linspace(0, len(front) - 1, min(room, len(front))).round().astype(int))]
        if len(front)
        else []
    )
    return [*ends, *picked] or list(dict.fromkeys(answer.study.trials["strategy"]))[:most]


def drawn_strategies(answer: Answer) -> list[str]:
    """Strategies that figures draw: the thesis's, the controls, those of every front, then by closeness to it, then an even sample."""
    table = answer.strategies.table
    first = list(dict.fromkeys([*table.index[table["origin"] != "search"], *(name for front in answer.fronts.values() for name in front)]))
    rest = table.drop(index=first)
    rank = front_rank(rest["nudged_phases"].to_numpy(dtype=float), rest["accuracy"].to_numpy(dtype=float))
    ordered = rest.index[np.argsort(rank, kind="stable")].tolist()
    near, far = ordered[:MOST_CURVES], ordered[MOST_CURVES:]
    room = max(MOST_POINTS - len(first) - len(near), 0)
    sample = [far[place] for place in np.unique(np.linspace(0, len(far) - 1, room).astype(int))] if len(far) > room else far
    return first + near + sample
