"""Everything a report shows of a study, computed once; tables, figures and the page only draw it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.decision import Decision, decision
from analysis.dominance import Match, dominance, match
from analysis.explain import ENOUGH_TO_FIT, Cause, HeatMap, Importances, causes, heat_map, importances
from analysis.front import (
    Reference,
    attainment,
    hypervolume,
    nondominance_probability,
    on_front,
)
from analysis.progress import Sampler, compare_samplers, search_progress
from analysis.read import Study, recorded
from analysis.statistics import draw_means
from analysis.strategies import Strategies, gather
from analysis.vocabulary import COSTS

HEADROOM = 1.05  # reference cost over the most expensive thesis strategy, so that this one counts too
DRAWS = 2000  # bootstrap draws: a probability is then known to about one point
LEAST_R2 = 0.25  # of a forest, below which the importances that it gives are noise
BLOCK = 250  # draws held in memory at a time


@dataclass(frozen=True)
class Surface:
    """What the front's strategies attain in at least `seeds` of all seeds: corners of a staircase, cheapest first."""

    seeds: int
    cost: np.ndarray
    accuracy: np.ndarray


@dataclass(frozen=True)
class Answer:
    """The analysis of a study.

    `fronts` and `references` are by cost column; a front lists strategies, cheapest first. `probability` is that of being non-dominated in
    nudged phases and accuracy, by candidate. `hypervolumes` has the front's and the thesis strategies', and the
    most that any could reach: that of perfect accuracy at standard's cost, the least that there is. `progress` has that of each search on
    the selecting accuracy. `load` says at what load seconds were measured, empty where that is not known; `omitted` which figures have
    nothing to show, and why. Where something was decided by rounds of fresh seeds, `decision` has it and `match` is None: an interval that
    is looked at once says nothing of seeds that were added until it was clear.
    """

    study: Study
    strategies: Strategies
    fronts: dict[str, tuple[str, ...]]
    references: dict[str, Reference]
    probability: pd.Series
    hypervolumes: dict[str, float]
    surfaces: tuple[Surface, ...]
    progress: pd.DataFrame
    samplers: tuple[Sampler, ...]
    dominance: pd.DataFrame
    match: Match | None
    decision: Decision | None
    causes: tuple[Cause, ...]
    heat_map: HeatMap | None
    importances: Importances | None
    load: str
    omitted: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def front(self) -> tuple[str, ...]:
        """The front in the thesis's cost, nudged phases."""
        return self.fronts["nudged_phases"]


def answer(study: Study, allow_collapse: bool = False) -> Answer:
    """Analyse a study. Where no trial has finished, fronts are empty and a note says so. `allow_collapse` as in `gather`."""
    strategies = gather(study, allow_collapse)
    candidates = strategies.candidates
    references = {cost: _reference(strategies, cost) for cost in COSTS}
    fronts = {cost: _front(candidates, cost) for cost in COSTS}
    front = fronts["nudged_phases"]
    importance, omitted = _importances(strategies)
    found = decision(study, strategies)
    progress = search_progress(study, strategies.selected_by, references["nudged_phases"])
    return Answer(
        study=study,
        strategies=strategies,
        fronts=fronts,
        references=references,
        probability=_probability(strategies),
        hypervolumes=_hypervolumes(strategies, front, references["nudged_phases"]),
        surfaces=_surfaces(strategies, front),
        progress=progress,
        samplers=compare_samplers(progress),
        dominance=dominance(strategies, front),
        match=None if found else match(strategies),
        decision=found,
        causes=tuple(causes(strategies)),
        heat_map=heat_map(strategies),
        importances=importance,
        load=_load(study),
        omitted=tuple(omitted),
        notes=(
            *_missing(study),
            *_images(study),
            *study.notes,
            *recorded(study)[1],
            *strategies.notes,
            *_precision(study),
            *_caveats(strategies, found),
        ),
    )


def _reference(strategies: Strategies, cost: str) -> Reference:
    table = strategies.table
    thesis = table.loc[table["origin"] == "thesis", cost]
    most = (thesis if thesis.notna().any() else table[cost]).max()
    return Reference(HEADROOM * float(most), strategies.chance)


def _front(candidates: pd.DataFrame, cost: str) -> tuple[str, ...]:
    members = candidates[on_front(candidates[cost].to_numpy(dtype=float), candidates["accuracy"].to_numpy(dtype=float))]
    return tuple(members.sort_values([cost, "accuracy"], kind="stable").index)


