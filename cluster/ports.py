"""TCP ports: is one free, and which one is."""

import errno
import socket

_LOOPBACK = "127.0.0.1"
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


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
    """So many ports that the kernel finds free on loopback, all different."""
    sockets = [socket.create_server((_LOOPBACK, 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def reachable(host: str) -> str:
    """The address at which a program on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": _LOOPBACK, "": _LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - looked up, not bound


def url(host: str, port: int) -> str:
    """`http://host:port` for a program on this machine."""
    address = reachable(host)
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
