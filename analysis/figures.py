"""The figures of a report, each as a plotly figure in JSON: traces and layout. page.js shows them, `analysis.still` makes images of them.

Everything shown was computed before; here it only gets its place. Colours are hexadecimal or of a theme: ink, muted, faint, grid, paper.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.curves import mean_curves
from analysis.front import staircase
from analysis.labels import Box, place
from analysis.layout import (
    BLUE,
    FOUND_COLOURS,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    THESIS_COLOURS,
    VERMILLION,
    Window,
    accuracy_window,
    drawn_strategies,
)
from analysis.progress import median_progress
from analysis.vocabulary import COSTS, METRICS, THESIS, strategy_label
from analysis.words import percent

Spec = dict[str, Any]

# Widths in pixels for which the names in the front's figure are placed, and the figure's heights: a wide screen to a phone; 640 is paper.
SIZES: Final[Mapping[int, int]] = {1200: 500, 900: 470, 640: 420, 360: 400}
PAPER: Final = 640
PHONE: Final = 360
SYMBOLS: Final = dict(zip(THESIS, ("square-open", "diamond-open", "triangle-up-open", "triangle-left-open", "pentagon-open"), strict=True))
CONTROL_SYMBOL: Final = "x-thin-open"
MOST_NAMED: Final = 8  # found strategies that are named in the figure
MOST_ROWS: Final = 16  # strategies whose seeds are shown
DASHES: Final = ("dash", "dashdot", "dot")
HINT: Final = 72  # pixels: a name further away would be taken for another's
EDGE: Final = 0.035  # of the height, above the lower edge: where what lies below it is marked


@dataclass(frozen=True)
class Mark:
    """A strategy in the front's figure. `kind` is thesis, control, found or unconfirmed; accuracies are fractions, NaN where unknown.

    Of a strategy that collapsed on some seed, `trained` are the costs and accuracies of those that did not, and accuracy is their
    mean: it is on no front.
    """

    name: str
    label: str
    kind: str
    cost: float
    accuracy: float
    cost_std: float = 0.0
    accuracy_std: float = 0.0
    trained: tuple[tuple[float, float], ...] | None = None
    on_front: bool = False
    named: bool = False


# ---------------------------------------------------------------- what all figures share


def axis(title: str, **more: Any) -> Spec:
    """An axis as all figures have it."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}}, "gridcolor": "grid", "linecolor": "muted", "zeroline": False,
        "showline": True, "ticks": "outside", "tickcolor": "muted", "tickfont": {"size": 11, "color": "muted"}, **more,
    }  # fmt: skip


def layout(height: int, margin: tuple[int, int, int, int] = (58, 14, 16, 48), **more: Any) -> Spec:
    """A layout as all figures have it; `margin` is left, right, top and bottom."""
    return {
        "height": height, "margin": dict(zip("lrtb", margin, strict=True)), "paper_bgcolor": "paper", "plot_bgcolor": "paper",
        "font": {"color": "ink", "size": 12}, "hovermode": "closest", "showlegend": False,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 11}}, **more,
    }  # fmt: skip


def cost_axis(title: str, **more: Any) -> Spec:
    """Costs have their thousands separated."""
    return axis(title, separatethousands=True, tickformat=",d" if "(s)" not in title else "", **more)


def _percents(values: Any) -> list[float | None]:
    return [None if not np.isfinite(value) else round(100 * float(value), 4) for value in np.asarray(values, dtype=float)]


def _numbers(values: Any, digits: int = 6) -> list[float | None]:
    return [None if not np.isfinite(value) else float(f"{value:.{digits}g}") for value in np.asarray(values, dtype=float)]


def accuracy_title(answer: Answer) -> str:
    """What the accuracy that is shown is called."""
    return f"{METRICS[answer.strategies.metric]} (%)"


# ---------------------------------------------------------------- the front


def front_figure(answer: Answer, cost: str = "nudged_phases", whole: bool = False) -> Spec | None:
    """Accuracy against a cost: the thesis's strategies, the controls, what was found, and the front of all that is drawn."""
    marks = front_marks(answer, cost)
    if not marks:
        return None
    window = accuracy_window(answer)
    if whole:
        values = [accuracy for mark in marks for accuracy in (mark.accuracy, *(own for _, own in mark.trained or ()))]
        low, high = min([answer.strategies.chance, *values]), max(values)
        window = Window(max(low - 0.03, -0.02), min(high + 0.03, 1.02))
    title = accuracy_title(answer).replace(" (%)", " on fresh seeds (%)" if answer.strategies.confirmed else " (%)")
    return draw_front(marks, answer.references[cost].cost, window, COSTS[cost], title)