def _probability(strategies: Strategies) -> pd.Series:
    """Probability of being non-dominated, NaN for a strategy with one seed; empty where no strategy has more."""
    names = strategies.candidates.index
    tables = [strategies.values(measure, names) for measure in ("nudged_phases", "accuracy")]
    several = np.isfinite(tables[1]).sum(axis=1) > 1
    if not several.any():
        return pd.Series(np.nan, index=names)
    blocks = [nondominance_probability(*draw_means(tables, BLOCK, seed)) for seed in range(DRAWS // BLOCK)]
    return pd.Series(np.where(several, np.mean(blocks, axis=0), np.nan), index=names)


def _hypervolumes(strategies: Strategies, front: tuple[str, ...], reference: Reference) -> dict[str, float]:
    table = strategies.table
    groups = {
        "front": table.loc[list(front)],
        "thesis": table[table["candidate"] & (table["origin"] == "thesis")],
        "perfect": table[table.index == "standard"].assign(accuracy=1.0),
    }
    return {
        name: hypervolume(group["nudged_phases"].to_numpy(), group["accuracy"].to_numpy(), reference)
        for name, group in groups.items()
        if len(group)
    }


def _surfaces(strategies: Strategies, front: tuple[str, ...]) -> tuple[Surface, ...]:
    """What the front attains in one, half and all of the seeds that its strategies share; none for fewer than two such seeds."""
    cost, accuracy = (strategies.values(measure, list(front)) for measure in ("nudged_phases", "accuracy"))
    shared = np.isfinite(cost).all(axis=0) & np.isfinite(accuracy).all(axis=0)
    count = int(shared.sum())
    if not front or count < 2:
        return ()
    levels = sorted({1, (count + 1) // 2, count})
    return tuple(Surface(level, *attainment(cost[:, shared], accuracy[:, shared], level)) for level in levels)


def _importances(strategies: Strategies) -> tuple[Importances | None, list[str]]:
    """Importances where they can be trusted, or why they are left out."""
    found = importances(strategies)
    if found is None:
        few = len(strategies.table) < ENOUGH_TO_FIT
        return None, [f"Importance of parameters: left out, {len(strategies.table)} strategies are too few."] if few else []
    if found.r2["accuracy"] < LEAST_R2:
        return None, [f"Importance of parameters: left out, they explain too little of the accuracy (R² {found.r2['accuracy']:.2f})."]
    return found, []


def _load(study: Study) -> str:
    """How busy the machine was, in words: runnable processes for each CPU."""
    load = study.trials["load"].dropna()
    return f"at a load of {load.min():.1f} to {load.max():.1f} processes for each CPU" if len(load) == len(study.trials) else ""


def _missing(study: Study) -> list[str]:
    """How far each study is that is not complete, and how it goes on; also where folders of trials were lost."""
    notes = []
    for folder, name, header in zip(study.folders, study.names, study.headers, strict=True):
        planned = header.get("trials_planned")
        rows = study.trials[study.trials["study"] == name] if len(study.names) > 1 else study.trials
        there = rows.loc[(rows["origin"] != "confirm") & (rows["status"] != "running"), "trial_id"].nunique()
        if isinstance(planned, int) and there < planned:
            told = f"This study is not complete: {there} of its {planned} trials have ended."
            notes.append(f"{told} Continue with: python studies/{header.get('kind', 'schedule_sweep')}.py --resume {folder}")
    return notes


def _images(study: Study) -> list[str]:
    """What the images are, where someone said that they are not the official ones."""
    return [f"The images are not the official ones: {study.data_note}."] if study.data_note else []


def _precision(study: Study) -> list[str]:
    """How products were rounded, where that is not as usual."""
    tf32 = study.protocol.get("precision") == "tf32"
    rounded = "Trained with --precision tf32: a GPU's tensor cores rounded the factors of products to 10 bits, but in a phase's last steps."
    return [rounded] if tf32 else []


def _caveats(strategies: Strategies, found: Decision | None) -> list[str]:
    table, notes = strategies.table, []
    if table.empty:
        return ["No trial has finished: there is no front yet."]
    if strategies.selected_by == "test_acc" and (table["origin"] == "search").any():
        notes.append("Without validation images, strategies were selected by test accuracy: the best ones look better than they are.")
    if not strategies.confirmed and (table["origin"] == "search").any():
        notes.append("Nothing was confirmed on fresh seeds: what was selected looks better here than it is. --confirm 5 trains it again.")
    if found:
        notes.append(
            "Seeds were added for as long as questions were open. Only the decision's own intervals allow for that; all others are of a "
            "single look."
        )
    if strategies.confirmed and (table["origin"] == "search").any():
        notes.append("Everything shown is from seeds that the search never saw, save strategies that were not confirmed: these are grey.")
    if (table["n_seeds"] == 1).any():
        single = int((table["n_seeds"] == 1).sum())
        notes.append(f"{single} of {len(table)} strategies have one seed: they have no deviation, interval or probability.")
    return notes
