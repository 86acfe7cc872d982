"""The way out, seen from inside: a port on the sandbox's own loopback, passed on to the host by a Unix socket.

It decides nothing: whatever reaches that socket is judged on the other side, and nothing else leads out.
"""

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Generator

FOLDER = "/egress"
SOCKET_NAME = "proxy"
PORT = 3128
LINKS = 64
"""More connections wait; a sandbox's open files are few, and each takes two."""

_BUFFER_BYTES = 64 * 1024
_BACKLOG = 64
_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Bridge:
    """Serves from the agent's own loop: a process of its own would end with each command."""

    # Numbers of descriptors and no sockets, which in a fork would close a file of the program that runs there.

    def __init__(
        self,
        selector: selectors.BaseSelector,
        *,
        path: str = f"{FOLDER}/{SOCKET_NAME}",
        address: tuple[str, int] = ("127.0.0.1", PORT),
    ) -> None:
        self._selector = selector
        self._path = path
        self._address = address
        self._listener = -1
        self._listens = False
        self._links: set[Link] = set()

    def open(self) -> None:
        """Listen. Raises OSError."""
        with socket.socket(type=_STREAM) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(self._address)
            made.listen(_BACKLOG)
            self._listener = made.detach()
        self._listen()

    def _listen(self) -> None:
        if not self._listens and len(self._links) < LINKS:
            self._selector.register(self._listener, _READ, self._accept)
            self._listens = True

    def _pause(self) -> None:
        if self._listens:
            self._selector.unregister(self._listener)
            self._listens = False

    def _accept(self) -> None:
        try:
            with _as_socket(self._listener) as listener:
                client = listener.accept()[0]
        except BlockingIOError:
            return
        except OSError:
            if self._links:
                self._pause()  # there are too many open files: until one of ours is closed
            return
        # Neither is closed by its object once it is a link's.
        with client, socket.socket(socket.AF_UNIX, _STREAM) as proxy:
            os.set_blocking(client.fileno(), False)
            try:
                proxy.connect(self._path)
            except OSError:
                return  # the host is gone, or has more than it takes; who asked sees the end of it
            link = Link(self._selector, client.detach(), proxy.detach(), self._ended)
        self._links.add(link)
        if len(self._links) >= LINKS:
            self._pause()
        link.stir()

    def _ended(self, link: "Link") -> None:
        self._links.discard(link)
        self._listen()


class Link:
    """A client's connection and the host's, and what is on its way from either to the other."""

    def __init__(
        self, selector: selectors.BaseSelector, client: int, proxy: int, ended: "Callable[[Link], None]"
    ) -> None:
        self._selector = selector
        self._ways = ((client, proxy), (proxy, client))
        self._pending = {client: bytearray(), proxy: bytearray()}  # by whom it is for
        self._silent: set[int] = set()  # said their last
        self._told: set[int] = set()  # know that there is no more for them
        self._ended = ended
        self._closed = False

    def stir(self) -> None:
        """Move what can be moved."""
        if self._closed:
            return
        for source, sink in self._ways:
            self._read(source, self._pending[sink])
            self._write(source, sink)
        if len(self._silent) == len(self._told) == 2:
            self._close()
        else:
            for source, sink in self._ways:
                self._await(source, sink)

    def _read(self, source: int, buffer: bytearray) -> None:
        if source in self._silent or len(buffer) >= _BUFFER_BYTES:
            return
        try:
            data = os.read(source, _BUFFER_BYTES - len(buffer))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        buffer += data
        if not data:
            self._silent.add(source)

    def _write(self, source: int, sink: int) -> None:
        buffer = self._pending[sink]
        if sink in self._told:
            return
        try:
            if buffer:
                del buffer[: os.write(sink, buffer)]
            if source in self._silent and not buffer:
                with _as_socket(sink) as stream:
                    stream.shutdown(socket.SHUT_WR)
                self._told.add(sink)
        except BlockingIOError:
            pass
        except OSError:
            # It takes no more. What it said itself may still be under way to the other one.
            buffer.clear()
            self._silent.add(source)
            self._told.add(sink)

    def _await(self, one: int, other: int) -> None:
        """Wake for what `one` says, while there is room for it, and for room to tell it what is pending."""
        hears = one not in self._silent and len(self._pending[other]) < _BUFFER_BYTES
        wanted = (_READ if hears else 0) | (_WRITE if self._pending[one] else 0)
        known = self._selector.get_map().get(one)
        if known is None:
            if wanted:
                self._selector.register(one, wanted, self.stir)
        elif not wanted:
            self._selector.unregister(one)
        elif known.events != wanted:
            self._selector.modify(one, wanted, self.stir)

    def _close(self) -> None:
        self._closed = True
        for one in self._pending:
            if one in self._selector.get_map():
                self._selector.unregister(one)
            os.close(one)
        self._ended(self)


@contextlib.contextmanager
def _as_socket(fd: int) -> "Generator[socket.socket]":
    stream = socket.socket(fileno=fd)
    try:
        yield stream
    finally:
        stream.detach()
