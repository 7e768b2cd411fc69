"""`main`: a study from its command line to its report. Every mistake is found before Ray is imported."""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from hybridep.config import InvalidInput, completed, one_line
from hybridep.datasets import Dataset, DatasetError, load, split, untrained
from hybridep.extensions import Extension, loaded
from hybridep.storage import is_url
from hybridep.study.arguments import FolderArgs
from hybridep.study.choosing import Choosing
from hybridep.study.command_line import first_look, parse
from hybridep.study.decide import complete, following, next_round
from hybridep.study.description import describe, new_folder, now
from hybridep.study.folder import StudyFolder, check_vacant, read_description
from hybridep.study.front import Point
from hybridep.study.mirror import Mirror
from hybridep.study.plan import Plan
from hybridep.study.progress import Progress
from hybridep.study.recorded import COMPLETE, INTERRUPTED, INVALID, STOPPED, UNFINISHED, told
from hybridep.study.resources import Resources
from hybridep.study.start_memory import state_start_memory

# What may change when a study is continued; some may only grow. What is to be decided may also be said later.
CHANGEABLE: Final = ("resume", "resources", "data_dir", "trials", "confirm", "decide", "margins", "decide_seeds", "stack")
GROWING: Final = ("trials", "confirm", "decide_seeds")
SAID_LATER: Final = ("shares", "contenders")

A = TypeVar("A", bound=FolderArgs)
Report = Callable[[Path], None]
Session = Callable[[StudyFolder, Plan, Dataset, Resources, Progress], None]


def write_sweep_report(folder: Path) -> None:
    """Tables, figures and page of a study that looks for the front."""
    from analysis.report import write_report

    summary = write_report(folder)
    print(f"{summary.text}\n{summary.page}", flush=True)


def main(
    kind: str,
    arguments: type[A],
    make_plan: Callable[[A], Plan],
    argv: Sequence[str] | None = None,
    write_report: Report = write_sweep_report,
    session: Session | None = None,
) -> int:
    """Run or continue a study; the process's exit code. `kind` is the name of its script, `make_plan` turns arguments into work.

    `write_report` makes the outputs from the study's folder when all trials have ended. `session` trains what is left, on Ray.
    """
    try:
        args = read_arguments(kind, arguments, argv)
        plan = make_plan(args)
        args.resources.prepare(plan.protocol.precision)
        folder, dataset = prepare(kind, args, plan)
        plan = plan.choosing(folder.description["choices"])
    except (InvalidInput, DatasetError) as error:
        return told(error)
    with closing(folder):
        code = run(folder, plan, dataset, args.resources, write_report, session)
        if code == INVALID:
            folder.discard(made=args.out is None) if args.resume is None else folder.restore()
        return code


def read_arguments(kind: str, arguments: type[A], argv: Sequence[str] | None) -> A:
    """The command line; where it continues or repeats a study, on top of that study's arguments. Extensions bring options of their own."""
    seen = first_look(argv)
    option, given = ("--resume", seen.resume) if seen.resume is not None else ("--from", seen.repeat)
    description = None
    extensions = [Extension.read(path) for path in seen.extend]
    if given is not None and None in (seen.resume, seen.repeat):
        description = _described(option, given)
        kept = Extension.kept(description, f"{option} {given}")
        extensions = kept if option == "--resume" else extensions + kept
    for extension in extensions:
        extension.load()
    args = parse(arguments, argv)
    if args.resume is not None and args.repeat is not None:
        raise InvalidInput(f"--from {args.repeat}: cannot be given together with --resume")
    if description is None:
        return args
    earlier = _stored(arguments, description, f"{option} {given}", kind)
    if option == "--from":
        return parse(arguments, argv, default=replace(earlier, out=None, resume=None))
    args = replace(parse(arguments, argv, default=earlier), resume=args.resume)
    _check_changes(args, earlier)
    return args


def _described(option: str, given: str | Path) -> dict[str, Any]:
    """The study.json of a study that is continued, or repeated from its folder or that very file; InvalidInput where it cannot be."""
    if option == "--resume":
        path, mirror = located(str(given), option)
        return read_description(path / "study.json", option, given, mirror)
    path = Path(given)
    return read_description(path / "study.json" if path.is_dir() else path, option, given)