def front_marks(answer: Answer, cost: str) -> list[Mark]:
    """The strategies that have a cost, in the order in which they are named: what the search prefers, the thesis, controls, the front."""
    strategies, table = answer.strategies, answer.strategies.table
    preferred = str(answer.match.table["strategy"].iloc[0]) if answer.match and len(answer.match.table) else ""
    contenders = answer.decision.record.contenders if answer.decision else ()
    front = [name for name in answer.fronts[cost] if table.at[name, "origin"] == "search" and name != preferred]
    named = [front[at] for at in np.unique(np.linspace(0, len(front) - 1, min(len(front), MOST_NAMED)).astype(int))] if front else []
    marks = []
    shown = table.loc[drawn_strategies(answer)]
    for name, row in shown[shown[cost].notna()].iterrows():
        origin, unstable = row["origin"], row["trained"] < row["n_seeds"]
        kind = origin if origin not in ("search", "named") else "unconfirmed" if strategies.confirmed and not row["confirmed"] else "found"
        label = strategy_label(str(name))
        accuracy, trained = float(row["accuracy"]), None
        if unstable:
            values = [strategies.values(measure, [str(name)])[0] for measure in (cost, "accuracy", "collapsed")]
            own = np.column_stack(values[:2])[~(values[2] > 0) & np.isfinite(values[1]) & np.isfinite(values[0])]
            trained = tuple((float(a), float(b)) for a, b in own)
            accuracy = float(own[:, 1].mean()) if trained else strategies.chance
            label = f"{label}, {row['trained']} of {row['n_seeds']} seeds trained"
        marks.append(
            Mark(
                name=str(name), label=label, kind=kind, cost=float(row[cost]), cost_std=float(np.nan_to_num(row[f"{cost}_std"])),
                accuracy=accuracy,
                accuracy_std=float(np.nan_to_num(row["accuracy_std"])) if trained is None else 0.0, trained=trained,
                on_front=name in answer.fronts[cost], named=origin != "search" or name == preferred or name in named or name in contenders,
            )
        )  # fmt: skip
    order = {"thesis": 1, "control": 2}
    return sorted(marks, key=lambda mark: 0 if mark.name == preferred else order.get(mark.kind, 3))


def draw_front(marks: Sequence[Mark], limit: float, window: Window, cost_title: str, accuracy_title: str) -> Spec:
    """The figure of the front of `marks`; its line is drawn on to the cost `limit`.

    What lies below the window is marked at its lower edge, and counted; `sizes` has the layouts with names for each width.
    """
    low, high = window.low, window.high
    below = [mark for mark in marks if mark.accuracy < low]
    if below:
        low -= 0.09 * (high - low)
    edge = low + EDGE * (high - low)
    members = [mark for mark in marks if mark.on_front]
    traces: list[Spec] = []

    def points(own: Sequence[Mark], more: Spec, bars: str | None = None) -> None:
        if not own:
            return
        trace = {
            "type": "scatter", "mode": "markers", "x": _numbers([mark.cost for mark in own]),
            "y": _percents([max(mark.accuracy, edge) if mark in below else mark.accuracy for mark in own]),
            "customdata": [mark.name for mark in own], **more,
        }  # fmt: skip
        if bars:
            # Accuracies end at 0 and 1, and so do their bars; what stands at the edge has none.
            up = [0.0 if mark in below else min(mark.accuracy_std, 1 - mark.accuracy) for mark in own]
            down = [0.0 if mark in below else min(mark.accuracy_std, mark.accuracy) for mark in own]
            look = {"type": "data", "thickness": 1, "width": 0, "color": bars}
            trace["error_y"] = {**look, "array": _percents(up), "arrayminus": _percents(down), "symmetric": False}
            trace["error_x"] = {**look, "array": _numbers([mark.cost_std for mark in own])}
        traces.append(trace)

    def of(kind: str, at_edge: bool = False) -> list[Mark]:
        return [mark for mark in marks if mark.kind == kind and (mark in below) == at_edge and mark.trained is None]

    unconfirmed = [mark for mark in marks if mark.kind == "unconfirmed" and mark not in below]
    points(
        unconfirmed,
        {
            "name": f"{len(unconfirmed)} not confirmed", "visible": "legendonly",
            "marker": {"size": 7, "color": "faint", "symbol": "circle-open"},
        },
    )  # fmt: skip
    plain, shown = {"size": 7, "color": "faint", "opacity": 0.6}, {"size": 9, "color": "ink"}
    points([mark for mark in of("found") if not (mark.on_front or mark.named)], {"name": "found", "marker": plain})
    if members:
        stairs = staircase(np.array([mark.cost for mark in members]), np.array([mark.accuracy for mark in members]))
        traces.append(
            {
                "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip",
                "line": {"shape": "hv", "color": "ink", "width": 1.3},
                "x": _numbers([*stairs[0], max(limit, stairs[0][-1])]), "y": _percents([*stairs[1], stairs[1][-1]]),
            }
        )  # fmt: skip
    points([mark for mark in of("found") if mark.on_front or mark.named], {"name": "contenders", "marker": shown}, bars="ink")
    points(of("control"), {"name": "control", "marker": _symbol("control", "muted", 11)}, bars="muted")
    for mark in marks:
        if mark.kind == "thesis" and mark.trained is None and mark not in below:
            colour = THESIS_COLOURS[mark.name]
            points([mark], {"name": mark.label, "showlegend": False, "marker": _symbol(mark.name, colour, 12)}, bars=colour)
    _seeds_that_trained(traces, marks, low)
    _at_the_edge(traces, marks, below, edge, window)
    spec = {
        "data": traces,
        "layout": layout(
            SIZES[PAPER], xaxis=cost_axis(cost_title, nticks=7), yaxis=axis(accuracy_title, range=_percents([low, high])), showlegend=True
        ),
    }
    return {**spec, "sizes": {str(width): _front_layout(marks, traces, low, high, width) for width in SIZES}}


