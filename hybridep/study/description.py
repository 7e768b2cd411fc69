"""What a study says of itself in study.json: what it was asked, from which software, on which machine, from when to when."""

import itertools
import os
import platform
import subprocess
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil
from pydantic import TypeAdapter

import hybridep
from hybridep.config import InvalidInput

PACKAGES: Final = ("hybridep", "torch", "numpy", "ray", "optuna")


def describe(kind: str, args: Any) -> dict[str, Any]:
    """A study before it has begun; `kind` is the name of its script, `args` are its arguments, a dataclass."""
    return {"kind": kind, "arguments": as_json(args), "versions": versions(), "git": git_state(), "machine": machine()}


def as_json(arguments: Any) -> dict[str, Any]:
    """Arguments as study.json holds them."""
    content: dict[str, Any] = TypeAdapter(type(arguments)).dump_python(arguments, mode="json")
    return content


def versions() -> dict[str, str]:
    """The versions that results depend on; those of packages are read from their metadata, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit and uncommitted changes of the checkout that hybridep is imported from, or None where it is not a checkout."""
    root = Path(hybridep.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=10).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed_files": [line[3:] for line in changes.splitlines()]}


def machine() -> dict[str, Any]:
    """What the driver runs on."""
    names = {"hostname": platform.node(), "platform": platform.platform(), "cpu": _cpu_model()}
    return {**names, "cpus": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def new_folder(kind: str) -> Path:
    """Make results/<kind>-<date-time>, with a number behind where others begin in the same second; InvalidInput where it cannot be made.

    A folder is made by one process alone: no two studies are given the same, as those of an array job might be by a name.
    """
    name = f"{kind}-{datetime.now():%Y%m%d-%H%M%S}"
    paths = (Path("results") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    while True:
        path = next(paths)
        try:
            path.parent.mkdir(exist_ok=True)
            path.mkdir()
            return path
        except OSError as error:
            if not (isinstance(error, FileExistsError) and path.parent.is_dir()):
                raise InvalidInput(f"--out: must be given, for {path} cannot be made ({error.strerror or error})") from None
