"""The figures of the thesis's results: final accuracy as bars (Figures 1, 2) and learning curves with bands (Figure 3)."""

import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.canvas import INK, MUTED, Axes, Figure, Patch, new_figure, save, style, ticker
from analysis.escape import for_figure
from analysis.layout import SKY, THESIS_COLOURS
from analysis.thesis_tables import ThesisTable, strategy_title
from hybridep.presets import ONE_SIDED

COLOURS = {**THESIS_COLOURS, "alternating": "#8c564b", "split_sign": "#b5a642", "random_sign": SKY, "negative": MUTED}
HATCHES = ("", "////", "....")
REFERENCES = ("standard", "centered")
# Accuracies further apart than this are drawn from zero: nothing would be seen of differences that small anyway.
CLOSE = 0.1
PANEL_TITLES = {
    "cosine": "Cosine hybrid (std → cep)",
    "inverse_cosine": "Inverse cosine hybrid (cep → std)",
    "stochastic": "Stochastic hybrid (fixed 50/50)",
}


def draw_thesis_figures(table: ThesisTable, folder: Path) -> None:
    """accuracy.png, .pdf and learning_curves.png, .pdf in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        save(accuracy_figure(table), folder / "accuracy")
        save(curves_figure(table), folder / "learning_curves")


def accuracy_figure(table: ThesisTable) -> Figure:
    """A bar for each strategy, relaxation policy and the thesis, with one standard deviation over seeds and the mean in figures."""
    rows = table.rows
    strategies = list(dict.fromkeys(rows["strategy"]))
    published = rows.drop_duplicates("strategy").set_index("strategy")[["published_acc", "published_acc_std"]].dropna(how="all")
    groups = [rows[rows["relaxation"] == policy].set_index("strategy")[["test_acc", "test_acc_std"]] for policy in table.policies]
    groups += [published] if len(published) else []
    names = [*(f"here, {policy}" for policy in table.policies), *(["thesis"] if len(published) else [])]
    figure = new_figure(max(3.6, 1.0 + 0.55 * len(groups) * len(strategies)), 3.6)
    axes = figure.subplots()
    axes.grid(axis="x", visible=False)
    floor = _floor(groups)
    width = 0.84 / len(groups)
    for place, (group, name) in enumerate(zip(groups, names, strict=True)):
        across = np.array([strategies.index(str(strategy)) for strategy in group.index]) + (place - (len(groups) - 1) / 2) * width
        mean, deviation = 100 * group.iloc[:, 0].to_numpy(), 100 * group.iloc[:, 1].fillna(0.0).to_numpy()
        ours = name != "thesis"
        axes.bar(
            across, mean - floor, 0.9 * width, floor, label=name, yerr=deviation, linewidth=0.9,
            color=[COLOURS[str(strategy)] for strategy in group.index] if ours else "white",
            edgecolor="white" if ours else MUTED, hatch=HATCHES[place % len(HATCHES)] if ours else "",
            error_kw={"elinewidth": 0.9, "capsize": 2.5, "ecolor": INK},
        )  # fmt: skip
        for x, top, figures in zip(across, mean + deviation, mean, strict=True):
            axes.annotate(f"{figures:.2f}", (x, top), (0, 3), textcoords="offset points", ha="center", fontsize=7, color=INK)
    axes.set_xticks(range(len(strategies)), [textwrap.fill(strategy_title(name), 11) for name in strategies])
    axes.set_ylabel("Final test accuracy (%)" + (f"; axis from {floor:g}" if floor else ""))
    axes.margins(y=0.1)
    axes.set_ylim(bottom=floor)
    _legend(axes)
    _title(figure, table)
    return figure


def _floor(groups: list[pd.DataFrame]) -> float:
    """Percentage that bars start from: 0, or close below where all accuracies are near each other."""
    means = pd.concat([group.iloc[:, 0] for group in groups])
    if means.max() - means.min() > CLOSE:
        return 0.0
    low = min((group.iloc[:, 0] - group.iloc[:, 1].fillna(0.0)).min() for group in groups)
    high = max((group.iloc[:, 0] + group.iloc[:, 1].fillna(0.0)).max() for group in groups)
    return max(0.0, float(np.floor(2 * 100 * (low - 0.5 * (high - low)))) / 2)


def _legend(axes: Axes) -> None:
    """Which bars are whose, in no strategy's colour."""
    _, labels = axes.get_legend_handles_labels()
    if len(labels) == 1:
        return
    plain = [
        Patch(facecolor="white" if name == "thesis" else MUTED, edgecolor=MUTED if name == "thesis" else "white",
                                 hatch=HATCHES[place % len(HATCHES)] if name != "thesis" else "", label=name)
        for place, name in enumerate(labels)
    ]  # fmt: skip
    axes.legend(handles=plain, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(plain))


def curves_figure(table: ThesisTable) -> Figure:
    """Test accuracy over epochs, means and bands of one standard deviation; a panel for each hybrid, a row for each policy.

    Standard and centered stand in every panel for reference. The other one-sided estimators share a panel; a table without hybrids has
    a panel for whatever it holds.
    """
    panels = _panels(list(dict.fromkeys(table.curves["strategy"])))
    rows, columns = len(table.policies), len(panels)
    figure = new_figure(max(4.2, 2.5 * columns), 0.7 + 2.3 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for policy, line in zip(table.policies, grid, strict=True):
        own = table.curves[table.curves["relaxation"] == policy]
        for axes, (title, names) in zip(line, panels.items(), strict=True):
            for name in names:
                _band(axes, own[own["strategy"] == name], name)
            axes.set_title(title if rows == 1 else f"{title}\n{policy}", fontsize=8)
            axes.set(xlabel="Epoch", ylabel="Test accuracy (%)")
            axes.xaxis.set_major_locator(ticker.MaxNLocator("auto", integer=True))
            axes.label_outer()
    handles = {label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), max(3, round(5 * columns / 3))))
    _title(figure, table)
    return figure


def _panels(strategies: list[str]) -> dict[str, list[str]]:
    """Titles of the panels, and the strategies in each."""
    references = [name for name in REFERENCES if name in strategies]
    panels = {title: [*references, name] for name, title in PANEL_TITLES.items() if name in strategies}
    one_sided = [name for name in ONE_SIDED if name in strategies]
    if one_sided:
        panels["Other one-sided estimators"] = [*references, *one_sided]
    return panels or {"": references}


def _band(axes: Axes, curve: pd.DataFrame, name: str) -> None:
    mean, deviation = 100 * curve["test_acc"], 100 * curve["test_acc_std"].fillna(0.0)
    reference = name in REFERENCES
    axes.plot(curve["epoch"], mean, "--" if reference else "-", color=COLOURS[name], label=strategy_title(name),
              lw=1.2 if reference else 1.7, marker="o" if len(curve) == 1 else None)  # fmt: skip
    low, high = (mean - deviation).clip(lower=0), (mean + deviation).clip(upper=100)
    axes.fill_between(curve["epoch"], low, high, color=COLOURS[name], alpha=0.18, linewidth=0)


def _title(figure: Figure, table: ThesisTable) -> None:
    characters = round(figure.get_figwidth() * 13)
    figure.suptitle("\n".join(textwrap.wrap(for_figure(table.title), characters)), fontsize=9)
