"""What the page's script draws from: an Answer as plain lists, rounded to what a screen can show and thinned where a study is large."""

from typing import Any

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.curves import mean_curves
from analysis.front import front_rank, staircase
from analysis.layout import THESIS_COLOURS, accuracy_window, default_selection
from analysis.progress import median_progress
from analysis.vocabulary import COSTS, strategy_label

MOST_POINTS = 1500  # strategies that the page embeds as points
MOST_CURVES = 250  # of these, strategies whose curves it embeds
MOST_EPOCHS = 120  # epochs of a curve that it embeds
UNFINISHED = 40  # strategies without a result whose curves it embeds

Payload = dict[str, Any]


def payload(answer: Answer) -> Payload:
    """Everything that the page draws, ready for JSON."""
    names = embedded(answer)
    place = {name: number for number, name in enumerate(names)}
    with_curves = names[:MOST_CURVES] + unfinished(answer)
    window = accuracy_window(answer)
    return {
        "costs": [{"key": cost, "title": title, "reference": _round(answer.references[cost].cost)} for cost, title in COSTS.items()],
        "chance": answer.strategies.chance,
        "strategies": _strategies(answer, names),
        "fronts": {cost: [place[name] for name in front] for cost, front in answer.fronts.items()},
        "stairs": {cost: _stairs(answer, cost) for cost in COSTS},
        "window": {"low": window.low, "high": window.high, "below": [place[name] for name in window.below]},
        "curves": _curves(answer, with_curves),
        "labels": {name: strategy_label(name) for name in unfinished(answer)},
        "selected": [name for name in default_selection(answer) if name in with_curves],
        "surfaces": [{"seeds": s.seeds, "cost": _list(s.cost), "accuracy": _list(s.accuracy)} for s in answer.surfaces],
        "progress": [
            {"search": label, "sampler": own["sampler"].iloc[0], "trials": own["trials"].tolist(), "hypervolume": _list(own["hypervolume"])}
            for label, own in answer.progress.groupby("search", sort=False)
        ],
        "medians": [
            {"sampler": str(name), "trials": own["trials"].tolist(), "hypervolume": _list(own["hypervolume"])}
            for name, own in median_progress(answer.progress).groupby("sampler", sort=False)
        ]
        if answer.samplers
        else [],
        "causes": [{"column": c.column, "title": c.title, "logarithmic": c.logarithmic, "rho": _round(c.rho)} for c in answer.causes],
        "heat": _heat(answer),
        "importances": _importances(answer),
        "colours": THESIS_COLOURS,
    }


def embedded(answer: Answer) -> list[str]:
    """Strategies that the page draws, those of the thesis and of every front first, then by closeness to the front, then an even sample."""
    table = answer.strategies.table
    first = list(dict.fromkeys([*table.index[table["origin"] == "thesis"], *(name for front in answer.fronts.values() for name in front)]))
    rest = table.drop(index=first)
    rank = front_rank(rest["nudged_phases"].to_numpy(dtype=float), rest["accuracy"].to_numpy(dtype=float))
    ordered = rest.index[np.argsort(rank, kind="stable")].tolist()
    near, far = ordered[:MOST_CURVES], ordered[MOST_CURVES:]
    room = max(MOST_POINTS - len(first) - len(near), 0)
    sample = [far[place] for place in np.unique(np.linspace(0, len(far) - 1, room).astype(int))] if len(far) > room else far
    return first + near + sample


def unfinished(answer: Answer) -> list[str]:
    """Strategies that have curves but no result yet, as many as the page embeds."""
    started = answer.study.trials["strategy"].unique()
    return [name for name in started if name not in answer.strategies.table.index][:UNFINISHED]


def thinning(answer: Answer) -> str | None:
    """A sentence on what a large study's page leaves out."""
    total, points = len(answer.strategies.table), len(embedded(answer))
    if total <= MOST_CURVES:
        return None
    shown = f"{points:,} of {total:,} strategies as points" if points < total else f"all {total:,} strategies as points"
    return (
        f"To stay light, this page holds {shown}, and curves of the {MOST_CURVES} of them that are of the thesis, on a front or nearest to "
        "it; strategies.csv, trials.csv and curves.csv hold all."
    )


def _strategies(answer: Answer, names: list[str]) -> Payload:
    table = answer.strategies.table.loc[names]
    centered = answer.strategies.table["nudged_phases"].get("centered", np.nan)
    return {
        "name": names,
        "label": [strategy_label(name) for name in names],
        "what": table["description"].tolist(),
        "thesis": (table["origin"] == "thesis").astype(int).tolist(),
        "trials": table["trial_ids"].tolist(),
        "seeds": table["n_seeds"].tolist(),
        "share": _list(table["nudged_phases"] / centered),
        "probability": _list(answer.probability.reindex(table.index)),
        "cost": {cost: _list(table[cost], 6) for cost in COSTS},
        "costStd": {cost: _list(table[f"{cost}_std"]) for cost in COSTS},
        **{
            key: _list(table[column])
            for key, column in (
                *(("accuracy", "accuracy"), ("accuracyStd", "accuracy_std"), ("low", "accuracy_low"), ("high", "accuracy_high")),
                *(("validation", "val_acc"), ("collapsed", "collapsed")),
                *((cause.column, cause.column) for cause in answer.causes),
            )
        },
    }


def _stairs(answer: Answer, cost: str) -> list[list[float | None]]:
    front = answer.strategies.table.loc[list(answer.fronts[cost])]
    return [_list(corners) for corners in staircase(front[cost].to_numpy(dtype=float), front["accuracy"].to_numpy(dtype=float))]


def _curves(answer: Answer, names: list[str]) -> Payload:
    curves = mean_curves(answer, names)
    last = int(curves["epoch"].max()) if len(curves) else 0
    if last > MOST_EPOCHS:
        curves = curves[curves["epoch"].isin(np.unique(np.linspace(1, last, MOST_EPOCHS).round()))]
    return {
        str(name): {
            "epoch": own["epoch"].tolist(),
            "accuracy": _list(own["accuracy"], 4),
            "std": _list(own["accuracy_std"], 3),
            "p_std": _list(own["p_std"], 4),
        }
        for name, own in curves.groupby("strategy", sort=False)
    }


def _heat(answer: Answer) -> Payload | None:
    grid = answer.heat_map
    if grid is None:
        return None
    return {
        "share": _list(grid.share_edges),
        "beta": _list(grid.beta_edges),
        "accuracy": [_list(row) for row in grid.accuracy],
        "count": grid.count.tolist(),
        "floor": _round(float(np.nanquantile(grid.accuracy, 0.1))),
    }


def _importances(answer: Answer) -> Payload | None:
    found = answer.importances
    if found is None:
        return None
    return {"parameter": found.table.index.tolist(), "r2": found.r2, **{objective: _list(found.table[objective]) for objective in found.r2}}


def _list(values: pd.Series | np.ndarray, digits: int = 5) -> list[float | None]:
    """Numbers with so many significant digits; None where JSON has no NaN."""
    return [_round(value, digits) for value in np.asarray(values, dtype=float).tolist()]


def _round(value: float, digits: int = 5) -> float | None:
    if not np.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded
