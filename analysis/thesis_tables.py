"""Tables 1-3 of the thesis with our numbers beside the published ones, as data and as text.

A study of `studies/thesis_tables.py` is one table under one or more relaxation policies. Several studies of the same table, each under
policies of its own, make one table too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from analysis.escape import for_latex, for_markdown
from analysis.latex import as_latex
from analysis.read import Study, planned_epochs, read_study
from analysis.results import csv_value
from analysis.tables import as_markdown
from analysis.words import amount, count, joined, points, seconds, spread
from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS
from hybridep.presets import ONE_SIDED, PRESETS, PROTOCOLS, STRATEGIES

KIND: Final = "thesis_tables"
ORDER: Final = (*STRATEGIES, *ONE_SIDED)
# Tables that tell why a strategy collapsed beside how far it came.
EXPLAINED: Final = ("fashion-conv",)
EXPLANATIONS: Final = {
    "Free residual": "Free residual: the largest change of a unit in the last step of the free phase, mean over samples and over training.",
    "Longest one-sided run": "Longest one-sided run: consecutive updates by the cheap estimator.",
    "At chance": "At chance: seeds whose final accuracy is that of guessing.",
}
# Columns that have nothing to tell where the thesis has no such table.
COMPARISONS: Final = ("Thesis: accuracy (%)", "Difference (points)", "Difference (std)", "Thesis: nudged phases")
MISSING: Final = "—"
RELAXATION_FIELDS: Final = ("relaxation", "T1", "T2", "tolerance", "start")
# What a field was in a study that was begun before there was one.
STANDING: Final = {name: info.default for name, info in TrialConfig.model_fields.items() if not info.is_required()}
# Fields in which the trials of a table differ by what they are; every other one is the protocol's.
OWN_FIELDS: Final = (*(name for strategy in (STRATEGIES | ONE_SIDED).values() for name in strategy), *RELAXATION_FIELDS, "seed")


def strategy_title(name: str) -> str:
    """What the thesis calls a strategy: an estimator throughout is one EP, a mix of two a hybrid."""
    skew = (STRATEGIES | ONE_SIDED)[name]["skew"]
    return f"{name.replace('_', ' ').capitalize()} {'EP' if skew in (0, 1) else 'hybrid'}"


@dataclass(frozen=True)
class ThesisTable:
    """One table: `rows` as in table.csv, one for each policy and strategy; `curves` with mean and deviation for each epoch of them.

    `policies` are the relaxation policies in words, in order. `departures` are sentences on how it falls short of the published
    protocol or changes it, none where it does not. `notes` tell what could not be read.
    """

    name: str
    rows: pd.DataFrame
    curves: pd.DataFrame
    policies: tuple[str, ...]
    departures: tuple[str, ...]
    notes: tuple[str, ...]
    processor: str

    @property
    def title(self) -> str:
        """What the table is, and whether it was shrunk."""
        return f"{PRESETS[self.name].title}{' — ' if self.departures else ''}{' '.join(self.departures)}"


def read_table(folders: Sequence[Path]) -> tuple[ThesisTable, list[Study]]:
    """The table that the studies in `folders` make, and the studies.

    Raises InvalidInput where one is not a study of a table, where they are of different tables or data, where two ran the same policy,
    and where no trial has trained to its last epoch.
    """
    studies = [read_study(folder) for folder in folders]
    for folder, study in zip(folders, studies, strict=True):
        header = study.headers[0]
        if header.get("kind") != KIND or (header.get("arguments") or {}).get("table") not in PRESETS:
            raise InvalidInput(f"{folder}: is a study of kind {header.get('kind')!r}, not of one of the thesis's tables")
    return make_table(studies), studies


def make_table(studies: Sequence[Study]) -> ThesisTable:
    """The table of studies whose headers name it; raises InvalidInput as `read_table` does."""
    headers = [study.headers[0] for study in studies]
    name = _shared(headers, "arguments", "table")
    _shared(headers, "dataset", "checksum")
    trials = pd.concat([_described(study.trials, place) for place, study in enumerate(studies)], ignore_index=True)
    twice = trials.groupby("policy")["study"].nunique()
    if (twice > 1).any():
        raise InvalidInput(f"studies: more than one has trials relaxed {twice.index[twice > 1][0]}; give one of them")
    done = trials[trials["epoch"] >= planned_epochs(trials)]
    if done.empty:
        raise InvalidInput(f"{joined(study.name for study in studies)}: no trial has trained to its last epoch, there is no table yet")
    curves = pd.concat([study.curves.assign(study=place) for place, study in enumerate(studies)], ignore_index=True)
    curves = curves.merge(done[["study", "trial_id", "name", "policy"]], on=["study", "trial_id"])
    rows = pd.DataFrame([_row(name, own, curves) for _, own in done.groupby(["policy_rank", "policy", "rank"], sort=True)])
    if (images := _shared(headers, "arguments", "data_note")) != "None":
        rows["changed"] = [", ".join(filter(None, (images, told))) for told in rows["changed"]]
    notes = [note for study in studies for note in study.notes]
    if len(done) < len(trials):
        notes.append(f"{len(trials) - len(done)} of {len(trials)} trials have not trained to their last epoch; the table is made without.")
    return ThesisTable(
        name,
        rows,
        _mean_curves(curves, rows),
        tuple(rows["relaxation"].unique()),
        _departures(rows),
        tuple(notes),
        joined(dict.fromkeys(str((header.get("machine") or {}).get("cpu", "an unknown processor")) for header in headers)),
    )


def _shared(headers: Sequence[Mapping[str, Any]], part: str, key: str) -> str:
    """A value that all headers must share."""
    found = {str((header.get(part) or {}).get(key)) for header in headers}
    if len(found) > 1:
        raise InvalidInput(f"studies: have {part} with {key} {joined(sorted(found))}; one table is made of one {key}")
    return found.pop()


def _described(trials: pd.DataFrame, study: int) -> pd.DataFrame:
    """The trials with the strategy's plain name, its policy in words, and the place of both in the table."""
    name = trials["strategy"].str.partition(" (")[0]
    known = trials[name.isin(ORDER)]
    policy = [policy_words(row) for row in known[list(RELAXATION_FIELDS)].to_dict("records")]
    return known.assign(
        study=study,
        name=name[known.index],
        policy=policy,
        # The thesis's own policy first, then from the loosest tolerance to the strictest.
        policy_rank=-known["tolerance"].astype(float).fillna(math.inf),
        rank=[ORDER.index(one) for one in name[known.index]],
    )


