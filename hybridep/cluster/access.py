"""Who may use a Ray cluster: its address, the token that every node and client shows, and what Ray reads from the environment.

Imports no Ray, for what it sets must be set before.
"""

import contextlib
import ipaddress
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hybridep.cluster.internals import LOOPBACK_SWITCH, check_alive
from hybridep.config import InvalidInput

LOOPBACK: Final = "127.0.0.1"
DEFAULT_PORT: Final = 6379
ANSWER_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Address:
    """Where a cluster's head listens; `host` is an IPv4 address or the name of one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str) -> "Address":
        """host:port; InvalidInput that names `option` where it is something else."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
            raise InvalidInput(f"{option} {text!r}: must be host:port")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def resolve(host: str, option: str) -> str:
    """The IPv4 address of a host; InvalidInput that names `option` where it has none."""
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"{option} {host!r}: is no host that is known here ({getattr(error, 'strerror', None) or error})") from None


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def ray_environment(address: str) -> dict[str, str]:
    """What must stand in the environment before Ray is imported, on a node or client of a cluster whose head has this IPv4 address."""
    return {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", LOOPBACK_SWITCH: "0" if is_loopback(address) else "1"}


def token_file() -> Path:
    """Where Ray keeps its token, if it is not in RAY_AUTH_TOKEN itself."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def token() -> str | None:
    """The token that Ray will find, None where there is none; InvalidInput where its file cannot be read."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return _checked(given.strip(), "RAY_AUTH_TOKEN")
    file = token_file()
    try:
        text = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"token file {file}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return _checked(text, f"token file {file}")


def _checked(text: str, source: str) -> str:
    if not text.isascii() or not text.isprintable() or not text:
        raise InvalidInput(f"{source}: holds no token; give it the one of the cluster's head, or nothing, to have one made")
    return text


def ensure_token() -> None:
    """Make a token where there is none. Ray would too, but in a file that every user of the machine can read."""
    file = token_file()
    if token() is None:
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
                stream.write(secrets.token_hex(32))
            os.link(unfinished, file)
        except FileExistsError:
            pass  # another process was faster: its token counts
        except OSError as error:
            raise InvalidInput(f"token file {file}: cannot be written ({error.strerror or error})") from None
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink()
    if not os.environ.get("RAY_AUTH_TOKEN") and stat.S_IMODE(file.stat().st_mode) & 0o077 and file.stat().st_uid == os.getuid():
        file.chmod(0o600)


def check_access(head: Address, option: str) -> None:
    """InvalidInput in one line, and soon, where no Ray head answers or it refuses our token: Ray itself would try for long."""
    import grpc

    found = token()
    if found is None:
        raise InvalidInput(f"{option} {head}: there is no token in {token_file()}; copy the head's")
    try:
        check_alive(str(head), found, ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            source = "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else token_file()
            raise InvalidInput(f"{option} {head}: the cluster refuses the token in {source}; take the one of its head") from None
        raise InvalidInput(f"{option} {head}: no Ray cluster answers there") from None
