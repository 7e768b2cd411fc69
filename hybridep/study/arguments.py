"""Command lines: an option for every field of a protocol, mistakes told in one line, an earlier study's arguments as defaults."""

import contextlib
import io
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, cast

import tyro
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hybridep.config import SLOTS, InvalidInput, TrialConfig, one_line
from hybridep.study.folder import read_description
from hybridep.study.mirror import Mirror
from hybridep.study.resources import Resources

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@cache
def _options(flat: frozenset[str]) -> type:
    """A dataclass with these flat values of TrialConfig, each None where it is not given."""
    options = []
    for name, info in option_fields().items():
        kind: Any = info.annotation
        kind = kind | None
        about = tyro.conf.arg(help=info.description, help_behavior_hint="(default: the protocol's)")
        options.append((name, Annotated[kind, about], field(default=None)))
    return make_dataclass("Protocol", options, frozen=True, namespace={"__reduce__": lambda self: (_options_of, (asdict(self),))})


def _options_of(values: dict[str, Any]) -> Any:
    """Options that were pickled, in a process that knows the same entries."""
    return protocol_options()(**values)


def option_fields() -> dict[str, FieldInfo]:
    """What a protocol sets, by flat name: the fields of TrialConfig and of all entries that may stand in it, policies aside.

    A policy is the study's subject; the dataset has an option of its own; the seed is one of --seeds.
    """
    found: dict[str, FieldInfo] = {}
    for name, info in TrialConfig.model_fields.items():
        if name in ("dataset", "policy", "seed"):
            continue
        if name not in SLOTS:
            found[name] = info
            continue
        slot = SLOTS[name]
        about = f"{slot.registry.kind}: {', '.join(slot.registry)}"
        found[slot.key] = FieldInfo(annotation=str, description=about if slot.key == slot.registry.kind else f"{slot.key} {about}")
        for entry in slot.registry:
            for flat, own in slot.fields_of(entry).items():
                found.setdefault(flat, slot.registry[entry].model_fields[own])
    return found


def protocol_options() -> type:
    """A dataclass with an option for all that a protocol sets, of the entries that are known now."""
    return _options(frozenset(option_fields()))


ProtocolOptions: Final = protocol_options()


def with_options(arguments: type["A"]) -> type["A"]:
    """The same arguments, with protocol options of the entries that are known now: an extension may have brought some."""
    if protocol_options() is ProtocolOptions or "options" not in arguments.__dataclass_fields__:
        return arguments
    return cast(type["A"], _with_options(cast(Any, arguments), protocol_options()))


@cache
def _with_options(arguments: type, options: type) -> type:
    own = ("options", Annotated[options, tyro.conf.arg(name="")], field(default_factory=options))
    namespace = {
        "__module__": arguments.__module__,
        "__doc__": arguments.__doc__,
        "__reduce__": lambda self: (_arguments_of, (arguments, {one.name: getattr(self, one.name) for one in fields(self)})),
    }
    return make_dataclass(arguments.__name__, [own], bases=(arguments,), frozen=True, namespace=namespace)


def _arguments_of(arguments: type["A"], values: dict[str, Any]) -> "A":
    return with_options(arguments)(**values)


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
    extend: tuple[Path, ...] = ()
    """Python files with families, estimators, networks, datasets or draws of your own; a copy is kept in study.json."""
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


A = TypeVar("A", bound="DataclassInstance")


def parse(arguments: type[A], argv: Sequence[str] | None, default: A | None = None) -> A:
    """The command line as a dataclass; InvalidInput in one line for a mistake. Help is printed and ends the process with code 0."""
    complaint = io.StringIO()
    arguments = with_options(arguments)
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
        return TypeAdapter(with_options(arguments)).validate_json(json.dumps(description["arguments"]), strict=True)
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
