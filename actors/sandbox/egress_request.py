"""What a client asks of the proxy: a tunnel by CONNECT, or one plain HTTP request by its whole address."""

import re
from dataclasses import dataclass

from .egress_base import Denied
from .egress_rules import Host, parse_host

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"http://(?P<authority>[^/?#\\\x00-\x20]*)(?P<path>([/?#][\x21-\x7e]*)?)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,15}")
_PORT = re.compile(r"[0-9]{1,5}")
# They speak of this connection and not of the next; and `Host` is what the address says.
_DROPPED = frozenset(
    {"host", "connection", "proxy-connection", "proxy-authorization", "keep-alive", "upgrade", "te", "trailer"}
)


@dataclass(frozen=True, slots=True)
class Request:
    """`head` is what the server is sent first, and `body_bytes` of the client's follow it; a tunnel has neither."""

    host: Host
    port: int
    is_tunnel: bool
    head: bytes = b""
    body_bytes: int = 0


def parse_request(head: bytes) -> Request:
    """From the first line to the empty one. Raises Denied with status 400 or 411."""
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match lines[0].split(" "):
        case [method, target, ("HTTP/1.1" | "HTTP/1.0") as version] if _TOKEN.fullmatch(method):
            fields = [_field(line) for line in lines[1:]]
        case _:
            raise _bad("this is no HTTP request")
    if method == "CONNECT":
        return Request(*_authority(target, None), is_tunnel=True)
    return _plain(method, target, version, fields)


def _plain(method: str, target: str, version: str, fields: list[tuple[str, str]]) -> Request:
    found = _TARGET.fullmatch(target)
    if not found:
        raise _bad("ask for https by CONNECT, and for http by the whole address")
    host, port = _authority(found["authority"], 80)
    path = found["path"].partition("#")[0]
    path = path if path.startswith("/") else f"/{path}"
    # One request, and its end is known: what followed it would be read by the server as another one, of any host.
    if any(name.lower() == "transfer-encoding" for name, _ in fields):
        raise Denied("request", "say how long the body is: Content-Length", status=411)
    lengths = {value for name, value in fields if name.lower() == "content-length"}
    if len(lengths) > 1 or not all(map(_NUMBER.fullmatch, lengths)):
        raise _bad("its length is no number")
    kept = [f"{name}: {value}" for name, value in fields if name.lower() not in _DROPPED]
    shown = f"[{host.name}]" if ":" in host.name else host.name
    named = shown if port == 80 else f"{shown}:{port}"
    sent = [f"{method} {path} {version}", f"Host: {named}", *kept, "Connection: close", "", ""]
    return Request(host, port, is_tunnel=False, head="\r\n".join(sent).encode("latin-1"), body_bytes=_length(lengths))


def _length(lengths: set[str]) -> int:
    return int(lengths.pop()) if lengths else 0


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise _bad("this is no HTTP request")
    return name, value.strip(" \t")


def _authority(text: str, port: int | None) -> tuple[Host, int]:
    if "@" in text:
        raise _bad("a host has no user here")
    name, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, digits = text, "" if port is None else str(port)
    if not _PORT.fullmatch(digits) or not 0 < int(digits) < 65536:
        raise _bad("it names no port")
    try:
        return parse_host(name), int(digits)
    except ValueError as error:
        shown = name[:100].encode("ascii", "backslashreplace").decode()
        raise Denied("host", f"{shown} is no host: {error}") from None


def _bad(reason: str) -> Denied:
    return Denied("request", reason, status=400)
