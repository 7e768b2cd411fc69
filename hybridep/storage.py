"""`UrlFolder`: a folder at a URL that fsspec knows (s3://, gs://, hdfs://, sftp://, file://, ...); and JSON files, written whole."""

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class StorageError(OSError):
    """A store that does not do what it was asked; the message is one line and names the URL."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def is_url(place: str) -> bool:
    return "://" in place


class UrlFolder:
    """Files by their names relative to the URL. Every failure is a StorageError, whatever the store's own library raises.

    What nodes need to reach the store (packages, credentials) they take from their own environment.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        # No cached listings: other processes write there.
        self._files, root = self._asked(lambda: fsspec.core.url_to_fs(self.url, use_listings_cache=False))
        self._root = str(root).rstrip("/")

    def below(self, name: str) -> "UrlFolder":
        return UrlFolder(f"{self.url}/{name}")

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""

        def get() -> bytes | None:
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
            return content

        return self._asked(get)

    def read_all(self, names: list[str]) -> dict[str, bytes]:
        """The contents of these files, fetched side by side where the store can."""
        if not names:
            return {}
        found = self._asked(lambda: self._files.cat([f"{self._root}/{name}" for name in names]))
        if isinstance(found, bytes):  # what fsspec makes of a single one
            return {names[0]: found}
        return {path[len(self._root) + 1 :]: content for path, content in found.items()}

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all: not every store does so by itself."""
        path = f"{self._root}/{name}"
        parent, _, last = path.rpartition("/")
        unfinished = f"{parent}/.{last}.{secrets.token_hex(8)}"

        def replace() -> None:
            self._files.makedirs(parent, exist_ok=True)
            self._files.pipe_file(unfinished, content)
            self._files.mv(unfinished, path)

        self._asked(replace)

    def delete(self, name: str) -> None:
        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")

        self._asked(remove)

    def names(self) -> list[str]:
        """Of all files below, but those that are just being written."""

        def find() -> list[str]:
            try:
                return list(self._files.find(self._root))
            except FileNotFoundError:
                return []

        names = [path[len(self._root) + 1 :] for path in self._asked(find)]
        return [name for name in names if not name.rpartition("/")[2].startswith(".")]

    def _asked(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except Exception as error:  # each store has a library of its own, with exceptions of its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise StorageError(f"{self.url}: {reason}") from None
