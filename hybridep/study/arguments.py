"""The arguments that studies share, as dataclasses: each field is an option of the command line, described by the text below it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, cast

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from hybridep.config import SLOTS, InvalidInput, TrialConfig
from hybridep.datasets import DATASETS
from hybridep.presets import PROTOCOLS
from hybridep.study.option import Option
from hybridep.study.resources import Resources

# Of a protocol's own fields; what is an entry's belongs to its network or its strategy.
_GROUP_OF: Final = {
    **dict.fromkeys(("train_samples", "test_samples", "validation", "inputs", "std_factor", "augment", "crops"), "data"),
    **dict.fromkeys(("per", "grain"), "strategy"),
    **dict.fromkeys(("beta", "relaxation", "T1", "T2", "tolerance", "start"), "relaxation"),
}


@dataclass(frozen=True)
class ProtocolOption:
    """An option for what a protocol sets: the field that it fills, the group, and the names or entries that have such a field."""

    info: FieldInfo
    group: str
    choices: Collection[str] = ()
    only: str = ""


def protocol_options() -> dict[str, ProtocolOption]:
    """What a protocol sets, by flat name: the fields of TrialConfig and of all entries that may stand in it now, policies aside.

    A policy is the study's subject; the dataset has an option of its own; the seed is one of --seeds.
    """
    found: dict[str, ProtocolOption] = {}
    for name, info in TrialConfig.model_fields.items():
        if name in ("dataset", "policy", "seed"):
            continue
        if name not in SLOTS:
            found[name] = ProtocolOption(info, _GROUP_OF.get(name, "training"))
            continue
        slot = SLOTS[name]
        group, kind = "network" if name == "network" else "strategy", slot.registry.kind
        about = f"the {kind}" if slot.key == kind else f"the {slot.key} {kind}"
        found[slot.key] = ProtocolOption(FieldInfo(annotation=str, description=about), group, tuple(slot.registry))
        for entry in slot.registry:
            for flat, own in slot.fields_of(entry).items():
                found.setdefault(flat, ProtocolOption(slot.registry[entry].model_fields[own], group, only=entry))
    return found


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Options as study.json holds them, in the types of their fields; ValueError where one does not fit. Null is one that was not given."""
    known, found = protocol_options(), {}
    for name, value in values.items():
        if value is None:
            continue
        if name not in known:
            raise ValueError(f"{name}: is no option of a protocol")
        try:
            found[name] = TypeAdapter(cast(Any, known[name].info.annotation)).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise ValueError(f"{name} {value!r}: {error.errors()[0]['msg']}") from None
    return found


# The protocol's values that were given, by flat name.
Options = Annotated[dict[str, Any], AfterValidator(_checked)]
DataDir = Annotated[Path | None, Option("data", otherwise="where each dataset is usually kept")]
ProtocolName = Annotated[str | None, Option(choices=PROTOCOLS, otherwise="the dataset's own")]
DatasetName = Annotated[str, Option("data", DATASETS)]
Seeds = Annotated[tuple[int, ...], Option(otherwise=lambda preset: " ".join(map(str, preset.seeds)))]


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


def refuse(arguments: FolderArgs, *names: str) -> None:
    """InvalidInput for an option that was given and means nothing to this command; `names` are fields of it or of its resources."""
    usual = type(arguments)()
    for name in names:
        own, plain = (held if hasattr(held, name) else held.resources for held in (arguments, usual))
        if getattr(own, name) != getattr(plain, name):
            option = "from" if name == "repeat" else name.replace("_", "-")
            raise InvalidInput(f"--{option} {getattr(own, name)}: means nothing to this command")
