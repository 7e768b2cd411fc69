"""Images of plotly figures, drawn by matplotlib: a study needs no browser for its PNG and PDF files, and a cluster has none.

It knows what `analysis.figures` uses of plotly and no more: lines, markers, texts, bars, heat maps, error bars, annotations, panels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from analysis.canvas import FAINT, INK, MUTED, Axes, Figure, new_figure, save, style, ticker
from analysis.escape import for_figure

Spec = Mapping[str, Any]

INCH: Final = 100.0  # pixels of a plotly figure
POINTS: Final = 72 / INCH  # of a pixel
WIDTH: Final = 640
THEME: Final = {"ink": INK, "muted": MUTED, "faint": FAINT, "grid": "#e6e9ec", "paper": "#ffffff"}
MARKERS: Final = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "triangle-left": "<", "pentagon": "p",
    "x-thin": "x", "line-ns": "|",
}  # fmt: skip
THIN: Final = ("x", "|")
DASHES: Final = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":"}
MANY: Final = 1000  # points from which a PDF holds them as pixels


def save_still(spec: Spec, stem: Path) -> list[Path]:
    """Write a figure as PNG and PDF; returns the files."""
    with style():
        return save(still(spec), stem)


def still(spec: Spec) -> Figure:
    """The figure on white, 640 pixels wide unless it says otherwise."""
    sized = (spec.get("sizes") or {}).get(str(WIDTH), {})
    layout = {**spec["layout"], **sized}
    layout |= {name: {**spec["layout"].get(name, {}), **sized[name]} for name in ("xaxis", "yaxis") if name in sized}
    width, height, margin = layout.get("width", WIDTH), layout["height"], layout["margin"]
    figure = new_figure(width / INCH, height / INCH)
    figure.set_layout_engine("none")
    heat = any(trace["type"] == "heatmap" for trace in spec["data"])
    panels: dict[str, Axes] = {}
    for name in [name for name in layout if name.startswith("xaxis")]:
        tail = name.removeprefix("xaxis")
        (left, right), (low, high) = layout[name].get("domain", (0, 1)), layout[f"yaxis{tail}"].get("domain", (0, 1))
        inner = (width - margin["l"] - margin["r"] - (60 if heat else 0), height - margin["t"] - margin["b"])
        box = (margin["l"] + left * inner[0], margin["b"] + low * inner[1], (right - left) * inner[0], (high - low) * inner[1])
        shared = panels[""] if layout[f"yaxis{tail}"].get("matches") else None
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height), sharey=shared)
        panels[tail] = axes
    for trace in spec["data"]:
        if trace.get("visible") != "legendonly":
            _draw(panels[trace.get("xaxis", "x")[1:]], trace, spec["data"], figure)
    for tail, axes in panels.items():
        _set_axis(axes, "x", layout[f"xaxis{tail}"])
        _set_axis(axes, "y", layout[f"yaxis{tail}"])
    for note in layout.get("annotations", ()):
        _annotate(panels[""], note)
    if layout.get("showlegend"):
        _legend(figure, panels, margin, (width, height))
    return figure


def _colour(name: Any) -> Any:
    return [_colour(one) for one in name] if isinstance(name, list) else THEME.get(name, name)


def _floats(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _draw(axes: Axes, trace: Spec, traces: list[Spec], figure: Figure) -> None:
    if trace["type"] == "heatmap":
        axes.grid(False)
        mesh = axes.pcolormesh(trace["x"], trace["y"], np.array([_floats(row) for row in trace["z"]]), cmap="cividis",
                               vmin=trace["zmin"], vmax=trace["zmax"])  # fmt: skip
        figure.colorbar(mesh, ax=axes, extend="min", label="%")
    elif trace["type"] == "bar":
        group = [other for other in traces if other["type"] == "bar"]
        thick = 0.65 / len(group)
        offset = (group.index(trace) - (len(group) - 1) / 2) * thick
        places = np.arange(len(trace["y"]))
        axes.barh(places + offset, _floats(trace["x"]), thick, color=_colour(trace["marker"]["color"]), label=_label(trace))
        axes.set_yticks(places, [for_figure(name) for name in trace["y"]])
    elif trace["mode"] == "text":
        for x, y, text, colour in zip(trace["x"], trace["y"], trace["text"], trace["textfont"]["color"], strict=True):
            axes.text(x, y, text, ha="center", va="center", fontsize=trace["textfont"]["size"] * POINTS, color=_colour(colour))
    elif trace["mode"] == "lines":
        _draw_line(axes, trace)
    else:
        _draw_markers(axes, trace)


def _draw_line(axes: Axes, trace: Spec) -> None:
    line, x, y = trace["line"], _floats(trace["x"]), _floats(trace["y"])
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=_colour(trace["fillcolor"]), alpha=0.15, linewidth=0)
        return
    axes.plot(
        x, y, DASHES[line.get("dash", "solid")], drawstyle="steps-post" if line.get("shape") == "hv" else "default",
        color=_colour(line["color"]), lw=line["width"] * POINTS, alpha=trace.get("opacity", 1.0), label=_label(trace),
    )  # fmt: skip


def _draw_markers(axes: Axes, trace: Spec) -> None:
    marker, x, y = trace["marker"], _floats(trace["x"]), _floats(trace["y"])
    colour, size = _colour(marker["color"]), marker["size"] * POINTS
    symbols = marker.get("symbol", "circle")
    own = np.array(symbols if isinstance(symbols, list) else [symbols] * len(x))
    for number, symbol in enumerate(dict.fromkeys(own.tolist())):
        shape = MARKERS[symbol.removesuffix("-open")]
        hollow = symbol.endswith("-open") and shape not in THIN
        chosen = own == symbol
        axes.plot(
            x[chosen], y[chosen], shape, color=colour, ms=size, mfc="none" if hollow else colour,
            mew=marker.get("line", {}).get("width", 1.2) * POINTS if hollow or shape in THIN else 0, alpha=marker.get("opacity", 1.0),
            label=None if number else _label(trace), rasterized=len(x) > MANY, zorder=3,
        )  # fmt: skip
    bars = {}
    for direction in "xy":
        error = trace.get(f"error_{direction}")
        if error:
            up = _floats(error["array"])
            bars[f"{direction}err"] = np.vstack([_floats(error.get("arrayminus", error["array"])), up])
    if bars:
        axes.errorbar(x, y, xerr=bars.get("xerr"), yerr=bars.get("yerr"), fmt="none", ecolor=colour, elinewidth=0.8, zorder=2)


def _label(trace: Spec) -> str | None:
    return for_figure(trace["name"]) if trace.get("showlegend", True) and trace.get("name") else None


def _set_axis(axes: Axes, direction: str, arrangement: Spec) -> None:
    own = getattr(axes, f"{direction}axis")
    title = arrangement["title"]["text"]
    if "domain" in arrangement and direction == "x":  # one of several side by side
        title = title.replace(" (", "<br>(").replace(", ", ",<br>")
    getattr(axes, f"set_{direction}label")("\n".join(map(for_figure, title.split("<br>"))), fontsize=9)
    logarithmic = arrangement.get("type") == "log"
    if logarithmic:
        getattr(axes, f"set_{direction}scale")("log")
    if arrangement.get("range"):
        low, high = arrangement["range"]
        getattr(axes, f"set_{direction}lim")(*((10**low, 10**high) if logarithmic else (low, high)))
    if "tickvals" in arrangement:
        texts = arrangement.get("ticktext") or [f"{value:g}" for value in arrangement["tickvals"]]
        own.set_ticks(arrangement["tickvals"], [for_figure(text) for text in texts])
        own.set_minor_locator(ticker.NullLocator())
    elif not logarithmic and direction == "x":
        own.set_major_locator(ticker.MaxNLocator(arrangement.get("nticks", 6)))
        if arrangement.get("separatethousands"):
            own.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"))
    if arrangement.get("showgrid") is False:
        own.grid(False)
    if arrangement.get("showticklabels") is False:
        axes.tick_params(labelleft=direction != "y", labelbottom=direction != "x")


def _annotate(axes: Axes, note: Spec) -> None:
    font = {"fontsize": note["font"]["size"] * POINTS, "color": _colour(note["font"]["color"])}
    sides = {"ha": note["xanchor"], "va": {"middle": "center"}.get(note["yanchor"], note["yanchor"])}
    axes.annotate(
        for_figure(note["text"]), (note["x"], note["y"]), (note["ax"] * POINTS, -note["ay"] * POINTS), textcoords="offset points",
        fontweight="bold", zorder=5, **font, **sides,
        arrowprops={"arrowstyle": "-", "color": _colour(note["arrowcolor"]), "lw": 0.6, "shrinkA": 1, "shrinkB": 4},
    )  # fmt: skip


def _legend(figure: Figure, panels: Mapping[str, Axes], margin: Spec, size: tuple[float, float]) -> None:
    found: dict[str, Any] = {}
    for axes in panels.values():
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        place = (margin["l"] / size[0], 1 - margin["t"] / size[1])
        columns = 5 if len(found) * max(map(len, found)) <= 80 else 4
        more: dict[str, Any] = {"ncols": columns, "fontsize": 7.5, "borderaxespad": 0.1, "columnspacing": 1.2}
        figure.legend(list(found.values()), list(found), loc="lower left", bbox_to_anchor=place, **more)
