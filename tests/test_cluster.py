"""Ray nodes on this machine: what trials see of pretended MIG slices, who gets in, where they listen, and how they end."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import grpc
import pynvml
import pytest

from hybridep.cluster import access, node
from hybridep.cluster.__main__ import main
from hybridep.cluster.access import Address
from hybridep.cluster.node import NodePlan, StartedNode, started_nodes
from hybridep.cluster.processes import Process
from hybridep.config import InvalidInput
from tests.nvml import a100, pretend
from tests.sockets import listening, only_loopback

ROOT = Path(__file__).parent.parent
PATIENCE = 240.0  # seconds, on a machine that has other things to do

SLICED = a100("a", {0: "3g.20gb", 4: "3g.20gb"}), a100("b", {0: "1g.5gb"})
HEAD_SLICES, JOINED_SLICES = ([part.uuid for part in board.slices.values()] for board in SLICED)
TRIALS, AT_ONCE = 24, 6


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def family(pid: int) -> list[Process]:
    process = Process.find(pid)
    return [process, *process.descendants()] if process else []


@contextmanager
def private_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home and a folder for Ray that no other test uses. Short, for Ray puts sockets there. What was started there is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    for variable in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    try:
        yield folder
    finally:
        for started in reversed(started_nodes()):
            node.stop(started)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pretend(monkeypatch)
    with private_machine(monkeypatch) as folder:
        yield folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[StartedNode, StartedNode]]:
    """A head with two slices and a node with one that joined it."""
    with pytest.MonkeyPatch.context() as monkeypatch, private_machine(monkeypatch):
        pretend(monkeypatch, SLICED[0])
        assert main(["head", "--port", "0"]) == 0
        (head,) = started_nodes()
        pretend(monkeypatch, SLICED[1])
        assert main(["join", str(head.plan.head)]) == 0
        head, joined = started_nodes()
        yield head, joined


@dataclass(frozen=True)
class Watched:
    """What 24 trials saw at `gpu: 0.5`, and all addresses that processes of the cluster and its driver listened on meanwhile."""

    trials: list[dict]
    sockets: set[tuple[str, int]]


@pytest.fixture(scope="module")
def watched(cluster: tuple[StartedNode, StartedNode], tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("trials")
    arguments = [str(cluster[0].plan.head), str(folder), str(TRIALS), str(AT_ONCE), "0.5", "0.5"]
    with open(folder / "log", "wb") as log:
        driver = subprocess.Popen([sys.executable, ROOT / "tests/slice_trials.py", *arguments], stdout=log, stderr=log)
    sockets = set()

    def ended() -> bool:
        pids = [process.pid for root in (driver.pid, *(part.process.pid for part in cluster)) for process in family(root)]
        sockets.update(listening(pids))
        return driver.poll() is not None

    try:
        assert wait_until(ended)
    finally:
        driver.kill()
        driver.wait()
    assert driver.returncode == 0, (folder / "log").read_text()
    return Watched([json.loads(file.read_text()) for file in folder.glob("*.json")], sockets)


def test_every_trial_sees_exactly_one_slice_and_all_slices_are_used(watched):
    assert len(watched.trials) == TRIALS
    assert {trial["device"] for trial in watched.trials} == {*HEAD_SLICES, *JOINED_SLICES}


def test_two_trials_of_half_a_gpu_share_a_slice_and_never_three(watched):
    for device in (*HEAD_SLICES, *JOINED_SLICES):
        on_device = [trial for trial in watched.trials if trial["device"] == device]
        changes = sorted([(trial["began"], 1) for trial in on_device] + [(trial["ended"], -1) for trial in on_device])
        assert max(accumulate(change for _, change in changes)) == 2


def test_a_cluster_that_was_given_no_address_listens_on_loopback_alone(cluster, watched):
    assert ("127.0.0.1", cluster[0].plan.head.port) in watched.sockets
    assert len(watched.sockets) > AT_ONCE  # those of the trials are among them
    assert only_loopback(watched.sockets)


def test_status_counts_nodes_cpus_and_gpus(cluster):
    shown = subprocess.run([sys.executable, "-m", "hybridep.cluster", "status"], capture_output=True, text=True, timeout=PATIENCE)
    assert shown.returncode == 0, shown.stderr
    assert f"cluster {cluster[0].plan.head}: 2 nodes" in shown.stdout
    assert "3 of 3 GPUs are free" in shown.stdout
    for part in cluster:
        assert f"{part.plan}, process {part.process.pid}" in shown.stdout


CLIENT = """
import sys, ray
try:
    ray.init(address=sys.argv[1], logging_level="ERROR")
except Exception as error:
    sys.exit(f"refused: {type(error).__name__}")
