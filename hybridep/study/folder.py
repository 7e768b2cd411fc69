"""`StudyFolder`: a study on disk. What is written here is all that a resumed study knows, and it is readable at every moment."""

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from hybridep.checkpoints import Checkpoints
from hybridep.config import InvalidInput
from hybridep.storage import write_json
from hybridep.study.mirror import Mirror

FORMAT: Final = 2
LOCK, HOLDER = ".lock", ".holder"


@dataclass(frozen=True)
class TrialFiles:
    """The files of one trial: params.json (its configuration), result.json (a line for each epoch), error.txt (why it failed).

    With a mirror, what counts goes there at once, and the checkpoints are there alone.
    """

    path: Path
    mirror: Mirror | None = None

    @property
    def results(self) -> Path:
        return self.path / "result.json"

    @property
    def error(self) -> Path:
        return self.path / "error.txt"

    def begin(self, config: Mapping[str, Any]) -> None:
        """Make the folder ready for a trial that starts or goes on: half a line left by a crash goes, and the error that is retried."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "params.json", config)
        self._push(self.path / "params.json")
        self.forget_error()
        if self.results.exists():
            drop_unfinished_line(self.results)

    def append(self, line: str) -> None:
        """Add an epoch's line. Opened anew each time, so that a study of thousands of trials holds no thousand files open."""
        with open(self.results, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._push(self.results)

    def fail(self, reason: str) -> None:
        self.error.write_text(reason + "\n", encoding="utf-8")
        self._push(self.error)

    def forget_error(self) -> None:
        if self.error.exists():
            self.error.unlink()
            if self.mirror:
                self.mirror.remove(self.error)

    def push_events(self) -> None:
        """Send TensorBoard's files, which are closed."""
        if self.mirror:
            self.mirror.push_below(self.path)

    def _push(self, path: Path) -> None:
        if self.mirror:
            self.mirror.push(path)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints.of(f"{self.mirror.url}/{self.path.parent.name}" if self.mirror else str(self.path.parent), self.path.name)

    def last(self) -> dict[str, Any] | None:
        """The last epoch on file, or None where there is none."""
        try:
            lines = self.results.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        for line in reversed(lines[:-1]):  # what follows the last line feed is half a line
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and type(row.get("epoch")) is int:
                return row
        return None

    @property
    def ended(self) -> bool:
        """Whether the trial has its last epoch on file, or has failed."""
        return bool((self.last() or {}).get("done")) or self.error.exists()


class StudyFolder:
    """A study's folder, locked for as long as this process lives or until `close`. With a mirror, the study is kept there."""

    def __init__(self, path: Path, description: dict[str, Any], lock: FileLock, mirror: Mirror | None = None) -> None:
        self.path = path
        self.description = description
        self._begun = dict(description)
        self._lock = lock
        self._mirror = mirror
        self._journal_sent = 0

    @property
    def place(self) -> str:
        """Where the study is, as its user says it."""
        return self._mirror.url if self._mirror else str(self.path)

    @property
    def trials(self) -> Path:
        return self.path / "ray"

    @property
    def optuna_journal(self) -> Path:
        return self.path / "optuna.log"

    @property
    def trials_place(self) -> str:
        """Where workers find the folders of their trials."""
        return f"{self._mirror.url}/{self.trials.name}" if self._mirror else str(self.trials.resolve())

    def trial(self, name: str) -> TrialFiles:
        return TrialFiles(self.trials / name, self._mirror)

    def begun(self) -> list[TrialFiles]:
        """The trials that have a folder."""
        return [TrialFiles(path, self._mirror) for path in sorted(self.trials.glob("*")) if (path / "params.json").exists()]

    def recover(self) -> list[TrialFiles]:
        """The trials that have a folder, made ready to go on: those that failed are to be tried again, and no row is to be missed."""
        found = self.begun()
        for files in found:
            files.forget_error()
            last = files.last()
            if not last or not last.get("done"):
                files.checkpoints.drop(after=last["epoch"] if last else 0)
        return found

    @classmethod
    def create(
        cls, path: Path, description: dict[str, Any], mirror: Mirror | None = None, ready: Callable[["StudyFolder"], None] = lambda _: None
    ) -> "StudyFolder":
        """A new study, after what `ready` does; InvalidInput where the folder holds something already or cannot be written."""
        mirror.check_vacant() if mirror else check_vacant(path)
        with cls._locked(path, {"format": FORMAT, **description}, mirror, "--out") as folder:
            if mirror:
                mirror.clear()
            folder.write()
            ready(folder)
        return folder

    @classmethod
    def open(
        cls, path: Path, kind: str, mirror: Mirror | None = None, ready: Callable[["StudyFolder"], None] = lambda _: None
    ) -> "StudyFolder":
        """A study that was begun earlier, after what `ready` checks and writes; InvalidInput where it is none, of another kind, damaged, or
        another process runs it.
        """
        place = mirror.url if mirror else path
        description = read_description(path / "study.json", "--resume", place, mirror)
        if description["kind"] != kind:
            raise InvalidInput(f"--resume {place}: is a {description['kind']} study; continue it with studies/{description['kind']}.py")
        with cls._locked(path, description, mirror, "--resume") as folder:
            if mirror:
                mirror.restore()
            ready(folder)
        return folder

    @classmethod
    @contextmanager
    def _locked(cls, path: Path, description: dict[str, Any], mirror: Mirror | None, option: str) -> Iterator["StudyFolder"]:
        """A folder that is made where it is missing, and is closed where what is done in it fails; InvalidInput where it cannot be written.

        The kernel releases its lock when this process ends, however it ends. Who holds it stands beside it.
        """
        place, lock, holder = mirror.url if mirror else path, FileLock(path / LOCK, thread_local=False), path / HOLDER
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
            folder = cls(path, description, lock, mirror)
            try:
                holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
                if mirror:
                    mirror.take()
                yield folder
            except BaseException:
                folder.close()
                raise
        except Timeout:
            told = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
            raise InvalidInput(f"{option} {place}: is being run by {told}; wait for it or stop it first") from None
        except OSError as error:
            raise InvalidInput(f"{option} {place}: cannot be written ({error.strerror or error})") from None

    def write(self, **changes: Any) -> None:
        self.description.update(changes)
        write_json(self.path / "study.json", self.description)
        if self._mirror:
            self._mirror.push(self.path / "study.json")

    def send_journal(self) -> None:
        """Send Optuna's journal, before a trial begins that stands in it: it tells which names were given."""
        if self._mirror and self.optuna_journal.exists() and self.optuna_journal.stat().st_size != self._journal_sent:
            self._journal_sent = self.optuna_journal.stat().st_size
            self._mirror.push(self.optuna_journal)

    def send_outputs(self) -> None:
        """Send what was made of all trials."""
        if self._mirror:
            self._mirror.push_below(self.path, without=self.trials)

    def close(self) -> None:
        if self._mirror:
            self._mirror.release()
        self._lock.release()

    def restore(self) -> None:
        """Leave study.json as it was when the folder was opened: a study that is refused has not gone on."""
        if self.description != self._begun:
            self.description = dict(self._begun)
            with suppress(OSError):  # why it is refused may be that nothing can be written
                self.write()

    def discard(self, made: bool = False) -> None:
        """Remove a study of which nothing has run, so that its folder can be used again; the folder too where it was `made` for it."""
        if not self.begun():
            shutil.rmtree(self.trials, ignore_errors=True)
            for path in (self.path / "study.json", self.optuna_journal, self.path / HOLDER, self.path / LOCK):
                path.unlink(missing_ok=True)
                if self._mirror:
                    self._mirror.remove(path)
            if made:
                with suppress(OSError):  # something else may have come to lie there
                    self.path.rmdir()


def check_vacant(path: Path) -> None:
    """InvalidInput where a new study cannot go there because something else is there."""
    if ":/" in str(path):  # what a path makes of a URL's ://
        raise InvalidInput(f"--out {path}: must be a folder; this study cannot be kept at a URL")
    try:
        if (path / "study.json").exists():
            raise InvalidInput(f"--out {path}: holds a study already; continue it with --resume {path} or choose another folder")
        if path.exists() and any(entry.name not in (LOCK, HOLDER) for entry in path.iterdir()):
            raise InvalidInput(f"--out {path}: is not empty; choose a folder that is empty or does not exist yet")
    except OSError as error:
        raise InvalidInput(f"--out {path}: cannot be used ({error.strerror or error})") from None


def read_description(file: Path, option: str, given: Path | str, mirror: Mirror | None = None) -> dict[str, Any]:
    """The content of a study.json, of a mirrored study as it stands at its URL; InvalidInput that names `option` and what was `given` where
    it is not one that can be continued.
    """
    try:
        content = mirror.fetch(file.name) if mirror else file.read_bytes()
        if content is None:
            raise FileNotFoundError
        description: dict[str, Any] = json.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{option} {given}: is not a study (no study.json in it)") from None
    except OSError as error:
        raise InvalidInput(f"{option} {given}: study.json cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise InvalidInput(f"{option} {given}: study.json is damaged (not JSON)") from None
    expected = {"format": int, "kind": str, "arguments": dict, "protocol": dict, "seeds": list, "dataset": dict, "trials_planned": int}
    for name, kind in expected.items():
        if not isinstance(description, dict) or not isinstance(description.get(name), kind):
            raise InvalidInput(f"{option} {given}: study.json is damaged ({name} is missing or not a {kind.__name__})")
    if description["format"] != FORMAT:
        raise InvalidInput(f"{option} {given}: was written in format {description['format']}, this version reads format {FORMAT}")
    return description


def drop_unfinished_line(path: Path) -> None:
    """Cut what follows the last line feed: a line that was being written when its process died."""
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(path, complete)
