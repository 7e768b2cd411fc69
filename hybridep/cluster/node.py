"""A Ray node on this machine, with its slices as GPUs that Ray schedules: started, listed and stopped.

Ray's own `ray stop` ends every Ray process of the machine. So a process of ours holds a Ray node, all of which ends with that process, and
a file says which process that is.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from hybridep.cluster.access import Address, ray_environment
from hybridep.cluster.internals import RayNode
from hybridep.cluster.machine import VISIBLE
from hybridep.cluster.processes import Process
from hybridep.config import InvalidInput
from hybridep.storage import write_json

START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.2
# Twice the largest dataset in memory (CIFAR-10, once as it is sent), and what Ray wants for itself. Ray's default is a third of the memory.
OBJECT_STORE_BYTES: Final = 512 * 2**20
# Ray puts sockets below our folder, whose paths Linux limits to 107 characters.
LONGEST_FOLDER: Final = 32


class StartFailed(Exception):
    """Ray did not start; the message says why in one line."""


@dataclass(frozen=True)
class NodePlan:
    """A node to start. Port 0 of a head is one that is free."""

    role: Literal["head", "join"]
    head: Address
    address: str
    cpus: int
    devices: tuple[str, ...]

    def __str__(self) -> str:
        devices = f"devices {' '.join(self.devices)}" if self.devices else "no GPU"
        what = f"head {self.head}" if self.role == "head" else f"node {self.address} of {self.head}"
        return f"{what}: {self.cpus} {'CPU' if self.cpus == 1 else 'CPUs'}, {devices}"


PLAN: Final = TypeAdapter(NodePlan)


@dataclass(frozen=True)
class StartedNode:
    """A node that was started here, with the process that holds it and the folder of its files."""

    plan: NodePlan
    process: Process
    folder: Path

    @property
    def logs(self) -> Path:
        return self.folder / "session_latest" / "logs"

    @property
    def running(self) -> bool:
        return self.process.running


def runtime_folder() -> Path:
    """Where nodes of this user keep their files on this machine: below RAY_TMPDIR or /tmp, closed to other users."""
    base = Path(os.environ.get("RAY_TMPDIR") or "/tmp")
    folder = base / f"hybridep-{os.getuid()}"
    if len(str(folder)) > LONGEST_FOLDER or not folder.is_absolute():
        longest = LONGEST_FOLDER - len(folder.name) - 1
        raise InvalidInput(f"RAY_TMPDIR {base}: must be an absolute path of at most {longest} characters, for Ray puts sockets below it")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise InvalidInput(f"folder {folder}: cannot be made ({error.strerror or error})") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise InvalidInput(f"folder {folder}: must be a folder that belongs to you alone (mode 700)")
    return folder


def started_nodes() -> list[StartedNode]:
    """The nodes that were started here and not stopped, oldest first; some may have died."""
    files = sorted(runtime_folder().glob("*/node.json"), key=lambda file: file.stat().st_mtime_ns)
    nodes = []
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            nodes.append(StartedNode(PLAN.validate_python(content["plan"]), Process(**content["process"]), file.parent))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{file}: is damaged ({type(error).__name__}); delete it once its process is gone") from None
    return nodes


def check_devices(devices: Iterable[str]) -> None:
    """InvalidInput where a node that runs here gives one of the devices to trials already."""
    for node in started_nodes():
        shared = set(devices) & set(node.plan.devices)
        if node.running and shared:
            raise InvalidInput(f"device {min(shared)}: belongs to the node of process {node.process.pid}; choose others with {VISIBLE}")


def run(plan: NodePlan, folder: Path | None = None) -> int:
    """Start a node and hold it until SIGTERM, SIGINT or SIGHUP, then end it; the exit code. It changes the environment of its process."""
    folder = folder or _new_folder()
    os.environ.update(
        ray_environment(plan.head.host),
        **{VISIBLE: ",".join(plan.devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
    )
    signal.signal(signal.SIGINT, _leave)  # Ray sets SIGTERM alone, and a shell that starts us in the background lets us ignore it
    try:
        node = RayNode(
            head=plan.role == "head",
            port=plan.head.port,
            gcs=str(plan.head),
            address=plan.address,
            cpus=plan.cpus,
            gpus=len(plan.devices),
            object_store=OBJECT_STORE_BYTES,
            folder=folder,
        )
    except Exception as error:
        print(f"error: Ray did not start ({first_line(error)}); its logs are in {folder}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _leave)
    this = Process.find(os.getpid())
    assert this is not None
    started = StartedNode(replace(plan, head=Address(plan.head.host, node.port)), this, folder)
    try:
        write_json(folder / "node.json", {"plan": asdict(started.plan), "process": asdict(this)})  # what `started_nodes` reads
        print(started.plan, flush=True)
        dead = node.wait()
    except (SystemExit, KeyboardInterrupt):
        node.end()
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    print(f"error: Ray's {dead} ended by itself; its logs are in {started.logs}", file=sys.stderr)
    return 1


def first_line(error: Exception) -> str:
    """What Ray says, without what it advises."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _leave(number: int, frame: object) -> None:
    raise SystemExit


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="", dir=runtime_folder()))


def start(plan: NodePlan) -> StartedNode:
    """Start a node that outlives this process; return when it is up. StartFailed where it does not come up."""
    folder = _new_folder()
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "hybridep.cluster.node", json.dumps(asdict(plan)), str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    try:
        while not (folder / "node.json").exists():
            if process.poll() is not None:
                raise StartFailed(_complaint(log))
            if time.monotonic() > deadline:
                raise StartFailed(f"Ray did not start within {START_SECONDS:.0f} seconds; its logs are in {folder}")
            time.sleep(POLL_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = 0  # it outlives this process: no warning that it still runs
    return next(node for node in started_nodes() if node.folder == folder)


def _complaint(log: Path) -> str:
    """Why a node did not start, from what it printed."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    complaints = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (complaints or lines or [f"Ray did not start; its logs are in {log.parent}"])[-1]


def stop(node: StartedNode) -> bool:
    """End a node and all that it started, and delete its files; False where it had died before."""
    was_running = node.running
    family = [node.process, *node.process.descendants()]
    node.process.signal(signal.SIGTERM)
    _wait_for(family, STOP_SECONDS)
    for process in family:
        process.signal(signal.SIGKILL)
    _wait_for(family, STOP_SECONDS)  # a process that is killed runs on until the system comes to it
    shutil.rmtree(node.folder, ignore_errors=True)
    return was_running


def _wait_for(processes: list[Process], seconds: float) -> None:
    """Wait until none of them runs, at most so long."""
    deadline = time.monotonic() + seconds
    while any(process.running for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(run(PLAN.validate_json(sys.argv[1]), Path(sys.argv[2])))
