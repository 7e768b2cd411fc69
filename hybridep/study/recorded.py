"""`run_here`: the one way in which studies and benchmarks that need no Ray begin, are recorded and end."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hybridep.config import InvalidInput, TrialConfig, completed, require_gpu
from hybridep.datasets import Dataset, DatasetError, load, split
from hybridep.registry import worded
from hybridep.study.checks import MOST_THREADS, require
from hybridep.study.command_line import parse
from hybridep.study.description import as_json, describe, new_folder, now
from hybridep.study.folder import StudyFolder

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import DataclassInstance

COMPLETE: Final = 0
STOPPED: Final = 1
INVALID: Final = 2
UNFINISHED: Final = 3
INTERRUPTED: Final = 130


@dataclass(frozen=True)
class Job:
    """`work` writes its results into the folder that it is given; `about` stands in its study.json, beside what stands in every one.

    What it returns, if anything, is the exit code.
    """

    work: Callable[[Path], int | None]
    about: Mapping[str, Any] = field(default_factory=dict)


A = TypeVar("A", bound="DataclassInstance")


def told(error: object, code: int = INVALID) -> int:
    """Tell in a line what went wrong, a user's mistake unless `code` says otherwise; the exit code."""
    print("error:", *str(error).splitlines(), file=sys.stderr)
    return code


def run_here(kind: str, arguments: type[A], make_job: Callable[[A], Job], argv: Sequence[str] | None = None) -> int:
    """Run a study or benchmark; the process's exit code. Every mistake is told in one line, before any work.

    `kind` is the name of its script; `make_job` turns arguments into work, or raises InvalidInput or DatasetError.
    """
    try:
        args: Any = parse(arguments, argv)
        job = make_job(args)
        description = {**describe(kind, args), **job.about, "started": now(), "ended": None}
        folder = StudyFolder.create(Path(args.out or new_folder(kind)), description)
    except (InvalidInput, DatasetError) as mistake:
        return told(mistake)
    with closing(folder):
        try:
            code = job.work(folder.path)
            folder.write(ended=now())
        except OSError as error:
            return told(f"--out {folder.path}: cannot be written ({error.strerror or error})", STOPPED)
        except KeyboardInterrupt:
            print(f"Stopped; {folder.path} holds what was done.", flush=True)
            return INTERRUPTED
    print(f"Written to {folder.path}", flush=True)
    return code or COMPLETE


@dataclass(frozen=True)
class Diagnosis:
    """A protocol that is trained on seeds, and how many of its training images make up the diagnostic batch, if there is one.

    `shortened` says how it falls short of the published run, empty where it does not. A study that can be gone on with writes what it
    finished to `table`, which has at least these columns, and `same` names the arguments that its rows depend on, beside protocol and data.
    """

    protocol: TrialConfig
    seeds: tuple[int, ...]
    samples: int = 1
    shortened: str = ""
    table: str = ""
    columns: Mapping[str, type] = field(default_factory=dict)
    same: tuple[str, ...] = ()
    finished: "pd.DataFrame | None" = None
    """The rows of the earlier run that is gone on with, filled in by `diagnose`."""


def finished(earlier: Path, plan: Diagnosis, about: Mapping[str, Any], arguments: Mapping[str, Any]) -> "pd.DataFrame":
    """What the run in this folder finished; InvalidInput in one line where it was not this study, begun with the same `arguments`."""
    import pandas as pd

    try:
        begun = json.loads((earlier / "study.json").read_text(encoding="utf-8"))
        rows = pd.read_csv(earlier / plan.table).astype(dict(plan.columns))
        then = {
            **completed(begun["protocol"]),
            "dataset": begun["dataset"]["checksum"],
            "samples": begun.get("samples", plan.samples),
            **{name: begun["arguments"][name] for name in plan.same},
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"--resume {earlier}: holds no {plan.table} of an earlier run ({error})") from None
    now = {**about["protocol"], "dataset": about["dataset"]["checksum"], "samples": plan.samples}
    now |= {name: arguments[name] for name in plan.same}
    for name in sorted(now, key=lambda name: (name != "dataset", name)):
        if then.get(name) != now[name]:
            option, value = f"--{name.replace('_', '-')}", then.get(name)
            words = " ".join(map(str, value)) if isinstance(value, list) else worded(value)
            was = "on other images" if name == "dataset" else f"without {option}" if value is None else f"with {option} {words}"
            raise InvalidInput(f"--resume {earlier}: was begun {was}, give the arguments that it was begun with")
    return rows


def write_table(rows: "pd.DataFrame", file: Path, **given: Any) -> None:
    """A CSV file that is there as a whole or, if this is cut short, as it was before."""
    unfinished = file.with_suffix(".unfinished")
    rows.to_csv(unfinished, index=False, **given)
    os.replace(unfinished, file)


def diagnose(
    kind: str,
    arguments: type[A],
    make_plan: Callable[[A], Diagnosis],
    study: Callable[[A, Diagnosis, Dataset, Path], None],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a study that trains in this process and looks into it; the exit code. `arguments` have `data_dir` and `threads`."""

    def job(args: Any) -> Job:
        require("threads", args.threads, 1, MOST_THREADS)
        plan = make_plan(args)
        protocol = plan.protocol
        require_gpu(protocol.precision, "this study runs on CPUs")
        dataset = load(protocol.dataset, args.data_dir)
        available = len(split(dataset, protocol.validation, protocol.train_samples, protocol.test_samples).train)
        if not 1 <= plan.samples <= available:
            raise InvalidInput(f"--samples {plan.samples}: must be 1 to {available}, the images to train on")

        def work(folder: Path) -> None:
            from hybridep.kernels import use_threads

            use_threads(args.threads)
            study(args, plan, dataset, folder)

        for note in dataset.notes:
            print(f"{protocol.dataset}: {note}", flush=True)
        about: dict[str, Any] = {"protocol": protocol.flat("json"), "seeds": list(plan.seeds), "samples": plan.samples}
        about |= {"shortened": plan.shortened, "dataset": dataset.described()}
        if plan.table and args.earlier is not None:
            plan = replace(plan, finished=finished(args.earlier, plan, about, as_json(args)))
        return Job(work, about)

    return run_here(kind, arguments, job, argv)