def _symbol(name: str, colour: str, size: int) -> Spec:
    return {"symbol": SYMBOLS.get(name, CONTROL_SYMBOL), "size": size, "color": colour, "line": {"width": 2.2, "color": colour}}


def _seeds_that_trained(traces: list[Spec], marks: Sequence[Mark], low: float) -> None:
    """Of what collapsed on some seed, those that did not, one by one: their mean would be that of two things."""
    for mark in marks:
        own = [(cost, accuracy) for cost, accuracy in mark.trained or () if accuracy >= low]
        if own and mark.kind != "unconfirmed":
            colour = THESIS_COLOURS.get(mark.name, "faint")
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": mark.label, "showlegend": False, "customdata": [mark.name] * len(own),
                    "x": _numbers([cost for cost, _ in own]), "y": _percents([accuracy for _, accuracy in own]),
                    "marker": {"size": 6, "color": colour, "symbol": "circle-open"},
                }
            )  # fmt: skip


def _at_the_edge(traces: list[Spec], marks: Sequence[Mark], below: Sequence[Mark], edge: float, window: Window) -> None:
    """What lies below the window, at its lower edge: the thesis's in their colours, the rest counted."""
    shared = {"type": "scatter", "mode": "markers"}
    for mark in below:
        if mark.kind in ("thesis", "control"):
            marker = {"size": 9, "symbol": "triangle-down", "color": THESIS_COLOURS.get(mark.name, "muted")}
            place = {"x": [mark.cost], "y": _percents([edge]), "customdata": [mark.name]}
            traces.append({**shared, "name": mark.label, "showlegend": False, "marker": marker, **place})
    rest = [mark for mark in below if mark.kind in ("found", "unconfirmed")]
    if rest:
        name = f"{len(rest)} below {percent(window.low, 0)} %"
        marker = {"size": 7, "symbol": "triangle-down", "color": "faint", "opacity": 0.7}
        place = {
            "x": _numbers([mark.cost for mark in rest]),
            "y": _percents([edge] * len(rest)),
            "customdata": [mark.name for mark in rest],
        }
        traces.append({**shared, "name": name, "marker": marker, **place})


