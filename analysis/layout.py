"""What the static figures and the page must agree on: colours, markers, the window of accuracies, and where labels go."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.vocabulary import THESIS

# Okabe and Ito's colours, which stay apart for every common kind of colour blindness; shapes repeat what colours say.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
THESIS_COLOURS = dict(zip(THESIS, (VERMILLION, BLUE, GREEN, PURPLE, ORANGE), strict=True))
FOUND_COLOURS = (SKY, "ink", PURPLE, ORANGE, GREEN, VERMILLION, BLUE)  # of selected curves; "ink" is black, or white on dark


@dataclass(frozen=True)
class Window:
    """The accuracies that a front figure shows at first, and the thesis strategies that lie below it."""

    low: float
    high: float
    below: tuple[str, ...]


def accuracy_window(answer: Answer) -> Window:
    """Around the front and centered, wide enough for whatever is not far below: a collapsed strategy must not flatten the rest."""
    table = answer.strategies.table
    known = table[table["accuracy"].notna()]
    if known.empty:
        return Window(0.0, 1.0, ())
    deviation = known["accuracy_std"].fillna(0.0)
    bottom, top = known["accuracy"] - deviation, known["accuracy"] + deviation
    thesis, sound = known["origin"] == "thesis", known["collapsed"].fillna(0) == 0
    core = sound & (known.index.isin(answer.front) | (known.index == "centered"))
    core = core if core.any() else pd.Series(True, known.index)
    low, high = float(bottom[core].min()), float(max(top[core].max(), known["accuracy"].max()))
    near = sound & thesis & (known["accuracy"] >= low - max(2.5 * (high - low), 0.02))
    low = min(low, float(bottom[near].min())) if near.any() else low
    margin = max(0.06 * (high - low), 0.002)
    low, high = low - margin, min(1.005, high + margin)
    return Window(low, high, tuple(known.index[thesis & (known["accuracy"] < low) & known["nudged_phases"].notna()]))


def spread_labels(positions: Sequence[float], gap: float) -> np.ndarray:
    """Positions at least `gap` apart, in the same order, moved as little as pooling neighbours allows."""
    wanted = np.asarray(positions, dtype=float)
    order = np.argsort(wanted, kind="stable")
    groups: list[list[float]] = []  # [sum of (wanted − offset within the group), members]
    for rank, place in enumerate(order):
        groups.append([wanted[place] - rank * gap, 1.0])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + members]
    flat = np.concatenate([np.full(int(members), total / members) for total, members in groups]) if groups else np.empty(0)
    placed = np.empty(len(wanted))
    placed[order] = flat + gap * np.arange(len(wanted))
    return placed


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
