"""One Ray trial from its result.json: a JSON line per epoch, as crashes and resumes leave it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from pydantic_core import from_json  # several times faster than json on result lines, and reads NaN

from analysis.vocabulary import EPOCH_COLUMNS, RESULT_COLUMNS, SHARED_COLUMNS, THESIS
from hybridep.config import LABELS

Record = dict[str, Any]

NUMBERS = ("skew", "beta", "T1", "T2", "tolerance", "cycles", "epochs")  # configuration fields that analysis calculates with
LARGEST = 1e15  # beyond any count, cost or loss that training could report


@dataclass(frozen=True)
class Trial:
    """One strategy on its seeds, and the epoch columns as arrays [seeds, epochs]; `stopped` if no more will come.

    `config` has the fields of the protocol with the strategy's overrides; `description` is the platform's own, empty in older folders.
    """

    trial_id: str
    strategy: str
    origin: str
    seeds: tuple[int, ...]
    config: dict[str, Any]
    description: str
    columns: dict[str, np.ndarray]
    stopped: bool

    @property
    def epochs(self) -> int:
        """Epochs that were read."""
        return int(self.columns["epoch"].shape[1])


def read_records(path: Path) -> tuple[list[Record], int]:
    """The records of `path` in the order of their epochs, and the number of lines that could not be read.

    An epoch that was trained again after a resume is there twice: the last one counts.
    """
    by_epoch: dict[int, Record] = {}
    damaged = 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            record = from_json(line)
        except ValueError:
            damaged += 1
            record = _record_after_tear(line)
        epoch = record.get("epoch") if isinstance(record, dict) else None
        if _is_number(epoch) and 1 <= epoch <= LARGEST:
            by_epoch[int(epoch)] = record
    return [by_epoch[epoch] for epoch in sorted(by_epoch)], damaged


def _record_after_tear(line: bytes) -> Record | None:
    """The whole record behind a torn one: a resumed run appends to the file, so its first record continues the torn line."""
    for start in re.finditer(rb'\{"', line[1:]):
        try:
            record = from_json(line[1 + start.start() :])
        except ValueError:
            continue
        return record if isinstance(record, dict) and "epoch" in record else None
    return None


def make_trial(records: list[Record], header: Mapping[str, Any], folder: str, failed: bool) -> Trial:
    """A trial from its records and the study's header, whose protocol (ready for a table) holds what all trials have in common.

    `folder` names the trial where the records do not. Raises ValueError, TypeError or KeyError where records do not fit together.
    """
    last = records[-1]
    row = dict(last.get("config") or {})
    strategy = str(row.get("strategy", folder))
    origin = str(row.get("origin") or ("thesis" if strategy in THESIS else "search"))
    seeds = tuple(int(seed) for seed in row.get("seeds") or header.get("seeds") or range(_seeds_recorded(last)))
    overrides = {name: checked_value(name, value) for name, value in row.items() if name not in (*LABELS, *RESULT_COLUMNS)}
    config = {**(header.get("protocol") or {}), **overrides}
    config.pop("seed", None)
    trial_id, description = str(last.get("trial_id", folder)), str(row.get("description") or "")
    stopped = failed or last.get("done") is True
    return Trial(trial_id, strategy, origin, seeds, config, description, _columns(records, len(seeds)), stopped)


def checked_value(name: str, value: Any) -> str | int | float | bool | None:
    """A configuration value as it stands in a table; ValueError where it is nothing that analysis could calculate with."""
    if name in NUMBERS and value is not None and not (_is_number(value) and 0 <= value <= LARGEST):
        raise ValueError(f"{name} {value!r} is no number that training could use")
    if name in ("beta", "epochs") and value is not None and value <= 0:
        raise ValueError(f"{name} {value!r} must be more than 0")
    if name == "sizes" and not (isinstance(value, (list, tuple)) and value and all(_is_number(size) and size >= 1 for size in value)):
        raise ValueError(f"sizes {value!r} is no list of numbers of units")
    return csv_value(value)


def csv_value(value: Any) -> str | int | float | bool | None:
    """A configuration value as it stands in a table: sequences as `784-256-10`, knots as `0:1-0.5:0.2`."""
    if isinstance(value, (list, tuple)):
        return "-".join(":".join(map(str, item)) if isinstance(item, (list, tuple)) else str(item) for item in value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def plain(value: Any) -> str:
    """A value of the configuration so that it is the same whether it comes from JSON, a table with gaps, or CSV.

    >>> plain(30) == plain(30.0) == plain("30"), plain(None) == plain(float("nan")) == ""
    (True, True)
    """
    told = csv_value(value)
    if told is None or isinstance(told, bool):
        return "" if told is None else str(told)
    try:
        return "" if np.isnan(float(told)) else repr(float(told))
    except ValueError:
        return str(told)


def _seeds_recorded(record: Record) -> int:
    return next((len(value) for name, value in record.items() if name.endswith("_by_seed")), 1)


def _columns(records: list[Record], seeds: int) -> dict[str, np.ndarray]:
    """The epoch columns [seeds, epochs] as floats, NaN where records do not have them. A mean over seeds stands for no seed."""
    by_seed = [name for name in EPOCH_COLUMNS if f"{name}_by_seed" in records[-1]]
    shared = [name for name in EPOCH_COLUMNS if name not in by_seed and (name in SHARED_COLUMNS or seeds == 1)]
    keys, nothing = [f"{name}_by_seed" for name in by_seed], [None] * seeds
    own = np.array([[record.get(key, nothing) for key in keys] for record in records], dtype=float).reshape(len(records), len(keys), seeds)
    common = np.array([[record.get(name) for name in shared] for record in records], dtype=float)
    columns = {name: np.full((seeds, len(records)), np.nan) for name in EPOCH_COLUMNS}
    columns |= {name: np.tile(common[:, place], (seeds, 1)) for place, name in enumerate(shared)}
    columns |= {name: own[:, place].T for place, name in enumerate(by_seed)}
    for name, values in columns.items():
        values[~(np.abs(values) <= (1 if name.endswith("_acc") else LARGEST))] = np.nan  # infinite, or no accuracy at all
    return columns


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