def _front_layout(marks: Sequence[Mark], traces: Sequence[Spec], low: float, high: float, width: int) -> Spec:
    """The layout for one width: the range of costs, and every name where it covers nothing."""
    height, phone = SIZES[width], width == PHONE
    margin = (48 if phone else 58, 10, 62 if phone else 30, 44)
    left, right, top, bottom = margin
    shown = [trace for trace in traces if trace.get("visible") != "legendonly"]
    costs = [value for trace in shown for value in trace["x"] if value is not None] or [mark.cost for mark in marks]
    span = max(costs) - min(costs) or 1.0
    start, end = min(costs) - 0.05 * span, max(costs) + 0.05 * span
    across, up = (width - left - right) / (end - start), (height - top - bottom) / (100 * (high - low))

    def at(cost: float, accuracy: float) -> tuple[float, float]:
        return left + (cost - start) * across, top + (100 * high - accuracy) * up

    dots = [
        Box.around(*at(x, y), 14, 14)
        for trace in shown
        if trace["mode"] == "markers"
        for x, y in zip(trace["x"], trace["y"], strict=True)
        if x is not None and y is not None
    ]
    bars = [
        box
        for trace in shown
        if "error_y" in trace
        for x, y, plus, minus in zip(trace["x"], trace["y"], trace["error_y"]["array"], trace["error_y"]["arrayminus"], strict=True)
        for box in [Box(*at(x, y + plus), *at(x, y - minus))]
    ]
    steps: Spec = next((trace for trace in shown if trace["name"] == "front"), {"x": [], "y": []})
    corners = [at(x, y) for x, y in zip(steps["x"], steps["y"], strict=True)]
    for (x, y), (later, next_y) in pairwise(corners):
        bars += [Box(x, y - 1, later, y + 1), Box(later - 1, min(y, next_y), later + 1, max(y, next_y))]
    named = [mark for mark in marks if mark.named]
    edge = low + EDGE * (high - low)
    places = [at(mark.cost, 100 * max(mark.accuracy, edge)) for mark in named]
    texts = [mark.label.partition(",")[0] if phone else mark.label for mark in named]
    area = Box(left + 2, top + 2, width - right - 2, height - bottom - 2)
    reach = [HINT if mark.kind == "found" else np.inf for mark in named]
    spots = place(places, texts, reach, [*dots, *[Box(b.left - 2, b.top, b.right + 2, b.bottom) for b in bars]], area)
    annotations = []
    for mark, text, spot in zip(named, texts, spots, strict=True):
        if spot is None:
            continue
        colour = THESIS_COLOURS.get(mark.name, "muted" if mark.kind == "control" else "ink")
        annotations.append(
            {
                "x": float(mark.cost), "y": round(100 * max(mark.accuracy, edge), 4), "text": text, "ax": spot.across, "ay": spot.down,
                "xanchor": spot.anchor, "yanchor": "middle", "showarrow": True, "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": colour,
                "standoff": 6, "font": {"size": 12, "color": colour, "weight": 700}, "borderpad": 0, "name": mark.name,
            }
        )  # fmt: skip
    return {
        "width": width, "height": height, "margin": dict(zip("lrtb", margin, strict=True)), "annotations": annotations,
        "xaxis": {"range": [start, end]},
        **({"legend": {"entrywidth": 0.5, "entrywidthmode": "fraction"}} if phone else {}),
    }  # fmt: skip


# ---------------------------------------------------------------- how sure


