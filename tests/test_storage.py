"""Studies that are kept at a URL: what goes there and when, who may go on with them, and the checkpoints that workers keep there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from hybridep.checkpoints import Checkpoints
from hybridep.config import InvalidInput
from hybridep.storage import StorageError, UrlFolder
from hybridep.study import mirror as mirroring
from hybridep.study.folder import StudyFolder
from hybridep.study.mirror import Mirror
from tests.trials import COSINE, begin_in, rows

STUDIES = Path(__file__).resolve().parent.parent / "studies"
DESCRIPTION = {"kind": "sweep", "arguments": {}, "protocol": {}, "seeds": [], "dataset": {}, "trials_planned": 1}
BOTH_STORES = pytest.mark.parametrize("store", ["memory", "file"])


@pytest.fixture
def url(store: str, tmp_path: Path) -> Iterator[str]:
    """Where a study may be kept: a store that replaces objects, and one that is a file system."""
    if store == "file":
        yield f"file://{tmp_path}/kept/study"
        return
    yield "memory://kept/study"
    fsspec.filesystem("memory").rm("/kept", recursive=True) if fsspec.filesystem("memory").exists("/kept") else None


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leases that are renewed and run out within a second, a home of its own, and a store of this process is no mistake."""
    monkeypatch.setattr(mirroring, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(mirroring, "WATCH_SECONDS", 0.8)
    monkeypatch.setattr(mirroring, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(mirroring, "PRIVATE", ("none://",))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def created(url: str) -> StudyFolder:
    mirror = Mirror(url, "--out")
    return StudyFolder.create(mirror.folder, DESCRIPTION, mirror)


def opened(url: str) -> StudyFolder:
    mirror = Mirror(url, "--resume")
    return StudyFolder.open(mirror.folder, "sweep", mirror)


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From now on this is another machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "another home"))


def dies(folder: StudyFolder) -> None:
    """Its process is killed: the kernel releases the lock, and nobody renews the lease."""
    assert folder._mirror is not None
    folder._mirror._ended.set()
    folder._lock.release()


@BOTH_STORES
def test_files_are_written_read_listed_and_deleted(url: str) -> None:
    folder = UrlFolder(url)
    assert folder.names() == []
    assert folder.read("a/b.json") is None
    folder.write("a/b.json", b"one")
    folder.write("a/b.json", b"two")
    folder.write("c", b"")
    assert sorted(folder.names()) == ["a/b.json", "c"]
    assert folder.read("a/b.json") == b"two"
    assert folder.read_all(["a/b.json", "c"]) == {"a/b.json": b"two", "c": b""}
    assert folder.read_all(["c"]) == {"c": b""}
    folder.delete("c")
    folder.delete("c")
    assert folder.names() == ["a/b.json"]


def test_a_file_that_could_not_be_written_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = UrlFolder(f"file://{tmp_path}")
    folder.write("result.json", b"whole\n")

    def cut(path: str, content: bytes) -> None:
        Path(path).write_bytes(content[:3])
        raise RuntimeError("connection\nreset")

    monkeypatch.setattr(folder._files, "pipe_file", cut, raising=False)
    with pytest.raises(StorageError, match=r"^file://\S+: connection reset$"):
        folder.write("result.json", b"whole\nwhole\n")
    assert folder.read("result.json") == b"whole\n"
    assert folder.names() == ["result.json"]


@BOTH_STORES
def test_a_trial_goes_on_from_checkpoints_at_a_url(url: str) -> None:
    whole = rows(begin_in(f"{url}/whole"), 4)
    rows(begin_in(f"{url}/ray"), 3)
    checkpoints = Checkpoints.of(f"{url}/ray", "cosine")
    assert checkpoints.epochs() == [2, 1]
    assert rows(begin_in(f"{url}/ray"), 2) == whole[2:]
    checkpoints.drop(after=2)
    assert checkpoints.epochs() == [2]
    checkpoints.drop()
    assert checkpoints.epochs() == []


