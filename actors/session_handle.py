"""Typed handles of sessions for Python programs; `connect.py` opens the connection behind them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import ray

from .agent.sessions import Batch, NewSession, Receipt, Submit, TurnResult
from .core.errors import InvalidInput, UnavailableError
from .core.events import TERMINAL, Event, Preview
from .core.ids import NewId
from .handles import RemoteSessions
from .sandbox.base import ExecResult, Listing, OnOutput, Sandboxes
from .wiring.workspaces import WorkspacesOnDemand

POLL_S = 10.0
TURN_S = 3600.0
EXEC_S = 300.0

_ray: Any = ray


@dataclass(slots=True)
class SessionHandle:
    """A session, wherever it lives. Messages and events are the same that HTTP clients see."""

    id: str
    _greenroom: "Greenroom"
    _new: NewSession | None = None
    _last_seq: int = 0

    async def chat(self, message: str, *, model: str | None = None) -> TurnResult:
        """Say something and wait for the turn's end. A failed turn is a result with `error`, not an exception."""
        command = self._command(message, model)
        result = await self._greenroom.sessions.chat(command, wait_s=TURN_S)
        if isinstance(result, Receipt):
            raise UnavailableError(
                f"turn {result.turn_id} has not ended: it waits for an approval, its session is paused, "
                f"or it takes longer than {TURN_S:g} s; its events go on"
            )
        self._new = None
        return result

    async def stream(self, message: str, *, model: str | None = None) -> AsyncGenerator[Event | Preview]:
        """Say something and read its turn as it happens: previews, numbered events, and the terminal one last."""
        command = self._command(message, model)
        receipt = await self._greenroom.sessions.submit(command)
        self._new = None
        async for item in self.follow(after=receipt.seq - 1):
            if item.turn_id == receipt.turn_id:
                yield item
                if isinstance(item, Event) and isinstance(item.body, TERMINAL):
                    return

    async def follow(self, *, after: int = 0) -> AsyncGenerator[Event | Preview]:
        """Every event above `after`, and previews, for as long as you read."""
        seen: dict[str, int] = {}
        while True:
            batch = await self._ask(after, seen, POLL_S)
            seen = batch.seen
            for event in batch.events:
                after = event.seq
                yield event
            for preview in batch.previews:
                yield preview

    async def events(self, *, after: int = 0) -> list[Event]:
        """The journal from `after` to its present end."""
        found: list[Event] = []
        while batch := (await self._ask(after, {}, 0)).events:
            found.extend(batch)
            after = batch[-1].seq
        return found

    async def cancel(self, turn_id: str) -> TurnResult | None:
        """Stop a turn; None when it had ended."""
        return await self._greenroom.sessions.cancel(self.id, self._greenroom.user_id, turn_id)

    # The workspace: beside the model, under the policy, and into the audit as this user's doing --------------

    async def exec(
        self,
        command: str | None = None,
        *,
        python: str | None = None,
        keep: bool = False,
        timeout_s: float = EXEC_S,
        on_output: OnOutput | None = None,
    ) -> ExecResult:
        """Run a command line, or a Python program, in the session's sandbox. Cancelling this kills it.

        How it ended is in `verdict`; what the policy refuses was not run. `on_output` gets what is printed as it comes.
        With `keep` Python runs in an interpreter that lasts, with the variables of earlier calls.
        """
        if (command is None) == (python is None) or (keep and python is None):
            raise InvalidInput("give either a command or python; only python can keep its variables")
        async with self._workspace() as sandboxes:
            if command is not None:
                return await sandboxes.shell(self.id, command, timeout_s=timeout_s, on_output=on_output)
            return await sandboxes.python(self.id, python or "", timeout_s=timeout_s, on_output=on_output, keep=keep)

    async def files(self, path: str = ".", *, limit: int = 1000) -> Listing:
        """Files and folders below `path`, `limit` at most; `cut` where more do not fit.

        Raises `WorkspaceError`, as do the next three.
        """
        async with self._workspace() as sandboxes:
            return await sandboxes.list(self.id, path, max_entries=limit)

    async def read_file(self, path: str) -> bytes:
        async with self._workspace() as sandboxes:
            size = (await sandboxes.stat(self.id, path)).size_bytes
            return (await sandboxes.read(self.id, path, max_bytes=size)).data

    async def write_file(self, path: str, data: bytes | str) -> None:
        """Text is written as UTF-8. Folders above the file are made."""
        async with self._workspace() as sandboxes:
            await sandboxes.write(self.id, path, data.encode() if isinstance(data, str) else data)

    async def delete_file(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or an empty folder; with `recursive` all that is in it, too."""
        async with self._workspace() as sandboxes:
            await sandboxes.remove(self.id, path, recursive=recursive)

    @asynccontextmanager
    async def _workspace(self) -> AsyncGenerator[Sandboxes]:
        greenroom = self._greenroom
        workspaces = greenroom.workspaces.get()
        if self._new is not None:
            await workspaces.begin(self.id, greenroom.user_id, self._new)
            self._new = None
        async with workspaces.opened(self.id, greenroom.user_id) as sandboxes:
            yield sandboxes

    async def _ask(self, after: int, seen: dict[str, int], wait_s: float) -> Batch:
        greenroom = self._greenroom
        return await greenroom.sessions.follow(self.id, greenroom.user_id, after=after, seen=seen, wait_s=wait_s)

    def _command(self, message: str, model: str | None) -> Submit:
        greenroom = self._greenroom
        return Submit(
            session_id=self.id,
            user_id=greenroom.user_id,
            message_id=greenroom.new_id("msg"),
            turn_id=greenroom.new_id("turn"),
            content=message,
            model=model,
            new=self._new,
        )


@dataclass(frozen=True, slots=True)
class Greenroom:
    """A connection to a running cluster."""

    sessions: RemoteSessions = field(repr=False)
    user_id: str
    model: str
    workspaces: WorkspacesOnDemand = field(repr=False)
    new_id: NewId = field(repr=False)

    async def session(
        self, session_id: str | None = None, *, model: str | None = None, system: str | None = None, **metadata: Any
    ) -> SessionHandle:
        """A session of that id, or a new one, which begins with its first message."""
        if session_id is not None:
            handle = SessionHandle(session_id, self)
            await handle.events(after=0)  # raises SessionNotFound now and not at the first message
            return handle
        return SessionHandle(self.new_id("sess"), self, NewSession(model or self.model, system, metadata))

    def close(self) -> None:
        """Disconnect from the cluster. Sessions and their turns go on."""
        self.workspaces.close()
        _ray.shutdown()