def seeds_figure(answer: Answer) -> Spec | None:
    """Every seed of the strategies that the answer is about, with the intervals of their means; what collapsed stands at the left edge."""
    strategies, table = answer.strategies, answer.strategies.table
    shown = table[(table["origin"] != "search") | table.index.isin(answer.front)]
    shown = shown[shown["accuracy"].notna() & (shown["confirmed"] | (not strategies.confirmed))]
    if shown.empty or (shown["n_seeds"] == 1).all():
        return None
    keep = shown[(shown["origin"] != "search")].index.union(list(answer.front)[::-1][:MOST_ROWS], sort=False)
    shown = shown.loc[[name for name in shown.index if name in keep]].sort_values(["trained", "accuracy"])
    window = accuracy_window(answer)
    low, high = window.low - 0.06 * (window.high - window.low), window.high
    traces: list[Spec] = []
    for row, (name, own) in enumerate(shown.iterrows()):
        colour = THESIS_COLOURS.get(str(name), "muted" if own["origin"] == "control" else "ink")
        values = strategies.values("accuracy", [str(name)])[0]
        values = values[np.isfinite(values)]
        out = values < low
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": strategy_label(str(name)), "customdata": [str(name)] * len(values),
                "x": _percents(np.where(out, low + 0.01 * (high - low), values)), "y": [row] * len(values),
                "marker": {"size": 7, "color": colour, "symbol": ["triangle-left" if lost else "circle-open" for lost in out]},
            }
        )  # fmt: skip
        if own["trained"] == own["n_seeds"] and np.isfinite(own["accuracy_low"]):
            ends = np.clip([own["accuracy_low"], own["accuracy_high"]], low, high)
            line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"color": colour, "width": 2.5}, "opacity": 0.8}
            traces.append({**line, "x": _percents(ends), "y": [row, row]})
            marker = {"size": 11, "symbol": "line-ns-open", "color": colour, "line": {"width": 3, "color": colour}}
            traces.append(
                {"type": "scatter", "mode": "markers", "hoverinfo": "skip", "x": _percents([own["accuracy"]]), "y": [row], "marker": marker}
            )
    labels = [
        strategy_label(str(name)) + ("" if own["trained"] == own["n_seeds"] else f" ({own['trained']} of {own['n_seeds']})")
        for name, own in shown.iterrows()
    ]
    aside = 14 + round(6.6 * max(map(len, labels)))
    ticks = {"tickvals": list(range(len(labels))), "ticktext": labels, "range": [-0.7, len(labels) - 0.3], "ticks": "", "showgrid": True}
    return {
        "data": traces,
        "layout": layout(
            70 + 25 * len(labels),
            (aside, 14, 12, 46),
            xaxis=axis(accuracy_title(answer), range=_percents([low, high])),
            yaxis=axis("", **ticks),
        ),
    }


def decision_figure(answer: Answer) -> Spec | None:
    """Each strategy's difference from the target after every round, with its interval at that look."""
    found = answer.decision
    if not found or not found.course.standings:
        return None
    margins, record = found.record.margins, found.record
    ends = [end for one in found.course.standings if one.strategy in record.contenders for end in (one.low, one.high)]
    room = max(max(margins), 0.01)
    low, high = max(min([*ends, -max(margins)]), -5 * room) - 0.2 * room, min(max([*ends, 0.0]), 3 * room) + 0.2 * room
    names = [name for name in (*record.contenders, *record.controls) if found.course.last(name)]
    looked_at = sorted({one.seeds for one in found.course.standings})
    traces: list[Spec] = []
    for rank, name in enumerate(names):
        own = [one for one in found.course.standings if one.strategy == name]
        control = name in record.controls
        colour = THESIS_COLOURS.get(name, "muted" if control else FOUND_COLOURS[rank % len(FOUND_COLOURS)])
        shift = 0.7 * (rank / max(len(names) - 1, 1) - 0.5)
        middle = np.clip([one.difference for one in own], low, high)
        out = [one.difference < low for one in own]
        bars = {
            "type": "data", "symmetric": False, "thickness": 1.4, "width": 3, "color": colour,
            "array": _percents(np.clip([one.high for one in own], middle, high) - middle),
            "arrayminus": _percents(middle - np.clip([one.low for one in own], low, middle)),
        }  # fmt: skip
        symbols = ["triangle-down" if below else "x" if one.collapsed else "circle" for one, below in zip(own, out, strict=True)]
        if control:
            symbols = ["triangle-down-open" if below else "diamond-open" for below in out]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": strategy_label(name), "customdata": [name] * len(own),
                "x": [looked_at.index(one.seeds) + shift for one in own], "y": _percents(middle), "error_y": bars,
                "marker": {"size": 8, "color": colour, "symbol": symbols},
            }
        )  # fmt: skip
    span = [-0.6, len(looked_at) - 0.4]
    for margin in (0.0, *margins):
        line = {"color": "muted", "width": 1, "dash": "solid" if margin == 0 else "dash"}
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": span,
                "y": _percents([-margin, -margin]),
                "hoverinfo": "skip",
                "showlegend": False,
                "line": line,
            }
        )
    ticks = {"tickvals": list(range(len(looked_at))), "ticktext": [str(seeds) for seeds in looked_at], "showgrid": False}
    return {
        "data": traces,
        "layout": layout(
            380, (74, 14, 52, 48), showlegend=True,
            xaxis=axis("Fresh seeds", range=span, **ticks),
            yaxis=axis(f"Difference from {record.target} (points)", range=_percents([low, high])),
        ),
    }  # fmt: skip


# ---------------------------------------------------------------- curves


