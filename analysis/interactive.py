"""The figures of a study as plotly draws them in a notebook. Everything shown was computed before; these functions only draw."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from analysis.answer import Answer
from analysis.canvas import FAINT, INK
from analysis.curves import mean_curves
from analysis.front import staircase
from analysis.layout import FOUND_COLOURS, THESIS_COLOURS, accuracy_window, default_selection
from analysis.vocabulary import COSTS, METRICS, strategy_label
from hybridep.config import InvalidInput

SYMBOLS: Final = {"standard": "square", "centered": "diamond", "cosine": "triangle-up", "inverse_cosine": "triangle-down"}
LAYOUT: Final[dict[str, Any]] = {"template": "plotly_white", "width": 760, "height": 460, "margin": {"l": 70, "r": 20, "t": 30, "b": 60}}


def front(answer: Answer) -> go.Figure:
    """Accuracy against nudged phases, as the report's first figure."""
    return _against(answer, "nudged_phases")


def costs(answer: Answer) -> go.Figure:
    """Accuracy against relaxation steps, what the hardware does."""
    return _against(answer, "relaxation_steps")


def _against(answer: Answer, cost: str) -> go.Figure:
    table = answer.strategies.table
    window = accuracy_window(answer)
    figure = go.Figure(layout=LAYOUT)
    best = table.loc[list(answer.fronts[cost])]
    if len(best):
        across, up = staircase(best[cost].to_numpy(), best["accuracy"].to_numpy())
        end = max(answer.references[cost].cost, across[-1])
        line = {"color": INK, "width": 1, "shape": "hv"}
        figure.add_scatter(x=[*across, end], y=100 * np.append(up, up[-1]), mode="lines", line=line, name="front", hoverinfo="skip")
    thesis = table["origin"] == "thesis"
    on_front = table.index.isin(best.index)
    found = {"found": (table[~thesis & ~on_front], FAINT), "found, on the front": (table[~thesis & on_front], INK)}
    for name, (rows, colour) in found.items():
        _points(figure, rows, cost, name, {"color": colour, "size": 7})
    for name in table.index[thesis]:
        colour = THESIS_COLOURS.get(name, INK)
        marker = {"color": colour, "size": 12, "symbol": f"{SYMBOLS.get(name, 'pentagon')}-open", "line": {"width": 2}}
        _points(figure, table.loc[[name]], cost, strategy_label(name), marker)
    figure.update_xaxes(title=COSTS[cost])
    figure.update_yaxes(title=f"{METRICS[answer.strategies.metric]} (%)", range=[100 * window.low, 100 * window.high])
    return figure


def _points(figure: go.Figure, rows: Any, cost: str, name: str, marker: dict[str, Any]) -> None:
    labels = [f"{strategy_label(str(strategy))}<br>{row['description']}" for strategy, row in rows.iterrows()]
    bars = {"type": "data", "array": 100 * rows["accuracy_std"].fillna(0), "thickness": 1}
    shown = "%{text}<br>%{y:.1f} % at %{x:,.0f}<extra></extra>"
    figure.add_scatter(
        x=rows[cost], y=100 * rows["accuracy"], error_y=bars, mode="markers", marker=marker, name=name, text=labels, hovertemplate=shown
    )


def curves(answer: Answer) -> go.Figure:
    """Learning curves of the front's strategies, centered and standard."""
    figure = go.Figure(layout=LAYOUT)
    names = default_selection(answer)
    means = mean_curves(answer, names)
    for place, name in enumerate(names):
        own = means[means["strategy"] == name]
        colour = THESIS_COLOURS.get(name, FOUND_COLOURS[place % len(FOUND_COLOURS)])
        line = {"color": INK if colour == "ink" else colour}
        figure.add_scatter(x=own["epoch"], y=100 * own["accuracy"], mode="lines", line=line, name=strategy_label(name))
    figure.update_xaxes(title="Epoch")
    figure.update_yaxes(title=f"{METRICS[answer.strategies.metric]} (%)")
    return figure


FIGURES: Final[dict[str, Callable[[Answer], go.Figure]]] = {"front": front, "costs": costs, "curves": curves}


def figure(answer: Answer, name: str) -> go.Figure:
    """A figure by its name; InvalidInput for another one."""
    if name not in FIGURES:
        raise InvalidInput(f"figure {name!r}: must be one of {', '.join(FIGURES)}")
    return FIGURES[name](answer)
