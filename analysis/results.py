"""One Ray trial from its result.json: a JSON line per epoch, as crashes and resumes leave it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json  # several times faster than json on result lines, and reads NaN

from analysis.vocabulary import EPOCH_COLUMNS, SHARED_COLUMNS, THESIS

Record = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One strategy on its seeds: configuration, and the epoch columns as arrays [seeds, epochs]; `stopped` if no more will come."""

    trial_id: str
    strategy: str
    origin: str
    seeds: tuple[int, ...]
    config: dict[str, Any]
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
        if isinstance(record, dict) and isinstance(record.get("epoch"), (int, float)) and record["epoch"] >= 1:
            by_epoch[int(record["epoch"])] = record
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
    """A trial from its records and the study's header, which holds what all trials have in common.

    `folder` names the trial where the records do not. Raises ValueError, TypeError or KeyError where records do not fit together.
    """
    last = records[-1]
    own = dict(last.get("config") or {})
    strategy = str(own.pop("strategy", folder))
    origin = str(own.pop("origin", None) or ("thesis" if strategy in THESIS else "search"))
    seeds = tuple(int(seed) for seed in own.pop("seeds", None) or header.get("seeds") or range(_seeds_recorded(last)))
    protocol = dict(header.get("protocol") or {})
    config = {**protocol, **{name: value for name, value in own.items() if name in protocol or not protocol}}
    config.pop("seed", None)
    columns = {column: _column(records, column, len(seeds)) for column in EPOCH_COLUMNS}
    return Trial(str(last.get("trial_id", folder)), strategy, origin, seeds, config, columns, failed or last.get("done") is True)


def _seeds_recorded(record: Record) -> int:
    return next((len(value) for name, value in record.items() if name.endswith("_by_seed")), 1)


def _column(records: list[Record], column: str, seeds: int) -> np.ndarray:
    """Values [seeds, epochs] as floats, NaN where a record does not have them."""
    name = f"{column}_by_seed"
    if column in SHARED_COLUMNS or (seeds == 1 and name not in records[-1]):
        return np.tile(np.array([record.get(column) for record in records], dtype=float), (seeds, 1))
    nothing = [None] * seeds  # also where only a mean is there: it is no seed's value
    values = np.array([record.get(name, nothing) for record in records], dtype=float).T
    if values.shape != (seeds, len(records)):
        raise ValueError(f"{name} holds {values.shape[0]} values, there are {seeds} seeds")
    return values