def curve_traces(answer: Answer, names: Sequence[str], most_epochs: int = 10_000) -> dict[str, dict[str, list[Spec]]]:
    """For each strategy the traces of its accuracy (with a band of one deviation) and of its p_std; their colour is called `curve`."""
    curves = mean_curves(answer, list(names))
    last = int(curves["epoch"].max()) if len(curves) else 0
    if last > most_epochs:
        curves = curves[curves["epoch"].isin(np.unique(np.linspace(1, last, most_epochs).round()))]
    return {str(name): _curve(str(name), own) for name, own in curves.groupby("strategy", sort=False)}


def _curve(name: str, own: pd.DataFrame) -> dict[str, list[Spec]]:
    epochs, accuracy = own["epoch"].tolist(), own["accuracy"]
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": epochs,
        "name": strategy_label(name),
        "line": {"color": "curve", "width": 2, "dash": "curve"},
    }
    traces = []
    if own["accuracy_std"].notna().any():
        deviation = own["accuracy_std"].fillna(0)
        high, low = (accuracy + deviation).clip(upper=1), (accuracy - deviation).clip(lower=0)
        traces.append(
            {
                "type": "scatter", "mode": "lines",
                "x": [*epochs, *reversed(epochs)], "y": [*_short(high, 100), *reversed(_short(low, 100))],
                "fill": "toself", "fillcolor": "curve", "line": {"width": 0, "color": "curve"}, "hoverinfo": "skip", "showlegend": False,
            }
        )  # fmt: skip
    traces.append({**line, "y": _short(accuracy, 100), "hovertemplate": "epoch %{x}: %{y:.3g} %"})
    return {"accuracy": traces, "p_std": [{**line, "y": _short(own["p_std"], 1), "hovertemplate": "epoch %{x}: p_std %{y:.3g}"}]}


def _short(values: pd.Series, factor: float) -> list[float | None]:
    return _numbers(factor * values, 4)


def curve_layouts(answer: Answer) -> dict[str, Spec]:
    """The layouts of the two figures of curves."""
    return {
        "accuracy": layout(320, xaxis=axis("Epoch"), yaxis=axis(accuracy_title(answer))),
        "p_std": layout(320, xaxis=axis("Epoch"), yaxis=axis("p_std", range=[-0.04, 1.04])),
    }


def curve_looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and line of each curve: the thesis's are solid in their own colours."""
    others = [name for name in names if name not in THESIS_COLOURS]
    looks = {name: (FOUND_COLOURS[rank % len(FOUND_COLOURS)], DASHES[rank % len(DASHES)]) for rank, name in enumerate(others)}
    return {name: (THESIS_COLOURS[name], "solid") if name in THESIS_COLOURS else looks[name] for name in names}


def curves_figure(answer: Answer, names: Sequence[str], kind: str) -> Spec:
    """Curves of some strategies, as the page shows them at first."""
    traces = []
    drawn = curve_traces(answer, names)
    for name, (colour, dash) in curve_looks([name for name in names if name in drawn]).items():
        for trace in drawn[name][kind]:
            traces.append(_with_look(trace, colour, dash))
    return {"data": traces, "layout": {**curve_layouts(answer)[kind], "showlegend": True}}


def _with_look(trace: Spec, colour: str, dash: str) -> Spec:
    line = {**trace["line"], "color": colour, **({"dash": dash} if "dash" in trace["line"] else {})}
    return {**trace, "line": line, **({"fillcolor": colour} if "fillcolor" in trace else {})}


# ---------------------------------------------------------------- why, and how firm


