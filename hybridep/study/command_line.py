"""`parse`: a command line as a dataclass of arguments, with --help in groups, mistakes in one line, an earlier study's as defaults."""

import argparse
import ast
import contextlib
import inspect
import io
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import tyro
from pydantic import TypeAdapter, ValidationError

from hybridep.config import InvalidInput, one_line
from hybridep.presets import PRESETS, Preset
from hybridep.study.arguments import ProtocolOption, protocol_options
from hybridep.study.folder import read_description
from hybridep.study.mirror import Mirror
from hybridep.study.option import GROUPS, Option

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = TypeVar("A", bound="DataclassInstance")
WORDS: Final = {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


@dataclass(frozen=True)
class Line:
    """An option as tyro is told of it: name, type, group, value where it is not given, and what --help says."""

    name: str
    kind: Any
    group: str
    value: Any
    flag: str
    about: str
    usual: str
    choices: Collection[str] = ()

    def field(self) -> tuple[str, Any, Any]:
        """The field of a dataclass for tyro."""
        about, metavar = self.about, _metavar(self.kind, self.choices)
        if "NAME" in metavar:
            about = f"{about} Of: {', '.join(self.choices)}."
        # tyro's own hint is the value, which says nothing where there is none.
        hint = f"(default: {self.usual})" if self.usual else "" if self.value in (None, ()) else None
        shown = tyro.conf.arg(name=self.flag or None, help=about, metavar=metavar or None, help_behavior_hint=hint)
        return self.name, Annotated[self.kind, shown], field(default=self.value)


def parse(arguments: type[A], argv: Sequence[str] | None, default: A | None = None) -> A:
    """The command line as a dataclass; InvalidInput in one line for a mistake. Help is printed and ends the process with code 0."""
    complaint = io.StringIO()
    start: Any = arguments() if default is None else default
    lines = list(lines_of(start, _preset(argv, start)))
    form: Any = make_dataclass("Form", [_group(name, own) for name in GROUPS if (own := [one for one in lines if one.group == name])])
    try:
        with contextlib.redirect_stderr(complaint):
            filled = tyro.cli(cast(Any, tyro.conf.OmitArgPrefixes)[form], args=argv, description=sys.modules[arguments.__module__].__doc__)
    except SystemExit as exit:
        if exit.code:
            raise InvalidInput(_complaint(complaint.getvalue())) from None
        raise
    return cast(A, _rebuilt(start, {line.name: getattr(getattr(filled, line.group), line.name) for line in lines}))


def _group(name: str, lines: list[Line]) -> tuple[str, Any, Any]:
    group = make_dataclass(name, [line.field() for line in lines])
    return name, group, field(default_factory=group)


def _rebuilt(start: Any, values: dict[str, Any]) -> Any:
    """The arguments with the values that the form holds, in their own places."""
    own: dict[str, Any] = {}
    for one in fields(start):
        held = getattr(start, one.name)
        if one.name == "options":
            own[one.name] = {name: value for name in protocol_options() if (value := values[name]) is not None}
        else:
            own[one.name] = _rebuilt(held, values) if is_dataclass(held) else values[one.name]
    return type(start)(**own)


def lines_of(start: Any, preset: Preset) -> Iterator[Line]:
    """The options of arguments, those of what they hold among them."""
    hints, about = get_type_hints(type(start), include_extras=True), descriptions(cast(Any, type(start)))
    for one in fields(start):
        held, kind = getattr(start, one.name), hints[one.name]
        option = next((more for more in getattr(kind, "__metadata__", ()) if isinstance(more, Option)), Option())
        if one.name == "options":
            yield from (_protocol_line(name, own, held.get(name), preset, start.instead) for name, own in protocol_options().items())
        elif is_dataclass(held):
            yield from lines_of(held, preset)
        else:
            usual = option.otherwise if isinstance(option.otherwise, str) else option.otherwise(preset)
            unset = held is None or held == ()
            kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
            text = about.get(one.name, "")
            yield Line(one.name, kind, option.group, held, option.flag, text, usual if unset else "", option.choices)


def _protocol_line(name: str, option: ProtocolOption, held: Any, preset: Preset, instead: Mapping[str, str]) -> Line:
    """An option for a value of the protocol: None is where it is not given, and what is used then is shown."""
    own, info, usual = preset.protocol.flat(), option.info, ""
    if name in instead:
        usual = instead[name]
    elif own.get(name) is not None:
        usual = _shown(own[name])
    elif name == "tolerance":
        usual = f"{preset.tolerance:g} with adaptive"
    elif option.only and info.default:
        usual = f"{_shown(info.default)} with {option.only}"
    kind = info.annotation | None  # type: ignore[operator]
    return Line(name, kind, option.group, held, "", info.description or "", usual, option.choices)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(kind: Any, choices: Collection[str]) -> str:
    """What stands for an option's value: a type in capitals, or the names that it may be; nothing for a switch."""
    if kind is bool:
        return ""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        word = "NAME" if choices else _metavar(first, ())
        return f"[{word} [{word} ...]]" if rest == [...] else " ".join(_metavar(one, ()) for one in (first, *rest))
    return f"{{{','.join(choices)}}}" if choices else WORDS.get(kind, "VALUE")


@cache
def descriptions(kind: type) -> dict[str, str]:
    """What stands below each field of a dataclass, by the field's name."""
    found: dict[str, str] = {}
    for own in filter(is_dataclass, reversed(kind.__mro__)):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(own))).body
        for line, below in itertools.pairwise(cast(ast.ClassDef, definition).body):
            if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[ast.unparse(line.target)] = " ".join(str(below.value.value).split())
    return found


def _preset(argv: Sequence[str] | None, start: Any) -> Preset:
    """The protocol whose values are shown: that which a command line or the arguments that it stands on name, else digits'."""
    named = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("dataset", "protocol", "table"):
        named.add_argument(f"--{option}", default=getattr(start, option, None))
    try:
        found, _ = named.parse_known_args(sys.argv[1:] if argv is None else list(argv))
    except argparse.ArgumentError:  # the parser of all arguments tells
        return PRESETS["digits"]
    names = [name for name in (found.protocol, found.table, found.dataset) if isinstance(name, str) and name in PRESETS]
    return PRESETS[names[0] if names else "digits"]


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
