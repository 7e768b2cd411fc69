"""Which addresses processes listen on, from the kernel's tables."""

import ipaddress
import os
import sys
from collections.abc import Iterable
from pathlib import Path

LISTENING = "0A"


def listening(pids: Iterable[int]) -> set[tuple[str, int]]:
    """(address, port) of the TCP sockets that these processes listen on; those that ended in between are left out."""
    held = {inode for pid in pids for inode in _socket_inodes(pid)}
    tables = [line.split() for table in ("tcp", "tcp6") for line in Path("/proc/net", table).read_text().splitlines()[1:]]
    return {_address(row[1]) for row in tables if row[3] == LISTENING and row[9] in held}


def _socket_inodes(pid: int) -> list[str]:
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []
    return [link[len("socket:[") : -1] for link in links if link.startswith("socket:[")]


def _address(text: str) -> tuple[str, int]:
    """The kernel writes an address as hexadecimal words in the machine's byte order."""
    host, port = text.split(":")
    words = [bytes.fromhex(host[start : start + 8]) for start in range(0, len(host), 8)]
    address = ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)


def only_loopback(sockets: set[tuple[str, int]]) -> bool:
    return all(ipaddress.ip_address(host).is_loopback for host, _ in sockets)
