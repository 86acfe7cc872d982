"""The part of the clients that uses a session's workspace: its sandbox and the files in it."""

from typing import Unpack

from . import calls
from .calls import ExecOptions, Json, OnOutput
from .exchange import AsyncExchange, Exchange


class WorkspaceCalls:
    """Calls of the blocking client."""

    _exchange: Exchange

    def exec(self, session_id: str, *, on_output: OnOutput | None = None, **options: Unpack[ExecOptions]) -> Json:
        """Run a `command` or a `python` program beside the model; what it prints also comes through `on_output`.

        How it ended is in `verdict`. It is sent once: a connection that breaks kills it, and is `UnavailableError`.
        """
        return self._exchange.run(calls.execute(session_id, options), on_output)

    def files(self, session_id: str, path: str = "", *, limit: int = 1000) -> Json:
        """Files and folders below `path`; `truncated` says that there are more."""
        return self._exchange.send(calls.file_list(session_id, path, limit))

    def read_file(self, session_id: str, path: str) -> bytes:
        return calls.content_of(self._exchange.respond(calls.file("GET", session_id, path)))

    def write_file(self, session_id: str, path: str, data: bytes) -> None:
        """Write the whole file, and the folders above it."""
        self._exchange.send(calls.file("PUT", session_id, path, data))

    def delete_file(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        """Remove a file or an empty folder; with `recursive` all that is in it, too."""
        self._exchange.send(calls.removal(session_id, path, recursive=recursive))


class AsyncWorkspaceCalls:
    """The same for asyncio."""

    _exchange: AsyncExchange

    async def exec(self, session_id: str, *, on_output: OnOutput | None = None, **options: Unpack[ExecOptions]) -> Json:
        return await self._exchange.run(calls.execute(session_id, options), on_output)

    async def files(self, session_id: str, path: str = "", *, limit: int = 1000) -> Json:
        return await self._exchange.send(calls.file_list(session_id, path, limit))

    async def read_file(self, session_id: str, path: str) -> bytes:
        return calls.content_of(await self._exchange.respond(calls.file("GET", session_id, path)))

    async def write_file(self, session_id: str, path: str, data: bytes) -> None:
        await self._exchange.send(calls.file("PUT", session_id, path, data))

    async def delete_file(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        await self._exchange.send(calls.removal(session_id, path, recursive=recursive))