def causes_figure(answer: Answer, stacked: bool = False) -> Spec | None:
    """Accuracy against the longest one-sided run, the share of cheap updates and the free-phase residual."""
    count = len(answer.causes)
    if not count:
        return None
    table = answer.strategies.table.loc[drawn_strategies(answer)]
    table = table[table["accuracy"].notna()]
    gap = 0.15 if stacked else 0.05
    size = (1 - gap * (count - 1)) / count
    traces: list[Spec] = []
    arrangement: Spec = {}
    for number, cause in enumerate(answer.causes):
        tail = str(number + 1) if number else ""
        values = table[cause.column].clip(lower=1) if cause.column == "longest_cheap_run" else table[cause.column]
        thesis = table.index.isin(THESIS)
        shared = {"type": "scatter", "mode": "markers", "xaxis": f"x{tail}", "yaxis": f"y{tail}"}
        for own, name, marker in [
            (~thesis, "other strategies", {"size": 6, "color": "faint", "opacity": 0.6}),
            *(
                (table.index == name, strategy_label(name), _symbol(name, THESIS_COLOURS[name], 10))
                for name in THESIS
                if name in table.index
            ),
        ]:
            if own.any():
                place = {"x": _numbers(values[own]), "y": _percents(table.loc[own, "accuracy"]), "customdata": table.index[own].tolist()}
                traces.append({**shared, **place, "name": name, "showlegend": not number, "marker": marker})
        begin = 1 - number * (size + gap) - size if stacked else number * (size + gap)
        own_place, other = [begin, begin + size], [0, 1]
        rho = "" if np.isnan(cause.rho) else f"<br>ρ = {cause.rho:.2f}".replace("-", "−")
        arrangement[f"xaxis{tail}"] = axis(
            cause.title + rho, type="log" if cause.logarithmic else "linear", domain=other if stacked else own_place, anchor=f"y{tail}",
            **({"dtick": 1, "exponentformat": "power"} if cause.logarithmic else {}),
        )  # fmt: skip
        arrangement[f"yaxis{tail}"] = axis(
            accuracy_title(answer) if stacked or not number else "", domain=own_place if stacked else other, anchor=f"x{tail}",
            showticklabels=stacked or not number, **({"matches": "y"} if number and not stacked else {}),
        )  # fmt: skip
    return {
        "data": traces,
        "layout": layout(310 * count if stacked else 370, (58, 14, 66 if stacked else 52, 78), showlegend=True, **arrangement),
    }


def heat_map_figure(answer: Answer) -> Spec | None:
    """Mean accuracy over share of cheap updates and β, with the number of strategies in each cell."""
    grid = answer.heat_map
    if grid is None:
        return None
    floor, best = float(np.nanquantile(grid.accuracy, 0.1)), float(np.nanmax(grid.accuracy))  # a collapsed corner must not flatten the rest
    across, up = (grid.share_edges[1:] + grid.share_edges[:-1]) / 2, np.sqrt(grid.beta_edges[1:] * grid.beta_edges[:-1])
    filled = [(row, column) for row, column in zip(*np.nonzero(grid.count), strict=True)]
    dark = [grid.accuracy[cell] <= (floor + best) / 2 for cell in filled]
    counts = {
        "type": "scatter", "mode": "text",
        "x": _numbers([across[column] for _, column in filled]), "y": _numbers([up[row] for row, _ in filled]),
        "text": [str(grid.count[cell]) for cell in filled], "hoverinfo": "skip",
        "textfont": {"size": 10, "color": ["#ffffff" if low else "#1a1a1a" for low in dark]},
    }  # fmt: skip
    cells = {
        "type": "heatmap", "x": _numbers(grid.share_edges), "y": _numbers(grid.beta_edges), "z": [_percents(row) for row in grid.accuracy],
        "zmin": 100 * floor, "zmax": 100 * best, "colorscale": "Cividis", "hoverongaps": False,
        "hovertemplate": "cheap share %{x:.2f}, β %{y:.3g}<br>%{z:.3g} %<extra></extra>",
        "colorbar": {"title": {"text": "%"}, "thickness": 12, "outlinewidth": 0, "tickfont": {"size": 11, "color": "muted"}},
    }  # fmt: skip
    ticks = [value for value in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if grid.beta_edges[0] <= value <= grid.beta_edges[-1]]
    beta = {"type": "log", "showgrid": False, "tickvals": ticks, "range": np.log10([grid.beta_edges[0], grid.beta_edges[-1]]).tolist()}
    return {
        "data": [cells, counts],
        "layout": layout(
            340, xaxis=axis("Share of cheap updates (mean p_std)", showgrid=False, range=[0, 1]), yaxis=axis("Nudge β", **beta)
        ),
    }


def importances_figure(answer: Answer) -> Spec | None:
    """How much each parameter matters for accuracy and for nudged phases, with the R² that says how far to trust that."""
    found = answer.importances
    if found is None:
        return None
    names = [str(name) for name in found.table.index[::-1]]
    bars = [
        {
            "type": "bar", "orientation": "h", "name": f"{title} (R² {found.r2[objective]:.2f})", "y": names,
            "x": _numbers(found.table[objective].to_numpy()[::-1]), "marker": {"color": colour},
            "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
        }
        for objective, title, colour in (("nudged_phases", "nudged phases", VERMILLION), ("accuracy", "accuracy", BLUE))
    ]  # fmt: skip
    aside = 14 + round(6.6 * max(map(len, names)))
    return {
        "data": bars,
        "layout": layout(
            340, (aside, 14, 34, 48), barmode="group", bargap=0.35, showlegend=True,
            xaxis=axis("Loss of R² when shuffled", rangemode="tozero"), yaxis=axis(""),
        ),
    }  # fmt: skip