"""


def test_a_client_without_the_token_is_refused(cluster, tmp_path):
    address = cluster[0].plan.head
    environment = {**os.environ, **access.ray_environment(address.host), "HOME": str(tmp_path)}
    client = subprocess.run([sys.executable, "-c", CLIENT, str(address)], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert client.returncode == 1
    assert "refused: AuthenticationError" in client.stderr


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer " + "0" * 64),)])
def test_the_head_answers_no_call_without_its_token(cluster, metadata):
    with grpc.insecure_channel(str(cluster[0].plan.head)) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")(b"", metadata=metadata, timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_node_with_another_token_is_told_so_in_one_line(cluster, monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert main(["join", str(cluster[0].plan.head)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: join {cluster[0].plan.head}: the cluster refuses the token in RAY_AUTH_TOKEN; take the one of its head\n"


def test_a_device_is_given_to_one_node_alone(cluster, monkeypatch, capsys):
    pretend(monkeypatch, *SLICED)
    assert main(["join", str(cluster[0].plan.head)]) == 2
    assert re.fullmatch(r"error: device MIG-\S+: belongs to the node of process \d+; .+\n", capsys.readouterr().err)


def test_a_node_dies_with_its_holder_and_stop_ends_the_rest(cluster, capsys):
    """The last test of this cluster."""
    head, joined = cluster
    members = family(joined.process.pid)
    assert len(members) > 2
    joined.process.signal(signal.SIGKILL)
    assert wait_until(lambda: not any(process.running for process in members))
    members = family(head.process.pid)
    assert len(members) > 3
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == f"Had died: {joined.plan}\nStopped {head.plan}\n"
    assert not any(process.running for process in members)
    assert not list(node.runtime_folder().iterdir())


def test_a_study_that_was_given_no_cluster_listens_on_loopback_alone(machine, tmp_path):
    with open(tmp_path / "log", "wb") as log:
        command = [sys.executable, ROOT / "studies/schedule_sweep.py", "--out", str(tmp_path / "study")]
        study = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    sockets: set[tuple[str, int]] = set()
    members: set[Process] = set()

    def trains() -> bool:
        assert study.poll() is None, (tmp_path / "log").read_text()
        members.update(family(study.pid))
        sockets.update(listening(process.pid for process in members))
        return any((tmp_path / "study").glob("ray/*/result.json"))

    try:
        assert wait_until(trains)
    finally:
        study.kill()
        study.wait()
        for process in members:
            process.signal(signal.SIGKILL)
    assert len(sockets) > 4  # those of trials are among them
    assert only_loopback(sockets)


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A process that has nothing to do with Ray."""
    child = subprocess.Popen(["sleep", "600"])
    process = Process.find(child.pid)
    assert process is not None
    yield process
    child.kill()
    child.wait()


def pretend_started(folder: Path, process: Process, devices: tuple[str, ...] = ()) -> Path:
    """The files of a node whose process is this one."""
    plan = NodePlan("head", Address("127.0.0.1", 6379), "127.0.0.1", 2, devices)
    own = node.runtime_folder() / folder
    own.mkdir()
    (own / "node.json").write_text(json.dumps({"plan": asdict(plan), "process": asdict(process)}))
    return own


def test_stop_ends_no_process_that_only_has_the_same_id(machine, sleeper, capsys):
    for number, other in enumerate([Process(sleeper.pid, sleeper.started + 1), Process(sleeper.pid, sleeper.started - 1)]):
        pretend_started(Path(str(number)), other)
    assert main(["stop"]) == 0
    assert capsys.readouterr().out.count("Had died") == 2
    assert sleeper.running
    assert main(["stop"]) == 0
    assert capsys.readouterr().out == "Nothing that was started here is running.\n"


def test_stop_ends_the_process_that_it_started_with_its_children(machine, monkeypatch):
    # The first wait passes in vain: the shell's children do not hear of its SIGTERM.
    monkeypatch.setattr(node, "STOP_SECONDS", 2.0)
    child = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600"], start_new_session=True)
    assert wait_until(lambda: len(family(child.pid)) == 3)
    members = family(child.pid)
    folder = pretend_started(Path("0"), members[0])
    assert main(["stop"]) == 0
    child.wait()
    assert not any(process.running for process in members)
    assert not folder.exists()


def test_a_process_is_known_by_more_than_its_id(sleeper):
    assert Process.find(sleeper.pid) == sleeper
    assert sleeper.running
    assert not Process(sleeper.pid, sleeper.started - 1).running
    sleeper.signal(signal.SIGKILL)
    assert wait_until(lambda: not sleeper.running)  # though nobody has collected it yet


