"""TensorBoard's event files of a study: for each trial a run with the means over seeds, and below it a run for each seed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS, DataType, Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

# Columns by the group that TensorBoard shows them in.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "accuracy": ("val_acc", "test_acc", "train_acc", "train_loss"),
    "cost": ("nudged_phases", "relaxation_steps", "epoch_seconds"),
    "schedule": ("p_std", "longest_cheap_run", "learning_rate"),
    "relaxation": ("free_residual", "saturation", "collapsed"),
}
OBJECTIVES: Final = ("accuracy/val_acc", "cost/nudged_phases")


class EventLog:
    """The event files of one trial. They may be continued: epochs that are trained again replace those of the earlier file."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder
        self._config = config
        self._writers: dict[Path, RecordWriter] = {}

    def _write(self, run: Path, event: Event) -> None:
        if run not in self._writers:
            run.mkdir(exist_ok=True)
            file = open(run / f"events.out.tfevents.{time.time_ns()}", "ab")  # noqa: SIM115 (the writer closes it)
            self._writers[run] = RecordWriter(file)
            self._write(run, Event(wall_time=event.wall_time, file_version="brain.Event:2"))
            restart = SessionLog(status=SessionLog.START)
            self._write(run, Event(wall_time=event.wall_time, step=event.step, session_log=restart))
        self._writers[run].write(event.SerializeToString())
        self._writers[run].flush()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Add an epoch: a line of result.json."""
        seeds = self._config["seeds"]
        self._scalars(self._folder, row["epoch"], row)
        for index, seed in enumerate(seeds):
            own = {column: row[f"{column}_by_seed"][index] if f"{column}_by_seed" in row else value for column, value in row.items()}
            own["relaxation_steps"] = own["free_steps"] + own["nudged_steps"]
            self._scalars(self._folder / f"seed-{seed}", row["epoch"], own)

    def _scalars(self, run: Path, epoch: int, row: Mapping[str, Any]) -> None:
        values = [
            Summary.Value(tag=f"{group}/{column}", simple_value=row[column])
            for group, columns in GROUPS.items()
            for column in columns
            if row[column] == row[column]  # TensorBoard draws no NaN
        ]
        self._write(run, Event(wall_time=time.time(), step=epoch, summary=Summary(value=values)))

    def close(self, complete: bool) -> None:
        """Close the files; a complete trial gets its line in the HParams tab."""
        if complete:
            self._hparams()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _hparams(self) -> None:
        shown = {name: value for name, value in self._config.items() if isinstance(value, str | bool | int | float)}
        start = SessionStartInfo(group_name=str(self._config["trial"]))
        infos = []
        for name, value in shown.items():
            if isinstance(value, str):
                start.hparams[name].string_value = value
                kind = DataType.DATA_TYPE_STRING
            elif isinstance(value, bool):
                start.hparams[name].bool_value = value
                kind = DataType.DATA_TYPE_BOOL
            else:
                start.hparams[name].number_value = value
                kind = DataType.DATA_TYPE_FLOAT64
            infos.append(HParamInfo(name=name, type=kind))
        metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in OBJECTIVES]
        contents = {
            EXPERIMENT_TAG: HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=metrics)),
            SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
            SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS)),
        }
        for tag, content in contents.items():
            value = Summary.Value(tag=tag, metadata=create_summary_metadata(content))
            self._write(self._folder, Event(wall_time=time.time(), summary=Summary(value=[value])))
