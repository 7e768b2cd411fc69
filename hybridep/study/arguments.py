"""The arguments that studies share, as dataclasses, and the protocol and seeds that they come to.

Each field is an option of the command line, described by the text below it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS
from hybridep.presets import PRESETS, PROTOCOLS, adapted
from hybridep.study.checks import check_choice, require_seeds
from hybridep.study.command_line import Option, protocol_options
from hybridep.study.resources import Resources


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Options as study.json holds them, in the types of their fields; ValueError where one does not fit. Null is one that was not given."""
    known, found = protocol_options(), {}
    for name, value in values.items():
        if value is None:
            continue
        if name not in known:
            raise ValueError(f"{name}: is no option of a protocol")
        try:
            found[name] = TypeAdapter(known[name].kind).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise ValueError(f"{name} {value!r}: {error.errors()[0]['msg']}") from None
    return found


# The protocol's values that were given, by flat name.
Options = Annotated[dict[str, Any], AfterValidator(_checked)]
DataDir = Annotated[Path | None, Option("data", otherwise="where each dataset is usually kept")]
DataNote = Annotated[str | None, Option("reporting", otherwise="the official ones")]
ProtocolName = Annotated[str | None, Option(choices=PROTOCOLS, otherwise="the dataset's own")]
DatasetName = Annotated[str, Option("data", DATASETS)]
Seeds = Annotated[tuple[int, ...], Option(otherwise=lambda preset: " ".join(map(str, preset.seeds)))]
Earlier = Annotated[Path | None, Option(flag="resume")]


@dataclass(frozen=True)
class FolderArgs:
    """The arguments that every study on Ray has: where data and results are, and what it runs on."""

    data_dir: DataDir = None
    """Folder with the dataset's files: torchvision's layout or the official files."""
    out: Annotated[str | None, Option(otherwise="a new folder under results/")] = None
    """Folder or URL (s3://, gs://, ...) for the study."""
    resume: str | None = None
    """Continue the study in this folder or at this URL, with the arguments that it was begun with."""
    repeat: Annotated[Path | None, Option(flag="from")] = None
    """Take the arguments of an earlier study from its study.json; those given here count more."""
    extend: tuple[Path, ...] = ()
    """Python files with families, estimators, networks, datasets or draws of your own; a copy is kept in study.json."""
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class StudyArgs(FolderArgs):
    """Beside them, those of a study that takes any dataset and protocol; its own dataclass inherits them and adds what it varies."""

    dataset: DatasetName = "digits"
    """Images to learn; also a file of your own that ends in .npz."""
    options: Options = field(default_factory=dict)
    # What --help says is used where one of these is not given, if that is not the protocol's own value.
    instead: ClassVar[Mapping[str, str]] = {}


@dataclass(frozen=True)
class HereArgs:
    """The arguments of everything that runs in this process, without Ray."""

    out: Annotated[Path | None, Option(otherwise="a new folder under results/")] = None
    """Folder for the results."""


@dataclass(frozen=True)
class DiagnosticArgs(HereArgs):
    """Beside them, those of a study of one protocol."""

    dataset: DatasetName = "digits"
    """Images to learn."""
    protocol: ProtocolName = None
    """Where network and training come from."""
    data_dir: DataDir = None
    """Folder with the dataset's files: torchvision's layout or the official files."""
    threads: Annotated[int, Option("resources")] = 1
    """CPU threads."""
    options: Options = field(default_factory=dict)
    instead: ClassVar[Mapping[str, str]] = {}


def given(arguments: FolderArgs, *names: str) -> Iterator[tuple[str, Any]]:
    """Those of these options that were given, with their values; `names` are fields of the arguments or of their resources."""
    usual = type(arguments)()
    for name in names:
        own, plain = (getattr(held if hasattr(held, name) else held.resources, name) for held in (arguments, usual))
        if own != plain:
            yield f"--{'from' if name == 'repeat' else name.replace('_', '-')}", own


def refuse(arguments: FolderArgs, *names: str) -> None:
    """InvalidInput for the first of these options that was given: it means nothing to this command."""
    for option, value in given(arguments, *names):
        raise InvalidInput(f"{option} {value}: means nothing to this command")


def chosen_protocol(args: Any, **overrides: Any) -> TrialConfig:
    """The named protocol, or the dataset's own, with `overrides` and above them the options that were given."""
    check_choice("dataset", args.dataset, DATASETS)
    if args.protocol is not None:
        check_choice("protocol", args.protocol, PROTOCOLS)
    return adapted(args.protocol or args.dataset, {"dataset": args.dataset, **overrides, **args.options})


def usual_seeds(args: Any) -> tuple[int, ...]:
    """The protocol's own."""
    return PRESETS[args.protocol or args.dataset].seeds


def chosen_seeds(args: Any, fresh: int = 0) -> tuple[int, ...]:
    """The seeds that were given, or the protocol's own; above the largest there is room for `fresh` more."""
    seeds: tuple[int, ...] = args.seeds or usual_seeds(args)
    require_seeds(seeds, fresh)
    return seeds
