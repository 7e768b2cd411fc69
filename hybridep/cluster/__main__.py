"""Start, join, show and stop a Ray cluster with the GPUs and MIG slices of this machine."""

import argparse
import errno
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from hybridep.cluster.access import DEFAULT_PORT, LOOPBACK, Address, check_access, ensure_token, is_loopback, resolve, token_file
from hybridep.cluster.machine import DriverFault, NoDriver, cpus, gpus, schedulable
from hybridep.cluster.node import NodePlan, StartFailed, check_devices, run, start, started_nodes, stop
from hybridep.cluster.status import cluster_status
from hybridep.command import as_command
from hybridep.config import InvalidInput

DONE, FAILED, INVALID = 0, 1, 2


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInput(message)


def parser() -> Parser:
    parser = Parser(prog="python -m hybridep.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("slices", help="list the GPUs and MIG slices of this machine")
    head = commands.add_parser("head", help="start a cluster, with this machine as its first node")
    head.add_argument("--address", default=LOOPBACK, help="listen here, so that other machines can join (default: this machine alone)")
    head.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of the cluster; 0 takes a free one (default: %(default)s)")
    join = commands.add_parser("join", help="make this machine a node of a cluster")
    join.add_argument("head", metavar="host:port", help="the cluster's head")
    join.add_argument("--address", help="this machine's address (default: the one from which it reaches the head)")
    for command in (head, join):
        command.add_argument("--foreground", action="store_true", help="stay, and stop the node when this process is stopped")
    status = commands.add_parser("status", help="show what was started here, and what its cluster has")
    status.add_argument("head", nargs="?", metavar="host:port", help="a cluster that this machine is a node of")
    commands.add_parser("stop", help="stop what was started here, and nothing else")
    return parser


def show_slices() -> int:
    try:
        found = gpus()
    except NoDriver as error:
        print(f"No GPUs: {error}. Trials run on its {cpus()} CPUs.")
        return DONE
    if not found:
        print(f"No GPUs: the NVIDIA driver knows of none. Trials run on this machine's {cpus()} CPUs.")
    for number, gpu in enumerate(found):
        print(f"{number}  {gpu.uuid}  {gpu.name}{_memory(gpu.memory_bytes)}")
        for part in gpu.slices or ():
            print(f"   {part.uuid}  {part.name}{_memory(part.memory_bytes)}")
        if gpu.slices == ():
            print("   in MIG mode, without slices: trials cannot use it")
    return DONE


def _memory(size: int | None) -> str:
    return "" if size is None else f"  {size / 2**30:.1f} GiB"


def head_plan(address: str, port: int) -> NodePlan:
    """The head that the arguments ask for; InvalidInput where this machine cannot be it."""
    own = _own_address(address)
    if not 0 <= port < 65536:
        raise InvalidInput(f"--port {port}: must be 0 to 65535")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((own, port))
    except OSError as error:
        reason = "is in use; choose another, or 0 for a free one" if error.errno == errno.EADDRINUSE else error.strerror
        raise InvalidInput(f"--port {port}: {reason}") from None
    return _plan("head", Address(own, port), own)


def join_plan(head: str, address: str | None) -> NodePlan:
    """The node that the arguments ask for; InvalidInput where this machine cannot be it or the cluster does not let it in."""
    given = Address.parse(head, "join")
    target = Address(resolve(given.host, "join"), given.port)
    check_access(target, "join")
    if address is None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target.host, target.port))  # sends nothing
            own = LOOPBACK if is_loopback(target.host) else probe.getsockname()[0]
    else:
        own = _own_address(address)
    if is_loopback(own) != is_loopback(target.host):
        raise InvalidInput(f"--address {own}: the nodes of {target} could not reach this machine there")
    return _plan("join", target, own)


def _own_address(address: str) -> str:
    own = resolve(address, "--address")
    try:
        with socket.socket() as probe:
            probe.bind((own, 0))
    except OSError:
        raise InvalidInput(f"--address {address}: is not an address of this machine") from None
    if own == "0.0.0.0":
        raise InvalidInput(f"--address {address}: must be the one address at which the other machines reach this one")
    # Ray keeps to loopback at this address alone.
    return LOOPBACK if is_loopback(own) else own


def _plan(role: str, head: Address, own: str) -> NodePlan:
    if not sys.platform.startswith("linux"):
        raise InvalidInput(f"{role}: needs Linux; a study starts Ray by itself where it is given no --ray-address")
    devices = schedulable()
    check_devices(devices)
    return NodePlan("head" if role == "head" else "join", head, own, cpus(), devices)


def start_node(plan: NodePlan, foreground: bool) -> int:
    ensure_token()
    if foreground:
        return run(plan)
    node = start(plan)
    lines = [f"Started {node.plan}"]
    if plan.role == "head":
        if not is_loopback(plan.address):
            lines.append("Ray listens on every address of this machine. Its token keeps strangers out, but nothing is encrypted.")
            lines.append(f"Add a machine:  python -m hybridep.cluster join {node.plan.head}  (with this machine's {token_file()})")
        lines.append(f"Run a study:    python studies/schedule_sweep.py --ray-address {node.plan.head}")
    lines.append("Stop:           python -m hybridep.cluster stop")
    print("\n".join(lines))
    return DONE


def show_status(head: str | None) -> int:
    nodes = started_nodes()
    for node in nodes:
        print(f"{node.plan}, process {node.process.pid}" + ("" if node.running else f", died; its logs are in {node.logs}"))
    if head is None:
        addresses = dict.fromkeys(node.plan.head for node in nodes if node.running)
        if not addresses:
            print("No Ray node that was started here is running.")
            return FAILED
    else:
        given = Address.parse(head, "status")
        addresses = {Address(resolve(given.host, "status"), given.port): None}
    for address in addresses:
        check_access(address, "status")
        members, free = cluster_status(address, "status")
        cpus, gpus = sum(member.cpus for member in members), sum(member.gpus for member in members)
        print(f"cluster {address}: {len(members)} nodes, {free.cpus:g} of {cpus:g} CPUs and {free.gpus:g} of {gpus:g} GPUs are free")
        for member in members:
            print(f"   {member.address}: {member.cpus:g} CPUs, {member.gpus:g} GPUs")
    return DONE


def stop_nodes() -> int:
    nodes = started_nodes()
    for node in reversed(nodes):  # those that joined before their head
        print(f"Stopped {node.plan}" if stop(node) else f"Had died: {node.plan}", flush=True)
    if not nodes:
        print("Nothing that was started here is running.")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The process's exit code; a mistake is told in one line, with code 2."""
    try:
        args = parser().parse_args(argv)
        match args.command:
            case "slices":
                return show_slices()
            case "head":
                return start_node(head_plan(args.address, args.port), args.foreground)
            case "join":
                return start_node(join_plan(args.head, args.address), args.foreground)
            case "status":
                return show_status(args.head)
            case _:
                return stop_nodes()
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED if isinstance(error, DriverFault) else INVALID
    except StartFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    as_command(main)
