"""`Entry`: a named choice with validated fields of its own (a family, an estimator, a network, ...), found by its name in a `Registry`.

Command line, columns, search spaces and descriptions are derived from entries: adding one touches the file that it stands in alone.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

E = TypeVar("E", bound="Entry")
REGISTRIES: "list[Registry[Any]]" = []


class Registry(Mapping[str, type[E]], Generic[E]):
    """Classes by their names, in the order in which they were defined. `kind` is what one is called: family, estimator, ...

    `homes` are the modules that define the platform's own; they are imported when the registry is first looked into.
    """

    def __init__(self, kind: str, *homes: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[E]] = {}
        self._homes = homes
        REGISTRIES.append(self)

    def __hash__(self) -> int:
        return id(self)

    @property
    def _entries(self) -> dict[str, type[E]]:
        homes, self._homes = self._homes, ()  # first, for these modules look into it too
        for home in homes:
            importlib.import_module(home)
        return self._classes

    def __getitem__(self, name: str) -> type[E]:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: type[E]) -> None:
        """ValueError for a name that another class has; the same class defined again, as in a notebook, takes its own place."""
        known = self._classes.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (entry.__module__, entry.__qualname__):
            raise ValueError(f"{self.kind} {name!r}: exists already (in {known.__module__})")
        self._classes[name] = entry

    def restore(self, entries: dict[str, type[E]]) -> None:
        """Hold these alone, as `dict(registry)` gave them."""
        self._classes = dict(entries)

    def find(self, name: object) -> type[E]:
        """The class of that name; ValueError, in one line, where there is none."""
        if not isinstance(name, str) or name not in self._entries:
            raise ValueError(f"{self.kind} {name!r}: must be one of {', '.join(self._entries)}")
        return self._entries[name]

    def make(self, name: str, **fields: Any) -> E:
        """An entry with these fields; ValueError, in one line, for an unknown name, a field it does not have or a value out of range."""
        return self.find(name).create(**fields)


class Entry(BaseModel):
    """A frozen set of fields. A class is entered under the name that it is given: `class Sawtooth(Schedule, name="sawtooth")`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    registry: ClassVar[Registry[Any]]
    name: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # the name is for what follows

    @classmethod
    def __pydantic_init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if name:
            cls.name = name
            cls.registry.add(name, cls)

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]  # as in BaseModel
        """Name and value of each field; pydantic's own would add properties that were computed before."""
        yield from ((field, getattr(self, field)) for field in type(self).model_fields)

    def __eq__(self, other: object) -> bool:
        """The same kind of entry with the same fields, whatever either remembers."""
        return type(other) is type(self) and dict(self) == dict(other)

    @classmethod
    def create(cls, **fields: Any) -> Self:
        """Like the constructor, but a mistake is a ValueError of one line that names the field, the value and what is allowed."""
        for field, value in fields.items():
            if field not in cls.model_fields:
                raise ValueError(f"{field} {value}: {cls.registry.kind} {cls.name} takes only {', '.join(cls.model_fields) or 'no fields'}")
        for field, info in cls.model_fields.items():
            if info.is_required() and field not in fields:
                raise ValueError(f"{field}: must be given for {cls.registry.kind} {cls.name}")
        try:
            return cls(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{place} {first['input']!r}: {message}" if place else message) from None

    @classmethod
    def suggest(cls, trial: "BaseTrial") -> dict[str, Any]:
        """What a search tries of the fields, asked of an Optuna trial under their own names; fields left out keep their defaults."""
        return {}

    def describe(self) -> str:
        """The entry in words: its name, and the fields that differ from their defaults."""
        changed = [f"{name} {worded(value)}" for name, value in self if value != type(self).model_fields[name].default]
        return ", ".join([self.name.replace("_", " "), *(part.replace("_", " ") for part in changed)])


def worded(value: Any) -> str:
    """A field's value as people read it: numbers to three digits, sequences as `784-256-10`."""
    if isinstance(value, bool) or not isinstance(value, (float, tuple, list)):
        return str(value)
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-".join(":".join(map(worded, part)) if isinstance(part, (tuple, list)) else worded(part) for part in value)
