"""Command lines: an option for every field of a protocol, mistakes told in one line, an earlier study's arguments as defaults."""

import contextlib
import io
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import tyro
from pydantic import TypeAdapter, ValidationError

from hybridep.config import InvalidInput, TrialConfig, one_line
from hybridep.study.folder import read_description
from hybridep.study.mirror import Mirror
from hybridep.study.resources import Resources

# What a strategy is made of is the study's subject; the dataset has an option of its own; the seed is one of --seeds.
NOT_PROTOCOL: Final = ("dataset", "family", "skew", "rising", "cycles", "knots", "seed")


def _protocol_options() -> type:
    options = []
    for name, info in TrialConfig.model_fields.items():
        if name in NOT_PROTOCOL:
            continue
        kind: Any = info.annotation
        kind = kind | None
        about = tyro.conf.arg(help=info.description, help_behavior_hint="(default: the protocol's)")
        options.append((name, Annotated[kind, about], field(default=None)))
    return make_dataclass("Protocol", options, frozen=True)


# An option for each field of TrialConfig that a protocol sets; None leaves the protocol's value.
ProtocolOptions: Final = _protocol_options()


@dataclass(frozen=True)
class FolderArgs:
    """The arguments that every study has: where data and results are, and what it runs on."""

    data_dir: Path | None = None
    """Folder with the dataset's files: torchvision's layout or the official files."""
    out: str | None = None
    """Folder or URL (s3://, gs://, ...) for the study; a new folder under results/ if not given."""
    resume: str | None = None
    """Continue the study in this folder or at this URL, with the arguments that it was begun with."""
    repeat: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Take the arguments of an earlier study from its study.json; those given here count more."""
    resources: Annotated[Resources, tyro.conf.arg(name="")] = field(default_factory=Resources)


@dataclass(frozen=True)
class StudyArgs(FolderArgs):
    """Beside them, those of a study that takes any dataset and protocol; its own dataclass inherits them and adds what it varies."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist or cifar10."""
    options: Annotated[ProtocolOptions, tyro.conf.arg(name="")] = field(default_factory=ProtocolOptions)  # type: ignore[valid-type]


def given(options: Any) -> dict[str, Any]:
    """The protocol options that were given, as overrides of TrialConfig's fields."""
    return {name: value for name, value in asdict(options).items() if value is not None}


A = TypeVar("A", bound=FolderArgs)


def parse(arguments: type[A], argv: Sequence[str] | None, default: A | None = None) -> A:
    """The command line as a dataclass; InvalidInput in one line for a mistake. Help is printed and ends the process with code 0."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            about = sys.modules[arguments.__module__].__doc__
            if default is None:
                return tyro.cli(arguments, args=argv, description=about)
            return tyro.cli(arguments, args=argv, description=about, default=default)
    except SystemExit as exit:
        if exit.code:
            raise InvalidInput(_complaint(complaint.getvalue())) from None
        raise


def _complaint(box: str) -> str:
    """tyro's framed error message (a title, the message, a rule, hints) in one line."""
    lines = [line.strip("│| ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]]
    message = itertools.takewhile(_written, itertools.dropwhile(lambda line: not _written(line), lines))
    return " ".join(message).removeprefix("Error parsing ") or "the arguments are not understood; see --help"


def _written(line: str) -> bool:
    return bool(line.strip("─-╰╯+ "))


def stored(arguments: type[A], file: Path, option: str, given: Path | str, kind: str, mirror: Mirror | None = None) -> A:
    """The arguments that a study.json holds; InvalidInput where it is not one of this kind of study, or damaged."""
    description = read_description(file, option, given, mirror)
    if description["kind"] != kind:
        raise InvalidInput(f"{option} {given}: is a {description['kind']} study, not a {kind}")
    try:
        # Strict: a true where a number was is damage, and not 1.
        return TypeAdapter(arguments).validate_json(json.dumps(description["arguments"]), strict=True)
    except ValidationError as error:
        raise InvalidInput(f"{option} {given}: study.json is damaged (arguments: {one_line(error)})") from None


def refuse(arguments: FolderArgs, *names: str) -> None:
    """InvalidInput for an option that was given and means nothing to this command; `names` are fields of it or of its resources."""
    usual = type(arguments)()
    for name in names:
        own, plain = (held if hasattr(held, name) else held.resources for held in (arguments, usual))
        if getattr(own, name) != getattr(plain, name):
            option = "from" if name == "repeat" else name.replace("_", "-")
            raise InvalidInput(f"--{option} {getattr(own, name)}: means nothing to this command")


def as_json(arguments: FolderArgs) -> dict[str, Any]:
    """Arguments as study.json holds them."""
    content: dict[str, Any] = TypeAdapter(type(arguments)).dump_python(arguments, mode="json")
    return content
