"""`Mirror`: a study that is kept at a URL. Its driver works in a folder of this machine, and whatever counts goes to the URL at once.

An object store knows neither appending nor locks. So files go there whole, in the order in which a driver that takes over needs them, and a
lease stands in for the lock: a small file that its holder renews, and that counts for nothing once it has not been renewed for a while.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hybridep.config import InvalidInput
from hybridep.storage import StorageError, UrlFolder

LEASE: Final = "driver.json"
# How often a driver renews its lease, and how long another watches an unchanged one before it takes over.
RENEW_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 35.0
# A second look after taking it, for two drivers that took it in the same moment.
SETTLE_SECONDS: Final = 1.0
# Others know nothing of what lies there.
PRIVATE: Final = ("memory://",)
# For looking at alone: a driver that takes over does not need them.
EVENTS: Final = "events.out.tfevents"


class Mirror:
    """What goes to and comes from a study's URL. `folder` is where its driver works; it is the same each time on one machine."""

    def __init__(self, url: str, option: str) -> None:
        """InvalidInput, naming `option`, for a URL that cannot be used."""
        self.url = url.rstrip("/")
        self._option = option
        if self.url.startswith(PRIVATE):
            raise self._unusable("must be a store that all nodes reach")
        with self._telling("used"):
            self._remote = UrlFolder(self.url)
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self.folder = Path.home() / ".cache" / "hybridep" / "studies" / name
        self._token = ""
        self._beat = 0
        self._renewed = 0.0
        self._lost = False
        self._ended = threading.Event()
        self._leasing = threading.Lock()

    def _unusable(self, reason: str) -> InvalidInput:
        return InvalidInput(f"{self._option} {self.url}: {reason}")

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """InvalidInput, that it cannot be `what`, where the store fails."""
        try:
            yield
        except StorageError as error:
            raise self._unusable(f"cannot be {what} ({error})") from None

    def fetch(self, name: str) -> bytes | None:
        """A file as it stands at the URL, or None where there is none; InvalidInput where the store does not answer."""
        with self._telling("read"):
            return self._remote.read(name)

    def check_vacant(self) -> None:
        """InvalidInput where something is at the URL already."""
        with self._telling("read"):
            names = [name for name in self._remote.names() if name != LEASE]
        if "study.json" in names:
            raise self._unusable(f"holds a study already; continue it with --resume {self.url} or choose another place")
        if names:
            raise self._unusable("is not empty; choose a place that is empty or does not exist yet")

    # The lease

    def take(self) -> None:
        """Become the study's one driver; InvalidInput where another is. The lock of `folder` must be held: it tells those of this machine
        apart, so that only one elsewhere has to be watched.
        """
        own = self.folder / ".lease"
        with self._telling("written"):
            found = self._lease()
            if found is not None and not (own.exists() and own.read_text(encoding="utf-8") == found["token"]):
                self._watch(found)
            self._token = secrets.token_hex(16)
            own.write_text(self._token, encoding="utf-8")
            self._renew()
            time.sleep(SETTLE_SECONDS)
            self._check_lease()
        threading.Thread(target=self._keep_renewing, daemon=True, name="lease").start()

    def _watch(self, found: dict[str, Any]) -> None:
        deadline = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(1.0, WATCH_SECONDS / 10))
            now = self._lease()
            if now is None:
                return
            if now != found:
                raise self._unusable(f"is being run by {now['holder']}; wait for it or stop it first")

    def _lease(self) -> dict[str, Any] | None:
        """The lease at the URL, or None where there is none or not a readable one, which nobody renews."""
        content = self._remote.read(LEASE)
        try:
            lease = json.loads(content or b"null")
        except ValueError:
            return None
        return lease if isinstance(lease, dict) and {"token", "holder", "beat"} <= lease.keys() else None

    def _renew(self) -> None:
        self._beat += 1
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        lease = {"token": self._token, "holder": holder, "beat": self._beat}
        self._remote.write(LEASE, json.dumps(lease).encode())
        self._renewed = time.time()

    def _check_lease(self) -> None:
        found = self._lease()
        if self._lost or found is None or found["token"] != self._token:
            self._lost = True
            raise StorageError(f"{self.url}: was taken over by {found['holder'] if found else 'another process'}")

    def _keep_renewing(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                with self._leasing:
                    if not self._ended.is_set():
                        self._check_lease()
                        self._renew()
            except OSError:
                if self._lost:
                    return
                # A store that does not answer for a moment; one that stays away stops the study when it has something to write.

    # Files

    def restore(self) -> None:
        """Make `folder` what stands at the URL, without checkpoints, which workers read from there themselves, and event files."""
        self.clear()
        with self._telling("read"):
            names = [name for name in self._remote.names() if name != LEASE and not name.endswith(".pt") and EVENTS not in name]
            for start in range(0, len(names), 256):
                for name, content in self._remote.read_all(names[start : start + 256]).items():
                    path = self.folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)

    def clear(self) -> None:
        """Remove what an earlier study, or this one in an earlier round, left in `folder`."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in (".lock", ".holder", ".lease"):
                path.unlink()

    def push(self, path: Path) -> None:
        """Send a file as it stands; StorageError where that fails or another driver has taken over."""
        with self._leasing:
            if time.time() - self._renewed > 2 * RENEW_SECONDS:  # this process, or its machine, was asleep
                self._check_lease()
                self._renew()
            if self._lost:
                self._check_lease()
        # Without the lock: the lease is renewed while a large file is on its way.
        self._remote.write(path.relative_to(self.folder).as_posix(), path.read_bytes())

    def push_below(self, folder: Path, without: Path | None = None) -> None:
        """Send all files of a folder, without those of another one in it."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(".") and not (without and path.is_relative_to(without)):
                self.push(path)

    def remove(self, path: Path) -> None:
        self._remote.delete(path.relative_to(self.folder).as_posix())

    def release(self) -> None:
        """Let another driver go on at once."""
        self._ended.set()
        with self._leasing:
            if self._token and not self._lost:
                with contextlib.suppress(OSError):  # it runs out by itself
                    self._remote.delete(LEASE)
