"""Reading a study folder: Ray's result files, or the tables made from them, become one row per trial, seed and epoch.

Files are taken as crashes, resumes and other versions leave them: what can be read is read, and a note says what could not.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.escape import from_csv
from analysis.results import LARGEST, Trial, checked_value, csv_value, make_trial, plain, read_records
from analysis.vocabulary import COUNTS, EPOCH_COLUMNS, KEYS, ORIGINS, RESULT_COLUMNS, THESIS, TOTAL_COLUMNS
from hybridep.config import ADDED, InvalidInput, completed
from hybridep.deciding import Record

FORMATS = (1, 2)
TEXT_COLUMNS = ("trial_id", "strategy", "knots", "description")


@dataclass(frozen=True)
class Study:
    """One study, or several of one protocol merged.

    `trials` has a row per trial and seed, `curves` a row per trial, seed and epoch; columns as in trials.csv and curves.csv.
    `names` are those of the `folders`, `headers` the contents of their study.json. `notes` are sentences on what could not be read or
    compared.
    """

    names: tuple[str, ...]
    folders: tuple[Path, ...]
    headers: tuple[dict[str, Any], ...]
    trials: pd.DataFrame
    curves: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What to call it."""
        return " + ".join(self.names)

    @property
    def protocol(self) -> dict[str, Any]:
        """The configuration that all trials start from, as in study.json; empty where that could not be read."""
        return dict(self.headers[0].get("protocol") or {})

    @property
    def data_note(self) -> str:
        """What the images are, where --data-note said that they are not the official ones; else ""."""
        notes = dict.fromkeys((header.get("arguments") or {}).get("data_note") for header in self.headers)
        return ", ".join(str(note) for note in notes if note)

    @property
    def strategy_fields(self) -> list[str]:
        """The columns of `trials` that make up a strategy: fields of the configuration in which some trial differs from the protocol.

        What trials override is all that they can differ in, so that these are the overrides which say something.
        """
        return [
            name
            for name in map(str, self.trials)
            if name not in RESULT_COLUMNS and {plain(value) for value in self.trials[name].unique()} - {plain(self._protocol_value(name))}
        ]

    def _protocol_value(self, name: str) -> Any:
        """What trials have that leave a field as it is; the first one's own where study.json does not say."""
        return csv_value(self.protocol[name]) if name in self.protocol else None if self.protocol else self.trials[name].iloc[0]


@dataclass
class _Findings:
    """Folders of trials by what went wrong, so that each kind becomes one sentence."""

    damaged: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        kinds = {
            "result {line was|lines were} cut short or damaged and skipped": self.damaged,
            "{trial has|trials have} results that do not fit together and {is|are} left out": self.unreadable,
            "{trial|trials} failed before the first epoch ended": self.failed,
            "{trial has|trials have} no finished epoch yet": self.silent,
        }
        return [f"{len(names)} {_numbered(words, len(names))} ({some(names)})." for words, names in kinds.items() if names]


def read_study(folder: Path) -> Study:
    """The study in `folder`, from its ray/ folder, or from trials.csv and curves.csv where that is gone.

    Raises InvalidInput where the folder is not a study or holds no results.
    """
    header, notes = _read_header(folder)
    if (folder / "ray").is_dir():
        findings = _Findings()
        trials = list(_ray_trials(folder / "ray", header, findings))
        notes += findings.sentences()
        if not trials:
            raise InvalidInput(f"{folder}: no trial has finished an epoch, there is nothing to analyse")
        rows, curves = _tables(trials, header)
    elif (folder / "trials.csv").is_file() and (folder / "curves.csv").is_file():
        rows, curves = _read_table(folder / "trials.csv", TOTAL_COLUMNS), _read_table(folder / "curves.csv")
    else:
        raise InvalidInput(f"{folder}: holds no results, neither ray/ nor trials.csv and curves.csv")
    return Study((folder.resolve().name,), (folder,), (header,), rows, curves, tuple(notes))


