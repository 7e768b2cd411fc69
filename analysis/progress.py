"""How fast searches find the front: hypervolume over their trials, and samplers compared at equal numbers of trials."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.front import Reference, hypervolume_progress
from analysis.read import Study, planned_epochs
from analysis.vocabulary import THESIS


@dataclass(frozen=True)
class Sampler:
    """One sampler's searches after `trials` searched strategies, the most that every search reached.

    `hypervolume` is the median over searches, `low` and `high` the least and the most. `gain` is the median of what a search added to
    the hypervolume of the thesis's strategies, from which each of them starts.
    """

    name: str
    searches: int
    trials: int
    hypervolume: float
    low: float
    high: float
    gain: float


def search_progress(study: Study, metric: str, reference: Reference) -> pd.DataFrame:
    """Hypervolume of each search after the thesis's strategies and after each searched one, in the order in which they were proposed.

    By the accuracy that selects, on the search's own seeds. A strategy that was given up, failed or diverged counts as tried and covers
    nothing. Columns: sampler, search, trials, hypervolume.
    """
    trials = study.trials
    cost = trials["nudged_phases"].where(trials["epoch"] >= planned_epochs(trials))
    trials = trials.assign(nudged_phases=cost, **{metric: trials[metric].fillna(reference.accuracy)})
    rows = trials[trials["origin"].isin(["thesis", "search"]) & (trials["status"] != "running")]
    parts = [pd.DataFrame({"sampler": [], "search": [], "trials": [], "hypervolume": []})]
    for name, header in zip(study.names, study.headers, strict=True):
        own = rows[rows["study"] == name] if len(study.names) > 1 else rows
        means = own.groupby("strategy", sort=False)[["nudged_phases", metric]].mean()
        values = hypervolume_progress(means["nudged_phases"].to_numpy(dtype=float), means[metric].to_numpy(dtype=float), reference)
        sampler = str((header.get("arguments") or {}).get("search", "search"))
        search = sampler if len(study.names) == 1 else f"{sampler} ({name})"
        progress = pd.DataFrame(
            {"sampler": sampler, "search": search, "trials": np.cumsum(~means.index.isin(THESIS)), "hypervolume": values}
        )
        parts.append(progress.drop_duplicates("trials", keep="last"))
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def median_progress(progress: pd.DataFrame) -> pd.DataFrame:
    """The median over each sampler's searches after every number of trials that all of them reached: sampler, trials, hypervolume."""
    shortest = progress.groupby(["sampler", "search"])["trials"].max().groupby("sampler").min()
    reached = progress[progress["trials"] <= progress["sampler"].map(shortest)]
    return reached.groupby(["sampler", "trials"], sort=False)["hypervolume"].median().reset_index()


def compare_samplers(progress: pd.DataFrame) -> tuple[Sampler, ...]:
    """Samplers by the median over their searches, best first; empty where there is one sampler."""
    if progress["sampler"].nunique() < 2:
        return ()
    trials = int(progress.groupby("search")["trials"].max().min())
    reached = progress[progress["trials"] <= trials].groupby(["sampler", "search"])["hypervolume"].agg(["first", "last"])
    samplers = [
        Sampler(
            name=str(name),
            searches=len(own),
            trials=trials,
            hypervolume=float(own["last"].median()),
            low=float(own["last"].min()),
            high=float(own["last"].max()),
            gain=float((own["last"] - own["first"]).median()),
        )
        for name, own in reached.groupby("sampler")
    ]
    return tuple(sorted(samplers, key=lambda sampler: -sampler.hypervolume))
