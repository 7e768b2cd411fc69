"""`Option`: how a field of a dataclass of arguments stands in --help, beside its type, its default and the text below it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from hybridep.presets import Preset

# In the order in which --help shows them.
GROUPS: Final = ("study", "data", "network", "training", "strategy", "relaxation", "resources", "reporting")


@dataclass(frozen=True)
class Option:
    """In which group it stands, the names it is chosen from, its flag if not the field's name, and what is used where it is not given."""

    group: str = GROUPS[0]
    choices: Collection[str] = ()
    flag: str = ""
    otherwise: str | Callable[[Preset], str] = ""