def test_a_store_that_fails_is_told_by_the_trial_as_a_matter_of_storage(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file where a folder should be")
    trial = begin_in(f"file://{tmp_path}/kept")
    trial.step()
    result = trial.step()
    assert result["storage"]
    assert "\n" not in result["failed"]


@BOTH_STORES
def test_each_row_is_at_the_url_before_the_next_epoch_is_asked_for(url: str) -> None:
    study = created(url)
    files = study.trial("cosine")
    files.begin(COSINE)
    there = UrlFolder(url)
    for epoch in (1, 2):
        files.append(json.dumps({"epoch": epoch}))
        assert there.read("ray/cosine/result.json") == files.results.read_bytes()
    assert there.read("ray/cosine/params.json") == (files.path / "params.json").read_bytes()
    study.close()


@BOTH_STORES
def test_another_machine_goes_on_where_a_killed_one_was(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = created(url)
    study.optuna_journal.write_text("a strategy\n")
    study.send_journal()
    for name in ("cosine", "failed"):
        study.trial(name).begin({"trial": name})
    study.trial("cosine").append('{"epoch": 1}')
    study.trial("failed").fail("no memory")
    for epoch in (1, 2):
        study.trial("cosine").checkpoints.write(epoch, {"epoch": epoch})
    dies(study)
    elsewhere(monkeypatch, tmp_path)
    again = opened(url)
    assert again.path != study.path
    assert again.optuna_journal.read_text() == "a strategy\n"
    assert {files.path.name for files in again.recover()} == {"cosine", "failed"}
    assert again.trial("cosine").last() == {"epoch": 1}
    assert again.trial("cosine").checkpoints.epochs() == [1]  # that of epoch 2 is ahead of the rows
    assert not again.trial("failed").ended
    assert "ray/failed/error.txt" not in UrlFolder(url).names()
    again.close()


@BOTH_STORES
def test_a_machine_forgets_what_it_had_of_a_study_that_went_on_elsewhere(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = created(url)
    study.trial("cosine").begin(COSINE)
    (study.trials / "stale").mkdir()
    study.close()
    UrlFolder(url).write("ray/cosine/result.json", b'{"epoch": 7}\n')
    again = opened(url)
    assert again.trial("cosine").last() == {"epoch": 7}
    assert not (again.trials / "stale").exists()
    again.close()


@BOTH_STORES
def test_a_second_driver_is_refused_here_and_elsewhere(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = created(url)
    with pytest.raises(
        InvalidInput, match=rf"^--resume {url}: is being run by process {os.getpid()} on \S+; wait for it or stop it first$"
    ):
        opened(url)
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(
        InvalidInput, match=rf"^--resume {url}: is being run by process {os.getpid()} on \S+; wait for it or stop it first$"
    ):
        opened(url)
    study.close()
    opened(url).close()


@BOTH_STORES
def test_the_same_machine_goes_on_at_once_after_a_kill(url: str) -> None:
    study = created(url)
    dies(study)
    began = time.monotonic()
    opened(url).close()
    assert time.monotonic() - began < mirroring.WATCH_SECONDS


@BOTH_STORES
def test_a_driver_that_slept_while_another_took_over_writes_nothing_more(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = created(url)
    study.trial("cosine").begin(COSINE)
    assert study._mirror is not None
    study._mirror._ended.set()  # it sleeps
    time.sleep(0.3)
    elsewhere(monkeypatch, tmp_path)
    again = opened(url)
    again.trial("cosine").append('{"epoch": 2}')
    with pytest.raises(StorageError, match="was taken over by process"):
        study.trial("cosine").append('{"epoch": 1}')
    assert UrlFolder(url).read("ray/cosine/result.json") == b'{"epoch": 2}\n'
    study.close()
    assert UrlFolder(url).read(mirroring.LEASE) is not None  # the other's
    again.close()


@BOTH_STORES
def test_a_place_that_holds_something_is_refused(url: str) -> None:
    created(url).close()
    with pytest.raises(InvalidInput, match=rf"^--out {url}: holds a study already; continue it with --resume {url}"):
        created(url)
    UrlFolder(url).delete("study.json")
    UrlFolder(url).write("notes.txt", b"mine")
    with pytest.raises(InvalidInput, match=rf"^--out {url}: is not empty"):
        created(url)


@BOTH_STORES
def test_a_url_without_a_study_is_told(url: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^--resume {url}: is not a study \(no study.json in it\)$"):
        opened(url)


TINY = [
    "--sizes",
    "64",
    "16",
    "10",
    "--T1",
    "8",
    "--T2",
    "4",
    "--train-samples",
    "300",
    "--seeds",
    "0",
    "--epochs",
    "3",
    "--trials",
    "2",
    "--confirm",
    "0",
]
PASSING = ("epoch_seconds", "time_total_s", "timestamp", "load", "hostname", "pid")


def run(home: Path, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(STUDIES / "schedule_sweep.py"), *argv]
    environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kept_rows(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The last row of each epoch of each trial, without what differs between two runs of the same training."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for file in folder.glob("ray/*/result.json"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = {row["epoch"]: {k: v for k, v in row.items() if not k.startswith(PASSING)} for row in rows}
    return found


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_study_at_a_url_whose_driver_is_killed_is_completed_on_another_machine(tmp_path: Path) -> None:
    calm = run(tmp_path / "a", "--search", "random", *TINY, "--out", str(tmp_path / "calm"))
    assert calm.communicate(timeout=300)[1] == ""
    url = f"file://{tmp_path}/kept"
    first = run(tmp_path / "a", "--search", "random", *TINY, "--out", url)
    deadline = time.monotonic() + 200
    while sum(map(len, kept_rows(tmp_path / "kept").values())) < 4:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.kill()
    first.communicate()
    second = run(tmp_path / "b", "--resume", url)
    shown, complaint = second.communicate(timeout=300)
    assert (second.returncode, complaint) == (0, "")
    assert shown.startswith(f"{url}: 8 trials of 3 epochs on seeds 0\n")
    assert kept_rows(tmp_path / "kept") == kept_rows(tmp_path / "calm")
    made, whole = (
        {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()} for top in (tmp_path / "kept", tmp_path / "calm")
    )
    names = {name for name in whole if "tfevents" not in name and not name.startswith(".")}
    assert names <= made
    assert not [name for name in made if name.endswith(".pt")]
