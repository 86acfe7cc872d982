"""The way out of sandboxes: for each a Unix socket on this side, behind which a proxy decides.

A sandbox has no network. Where domains are allowed, the folder with its socket is mounted in it read-only; the
socket is its own, so the proxy knows who speaks without being told by the one who does.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from ..core.errors import SandboxUnavailable
from .egress_base import Attempt, ConnectionLog, Denied, EgressLimits, Resolver
from .egress_connection import Account, Connection, CountBytes, Desk, Ends, answer, write
from .egress_rules import EgressRules
from .inside.bridge import SOCKET_NAME

_PREFIX = "greenroom-egress-"
_BACKLOG = 64
_RESOLVING_THREADS = 16

_log = logging.getLogger(__name__)


class HostResolver:
    """`Resolver` by this machine's own means, on threads of its own: slow names must not hold up anything else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=_RESOLVING_THREADS, thread_name_prefix="egress-resolver")

    async def __call__(self, name: str) -> tuple[str, ...]:
        asked = self._threads.submit(socket.getaddrinfo, name, None, 0, socket.SOCK_STREAM)
        found = await asyncio.wrap_future(asked)
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class Outlet:
    """One sandbox's way out. Everything is refused until it is told whose the sandbox is. Belongs to one event loop."""

    def __init__(self, folder: Path, listening: socket.socket, desk: Desk, background: set[asyncio.Task[None]]) -> None:
        self.folder = folder
        self._listening = listening
        self._desk = desk
        self._background = background
        self._account = Account()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._turned_away = 0
        self._closed = False

    @property
    def socket_path(self) -> Path:
        return self.folder / SOCKET_NAME

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._accept, sock=self._listening, limit=self._desk.limits.head_bytes, backlog=_BACKLOG
        )

    def give_to(self, uid: int | None) -> None:
        """Let the host user `uid` connect and no other; None where nobody knows which one it will be. Blocks a moment.

        The folder's name cannot be guessed and nobody may list what is above it.
        """
        if uid is None:
            self.socket_path.chmod(0o666)
        elif uid != os.geteuid():
            os.chown(self.socket_path, uid, uid)

    def assign(self, session_id: str) -> None:
        """From now on it speaks for this session."""
        self._account.session_id = session_id

    def hang_up(self) -> None:
        """End every connection that there is."""
        for connection in self._connections:
            connection.cancel()
        if self._turned_away and self._account.session_id is not None:
            reason = "there were too many connections"
            attempt = Attempt("", 0, "refused", rule="connections", reason=reason, count=self._turned_away)
            writing = asyncio.create_task(self._write_late(attempt), name="egress-audit")
            self._background.add(writing)
            writing.add_done_callback(self._background.discard)
        self._turned_away = 0

    def close(self) -> None:
        """End it with all its connections; the socket is gone when this returns. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.hang_up()
        if self._server:
            self._server.close()
        self._listening.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._desk.limits
        self._account.connections += 1
        if self._closed or self._account.connections > limits.connections_total:
            self._turn_away(writer, f"this sandbox has made {limits.connections_total} connections, which is all")
        elif len(self._connections) >= limits.connections:
            self._turn_away(writer, f"{limits.connections} connections are open, and no more may be at once")
        else:
            connection = Connection(self._desk, self._account, Ends(reader, writer))
            task = asyncio.create_task(connection.run(), name=f"egress {self._account.session_id}")
            self._connections.add(task)
            task.add_done_callback(self._ended)

    def _turn_away(self, writer: asyncio.StreamWriter, reason: str) -> None:
        # At the cost of nothing but this: no task, no row of its own.
        self._turned_away += 1
        writer.write(answer(Denied("connections", reason, status=429)))
        writer.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("a connection of a sandbox ended by a fault of the proxy", exc_info=error)

    async def _write_late(self, attempt: Attempt) -> None:
        try:
            await write(self._desk.log, self._account, attempt)
        except Denied:
            _log.warning("%d refused connections of a sandbox are in no audit", attempt.count)


class Egress:
    """Makes the outlets of one backend. What a process that died has left behind, the next one removes."""

    def __init__(
        self,
        rules: EgressRules,
        *,
        log: ConnectionLog,
        limits: EgressLimits | None = None,
        resolve: Resolver | None = None,
        count_bytes: CountBytes | None = None,
    ) -> None:
        self.rules = rules
        count = count_bytes or (lambda _direction, _size: None)
        self._desk = Desk(rules, limits or EgressLimits(), resolve or HostResolver(), log, count)
        self._background: set[asyncio.Task[None]] = set()
        self._outlets: set[Outlet] = set()
        self._folder: Path | None = None
        self._lock_fd = -1
        self._closed = False

    async def open(self) -> Outlet:
        """An outlet that listens. Raises SandboxUnavailable."""
        if self._closed:
            raise SandboxUnavailable("The sandbox backend is closed.")
        try:
            outlet = self._make()
        except OSError as error:
            raise SandboxUnavailable(f"No way out can be made for a sandbox: {error}") from error
        self._outlets = {outlet for outlet in self._outlets if outlet.folder.exists()} | {outlet}
        await outlet.start()
        return outlet

    def close(self) -> None:
        """Close every outlet. Idempotent."""
        self._closed = True
        for outlet in self._outlets:
            outlet.close()
        self._outlets.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock_fd)
            self._folder = None

    def _make(self) -> Outlet:
        if self._folder is None:
            self._folder, self._lock_fd = _own_folder()
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir()
        folder.chmod(0o711)
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.setblocking(False)  # noqa: FBT003  the library's own signature
            listening.bind(str(folder / SOCKET_NAME))
            (folder / SOCKET_NAME).chmod(0o600)
        except BaseException:
            listening.close()
            raise
        return Outlet(folder, listening, self._desk, self._background)


@asynccontextmanager
async def outlet_of(egress: Egress | None) -> AsyncGenerator[Outlet | None]:
    """A new outlet, closed again where the sandbox that it is for cannot be made; None where nothing may go out."""
    if egress is None:
        yield None
        return
    outlet = await egress.open()
    try:
        yield outlet
    except BaseException:
        outlet.close()
        raise


def _own_folder() -> tuple[Path, int]:
    """A new folder that nobody may list, and a lock on it that ends with this process."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_if_left(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        if folder.is_dir():
            folder.chmod(0o711)
            return folder, lock_fd
        os.close(lock_fd)  # between the two steps another process took it for one that was left


def _remove_if_left(folder: Path) -> None:
    if folder.lstat().st_uid != os.geteuid():
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(fd)