def _stored(arguments: type[A], description: dict[str, Any], study: str, kind: str) -> A:
    """The arguments that a study was begun with; InvalidInput where it is not one of this kind, or damaged."""
    if description["kind"] != kind:
        raise InvalidInput(f"{study}: is a {description['kind']} study, not a {kind}")
    try:
        # Strict: a true where a number was is damage, and not 1.
        return TypeAdapter(arguments).validate_json(json.dumps(description["arguments"]), strict=True)
    except ValidationError as error:
        raise InvalidInput(f"{study}: study.json is damaged (arguments: {one_line(error)})") from None


def _check_changes(args: FolderArgs, earlier: FolderArgs) -> None:
    changeable = CHANGEABLE if getattr(earlier, "decide", True) else (*CHANGEABLE, *SAID_LATER)
    for option in fields(args):
        new, old = getattr(args, option.name), getattr(earlier, option.name)
        name = f"--{option.name.replace('_', '-')}"
        if option.name == "options" and new != old:
            name = next(f"--{part.replace('_', '-')}" for part in new if new[part] != old.get(part))
        if new != old and option.name not in changeable:
            raise InvalidInput(f"{name}: cannot be changed when a study is continued")
        if option.name in GROWING and None not in (new, old) and new < old:
            raise InvalidInput(f"{name} {new}: must be at least {old}, as the study was begun")


def located(place: str, option: str) -> tuple[Path, Mirror | None]:
    """The folder in which a study is worked on, and its mirror where it is kept at a URL; InvalidInput where the URL cannot be used."""
    if not is_url(place):
        return Path(place), None
    mirror = Mirror(place, option)
    return mirror.folder, mirror


def prepare(kind: str, args: FolderArgs, plan: Plan) -> tuple[StudyFolder, Dataset]:
    """The study's folder, locked, and its dataset, read; InvalidInput or DatasetError in one line where either cannot be had."""
    option, place = ("--out", args.out) if args.resume is None else ("--resume", args.resume)
    path, mirror = located(place, option) if place else (None, None)
    if args.resume is None and path is not None:
        mirror.check_vacant() if mirror else check_vacant(path)
    protocol = plan.protocol
    dataset = load(protocol.dataset, args.data_dir)
    splits = split(dataset, protocol.validation, protocol.train_samples, protocol.test_samples)
    for note in (*dataset.notes, *untrained(dataset, splits)):
        print(f"{protocol.dataset}: {note}", flush=True)
    description = {
        **describe(kind, replace(args, resume=None, repeat=None)),
        "protocol": protocol.flat("json"),
        "choices": plan.choices,
        "extensions": [extension.as_json() for extension in loaded()],
        "seeds": list(plan.seeds),
        "trials_planned": plan.trials,
        "dataset": dataset.described(),
    }

    def ready(folder: StudyFolder) -> None:
        if args.resume is not None:
            _check_begun(folder, dataset, description)
            description["choices"] = _choices_as_begun(plan, folder)
            state_start_memory(plan.choosing(description["choices"]), len(splits.train), args.resources.start_memory)
            folder.write(**description)
        folder.trials.mkdir(exist_ok=True)

    if args.resume is not None and path is not None:
        return StudyFolder.open(path, kind, mirror, ready), dataset
    state_start_memory(plan, len(splits.train), args.resources.start_memory)
    return StudyFolder.create(path or new_folder(kind), {**description, "started": now(), "ended": None}, mirror, ready), dataset


def _check_begun(folder: StudyFolder, dataset: Dataset, description: dict[str, Any]) -> None:
    """InvalidInput where a study was begun as something else."""
    if folder.description["dataset"].get("checksum") != dataset.checksum:
        name = dataset.info.name
        raise InvalidInput(f"--resume {folder.place}: was begun with other {name} data; give the same files with --data-dir")
    begun = {**folder.description, "protocol": completed(folder.description["protocol"])}
    for name in ("protocol", "seeds"):
        if begun.get(name) != description[name]:
            raise InvalidInput(f"--resume {folder.place}: study.json is damaged ({name} does not follow from arguments)")


def _choices_as_begun(plan: Plan, folder: StudyFolder) -> dict[str, list[str]]:
    """The names that a study's search chooses from, as it was begun; what there is beside them now is told and left out."""
    try:
        begun = plan.choosing(folder.description.get("choices", plan.choices)).choices
    except (InvalidInput, AttributeError, TypeError) as error:
        versions = folder.description.get("versions")
        version = f"; it ran with hybridep {versions.get('hybridep')}" if isinstance(versions, dict) else ""
        raise InvalidInput(f"--resume {folder.place}: the choices in study.json cannot be searched ({error}){version}") from None
    for kind, names in plan.choices.items():
        if new := [name for name in names if name not in begun[kind]]:
            print(f"{folder.place}: goes on with the {kind} that it was begun with, without {', '.join(new)}", flush=True)
    return begun