def test_nothing_running_is_a_status_of_its_own(machine, capsys):
    assert main(["status"]) == 1
    assert capsys.readouterr().out == "No Ray node that was started here is running.\n"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "start",
        "stop now",
        "slices --all",
        "head --port",
        "head --port x",
        "head --port -1",
        "head --port 65536",
        "head --address 192.0.2.77",
        "head --address 0.0.0.0",
        "head --address no.such.host.invalid",
        "join",
        "join 6379",
        "join localhost",
        "join localhost:",
        "join localhost:0",
        "join localhost:99999",
        "join localhost:six",
        "join no.such.host.invalid:6379",
        "join 127.0.0.1:1",
        "status 127.0.0.1:1",
        "status nowhere",
    ],
)
def test_a_mistake_is_told_in_one_line_with_code_2(machine, monkeypatch, capsys, command):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert main(command.split()) == 2
    assert re.fullmatch(r"error: .+\n", capsys.readouterr().err)
    assert not started_nodes()


def test_a_port_in_use_is_told(machine, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["head", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"error: --port {port}: is in use; choose another, or 0 for a free one\n"


def test_slices_lists_gpus_with_their_slices_below_them(machine, monkeypatch, capsys):
    pretend(monkeypatch, a100("c"), SLICED[0], a100("d", mig=True))
    assert main(["slices"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "0  GPU-cccccccc-0000-4000-8000-000000000000  NVIDIA A100-SXM4-40GB  40.0 GiB",
        "1  GPU-aaaaaaaa-0000-4000-8000-000000000000  NVIDIA A100-SXM4-40GB  40.0 GiB",
        f"   {HEAD_SLICES[0]}  NVIDIA A100-SXM4-40GB MIG 3g.20gb  19.5 GiB",
        f"   {HEAD_SLICES[1]}  NVIDIA A100-SXM4-40GB MIG 3g.20gb  19.5 GiB",
        "2  GPU-dddddddd-0000-4000-8000-000000000000  NVIDIA A100-SXM4-40GB  40.0 GiB",
        "   in MIG mode, without slices: trials cannot use it",
    ]


def test_slices_says_in_a_sentence_that_there_is_no_driver(machine, monkeypatch, capsys):
    pretend(monkeypatch, init=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert main(["slices"]) == 0
    assert re.fullmatch(r"No GPUs: this machine has no NVIDIA driver \(.+\)\. Trials run on its \d+ CPUs\.\n", capsys.readouterr().out)
    pretend(monkeypatch, init=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    assert main(["slices"]) == 1
    assert re.fullmatch(r"error: the NVIDIA driver does not answer \(.+\); .+\n", capsys.readouterr().err)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_once_and_is_for_its_owner_alone(machine):
    access.ensure_token()
    file = machine / ".ray" / "auth_token"
    made = file.read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", made)
    assert mode(file) == 0o600
    file.chmod(0o644)  # as Ray leaves it
    access.ensure_token()
    assert file.read_text() == made == access.token()
    assert mode(file) == 0o600
    assert os.listdir(file.parent) == ["auth_token"]


def test_a_token_in_the_environment_is_used_as_it_is(machine, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret\n")
    access.ensure_token()
    assert access.token() == "secret"
    assert not (machine / ".ray").exists()


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", "schlüssel".encode(), b"\xff\xfe", None])
def test_a_token_file_without_a_token_is_told_in_one_line(machine, monkeypatch, content):
    file = machine / "token"
    file.mkdir() if content is None else file.write_bytes(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    with pytest.raises(InvalidInput, match=r"^token file \S+: .+") as caught:
        access.ensure_token()
    assert "\n" not in str(caught.value)


def test_a_folder_that_others_could_have_prepared_is_not_used(machine):
    folder = machine / f"hybridep-{os.getuid()}"
    assert node.runtime_folder() == folder
    assert mode(folder) == 0o700
    folder.chmod(0o755)
    with pytest.raises(InvalidInput, match="alone"):
        node.runtime_folder()
    folder.rmdir()
    (machine / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(machine / "elsewhere")
    with pytest.raises(InvalidInput, match="alone"):
        node.runtime_folder()
    folder.unlink()


@pytest.mark.parametrize("base", ["here", "/tmp/" + 20 * "x"])
def test_a_folder_in_which_ray_cannot_make_sockets_is_told(machine, monkeypatch, base):
    monkeypatch.setenv("RAY_TMPDIR", base)
    with pytest.raises(InvalidInput, match=r"^RAY_TMPDIR \S+: must be an absolute path of at most \d+ characters"):
        node.runtime_folder()
    monkeypatch.setenv("RAY_TMPDIR", str(machine))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"plan": {}, "process": {}}'])
def test_a_damaged_record_of_a_node_is_told_in_one_line(machine, capsys, content):
    folder = node.runtime_folder() / "0"
    folder.mkdir()
    (folder / "node.json").write_text(content)
    assert main(["stop"]) == 2
    assert re.fullmatch(r"error: \S+node.json: is damaged .+\n", capsys.readouterr().err)
    shutil.rmtree(folder)