def attainment_figure(answer: Answer) -> Spec | None:
    """What the front's strategies attain in one, half and all of the seeds."""
    if not answer.surfaces:
        return None
    limit, seeds, window = answer.references["nudged_phases"].cost, answer.surfaces[-1].seeds, accuracy_window(answer)
    looks = [("dash", SKY), ("solid", BLUE), ("dot", "ink")][-len(answer.surfaces) :]
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": f"in {surface.seeds} of {seeds} seeds",
            "line": {"shape": "hv", "dash": dash, "color": colour, "width": 2},
            "x": _numbers([*surface.cost, max(limit, surface.cost[-1])]), "y": _percents([*surface.accuracy, surface.accuracy[-1]]),
            "hovertemplate": "%{y:.3g} % at %{x:,.0f}<extra></extra>",
        }
        for surface, (dash, colour) in zip(answer.surfaces, looks, strict=True)
    ]  # fmt: skip
    least = min(float(surface.accuracy.min()) for surface in answer.surfaces)
    span = [min(window.low, least - 0.005), window.high]
    return {
        "data": traces,
        "layout": layout(
            340, (58, 14, 34, 48), showlegend=True, xaxis=cost_axis(COSTS["nudged_phases"], nticks=5),
            yaxis=axis(accuracy_title(answer), range=_percents(span)),
        ),
    }  # fmt: skip


def hypervolume_figure(answer: Answer) -> Spec | None:
    """Hypervolume of each search after every strategy that it tried; of several searches of a sampler, their median too."""
    searches = list(answer.progress.groupby("search", sort=False))
    if not any(len(own) > 1 for _, own in searches):
        return None
    colours = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
    samplers = list(dict.fromkeys(answer.progress["sampler"]))
    compared = bool(answer.samplers)  # thin lines for searches, a thick one for each sampler's median

    def line(own: pd.DataFrame, name: str, rank: int, width: float) -> Spec:
        return {
            "type": "scatter", "mode": "lines", "name": name, "x": own["trials"].tolist(), "y": _numbers(own["hypervolume"], 5),
            "line": {"shape": "hv", "color": colours[rank % len(colours)], "width": width},
            "hovertemplate": "%{y:.3f} after %{x} strategies<extra></extra>",
        }  # fmt: skip

    traces = []
    for number, (search, own) in enumerate(searches):
        rank = samplers.index(own["sampler"].iloc[0]) if len(samplers) > 1 else number
        more = {"opacity": 0.6, "showlegend": False} if compared else {}
        traces.append({**line(own, str(search), rank, 1 if compared else 2), **more})
    if compared:
        for sampler, own in median_progress(answer.progress).groupby("sampler", sort=False):
            traces.append(line(own, f"{sampler}, median", samplers.index(str(sampler)), 3))
    return {
        "data": traces,
        "layout": layout(
            340,
            (58, 14, 34, 48),
            showlegend=len(traces) > 1,
            xaxis=axis("Searched strategies, after the thesis's"),
            yaxis=axis("Hypervolume"),
        ),
    }


def all_figures(answer: Answer, selected: Sequence[str]) -> dict[str, Callable[[], Spec | None]]:
    """Every figure by the name of its files; None where the study has nothing to show in it."""
    costs = [cost for cost in COSTS if cost != "nudged_phases" and (cost != "train_seconds" or answer.load)]
    return {
        "front": lambda: front_figure(answer),
        **{f"front_{cost}": (lambda cost=cost: front_figure(answer, cost)) for cost in costs},  # type: ignore[misc]
        "seeds": lambda: seeds_figure(answer),
        "decision": lambda: decision_figure(answer),
        "curves": lambda: curves_figure(answer, selected, "accuracy"),
        "p_std": lambda: curves_figure(answer, selected, "p_std"),
        "causes": lambda: causes_figure(answer),
        "heat_map": lambda: heat_map_figure(answer),
        "importances": lambda: importances_figure(answer),
        "attainment": lambda: attainment_figure(answer),
        "hypervolume": lambda: hypervolume_figure(answer),
    }
