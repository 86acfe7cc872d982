"""TCP ports: is one free, and which one is."""

import errno
import random
import socket
from pathlib import Path

_LOOPBACK = "127.0.0.1"
_TAKEN = (errno.EADDRINUSE, errno.EACCES)
_KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST, _HIGHEST = 10_000, 20_000


def is_free(host: str, port: int) -> bool:
    """Whether a server could bind there now. Raises OSError when `host` is no address of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT counts as free. Without SO_REUSEPORT, with which a second
        # HAProxy would bind a taken port without a word and share its traffic.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True


def next_free(host: str, port: int, *, tries: int = 100) -> int:
    """The first free port from `port` on."""
    for candidate in range(port, min(port + tries, 65536)):
        if is_free(host, candidate):
            return candidate
    raise OSError(f"no port from {port} to {port + tries - 1} is free on {host}")


def free_ports(count: int) -> list[int]:
    """So many ports that are free on loopback, all different.

    They lie below the range from which the kernel serves outgoing connections and servers that ask for any
    port: what is bound only seconds later would now and then find its port taken from in there.
    """
    found: list[int] = []
    for port in random.sample(_unclaimed(), k=min(1000, len(_unclaimed()))):
        if is_free(_LOOPBACK, port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"no {count} ports above {_LOWEST} are free on {_LOOPBACK}")


def _unclaimed() -> range:
    """Ports that the kernel does not hand out by itself, where it leaves any."""
    first = int(_KERNEL_RANGE.read_text().split()[0])
    return range(_LOWEST, min(first, _HIGHEST) if first > _LOWEST + 1000 else 65_536)


def reachable(host: str) -> str:
    """The address at which a program on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": _LOOPBACK, "": _LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - looked up, not bound


def url(host: str, port: int) -> str:
    """`http://host:port` for a program on this machine."""
    address = reachable(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
