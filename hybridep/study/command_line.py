"""`parse`: a command line as a dataclass of arguments, with --help in groups, mistakes in one line, an earlier study's as defaults."""

import argparse
import ast
import contextlib
import inspect
import io
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import tyro

from hybridep.config import SLOTS, InvalidInput, TrialConfig
from hybridep.presets import PRESETS, Preset

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = TypeVar("A", bound="DataclassInstance")
WORDS: Final = {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
# In the order in which --help shows them.
GROUPS: Final = ("study", "data", "network", "training", "strategy", "relaxation", "resources", "reporting")
# Of a protocol's own fields; what is an entry's belongs to its network or its strategy.
_GROUP_OF: Final = {
    **dict.fromkeys(("train_samples", "test_samples", "validation", "inputs", "std_factor", "augment", "crops"), "data"),
    **dict.fromkeys(("per", "grain"), "strategy"),
    **dict.fromkeys(("beta", "relaxation", "T1", "T2", "tolerance", "start"), "relaxation"),
}


@dataclass(frozen=True)
class Option:
    """How a field of a dataclass of arguments stands in --help, beside its type, its default and the text below it.

    In which group, the names it is chosen from, its flag if not the field's name, and what is used where it is not given.
    """

    group: str = GROUPS[0]
    choices: Collection[str] = ()
    flag: str = ""
    otherwise: str | Callable[[Preset], str] = ""


@dataclass(frozen=True)
class Line:
    """An option as --help shows it: the field's name and type, what it says, and the value where it is not given."""

    name: str
    kind: Any
    about: str
    option: Option
    value: Any = None

    def field(self, preset: Preset) -> tuple[str, Any, Any]:
        """The field of a dataclass for tyro."""
        option, about, metavar, hint = self.option, self.about, _metavar(self.kind, self.option.choices), None
        if "NAME" in metavar:
            about = f"{about} Of: {', '.join(option.choices)}."
        if self.value in (None, ()):  # tyro's own hint is the value, which says nothing where there is none
            usual = option.otherwise if isinstance(option.otherwise, str) else option.otherwise(preset)
            hint = f"(default: {usual})" if usual else ""
        shown = tyro.conf.arg(name=option.flag or None, help=about, metavar=metavar or None, help_behavior_hint=hint)
        return self.name, Annotated[self.kind, shown], field(default=self.value)


def parse(arguments: type[A], argv: Sequence[str] | None, default: A | None = None) -> A:
    """The command line as a dataclass; InvalidInput in one line for a mistake. Help is printed and ends the process with code 0."""
    complaint = io.StringIO()
    start: Any = arguments() if default is None else default
    preset, lines = _preset(argv, start), list(lines_of(start))
    groups = {name: [line.field(preset) for line in lines if line.option.group == name] for name in GROUPS}
    made = {name: make_dataclass(name, own) for name, own in groups.items() if own}
    form: Any = make_dataclass("Form", [(name, kind, field(default_factory=kind)) for name, kind in made.items()])
    try:
        with contextlib.redirect_stderr(complaint):
            filled = tyro.cli(cast(Any, tyro.conf.OmitArgPrefixes)[form], args=argv, description=sys.modules[arguments.__module__].__doc__)
    except SystemExit as exit:
        if exit.code:
            raise InvalidInput(_complaint(complaint.getvalue())) from None
        raise
    return cast(A, _rebuilt(start, {line.name: getattr(getattr(filled, line.option.group), line.name) for line in lines}))


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


def lines_of(start: Any) -> Iterator[Line]:
    """The options of arguments, those of what they hold among them."""
    hints, about = get_type_hints(type(start), include_extras=True), descriptions(cast(Any, type(start)))
    for one in fields(start):
        held, kind = getattr(start, one.name), hints[one.name]
        if one.name == "options":
            for name, line in protocol_options().items():
                option = replace(line.option, otherwise=start.instead.get(name, line.option.otherwise))
                yield replace(line, option=option, value=held.get(name))
        elif is_dataclass(held):
            yield from lines_of(held)
        else:
            option = next((more for more in getattr(kind, "__metadata__", ()) if isinstance(more, Option)), Option())
            kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
            yield Line(one.name, kind, about.get(one.name, ""), option, held)


def protocol_options() -> dict[str, Line]:
    """What a protocol sets, by flat name: the fields of TrialConfig and of all entries that may stand in it now, policies aside.

    A policy is the study's subject; the dataset has an option of its own; the seed is one of --seeds. None is one that is not given.
    """
    found: dict[str, Line] = {}

    def add(name: str, kind: Any, about: str, group: str, choices: Collection[str] = (), default: Any = None, entry: str = "") -> None:
        otherwise = partial(_of_protocol, name, default, entry)
        found.setdefault(name, Line(name, kind | None, about, Option(group, choices, otherwise=otherwise)))

    for name, info in TrialConfig.model_fields.items():
        if name in ("dataset", "policy", "seed"):
            continue
        if name not in SLOTS:
            add(name, info.annotation, info.description or "", _GROUP_OF.get(name, "training"))
            continue
        slot = SLOTS[name]
        group, kind = "network" if name == "network" else "strategy", slot.registry.kind
        add(slot.key, str, f"the {kind}" if slot.key == kind else f"the {slot.key} {kind}", group, tuple(slot.registry))
        for entry in slot.registry:
            for flat, own in slot.fields_of(entry).items():
                info = slot.registry[entry].model_fields[own]
                add(flat, info.annotation, info.description or "", group, default=info.default, entry=entry)
    return found


def _of_protocol(name: str, default: Any, entry: str, preset: Preset) -> str:
    """What a protocol has for an option; where it has nothing, the option's `default` with the `entry` that alone has such a field."""
    value = preset.protocol.flat().get(name)
    if value is not None:
        return _shown(value)
    if name == "tolerance":
        return f"{preset.tolerance:g} with adaptive"
    return f"{_shown(default)} with {entry}" if entry and default else ""


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


def first_look(argv: Sequence[str] | None) -> argparse.Namespace:
    """What a command line says of the options that others depend on, None of those not given. Of mistakes `parse` tells: they look like
    nothing given.
    """
    few = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("dataset", "protocol", "table", "resume"):
        few.add_argument(f"--{option}")
    few.add_argument("--from", dest="repeat", type=Path)
    few.add_argument("--extend", nargs="*", type=Path, default=[])
    try:
        return few.parse_known_args(sys.argv[1:] if argv is None else list(argv))[0]
    except argparse.ArgumentError:
        return few.parse_args([])


def _preset(argv: Sequence[str] | None, start: Any) -> Preset:
    """The protocol whose values are shown: that which a command line or the arguments that it stands on name, else digits'."""
    seen = first_look(argv)
    names = [getattr(seen, option) or getattr(start, option, None) for option in ("protocol", "table", "dataset")]
    return next((PRESETS[name] for name in names if isinstance(name, str) and name in PRESETS), PRESETS["digits"])


def _complaint(box: str) -> str:
    """tyro's framed error message (a title, the message, a rule, hints) in one line."""
    lines = [line.strip("│| ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]]
    message = itertools.takewhile(_written, itertools.dropwhile(lambda line: not _written(line), lines))
    return " ".join(message).removeprefix("Error parsing ") or "the arguments are not understood; see --help"


def _written(line: str) -> bool:
    return bool(line.strip("─-╰╯+ "))
