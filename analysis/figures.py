"""The figures of a report as PNG and PDF. Everything shown was computed before; these functions only draw."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from analysis.answer import Answer
from analysis.canvas import FAINT, INK, MUTED, Axes, Figure, new_figure, save, style, ticker
from analysis.curves import mean_curves
from analysis.escape import for_figure
from analysis.explain import Cause
from analysis.front import staircase
from analysis.layout import BLUE, FOUND_COLOURS, SKY, THESIS_COLOURS, VERMILLION, accuracy_window, default_selection, spread_labels
from analysis.progress import median_progress
from analysis.vocabulary import COSTS, strategy_label
from analysis.words import percent

MARKERS = {"standard": "s", "centered": "D", "cosine": "^", "inverse_cosine": "v", "stochastic": "p"}
HALO = {"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
MANY = 1000  # points from which a PDF holds them as pixels


def draw_all(answer: Answer, folder: Path) -> list[Path]:
    """Every figure that the study has data for, as `<name>.png` and `<name>.pdf`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Callable[[Answer], Figure | None]] = {
        "front": front_figure,
        "costs": costs_figure,
        "curves": curves_figure,
        "attainment": attainment_figure,
        "causes": causes_figure,
        "heat_map": heat_map_figure,
        "importances": importances_figure,
        "hypervolume": hypervolume_figure,
    }
    written = []
    with style():
        for name, draw in figures.items():
            figure = draw(answer)
            if figure is not None:
                written += save(figure, folder / name)
            else:  # there may be one of an earlier report
                for suffix in ("png", "pdf"):
                    (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return written


def front_figure(answer: Answer) -> Figure | None:
    """Accuracy against nudged phases: the thesis's strategies, the search's, and the front."""
    if answer.strategies.table["nudged_phases"].isna().all():
        return None
    figure = new_figure(6.6, 4.2)
    axes = figure.subplots()
    _draw_front(axes, answer, "nudged_phases")
    _label_thesis(axes, answer, "nudged_phases")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def costs_figure(answer: Answer) -> Figure | None:
    """The same strategies against relaxation steps and against seconds, each with the front in that cost."""
    costs = [cost for cost in COSTS if cost != "nudged_phases" and answer.strategies.table[cost].notna().any()]
    if not costs:
        return None
    figure = new_figure(6.6, 3.3)
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, cost in zip(panels, costs, strict=True):
        _draw_front(axes, answer, cost)
        axes.label_outer()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def curves_figure(answer: Answer) -> Figure:
    """Learning curves (left, bands of one standard deviation) and p_std (right) of the front's strategies, centered and standard."""
    names = default_selection(answer)
    curves = mean_curves(answer, names)
    figure = new_figure(6.6, 3.4)
    accuracy, probability = figure.subplots(1, 2)
    for name, (colour, line) in _curve_styles(names).items():
        own = curves[curves["strategy"] == name]
        accuracy.plot(own["epoch"], 100 * own["accuracy"], line, color=colour, label=strategy_label(name))
        low = (own["accuracy"] - own["accuracy_std"]).clip(lower=0)
        high = (own["accuracy"] + own["accuracy_std"]).clip(upper=1)
        accuracy.fill_between(own["epoch"], 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
        probability.plot(own["epoch"], own["p_std"], line, color=colour)
    accuracy.set(xlabel="Epoch", ylabel="Test accuracy (%)")
    probability.set(xlabel="Epoch", ylabel="p_std", ylim=(-0.03, 1.03))
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def attainment_figure(answer: Answer) -> Figure | None:
    """What the front's strategies attain in one, half and all of the seeds."""
    if not answer.surfaces:
        return None
    figure = new_figure(6.6, 3.6)
    axes = figure.subplots()
    limit = answer.references["nudged_phases"].cost
    seeds = answer.surfaces[-1].seeds
    for surface, line, colour in zip(
        answer.surfaces, ("--", "-", ":")[-len(answer.surfaces) :], (SKY, BLUE, INK)[-len(answer.surfaces) :], strict=True
    ):
        axes.step(
            *_to_limit(surface.cost, surface.accuracy, limit),
            line,
            where="post",
            color=colour,
            label=f"in at least {surface.seeds} of {seeds} seeds",
        )
    table = answer.strategies.table
    for name in table.index[(table["origin"] == "thesis") & (table["accuracy"] >= accuracy_window(answer).low)]:
        _thesis_marker(axes, answer, name, "nudged_phases", label=strategy_label(name))
    window = accuracy_window(answer)
    axes.set(xlabel=COSTS["nudged_phases"], ylabel="Test accuracy attained (%)", ylim=(100 * window.low, 100 * window.high))
    _thousands(axes)
    figure.legend(loc="outside upper center", ncols=4)
    return figure


def causes_figure(answer: Answer) -> Figure | None:
    """Accuracy against the longest one-sided run, the share of cheap updates and the free-phase residual."""
    if not answer.causes:
        return None
    figure = new_figure(6.6, 2.7)
    panels = figure.subplots(1, len(answer.causes), sharey=True, squeeze=False)[0]
    for axes, cause in zip(panels, answer.causes, strict=True):
        _draw_cause(axes, answer, cause)
    panels[0].set_ylabel("Test accuracy (%)")
    return figure


def heat_map_figure(answer: Answer) -> Figure | None:
    """Mean accuracy over share of cheap updates and β, with the number of strategies in each cell."""
    grid = answer.heat_map
    if grid is None:
        return None
    figure = new_figure(5.6, 4.0)
    axes = figure.subplots()
    axes.grid(False)
    floor, ceiling = np.nanquantile(grid.accuracy, 0.1), np.nanmax(grid.accuracy)  # a collapsed corner must not flatten the rest
    mesh = axes.pcolormesh(grid.share_edges, grid.beta_edges, 100 * grid.accuracy, cmap="cividis", vmin=100 * floor, vmax=100 * ceiling)
    axes.set(yscale="log", xlabel="Share of cheap updates (mean p_std)", ylabel="Nudge β")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    middle = (floor + ceiling) / 2
    across, up = (grid.share_edges[1:] + grid.share_edges[:-1]) / 2, np.sqrt(grid.beta_edges[1:] * grid.beta_edges[:-1])
    for row, column in zip(*np.nonzero(grid.count), strict=True):
        colour = "white" if grid.accuracy[row, column] < middle else INK
        axes.text(across[column], up[row], grid.count[row, column], ha="center", va="center", fontsize=6.5, color=colour)
    figure.colorbar(mesh, ax=axes, extend="min", label="Mean test accuracy (%); numbers: strategies")
    return figure


def importances_figure(answer: Answer) -> Figure | None:
    """Loss of explained variance when a parameter is shuffled, for both objectives."""
    found = answer.importances
    if found is None:
        return None
    table = found.table.iloc[::-1]
    figure = new_figure(6.6, 1.2 + 0.28 * len(table))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (objective, title), colour in zip(
        panels, (("accuracy", "Test accuracy"), ("nudged_phases", "Nudged phases")), (BLUE, VERMILLION), strict=True
    ):
        axes.barh(table.index, table[objective], color=colour, height=0.6)
        axes.set(title=f"{title} (forest's R² {found.r2[objective]:.2f})", xlabel="Loss of R² when shuffled")
        axes.grid(axis="y", visible=False)
    return figure


def hypervolume_figure(answer: Answer) -> Figure | None:
    """Hypervolume against the number of searched strategies, a line for each search."""
    progress = answer.progress
    if len(progress) < 2:
        return None
    figure = new_figure(6.6, 3.0)
    axes = figure.subplots()
    kind = "sampler" if answer.samplers else "search"  # repetitions of one sampler share its colour
    colours = dict(zip(progress[kind].unique(), _cycle(progress[kind].nunique()), strict=True))
    for label, own in progress.groupby("search", sort=False):
        faint = {"lw": 0.7, "alpha": 0.6} if answer.samplers else {"label": for_figure(str(label))}
        axes.step(own["trials"], own["hypervolume"], where="post", color=colours[own[kind].iloc[0]], **faint)
    if answer.samplers:
        searches = progress.groupby("sampler")["search"].nunique()
        for name, own in median_progress(progress).groupby("sampler", sort=False):
            label = f"{name}, median of {searches[name]}" if searches[name] > 1 else str(name)
            axes.step(own["trials"], own["hypervolume"], where="post", color=colours[name], lw=2.0, label=for_figure(label))
    axes.set(xlabel="Searched strategies, after the thesis's", ylabel=f"Hypervolume ({_selected_by(answer)})")
    axes.legend(loc="lower right")
    return figure


def _draw_front(axes: Axes, answer: Answer, cost: str) -> None:
    table = answer.strategies.table
    window = accuracy_window(answer)
    front = table.loc[list(answer.fronts[cost])]
    found = table[(table["origin"] != "thesis") & ~table.index.isin(front.index)]
    axes.scatter(
        found[cost],
        100 * found["accuracy"],
        s=12,
        color=FAINT,
        alpha=0.5,
        linewidths=0,
        label="found by the search",
        rasterized=len(found) > MANY,
    )
    new = front[front["origin"] != "thesis"]
    low = new["accuracy"] < window.low  # what lies below the window stands at its lower edge, without bars that would cross it
    inside, below = new[~low], new[low]
    axes.errorbar(
        inside[cost],
        100 * inside["accuracy"],
        100 * inside["accuracy_std"],
        inside[f"{cost}_std"],
        fmt="o",
        ms=5,
        color=INK,
        elinewidth=0.8,
        label="found, on the front",
    )
    axes.plot(below[cost], np.full(len(below), 0.02), "v", color=INK, ms=5, transform=axes.get_xaxis_transform())
    if len(front):
        steps = staircase(front[cost].to_numpy(), front["accuracy"].to_numpy())
        axes.step(*_to_limit(*steps, answer.references[cost].cost), where="post", color=INK, lw=0.9, label="front")
    for name in table.index[(table["origin"] == "thesis") & table[cost].notna()]:
        if name not in window.below:
            _thesis_marker(axes, answer, name, cost)
    for name in window.below:
        axes.annotate("", (table.loc[name, cost], 0.0), (table.loc[name, cost], 0.07), xycoords=("data", "axes fraction"),
                      arrowprops={"arrowstyle": "-|>", "color": THESIS_COLOURS[name]})  # fmt: skip
    axes.set(xlabel=COSTS[cost], ylabel="Test accuracy (%)", ylim=(100 * window.low, 100 * window.high))
    _thousands(axes)


def _thesis_marker(axes: Axes, answer: Answer, name: str, cost: str, label: str | None = None) -> None:
    row = answer.strategies.table.loc[name]
    axes.errorbar(
        row[cost], 100 * row["accuracy"], 100 * row["accuracy_std"], row[f"{cost}_std"], fmt=MARKERS[name], ms=6.5,
        color=THESIS_COLOURS[name], mfc="none", mew=1.6, elinewidth=1.0, zorder=4, label=label,
    )  # fmt: skip


def _label_thesis(axes: Axes, answer: Answer, cost: str) -> None:
    """Names beside the thesis's markers, moved apart; those below the window stand on its lower edge with their accuracy."""
    table, window = answer.strategies.table, accuracy_window(answer)
    shown = [name for name in table.index[(table["origin"] == "thesis") & table[cost].notna()] if name not in window.below]
    heights = spread_labels(table.loc[shown, "accuracy"], 0.05 * (window.high - window.low))
    left, right = axes.get_xlim()
    for name, height in zip(shown, heights, strict=True):
        across, up = answer.strategies.number(name, cost), answer.strategies.number(name, "accuracy")
        aside, align = (-14, "right") if across > left + 0.8 * (right - left) else (14, "left")
        axes.annotate(
            strategy_label(name), (across, 100 * up), (aside, 100 * height), textcoords=("offset points", "data"), ha=align, va="center",
            color=THESIS_COLOURS[name], fontsize=8.5, fontweight="bold", zorder=5, bbox=HALO,
            arrowprops={"arrowstyle": "-", "color": THESIS_COLOURS[name], "lw": 0.6, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip
    for name in window.below:
        across, told = answer.strategies.number(name, cost), percent(answer.strategies.number(name, "accuracy"), 1)
        axes.annotate(
            f"{strategy_label(name)}\n{told} %", (across, 0.08), xycoords=("data", "axes fraction"), va="bottom",
            ha="left" if across < left + 0.1 * (right - left) else "center",
            color=THESIS_COLOURS[name], fontsize=8.5, fontweight="bold", bbox=HALO,
        )  # fmt: skip


def _draw_cause(axes: Axes, answer: Answer, cause: Cause) -> None:
    table = answer.strategies.table
    values = table[cause.column].clip(lower=1) if cause.column == "longest_cheap_run" else table[cause.column]
    thesis = table["origin"] == "thesis"
    axes.scatter(
        values[~thesis], 100 * table.loc[~thesis, "accuracy"], s=10, color=FAINT, alpha=0.6, linewidths=0, rasterized=len(table) > MANY
    )
    for name in table.index[thesis]:
        axes.plot(
            values[name],
            100 * table.loc[name, "accuracy"],
            MARKERS[name],
            ms=5.5,
            color=THESIS_COLOURS[name],
            mfc="none",
            mew=1.5,
            label=strategy_label(name),
        )
    axes.set(xlabel=cause.title.replace(" (", "\n(").replace(", ", ",\n"), xscale="log" if cause.logarithmic else "linear")
    if not np.isnan(cause.rho):
        axes.set_title(f"Spearman ρ = {cause.rho:+.2f}".replace("-", "−"), loc="left", color=MUTED, fontsize=8)


def _curve_styles(names: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and line of each curve: the thesis's are solid in their own colours."""
    styles, others = {}, [name for name in names if name not in THESIS_COLOURS]
    for place, name in enumerate(others):
        colour = FOUND_COLOURS[place % len(FOUND_COLOURS)]
        styles[name] = (INK if colour == "ink" else colour, ("--", "-.", ":")[place % 3])
    return {name: (THESIS_COLOURS[name], "-") if name in THESIS_COLOURS else styles[name] for name in names}


def _to_limit(cost: np.ndarray, accuracy: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """A staircase in percent, its last step drawn on to the reference cost."""
    return np.append(cost, max(limit, cost[-1])), 100 * np.append(accuracy, accuracy[-1])


def _cycle(length: int) -> list[str]:
    colours = [BLUE, VERMILLION, *(INK if colour == "ink" else colour for colour in FOUND_COLOURS[1:])]
    return [colours[place % len(colours)] for place in range(length)]


def _thousands(axes: Axes) -> None:
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:g}")
    )


def _selected_by(answer: Answer) -> str:
    return "validation accuracy" if answer.strategies.metric == "val_acc" else "test accuracy"