def run(
    folder: StudyFolder, plan: Plan, dataset: Dataset, resources: Resources, write_report: Report, session: Session | None = None
) -> int:
    """Train what is left of a study, then write its report; the exit code."""
    selecting = "Validation" if plan.protocol.validation else "Test"
    later = "rounds of fresh seeds follow" if plan.deciding else "confirmation follows" if plan.fresh_seeds else ""
    progress = Progress(plan.trials, plan.protocol.epochs, selecting, later)
    try:
        for files in folder.recover():
            last = files.last()
            if last and last.get("done"):
                progress.found(Point.of(last))
        if plan.deciding:
            next_round(folder, plan.deciding)
    except InvalidInput as mistake:
        return told(mistake)
    except OSError as error:
        return told(f"--resume {folder.place}: cannot be read or written ({error.strerror or error}: {error.filename})")
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        return told(f"--resume {folder.place}: {files.results} is damaged ({type(error).__name__}: {error})")
    if plan.deciding and not plan.trials:
        progress.planned = progress.done + len(following(folder, plan))
        begun = f"{', '.join(plan.deciding.named)} against {plan.deciding.target}, {plan.protocol.epochs} epochs, in rounds of fresh seeds"
    else:
        begun = f"{plan.trials} trials of {plan.protocol.epochs} epochs on seeds {' '.join(map(str, plan.seeds))}"
    print(f"{folder.place}: {begun}", flush=True)
    code = COMPLETE if complete(folder, plan) else train(folder, plan, dataset, resources, progress, write_report, session)
    if code != COMPLETE or not complete(folder, plan):
        return code
    try:
        if folder.description["ended"] is None:  # the driver died between the last row and this
            folder.write(ended=now())
        write_report(folder.path)
        folder.send_outputs()
    except OSError as error:
        return told(f"the report cannot be written to {folder.place} ({error.strerror or error}); all trials have ended", STOPPED)
    except InvalidInput as error:  # every trial failed: there is nothing to report on, and each has said why
        return told(error, STOPPED)
    return STOPPED if progress.failed else COMPLETE


def train(
    folder: StudyFolder,
    plan: Plan,
    dataset: Dataset,
    resources: Resources,
    progress: Progress,
    write_report: Report,
    session: Session | None = None,
) -> int:
    """Train what is left of a study; the exit code. Whoever stops it gets a report of what is there."""
    progress.show(now=True)
    choosing = Choosing(folder, plan, dataset, resources)
    try:
        if session is None and not plan.stack:
            choosing.begin()
        # Only now: Ray and Optuna take seconds to import, in which a GPU is tried.
        from hybridep.study import tuning
    except BaseException as stopped:
        choosing.stop()
        if isinstance(stopped, InvalidInput):
            return told(stopped)
        raise

    script = Path(sys.argv[0]).with_name(f"{folder.description['kind']}.py")  # a benchmark runs other scripts' studies
    go_on = f"Continue with: python {script} --resume {folder.place}"
    try:
        with ExitStack() as shown:
            shown.callback(progress.finish)
            shown.callback(choosing.stop)
            with tuning.stopping_on_storage_errors():
                folder.write(ended=None)
            if plan.stack:
                from hybridep.study import stacked  # imports PyTorch, which a study on Ray leaves to its workers

                session = stacked.run_stacked
            (session or partial(tuning.run_session, choosing=choosing))(folder, plan, dataset, resources, progress)
            with tuning.stopping_on_storage_errors():
                folder.write(ended=now())
    except InvalidInput as error:
        return told(error)
    except tuning.OutOfTime:
        print(f"The time budget is spent. {go_on}", flush=True)
        return UNFINISHED
    except tuning.StudyStopped as error:
        return told(f"{error}. {go_on}", STOPPED)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, KeyboardInterrupt):  # who asks for the other does not wait for a report
            _report_so_far(folder, progress, write_report)
        print(f"Stopped. {go_on}", flush=True)
        return INTERRUPTED
    return COMPLETE


def _report_so_far(folder: StudyFolder, progress: Progress, write_report: Report) -> None:
    """The report of the trials that have ended; another Ctrl-C leaves it out."""
    if not progress.points:
        return
    print("Writing the report of what is there; Ctrl-C leaves it out.", flush=True)
    with contextlib.suppress(KeyboardInterrupt, InvalidInput, OSError):
        write_report(folder.path)
        folder.send_outputs()