def policy_words(row: Mapping[Any, Any]) -> str:
    """A relaxation policy as the table names it."""
    start = ", from the last epoch's equilibria" if row["start"] == "last" else ""
    if row["relaxation"] == "fixed":
        return f"fixed, T1 = {row['T1']}{start}"
    return f"adaptive to {_short(row['tolerance'])} within T1 = {row['T1']}{start}"


def _short(value: float) -> str:
    """0.0003 as 3e-4."""
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def pooled_deviation(first: float, seeds: int, second: float, other_seeds: int) -> float:
    """Standard deviation over seeds that two samples share; a sample of one seed says nothing of it. NaN where none does."""
    parts = [(deviation, n - 1) for deviation, n in ((first, seeds), (second, other_seeds)) if n > 1]
    freedom = sum(n for _, n in parts)
    return math.sqrt(sum(n * deviation**2 for deviation, n in parts) / freedom) if freedom else math.nan


def _published(table: str, strategy: str) -> tuple[float, float, float]:
    """Mean and deviation of accuracy, as fractions, and nudged phases; NaN where the thesis has none."""
    row = PRESETS[table].published.get(strategy)
    if row is None:
        return math.nan, math.nan, math.nan
    # What is printed with two decimals shall not be written as 0.8334999999999999.
    return round(row.accuracy / 100, 6), round(row.deviation / 100, 6), row.nudged_phases