def recorded(study: Study) -> tuple[Record | None, list[str]]:
    """What study.json says of a decision, and a sentence where that is damaged. Studies that are merged have none together."""
    if len(study.headers) > 1:
        return None, []
    try:
        return Record.read(study.headers[0]), []
    except ValueError as error:
        return None, [f"study.json is damaged (decision: {error}): what was decided is not shown."]


def planned_epochs(trials: pd.DataFrame) -> pd.Series:
    """Epochs that each row was to train, [rows]; the longest seen where the configuration does not say."""
    longest = int(trials["epoch"].max())
    if "epochs" not in trials:
        return pd.Series(longest, index=trials.index)
    return trials["epochs"].fillna(longest).astype(int)


def report_order(trials: pd.DataFrame) -> pd.Index:
    """Index of the rows with thesis strategies first, in the thesis's order, then other named ones, then searched ones by number."""
    pairs = list(zip(trials["strategy"], trials["origin"], strict=True))
    ordered = sorted(set(pairs), key=lambda pair: (*_strategy_order(pair[0]), ORIGINS.index(pair[1]) if pair[1] in ORIGINS else 9))
    ranks = {pair: rank for rank, pair in enumerate(ordered)}
    return trials[["seed"]].assign(rank=[ranks[pair] for pair in pairs]).sort_values(["rank", "seed"], kind="stable").index


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:most]) + (f" and {len(unique) - most} more" if len(unique) > most else "")


def _read_header(folder: Path) -> tuple[dict[str, Any], list[str]]:
    path = folder / "study.json"
    if not folder.is_dir():
        raise InvalidInput(f"{folder}: no such study folder")
    if not path.is_file():
        raise InvalidInput(f"{folder}: is not a study, it has no study.json")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(header, dict):
            raise ValueError("not an object")
    except ValueError:  # broken JSON or broken UTF-8
        return {}, ["study.json is damaged: trials are taken as they describe themselves, and the longest counts as complete."]
    notes = []
    if header.get("format") not in FORMATS:
        written = f"format {header['format']!r}" if "format" in header else "no format number"
        notes.append(f"study.json has {written}, this version knows format {FORMATS[-1]}: columns that both know are analysed.")
    for entry, kind in (("protocol", dict), ("arguments", dict), ("dataset", dict), ("seeds", list)):
        if not isinstance(header.get(entry), kind):
            header[entry] = kind()
    header["protocol"] = completed(header["protocol"]) if header["protocol"] else {}
    for name, value in list(header["protocol"].items()):
        try:
            checked_value(name, value)
        except ValueError as error:
            notes.append(f"study.json is damaged: {error}, it is ignored.")
            del header["protocol"][name]
    return header, notes


def _ray_trials(folder: Path, header: Mapping[str, Any], findings: _Findings) -> Iterable[Trial]:
    """Trials in the order of their folders' names. Only one trial's lines are held at a time."""
    header = {**header, "protocol": {name: csv_value(value) for name, value in (header.get("protocol") or {}).items()}}
    for entry in sorted((entry for entry in os.scandir(folder) if entry.is_dir()), key=lambda entry: entry.name):
        failed = os.path.exists(os.path.join(entry.path, "error.txt"))
        try:
            records, damaged = read_records(Path(entry.path, "result.json"))
        except FileNotFoundError:
            records, damaged = [], 0
        findings.damaged += [entry.name] * damaged
        if not records:
            (findings.failed if failed else findings.silent).append(entry.name)
            continue
        try:
            yield make_trial(records, header, entry.name, failed)
        except (ValueError, TypeError, KeyError, OverflowError):
            findings.unreadable.append(entry.name)


