"""TensorBoard's event files of a study: for each trial a run with the means over seeds and, on request, below it one for each seed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.histogram.metadata import create_summary_metadata as histogram_metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS, DataType, Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_END_INFO_TAG, SESSION_START_INFO_TAG, create_summary_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

# Columns by the group that TensorBoard shows them in.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "accuracy": ("val_acc", "test_acc", "train_acc", "train_loss"),
    "cost": ("nudged_phases", "relaxation_steps", "epoch_seconds"),
    "schedule": ("p_std", "longest_cheap_run", "learning_rate"),
    "relaxation": ("free_residual", "saturation", "collapsed"),
}
# What may be a column of the HParams tab; those that people look for come first. TensorBoard asks one run for the columns: each names all.
HPARAMS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("strategy", "origin", "family"), "string"),
    "skew": "number",
    "beta": "number",
    **dict.fromkeys(("cheap", "accurate", "draw", "grain"), "string"),
    "epochs": "number",
    "relaxation": "string",
    **dict.fromkeys(("T1", "T2", "tolerance"), "number"),
    **dict.fromkeys(("start", "rising", "cycles"), "string"),
}
# TensorBoard shows the first five columns at first, and in parallel coordinates only the runs that have a value in each.
SHOWN_AT_FIRST: Final = 5
KINDS: Final = {"string": DataType.DATA_TYPE_STRING, "number": DataType.DATA_TYPE_FLOAT64}


class EventFiles:
    """The event files of one or more runs, opened when something is written to them."""

    def __init__(self) -> None:
        self._writers: dict[Path, RecordWriter] = {}

    def write(self, run: Path, event: Event) -> None:
        if run not in self._writers:
            run.mkdir(exist_ok=True)
            file = open(run / f"events.out.tfevents.{time.time_ns()}", "ab")  # noqa: SIM115 (the writer closes it)
            self._writers[run] = RecordWriter(file)
            self.write(run, Event(wall_time=event.wall_time, file_version="brain.Event:2"))
            # Epochs that are trained again replace those of an earlier file.
            restart = SessionLog(status=SessionLog.START)
            self.write(run, Event(wall_time=event.wall_time, step=event.step, session_log=restart))
        self._writers[run].write(event.SerializeToString())
        self._writers[run].flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()


class EventLog:
    """The event files of one trial: `config` is its own, `protocol` what it leaves as it is.

    `varying` are the parameters that differ between the study's strategies, with whether all strategies have them: the HParams tab has no
    others. With `seeds`, each seed has a run of its own; without, only where there are histograms, which are a seed's.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], protocol: Mapping[str, Any], varying: Mapping[str, bool], seeds: bool = False
    ) -> None:
        self._folder = folder
        self._hparam_kinds = {name: kind for name, kind in HPARAMS.items() if name in varying}
        had_by_all = [name for name, kind in self._hparam_kinds.items() if varying[name] or kind == "string"]
        self._shown_at_first = had_by_all[:SHOWN_AT_FIRST]
        self._seeds = seeds
        self._config = {**protocol, **config}
        self._files = EventFiles()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Add an epoch: a line of result.json."""
        self._add(self._folder, row["epoch"], _scalars(row))
        if not self._seeds and "activations" not in row:
            return
        for index, seed in enumerate(self._config["seeds"]):
            own = {column: row[f"{column}_by_seed"][index] if f"{column}_by_seed" in row else value for column, value in row.items()}
            own["relaxation_steps"] = own["free_steps"] + own["nudged_steps"]
            histograms = _histograms(row["activations"], index) if "activations" in row else []
            self._add(self._folder / f"seed-{seed}", row["epoch"], (_scalars(own) if self._seeds else []) + histograms)

    def _add(self, run: Path, epoch: int, values: list[Summary.Value]) -> None:
        self._files.write(run, Event(wall_time=time.time(), step=epoch, summary=Summary(value=values)))

    def close(self, complete: bool) -> None:
        """Close the files; a complete trial gets its line in the HParams tab."""
        if complete:
            self._hparams()
        self._files.close()

    def _hparams(self) -> None:
        start = SessionStartInfo(group_name=str(self._config["trial"]))
        for name, kind in self._hparam_kinds.items():
            value = self._config.get(name)
            if kind == "string":
                start.hparams[name].string_value = "none" if value is None else str(value)
            elif value is not None:
                start.hparams[name].number_value = value
        # TensorBoard sorts its columns by name, and those first that are said to differ.
        infos = [HParamInfo(name=name, type=KINDS[kind], differs=name in self._shown_at_first) for name, kind in self._hparam_kinds.items()]
        selecting = "val_acc" if self._config.get("validation") else "test_acc"
        metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in (f"accuracy/{selecting}", "cost/nudged_phases")]
        contents = {
            EXPERIMENT_TAG: HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=metrics)),
            SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
            SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS)),
        }
        values = [Summary.Value(tag=tag, metadata=create_summary_metadata(content)) for tag, content in contents.items()]
        self._files.write(self._folder, Event(wall_time=time.time(), summary=Summary(value=values)))


def _scalars(row: Mapping[str, Any]) -> list[Summary.Value]:
    return [
        Summary.Value(tag=f"{group}/{column}", simple_value=row[column])
        for group, columns in GROUPS.items()
        for column in columns
        if row[column] == row[column]  # TensorBoard draws no NaN
    ]


def _histograms(activations: Mapping[str, Any], seed: int) -> list[Summary.Value]:
    """One seed's activations by layer, in TensorBoard's own form: left edge, right edge and count of each bin."""
    values = []
    for layer, counts in enumerate(activations["counts_by_seed"][seed], start=1):
        edges = np.linspace(activations["lowest"], activations["highest"], len(counts) + 1)
        tensor = make_tensor_proto(np.column_stack([edges[:-1], edges[1:], counts]), dtype=np.float64)
        tag = f"activations/layer_{layer}"
        values.append(Summary.Value(tag=tag, tensor=tensor, metadata=histogram_metadata(display_name=tag, description="")))
    return values


def write_image(run: Path, tag: str, step: int, png: bytes) -> None:
    """Add an image to a run, in an event file of its own: it may come from another thread than everything else."""
    files = EventFiles()
    image = Summary.Image(encoded_image_string=png, width=int.from_bytes(png[16:20], "big"), height=int.from_bytes(png[20:24], "big"))
    files.write(run, Event(wall_time=time.time(), step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))
    files.close()