def _row(table: str, own: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Any]:
    """One line of table.csv from the finished trials of a strategy under a policy, a row of `own` for each seed."""
    first = own.iloc[0]
    accuracy, deviation = float(own["test_acc"].mean()), float(own["test_acc"].std(ddof=1))
    mean, published_deviation, phases = _published(table, first["name"])
    pooled = pooled_deviation(deviation, len(own), published_deviation, len(PRESETS[table].seeds))
    trained = curves[curves["trial_id"].isin(own["trial_id"]) & (curves["study"] == first["study"])]
    costs = ("nudged_phases", "relaxation_steps", "train_seconds")
    return {
        "table": table,
        "strategy": first["name"],
        "relaxation": first["policy"],
        "n_seeds": len(own),
        "seeds": " ".join(map(str, sorted(own["seed"]))),
        "test_acc": accuracy,
        "test_acc_std": deviation,
        "published_acc": mean,
        "published_acc_std": published_deviation,
        "difference": accuracy - mean,
        "difference_in_std": (accuracy - mean) / pooled if pooled else math.nan,
        **{key: value for cost in costs for key, value in ((cost, own[cost].mean()), (f"{cost}_std", own[cost].std(ddof=1)))},
        "published_nudged_phases": phases,
        "free_residual": trained["free_residual"].mean(),
        "longest_cheap_run": own["longest_cheap_run"].mean(),
        "collapsed_seeds": int((own["collapsed"] > 0).sum()),
        "shrunk": shrunk(table, own),
        "changed": changed(table, own),
    }


def shrunk(table: str, own: pd.DataFrame) -> str:
    """How the finished trials of a strategy fall short of the published protocol, or "" where they do not."""
    first, protocol = own.iloc[0], PROTOCOLS[table]
    usual = _images(protocol)
    images, tested = usual.values()
    kept, kept_tested = (whole if pd.isna(first[name]) else int(first[name]) for name, whole in usual.items())
    batches, whole = round(first["updates"] / first["epoch"]), math.ceil(min(kept, images) / int(first["batch_size"]))
    parts = [
        (first["epoch"] < protocol.epochs, f"{first['epoch']} of {protocol.epochs} epochs"),
        (kept < images, f"{kept:,} of {images:,} training images"),
        (kept_tested < tested, f"{kept_tested:,} of {tested:,} test images"),
        # Files that are well formed and hold fewer images than the official ones.
        (batches < whole, f"{batches} of {whole} updates an epoch"),
        (len(own) < len(PRESETS[table].seeds), f"{len(own)} of {len(PRESETS[table].seeds)} seeds"),
    ]
    return ", ".join(words for is_so, words in parts if is_so)


def _images(protocol: TrialConfig) -> dict[str, int]:
    """How many images the published protocol trains and tests on, by field."""
    dataset = DATASETS[protocol.dataset]
    return {"train_samples": protocol.train_samples or dataset.train, "test_samples": protocol.test_samples or dataset.test}


def changed(table: str, own: pd.DataFrame) -> str:
    """How they depart from the published protocol otherwise, or ""."""
    first, protocol = own.iloc[0], PROTOCOLS[table]
    shrinking = {"epochs": protocol.epochs, **_images(protocol)}
    parts = []
    for field, usual in protocol.flat().items():
        value = first.get(field, STANDING.get(field))
        if field in OWN_FIELDS and not (field == "T1" and first["relaxation"] == "fixed"):
            continue
        shrinks = field in shrinking and (pd.isna(value) or value <= shrinking[field])
        if not shrinks and not _same(value, csv_value(usual)):
            parts.append(f"{field} {value} instead of {csv_value(usual)}")
    usual_seeds = set(PRESETS[table].seeds)
    if others := sorted(set(own["seed"]) - usual_seeds):
        kept = usual_seeds <= set(own["seed"])
        parts.append(f"seeds {' '.join(map(str, others))} {'beside' if kept else 'instead of'} the protocol's own")
    return ", ".join(parts)


def _same(value: Any, usual: Any) -> bool:
    """Whether a value read from a file is the usual one; whole numbers may have become floats, nothing NaN."""
    if usual is None or pd.isna(value):
        return usual is None and pd.isna(value)
    return float(value) == usual if isinstance(usual, float | int) else str(value) == usual


def _departures(rows: pd.DataFrame) -> tuple[str, ...]:
    """What `shrunk` and `changed` say of the rows, as sentences."""
    sentences = []
    for column, words in (("shrunk", "Shrunk run"), ("changed", "Changed protocol")):
        groups = rows[rows[column] != ""].groupby(column, sort=False)
        parts = [told if len(own) == len(rows) else f"{told} ({_which(rows, own)})" for told, own in groups]
        if parts:
            sentences.append(f"{words}: {'; '.join(map(str, parts))}.")
    return tuple(sentences)


