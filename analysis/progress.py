"""How fast searches find the front: hypervolume over their trials, and samplers compared at equal numbers of trials."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.front import Reference, hypervolume_progress
from analysis.read import Study, planned_epochs
from analysis.vocabulary import THESIS


@dataclass(frozen=True)
class Sampler:
    """Median hypervolume of one sampler's searches after `trials` searched strategies, the most that every search reached."""

    name: str
    searches: int
    trials: int
    hypervolume: float


def search_progress(study: Study, metric: str, reference: Reference) -> pd.DataFrame:
    """Hypervolume of each search after the thesis's strategies and after each searched one, in the order in which they were proposed.

    By the accuracy that selects, on the search's own seeds. Columns: sampler, search, trials, hypervolume.
    """
    rows = study.trials[~study.trials["trial_id"].isin(study.excluded) & (study.trials["origin"] != "confirm")]
    rows = rows[rows["epoch"] >= planned_epochs(rows)]
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


def compare_samplers(progress: pd.DataFrame) -> tuple[Sampler, ...]:
    """Samplers by the median over their searches, best first; empty where there is one sampler."""
    if progress["sampler"].nunique() < 2:
        return ()
    trials = int(progress.groupby("search")["trials"].max().min())
    reached = progress[progress["trials"] <= trials].groupby(["sampler", "search"])["hypervolume"].last()
    medians = reached.groupby("sampler").agg(["median", "size"]).sort_values("median", ascending=False)
    return tuple(Sampler(str(name), int(size), trials, float(median)) for name, median, size in medians.itertuples())
