"""Several studies of one protocol as one."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.read import Study, read_study, report_order
from analysis.results import csv_value, plain
from analysis.vocabulary import RESULT_COLUMNS, THESIS
from hybridep.config import InvalidInput


def read_studies(folders: Sequence[Path]) -> Study:
    """The study in each folder, merged where there are several.

    Raises InvalidInput where a folder is not a study or holds no results, and where studies of different protocols would be mixed.
    """
    if not folders:
        raise InvalidInput("studies: must name at least one study folder")
    studies = [read_study(Path(folder)) for folder in folders]
    return studies[0] if len(studies) == 1 else merge(studies)


def merge(studies: Sequence[Study]) -> Study:
    """One study with a `study` column, which trial ids begin with. A strategy name that means different things in two studies gets its
    study's name added."""
    for other in studies[1:]:
        _require_same_protocol(studies[0], other)
    names = _distinct([study.name for study in studies])
    ambiguous = _ambiguous(studies)
    trials: list[pd.DataFrame] = []
    curves: list[pd.DataFrame] = []
    notes: list[str] = []
    for study, name in zip(studies, names, strict=True):
        renamed = {strategy: f"{strategy} ({name})" for strategy in ambiguous}
        for parts, table in ((trials, study.trials), (curves, study.curves)):
            ids = f"{name}/" + table["trial_id"]  # trials are called search-0001 and so on in every study
            parts.append(table.assign(strategy=table["strategy"].replace(renamed), study=name, trial_id=ids))
        notes += [f"{name}: {note}" for note in study.notes]
    rows = pd.concat(trials, ignore_index=True)
    repeated = int(rows.duplicated(["strategy", "origin", "seed"]).sum())
    if repeated:
        notes.append(f"{repeated} rows repeat a strategy and seed of another study: the first study's are compared.")
    return Study(
        names=tuple(names),
        folders=tuple(study.folders[0] for study in studies),
        headers=tuple(study.headers[0] for study in studies),
        trials=rows.loc[report_order(rows)].reset_index(drop=True),
        curves=pd.concat(curves, ignore_index=True),
        notes=tuple(notes),
    )


def _require_same_protocol(first: Study, other: Study) -> None:
    for name in dict.fromkeys([*first.protocol, *other.protocol]):
        ours, theirs = first.protocol.get(name), other.protocol.get(name)
        if name != "seed" and ours != theirs and not _overruled(name, first, other):
            raise InvalidInput(
                f"studies: {other.name} has {name} {csv_value(theirs)}, {first.name} has {csv_value(ours)};"
                " only studies of one protocol can be merged"
            )
    checksums = {str((study.headers[0].get("dataset") or {}).get("checksum")) for study in (first, other)}
    if len(checksums - {"None"}) > 1:
        raise InvalidInput(f"studies: {first.name} and {other.name} were trained on different data, their dataset checksums differ")


def _overruled(name: str, first: Study, other: Study) -> bool:
    """Whether the thesis's strategies have the same value of a field in both studies, whatever the protocols say of it."""
    ours, theirs = (
        {row["strategy"]: plain(row.get(name)) for row in study.trials.to_dict("records") if row["strategy"] in THESIS and name in row}
        for study in (first, other)
    )
    shared = set(ours) & set(theirs)
    return len(shared) > 0 and all(ours[strategy] == theirs[strategy] for strategy in shared)


def _ambiguous(studies: Sequence[Study]) -> list[str]:
    """Strategy names that stand for more than one configuration."""
    first = pd.concat([study.trials.drop_duplicates("strategy") for study in studies])
    fields = [name for name in first if name not in RESULT_COLUMNS]
    kinds = first[["strategy", *fields]].map(plain).drop_duplicates()
    return [str(name) for name, count in kinds["strategy"].value_counts().items() if count > 1]


def _distinct(names: list[str]) -> list[str]:
    """Names with a number added where two are the same."""
    return [name if names.count(name) == 1 else f"{name}-{names[: place + 1].count(name)}" for place, name in enumerate(names)]
