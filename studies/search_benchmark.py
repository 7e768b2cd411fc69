"""Measure how fast samplers find the front: hypervolume over the trials of whole searches, each repeated on seeds of its own.

Every search is an ordinary study of schedule_sweep.py in a folder of its own, of trials that are kept small: few epochs, few seeds. In a
repetition all samplers train on the same seeds, and all start from the thesis's five strategies. Hypervolume is measured as in every
report: by validation accuracy, from the corner of guessing at 1.05 times centered's nudged phases. Much of it is the thesis's already, for
every sampler alike; hence what a search adds to that is compared too.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Final

from hybridep.command import as_command
from hybridep.config import InvalidInput
from hybridep.datasets import DatasetError
from hybridep.storage import is_url
from hybridep.study.arguments import ProtocolName, StudyArgs
from hybridep.study.checks import MOST_SEEDS, require
from hybridep.study.command_line import Option
from hybridep.study.description import now
from hybridep.study.folder import StudyFolder
from hybridep.study.recorded import COMPLETE, STOPPED, UNFINISHED, told
from hybridep.study.resources import Resources
from hybridep.study.study import prepare, read_arguments, run
from search_spaces import SPACES
from studies import schedule_sweep

SAMPLERS: Final = tuple(name for name in schedule_sweep.SEARCHES if name not in ("thesis", "grid", "none"))
EPOCHS: Final = 8
# What a sampler that learns should reach, as a multiple of the hypervolume of `BASE`.
TARGET: Final = 1.15
BASE: Final = "random"


@dataclass(frozen=True)
class Args(StudyArgs):
    samplers: Annotated[tuple[str, ...], Option(choices=SAMPLERS)] = (BASE, "tpe")
    """Who searches: two or more samplers."""
    repetitions: int = 3
    """Searches of each sampler."""
    trials: int = 60
    """Strategies that each of them tries, beside the thesis's five."""
    seeds_each: int = 2
    """Seeds of every strategy; each repetition has its own."""
    space: Annotated[str, Option(choices=SPACES)] = "schedule+nudge"
    """What is searched, as in schedule_sweep.py."""
    protocol: ProtocolName = None
    """Where network and training come from."""
    instead: ClassVar[Mapping[str, str]] = {**schedule_sweep.Args.instead, "epochs": str(EPOCHS)}


def searches(args: Args) -> dict[str, schedule_sweep.Args]:
    """The sweeps to run by the names of their folders, a repetition at a time; InvalidInput in one line where arguments make no sense."""
    if len(args.samplers) < 2 or len(set(args.samplers)) < len(args.samplers) or not set(args.samplers) <= set(SAMPLERS):
        raise InvalidInput(f"--samplers {' '.join(args.samplers)}: must be two or more different ones of {', '.join(SAMPLERS)}")
    require("repetitions", args.repetitions, 1, MOST_SEEDS)
    require("seeds-each", args.seeds_each, 1, MOST_SEEDS)
    options = {"epochs": EPOCHS, **args.options}
    shared = {name: getattr(args, name) for name in ("data_dir", "resources", "dataset", "protocol", "trials", "space")}
    return {
        f"{sampler}-{repetition + 1}": schedule_sweep.Args(
            **shared,
            options=options,
            search=sampler,
            seeds=tuple(range(repetition * args.seeds_each, (repetition + 1) * args.seeds_each)),
        )
        for repetition in range(args.repetitions)
        for sampler in args.samplers
    }


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = read_arguments("search_benchmark", Args, argv)
        for option in ("out", "resume"):
            place = getattr(args, option)
            if place and is_url(place):
                raise InvalidInput(f"--{option} {place}: must be a folder; this study cannot be kept at a URL")
        sweeps = searches(args)
        plans = {name: schedule_sweep.plan(sweep) for name, sweep in sweeps.items()}
        args.resources.prepare()
        folder, _ = prepare("search_benchmark", args, next(iter(plans.values())))
    except (InvalidInput, DatasetError) as error:
        return told(error)
    with closing(folder):
        code = _run_all(folder, sweeps, args.resources)
        if code == COMPLETE:
            folder.write(ended=now())
            print(compare([folder.path / name for name in sweeps], folder.path), flush=True)
        return code


def _run_all(folder: StudyFolder, sweeps: dict[str, schedule_sweep.Args], resources: Resources) -> int:
    """Train what is left of every sweep; COMPLETE, or the exit code of the first that stops."""
    began = time.monotonic()
    for name, sweep in sweeps.items():
        path = folder.path / name
        if resources.time_budget is not None:
            left = resources.time_budget - (time.monotonic() - began)
            if left <= 0:
                print(f"The time budget is spent. Continue with: python {sys.argv[0]} --resume {folder.path}", flush=True)
                return UNFINISHED
            sweep = replace(sweep, resources=replace(resources, time_budget=left))
        sweep = replace(sweep, resume=str(path)) if (path / "study.json").exists() else replace(sweep, out=str(path))
        plan = schedule_sweep.plan(sweep)
        try:
            own, dataset = prepare("schedule_sweep", sweep, plan)
        except (InvalidInput, DatasetError) as error:
            return told(error)
        with closing(own):
            code = run(own, plan, dataset, sweep.resources, write_report=lambda _: None)
        # A strategy that failed counts as tried: what the samplers are compared by is there all the same.
        if code not in (COMPLETE, STOPPED) or own.description["ended"] is None:
            print(f"Then go on with: python {sys.argv[0]} --resume {folder.path}", flush=True)
            return code
    return COMPLETE


def compare(folders: Sequence[Path], out: Path) -> str:
    """Write the report on all searches together; returns what it says of the samplers."""
    from analysis.findings import sampler_verdicts
    from analysis.merge import read_studies
    from analysis.report import write_answer

    summary = write_answer(read_studies(folders), out)
    found = summary.answer
    return "\n".join([*sampler_verdicts(found.samplers, BASE, TARGET, found.hypervolumes.get("perfect")), str(summary.page)])


if __name__ == "__main__":
    as_command(main)