def _which(rows: pd.DataFrame, own: pd.DataFrame) -> str:
    """Some of the table's rows in words: whole policies where they are, else strategies with their policies."""
    sizes = rows.groupby("relaxation").size()
    parts = []
    for policy, group in own.groupby("relaxation", sort=False):
        names = [] if len(group) == sizes[policy] else [joined(strategy_title(name) for name in group["strategy"])]
        parts.append(", ".join([*names, *([str(policy)] if len(sizes) > 1 else [])]))
    return "; ".join(parts)


def _mean_curves(curves: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """strategy, relaxation, epoch, test_acc and test_acc_std (NaN for one seed), in the order of the table's rows."""
    groups = curves.groupby(["name", "policy", "epoch"], sort=True)["test_acc"]
    means = pd.DataFrame({"test_acc": groups.mean(), "test_acc_std": groups.std(ddof=1)}).reset_index()
    means = means.rename(columns={"name": "strategy", "policy": "relaxation"})
    return rows[["strategy", "relaxation"]].merge(means, on=["strategy", "relaxation"])


def shown_table(table: ThesisTable) -> pd.DataFrame:
    """The table as people read it; what the thesis did not publish is an em dash."""
    shown = []
    for row in table.rows.to_dict("records"):
        published = not math.isnan(row["published_acc"])
        cells = {
            "Strategy": strategy_title(row["strategy"]),
            "Relaxation": row["relaxation"],
            "Test accuracy (%)": spread(row["test_acc"], row["test_acc_std"]),
            "Free residual": f"{row['free_residual']:.1e}".replace("e-0", "e-"),
            "Longest one-sided run": count(row["longest_cheap_run"]),
            "At chance": f"{row['collapsed_seeds']} of {row['n_seeds']}",
            "Thesis: accuracy (%)": spread(row["published_acc"], row["published_acc_std"]) if published else MISSING,
            "Difference (points)": points(row["difference"]) if published else MISSING,
            "Difference (std)": f"{row['difference_in_std']:+.2f}".replace("-", "−") if published else MISSING,
            "Nudged phases": amount(row["nudged_phases"]),
            "Thesis: nudged phases": amount(row["published_nudged_phases"]) if published else MISSING,
            "Relaxation steps": amount(row["relaxation_steps"]),
            "Time (s)": seconds(row["train_seconds"]),
            "Seeds": str(row["n_seeds"]),
        }
        shown.append(cells)
    hidden = [] if table.name in EXPLAINED else list(EXPLANATIONS)
    hidden += ["Relaxation"] if len(table.policies) == 1 else []
    hidden += [] if PRESETS[table.name].published else list(COMPARISONS)
    return pd.DataFrame(shown).drop(columns=hidden)


def caption(table: ThesisTable) -> list[str]:
    """What stands with the table, in sentences: how it falls short first."""
    relaxed = f"Relaxation: {' and '.join(table.policies)}; nudged phases T2 = {PROTOCOLS[table.name].T2}."
    compared = (
        "Difference: our mean minus the published one, in percentage points, and in standard deviations over seeds, pooled over both."
        if PRESETS[table.name].published
        else "The thesis has no such table."
    )
    return [
        *table.departures,
        f"{PRESETS[table.name].title}: final test accuracy, mean ± standard deviation over seeds.",
        relaxed,
        compared,
        "Costs are means over seeds for a whole training: nudged phases; network updates of a sample, free and nudged; seconds of one trial"
        f" with evaluation, on {table.processor}.",
        *(EXPLANATIONS.values() if table.name in EXPLAINED else ()),
        *table.notes,
    ]


def markdown(table: ThesisTable, shown: pd.DataFrame) -> str:
    """A heading, the caption with its departures in bold, and a pipe table."""
    said = [f"**{for_markdown(told)}**" if told in table.departures else for_markdown(told) for told in caption(table)]
    return f"# {for_markdown(table.title)}\n\n{' '.join(said)}\n\n{as_markdown(shown)}"


def latex(table: ThesisTable, shown: pd.DataFrame) -> str:
    """A table float with its caption."""
    said = for_latex(" ".join(caption(table)))
    return f"\\begin{{table}}\n\\centering\n\\caption{{{said}}}\n\\label{{tab:{table.name}}}\n{as_latex(shown)}\\end{{table}}\n"