def _tables(trials: list[Trial], header: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials and curves tables, in report order."""
    keys = pd.DataFrame([(t.trial_id, t.strategy, t.origin, seed) for t in trials for seed in t.seeds], columns=list(KEYS))
    lengths = np.array([trial.epochs for trial in trials for _ in trial.seeds])
    columns = {name: np.concatenate([trial.columns[name].ravel() for trial in trials]) for name in EPOCH_COLUMNS}
    ends = np.cumsum(lengths) - 1
    final = {name: values[ends] for name, values in columns.items()}
    seconds = np.add.reduceat(np.nan_to_num(columns["epoch_seconds"]), ends - lengths + 1)

    fields = dict.fromkeys(name for trial in trials for name in trial.config)
    config = pd.DataFrame({name: [trial.config.get(name) for trial in trials] for name in fields})
    config = config.loc[config.index.repeat([len(trial.seeds) for trial in trials])].reset_index(drop=True)
    described = {"description": np.repeat([trial.description for trial in trials], [len(trial.seeds) for trial in trials])}
    rows = keys.assign(
        **{name: config[name] for name in fields},
        **(described if any(trial.description for trial in trials) else {}),
        **final,
        relaxation_steps=final["free_steps"] + final["nudged_steps"],
        train_seconds=seconds,
    )
    stopped = np.array([trial.stopped for trial in trials for _ in trial.seeds])
    rows["status"] = _status(rows, stopped | bool(header.get("ended")))
    order = report_order(rows)
    pieces = [np.arange(end - length + 1, end + 1) for end, length in zip(ends[order], lengths[order], strict=True)]
    places = np.concatenate(pieces)
    ordered = {name: values[places] for name, values in columns.items()}
    curves = keys.loc[order.repeat(lengths[order])].reset_index(drop=True).assign(**ordered)
    return _whole_numbers(rows.loc[order].reset_index(drop=True)), _whole_numbers(curves)


def _status(rows: pd.DataFrame, stopped: np.ndarray) -> np.ndarray:
    """complete, collapsed, failed or running, [rows]. A final accuracy that is not a number counts as collapsed."""
    finished = rows["epoch"] >= planned_epochs(rows)
    collapsed = (rows["collapsed"] > 0) | rows["test_acc"].isna()
    return np.select([(finished | stopped) & collapsed, finished, stopped], ["collapsed", "complete", "failed"], "running")


def _strategy_order(strategy: str) -> tuple[int, int, str]:
    if strategy in THESIS:
        return THESIS.index(strategy), 0, strategy
    number = re.match(r"search-(\d+)", strategy)
    return (len(THESIS) + 1, int(number[1]), strategy) if number else (len(THESIS), 0, strategy)


def _whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Counts as integers where every value is there and whole, so that files show 46900 and not 46900.0."""
    for name in COUNTS:
        values = table[name].to_numpy(dtype=float)
        if np.isfinite(values).all() and (np.abs(values) <= LARGEST).all() and (values == np.round(values)).all():
            table[name] = values.astype(np.int64)
    return table


def _read_table(path: Path, more: Sequence[str] = ()) -> pd.DataFrame:
    try:
        # A strategy may be called "NA"; what is missing is empty.
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), keep_default_na=False, na_values=[""])
    except ValueError:  # not CSV, not UTF-8, or empty
        raise InvalidInput(f"{path}: is not a readable CSV file") from None
    for name in table.columns[~table.dtypes.map(pd.api.types.is_numeric_dtype)]:
        table[name] = table[name].map(lambda cell: from_csv(cell) if isinstance(cell, str) else cell)
    missing = [column for column in (*KEYS, "epoch", "nudged_phases", "test_acc") if column not in table]
    if missing:
        raise InvalidInput(f"{path}: has no column {', '.join(missing)}")
    if table.empty:
        raise InvalidInput(f"{path}: has no rows, there is nothing to analyse")
    table = table.assign(**{column: np.nan for column in (*EPOCH_COLUMNS, *more) if column not in table})
    if more:
        table = table.assign(**{name: value for name, value in ADDED.items() if name not in table})
    if more and "status" not in table:
        table["status"] = _status(table, np.ones(len(table), dtype=bool))
    return table


def _numbered(words: str, count: int) -> str:
    """`words` with each {singular|plural} decided by `count`."""
    return re.sub(r"\{([^|}]*)\|([^}]*)\}", lambda match: match[1] if count == 1 else match[2], words)
