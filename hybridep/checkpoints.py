"""`Checkpoints`: those of one trial, in a folder or at a URL. Imports PyTorch late: the driver of a study needs none of it."""

import hashlib
import io
import os
import pickle
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final

from hybridep.storage import UrlFolder, is_url

MAGIC: Final = b"hybridep checkpoint 1\n"
KEPT: Final = 2


class Checkpoints(ABC):
    """Checkpoints by the epoch after which they were written. A digest stands before the content, so that a damaged file is known from a
    good one before anything is made of it.
    """

    @staticmethod
    def of(trials: str, trial: str) -> "Checkpoints":
        """Those of a trial, by the folder or URL of all trials."""
        return UrlCheckpoints(f"{trials}/{trial}") if is_url(trials) else FolderCheckpoints(Path(trials) / trial)

    @abstractmethod
    def where(self, epoch: int) -> str:
        """A checkpoint's place, for messages."""

    @abstractmethod
    def _names(self) -> list[str]: ...

    @abstractmethod
    def _get(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _put(self, name: str, content: bytes) -> None:
        """Whole or not at all."""

    @abstractmethod
    def _delete(self, name: str) -> None: ...

    def epochs(self) -> list[int]:
        """Newest first. They need not be readable."""
        names = self._names()
        numbers = (name.removeprefix("checkpoint-").removesuffix(".pt") for name in names)
        return sorted((int(number) for number in numbers if number.isdecimal() and _name(int(number)) in names), reverse=True)

    def read(self, epoch: int) -> dict[str, Any] | None:
        """The state in a checkpoint, or None where it is cut, altered or not a checkpoint. Runs no code that the file might carry."""
        import torch

        content = self._get(_name(epoch))
        if content is None or not content.startswith(MAGIC):
            return None
        digest, payload = content[len(MAGIC) : len(MAGIC) + 32], content[len(MAGIC) + 32 :]
        if hashlib.sha256(payload).digest() != digest:
            return None
        try:
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return None
        return state if isinstance(state, dict) else None

    def write(self, epoch: int, state: dict[str, Any]) -> None:
        """Write `state` (tensors, numbers, strings, lists, dicts) whole or not at all; older checkpoints but one go."""
        import torch

        content = io.BytesIO()
        torch.save(state, content)
        payload = content.getvalue()
        self._put(_name(epoch), MAGIC + hashlib.sha256(payload).digest() + payload)
        for old in self.epochs()[KEPT:]:
            self._delete(_name(old))

    def drop(self, after: int = 0) -> None:
        """Delete those of epochs later than `after`."""
        for epoch in self.epochs():
            if epoch > after:
                self._delete(_name(epoch))


def _name(epoch: int) -> str:
    return f"checkpoint-{epoch:06d}.pt"


class FolderCheckpoints(Checkpoints):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self, epoch: int) -> str:
        return str(self._folder / _name(epoch))

    def _names(self) -> list[str]:
        return [path.name for path in self._folder.glob("checkpoint-*.pt")]

    def _get(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _put(self, name: str, content: bytes) -> None:
        unfinished = self._folder / f".{name}.{os.getpid()}"
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, self._folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _delete(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


class UrlCheckpoints(Checkpoints):
    def __init__(self, url: str) -> None:
        self._folder = UrlFolder(url)

    def where(self, epoch: int) -> str:
        return f"{self._folder.url}/{_name(epoch)}"

    def _names(self) -> list[str]:
        return [name for name in self._folder.names() if name.startswith("checkpoint-") and name.endswith(".pt")]

    def _get(self, name: str) -> bytes | None:
        return self._folder.read(name)

    def _put(self, name: str, content: bytes) -> None:
        self._folder.write(name, content)

    def _delete(self, name: str) -> None:
        self._folder.delete(name)
