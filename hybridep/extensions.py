"""`Extension`: a user's own file of families, estimators, networks, datasets and draws, loaded wherever a trial is planned or trained.

The file's text travels with the study: it stands in study.json, with its digest, and goes to the workers.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from hybridep.config import InvalidInput
from hybridep.estimators import ESTIMATORS
from hybridep.nudging import Minibatch
from hybridep.registry import REGISTRIES
from hybridep.streams import stream


@dataclass(frozen=True)
class Extension:
    """A file by its name, its text, and the SHA-256 of that."""

    file: str
    source: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """InvalidInput, in one line, for a file that cannot be read."""
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"--extend {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
        return cls(path.name, source, _digest(source))

    @classmethod
    def kept(cls, description: Mapping[str, Any], study: str) -> list[Self]:
        """Those that a study.json holds; InvalidInput where one is missing or not what it was."""
        arguments = description.get("arguments")
        named = arguments.get("extend") if isinstance(arguments, dict) else None
        stored = description.get("extensions", [])
        try:
            found = [cls(**extension) for extension in stored]
            whole = all(extension.sha256 == _digest(extension.source) for extension in found)
        except (TypeError, AttributeError):
            whole = False
        if not whole or (named and not found):
            raise InvalidInput(f"{study}: an extension in its study.json is missing or was changed")
        return found

    def as_json(self) -> dict[str, str]:
        return asdict(self)

    def load(self) -> None:
        """Define its classes, once in a process; InvalidInput, and nothing defined, where it does not import or a name exists."""
        if self in _loaded:
            return
        module = ModuleType(f"hybridep_extension_{self.sha256[:16]}")
        module.__file__ = self.file
        known = {registry: dict(registry) for registry in REGISTRIES}
        sys.modules[module.__name__] = module  # classes are looked up there when they are pickled
        try:
            exec(compile(self.source, self.file, "exec"), module.__dict__)
            for name in ESTIMATORS.keys() - known[ESTIMATORS].keys():
                _check(name)
        except Exception as error:  # whatever a user's code raises
            del sys.modules[module.__name__]
            for registry, entries in known.items():
                registry.restore(entries)
            where = "" if isinstance(error, _Inconsistent) else f" ({type(error).__name__}{_line(error, self.file)})"
            raise InvalidInput(f"--extend {self.file}: {error}{where}") from None
        _loaded.append(self)


_loaded: list[Extension] = []


def loaded() -> tuple[Extension, ...]:
    """The extensions of this process, in the order in which they were loaded."""
    return tuple(_loaded)


def load_all(stored: Iterable[Mapping[str, str]]) -> None:
    """Load extensions as study.json has them, in a process that trains."""
    for extension in stored:
        Extension(**extension).load()


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _line(error: Exception, file: str) -> str:
    """Where in the file it was raised."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""


class _Inconsistent(ValueError):
    pass


def _check(name: str, minibatches: int = 400) -> None:
    """ValueError unless, of each sample, an estimator's weights sum to 0 and Σ weight · β is 1/n on average."""
    try:
        estimator = ESTIMATORS[name].create()
    except ValueError:
        return  # it has fields that must be given: then its first table tells
    n = 6
    slopes = []
    for number in range(minibatches):
        uniform = (number + 0.5) / minibatches
        table = estimator.nudging(
            Minibatch(n, 0.5, uniform, lambda: np.linspace(0.1, 2.0, n), lambda: np.arange(n)), stream(0, "samples", number)
        )
        worst = table.sums()[np.argmax(np.abs(table.sums()))]
        if not abs(worst) <= 1e-9 * np.abs(table.weight).max(initial=1.0):
            raise _Inconsistent(f"estimator {name}: the weights of a sample sum to {worst:.3g}, must be 0")
        slopes.append(table.slopes() * n)
    mean, error = np.mean(slopes, axis=0), np.std(slopes, axis=0) / np.sqrt(minibatches)
    off = np.abs(mean - 1) > 6 * error + 1e-9
    if off.any():
        raise _Inconsistent(f"estimator {name}: Σ weight · β of a sample is {mean[off][0]:.3g} / n on average, must be 1 / n")
