"""The first words of a TLS client, read as far as the name that it asks for. Nothing is decrypted."""

from collections.abc import Iterator

HELLO_BYTES = 64 * 1024
"""A client whose first words are longer is taken for none."""

UNRECOGNIZED_NAME = bytes([21, 3, 3, 0, 2, 2, 112])
"""The alert that tells a client so."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_RECORD_HEAD = 5
_RECORD_BYTES = 16 * 1024
_SERVER_NAME = 0
_ENCRYPTED_HELLO = 0xFE0D


class NoHello(Exception):
    """Not the beginning of a TLS connection, or one that hides or doubles the name it asks for."""


class _Cut(Exception):
    """The bytes end within what they announce."""


def server_name(data: bytes) -> str | None:
    """The name that a client asks for, in lower case; empty where it asks for none; None where more bytes must come.

    Raises NoHello.
    """
    hello = _handshake(data)
    if hello is None:
        if len(data) > HELLO_BYTES:
            raise NoHello("its first words are too long")
        return None
    try:
        return _name(hello)
    except _Cut:
        raise NoHello("its first words are cut off") from None


def _handshake(data: bytes) -> bytes | None:
    """The body of the first handshake message, which may come in several records; None where more must come."""
    message = bytearray()
    while data:
        if data[0] != _HANDSHAKE or (len(data) > 1 and data[1] != 3):
            raise NoHello("it does not speak TLS")
        size = int.from_bytes(data[3:_RECORD_HEAD], "big")
        if len(data) >= _RECORD_HEAD and not 0 < size <= _RECORD_BYTES:
            raise NoHello("it does not speak TLS")
        message += data[_RECORD_HEAD : _RECORD_HEAD + size]
        if message and message[0] != _CLIENT_HELLO:
            raise NoHello("it does not begin as a TLS client does")
        announced = 4 + int.from_bytes(message[1:4], "big")
        if announced > HELLO_BYTES:
            raise NoHello("its first words are too long")
        if len(message) >= 4 and len(message) >= announced:
            return bytes(message[4:announced])
        if len(data) < _RECORD_HEAD + size:
            return None
        data = data[_RECORD_HEAD + size :]
    return None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        if size > len(self._data):
            raise _Cut
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def part(self, length_bytes: int) -> "_Reader":
        return _Reader(self.take(self.number(length_bytes)))

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def __bool__(self) -> bool:
        return bool(self._data)


def _name(hello: bytes) -> str:
    reader = _Reader(hello)
    reader.take(2 + 32)  # version, random
    reader.part(1)  # session
    reader.part(2)  # ciphers
    reader.part(1)  # compressions
    if not reader:
        return ""
    found: dict[int, _Reader] = {}
    for kind, body in _extensions(reader.part(2)):
        if kind in found:
            raise NoHello("it says something twice")
        found[kind] = body
    if _ENCRYPTED_HELLO in found:
        raise NoHello("it hides the name that it asks for (ECH)")
    if _SERVER_NAME not in found:
        return ""
    names = found[_SERVER_NAME].part(2)
    kind, name = names.number(1), names.part(2)
    if kind != 0 or names:
        raise NoHello("it asks for more than one name")
    try:
        return name.rest().decode("ascii").lower()
    except UnicodeDecodeError:
        raise NoHello("it asks for a name that is not ASCII") from None


def _extensions(reader: _Reader) -> Iterator[tuple[int, _Reader]]:
    while reader:
        yield reader.number(2), reader.part(2)
