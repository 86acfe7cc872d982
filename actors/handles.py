"""Typed proxies over Ray handles, which satisfy the same Protocols as the plain classes behind them.

This is the only place where Ray's errors become ours. Methods run with `max_task_retries=0`: a call is
repeated here or nowhere, and only calls that are safe to repeat are (every message carries its id).
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from .agent.directory import FleetStatus
from .agent.orders import Order
from .agent.previews import Seen
from .agent.session import CANCEL_S
from .agent.sessions import Batch, Receipt, Submit, TurnResult, Waiting
from .core.clock import Clock
from .core.errors import (
    Draining,
    Fenced,
    GreenroomError,
    MemoryUnavailable,
    NotHere,
    SandboxUnavailable,
    SessionLost,
    SessionNotFound,
)
from .memory.base import Memory, Recollection
from .sandbox.base import CopyResult, ExecResult, FileInfo, FileSlice, OnOutput, SandboxStatus, WorkspaceError

DIRECTORY = "directory"
MEMORY = "memory"
SANDBOX_PREFIX = "sandbox:"
SESSION_PREFIX = "session:"

CALL_S = 30.0
"""Deadline of a call that has none of its own."""

TRY_S = 5.0
"""A session actor that has not answered by then, beyond what it was asked to wait, is taken for silent."""

SLICE_S = 10.0
"""A long wait is asked for in such pieces, so that a process which stands still is noticed."""

RETRY_S = 20.0
"""A session's call is tried again elsewhere for so long: a lost host is replaced within this time."""

PLACES_CACHED = 50_000

_ELSEWHERE = (NotHere, Fenced, SessionLost, Draining)
"""Answers of a host that mean: ask the directory again."""

T = TypeVar("T")

_ray: Any = ray
"""Ray's own annotations are partial: seen through `Any`, and narrowed here where values enter."""


class _ActorGone(Exception):
    """The process of an actor is gone or not reached. Never leaves this file: callers get an error of ours."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@asynccontextmanager
async def translated(lost: "type[GreenroomError | _ActorGone]") -> AsyncGenerator[None]:
    """Ray's errors to ours: an error of the called method to itself, a lost actor to `lost`."""
    try:
        yield
    except RayTaskError as error:
        cause = cast("BaseException", error.cause)  # pyright: ignore[reportUnknownMemberType]
        if isinstance(cause, GreenroomError | WorkspaceError):
            raise cause from None
        raise lost(f"{type(cause).__name__}: {cause}") from error
    except (RayActorError, GetTimeoutError) as error:
        raise lost((str(error).splitlines() or [type(error).__name__])[0]) from error
    except RayError as error:
        raise lost(f"{type(error).__name__}: {error}") from error


def actor_named(name: str, namespace: str) -> Any:
    """A handle by name. Raises ValueError when there is no such actor."""
    return _ray.get_actor(name, namespace=namespace)


def named_actors(prefix: str, namespace: str) -> dict[str, Any]:
    """Handles of the live actors whose names start so."""
    listed = cast("list[dict[str, str]]", _ray.util.list_named_actors(all_namespaces=True))
    names = [e["name"] for e in listed if e["namespace"] == namespace and e["name"].startswith(prefix)]
    actors: dict[str, Any] = {}
    for name in names:
        try:
            actors[name] = actor_named(name, namespace)
        except ValueError:
            continue  # it ended between the two questions
    return actors


def end_actor(actor: Any) -> None:
    """End an actor at once and for good."""
    _ray.kill(actor)


class RemoteDirectory:
    """The directory, found again by name when it was restarted."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._handle: Any = None

    async def locate(self, session_id: str, *, failed: str | None, new: bool) -> str:
        return await self._call(lambda actor: actor.locate.remote(session_id, failed=failed, new=new))

    async def status(self) -> FleetStatus:
        return await self._call(lambda actor: actor.status.remote())

    async def _call(self, call: Callable[[Any], Awaitable[T]]) -> T:
        try:
            async with translated(SessionLost), asyncio.timeout(CALL_S):
                if self._handle is None:
                    self._handle = actor_named(DIRECTORY, self._namespace)
                return await call(self._handle)
        except (ValueError, TimeoutError) as error:
            self._handle = None
            raise SessionLost(f"the directory does not answer: {error}") from error
        except SessionLost:
            self._handle = None
            raise


class RemoteSessions:
    """`Sessions` over the fleet: knows where sessions live, asks the directory when it is wrong."""

    def __init__(self, namespace: str, clock: Clock) -> None:
        self.directory = RemoteDirectory(namespace)
        self._namespace = namespace
        self._clock = clock
        self._places: OrderedDict[str, str] = OrderedDict()
        self._hosts: dict[str, Any] = {}

    async def submit(self, command: Submit) -> Receipt:
        return await self._call(
            command.session_id,
            TRY_S,
            lambda host, activate: host.submit.remote(command, activate=activate),
            new=command.new is not None,
        )

    async def chat(self, command: Submit, *, wait_s: float) -> TurnResult | Receipt:
        give_up = self._clock.monotonic() + wait_s
        while True:
            asked = self._clock.monotonic()
            piece_s = max(0.0, min(SLICE_S, give_up - asked))
            # Sent again it is the same message, which is accepted once.
            answer = await self._call(
                command.session_id,
                piece_s + TRY_S,
                lambda host, activate, piece_s=piece_s: host.chat.remote(command, wait_s=piece_s, activate=activate),
                new=command.new is not None,
            )
            now = self._clock.monotonic()
            # A receipt before its time: this turn has ended and is no longer known there. The journal knows.
            if isinstance(answer, TurnResult) or now >= give_up or now < asked + piece_s / 2:
                return answer

    async def follow(self, session_id: str, user_id: str, *, after: int, seen: Seen, wait_s: float) -> Batch:
        return await self._call(
            session_id,
            wait_s + TRY_S,
            lambda host, activate: host.follow.remote(
                session_id, user_id, after=after, seen=seen, wait_s=wait_s, activate=activate
            ),
        )

    async def cancel(self, session_id: str, user_id: str, turn_id: str) -> TurnResult | None:
        return await self._call(
            session_id,
            CANCEL_S + TRY_S,
            lambda host, activate: host.cancel.remote(session_id, user_id, turn_id, activate=activate),
        )

    async def control(self, session_id: str, user_id: str, order: Order) -> None:
        await self._call(
            session_id,
            CANCEL_S + TRY_S,
            lambda host, activate: host.control.remote(session_id, user_id, order, activate=activate),
        )

    async def inbox(self, session_id: str, user_id: str) -> tuple[Waiting, ...]:
        return await self._call(
            session_id,
            TRY_S,
            lambda host, activate: host.inbox.remote(session_id, user_id, activate=activate),
        )

    async def forget(self, session_id: str) -> None:
        try:
            await self._call(session_id, TRY_S, lambda host, _: host.forget.remote(session_id))
        except SessionNotFound:
            # No process hosts it. Its sandbox may be there all the same.
            await RemoteSandboxes(self._namespace).release(session_id)
        self._places.pop(session_id, None)

    async def _call(
        self, session_id: str, timeout_s: float, call: Callable[[Any, bool], Awaitable[T]], *, new: bool = False
    ) -> T:
        give_up = self._clock.monotonic() + RETRY_S
        failed: str | None = None
        pause = 0.02
        while True:
            name = self._places.get(session_id)
            activate = name is None
            try:
                if name is None:
                    name = await self.directory.locate(session_id, failed=failed, new=new)
                async with translated(_ActorGone), asyncio.timeout(timeout_s):
                    answer = await call(self._host(name), activate)
            except (*_ELSEWHERE, _ActorGone, TimeoutError, ValueError) as error:
                self._places.pop(session_id, None)
                # A lost process is the directory's business too; a host that answers is not to blame.
                failed = name if isinstance(error, _ActorGone | TimeoutError | ValueError) else None
                if failed is not None:
                    self._hosts.pop(failed, None)
                if self._clock.monotonic() + pause > give_up:
                    raise _final(error, session_id) from error
                await self._clock.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                self._remember(session_id, name)
                return answer

    def _host(self, name: str) -> Any:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = actor_named(name, self._namespace)
        return host

    def _remember(self, session_id: str, name: str) -> None:
        self._places[session_id] = name
        self._places.move_to_end(session_id)
        while len(self._places) > PLACES_CACHED:
            self._places.popitem(last=False)


def _final(error: BaseException, session_id: str) -> GreenroomError:
    if isinstance(error, GreenroomError):
        return error
    reason = str(error) or "not within its time"
    return SessionLost(f"no session actor answered: {reason}", session_id=session_id)


class RemoteMemories:
    """`MemoryStore` in the memory actor."""

    def __init__(self, namespace: str, *, timeout_s: float) -> None:
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._handle: Any = None

    async def remember(self, memory: Memory) -> None:
        await self._call(lambda actor: actor.remember.remote(memory))

    async def recall(self, user_id: str, query: str, *, limit: int = 5) -> tuple[Recollection, ...]:
        return await self._call(lambda actor: actor.recall.remote(user_id, query, limit=limit))

    async def _call(self, call: Callable[[Any], Awaitable[T]]) -> T:
        try:
            async with translated(_ActorGone), asyncio.timeout(self._timeout_s):
                if self._handle is None:
                    self._handle = actor_named(MEMORY, self._namespace)
                return await call(self._handle)
        except _ActorGone as error:
            self._handle = None
            raise MemoryUnavailable(error.message) from error
        except TimeoutError as error:
            raise MemoryUnavailable(f"the memory actor did not answer within {self._timeout_s:g} s") from error
        except ValueError as error:
            raise MemoryUnavailable("the memory actor is not running") from error


class RemoteSandboxes:
    """`Sandboxes` in the sandbox actors: a session stays with the actor it met first, on its own node if it can."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._actors: dict[str, Any] = {}
        self._homes: dict[str, str] = {}

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._run(session_id, "shell", command, timeout_s=timeout_s, on_output=on_output)

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._run(session_id, "python", code, timeout_s=timeout_s, on_output=on_output)

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        return await self._call(session_id, "read", path, offset=offset, max_bytes=max_bytes)

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        await self._call(session_id, "write", path, data)

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> tuple[FileInfo, ...]:
        return await self._call(session_id, "list", path, max_entries=max_entries)

    async def holds(self, session_id: str) -> bool:
        return await self._holder(session_id) is not None

    async def copy(self, source: str, target: str) -> CopyResult:
        holder = await self._holder(source)
        if holder is None:
            return CopyResult()
        self._homes[source] = self._homes[target] = holder
        return await self._call(source, "copy", target)

    async def _holder(self, session_id: str) -> str | None:
        """The actor that has the session's sandbox, by asking every one. Raises when one does not answer."""
        for name, actor in named_actors(SANDBOX_PREFIX, self._namespace).items():
            try:
                async with translated(_ActorGone), asyncio.timeout(CALL_S):
                    if await actor.holds.remote(session_id):
                        return name
            except (TimeoutError, _ActorGone) as error:
                self._forget(name)
                raise SandboxUnavailable(f"{name} does not say whether it has the session's sandbox") from error
        return None

    async def release(self, session_id: str) -> None:
        """Wherever it is: another process may have leased it."""
        home = self._homes.pop(session_id, None)
        for name, actor in named_actors(SANDBOX_PREFIX, self._namespace).items():
            released = actor.release.remote(session_id)
            if name != home:
                continue  # told, and not waited for: it may still be starting
            try:
                async with translated(_ActorGone), asyncio.timeout(CALL_S):
                    await released
            except (_ActorGone, TimeoutError):
                self._forget(name)

    async def status(self) -> SandboxStatus:
        name = self._any_name()
        try:
            async with translated(_ActorGone), asyncio.timeout(CALL_S):
                return await self._actor(name).status.remote()
        except TimeoutError as error:
            raise SandboxUnavailable(f"{name} does not answer") from error
        except _ActorGone as error:
            self._forget(name)
            raise SandboxUnavailable(error.message) from error

    async def _run(
        self, session_id: str, kind: str, text: str, *, timeout_s: float, on_output: OnOutput | None
    ) -> ExecResult:
        """Output comes through a generator; a cancel here is told to the actor, which kills what runs."""
        name = self._home(session_id)
        call_id = uuid.uuid4().hex
        actor: Any = None
        try:
            async with translated(_ActorGone):
                actor = self._actor(name)
                async for reference in actor.run.remote(
                    call_id, session_id, kind, text, timeout_s=timeout_s, stream=on_output is not None
                ):
                    item = await reference
                    if isinstance(item, ExecResult):
                        return item
                    if on_output is not None:
                        on_output(item)
        except asyncio.CancelledError:
            if actor is not None:
                actor.stop.remote(call_id)
            raise
        except _ActorGone as error:
            self._forget(name)
            raise SandboxUnavailable(error.message) from error
        raise SandboxUnavailable(f"{name} gave no result")

    async def _call(self, session_id: str, method: str, *args: Any, **kwargs: Any) -> Any:
        name = self._home(session_id)
        try:
            async with translated(_ActorGone), asyncio.timeout(CALL_S):
                return await getattr(self._actor(name), method).remote(session_id, *args, **kwargs)
        except TimeoutError as error:
            raise SandboxUnavailable(f"{name} does not answer") from error
        except _ActorGone as error:
            self._forget(name)
            raise SandboxUnavailable(error.message) from error

    def _home(self, session_id: str) -> str:
        name = self._homes.get(session_id)
        if name is None:
            name = self._homes[session_id] = self._any_name()
        return name

    def _any_name(self) -> str:
        mine = SANDBOX_PREFIX + _ray.get_runtime_context().get_node_id()
        try:
            self._actors[mine] = actor_named(mine, self._namespace)
        except ValueError:
            self._forget(mine)  # this node has none, or none any more
        else:
            return mine
        names = named_actors(SANDBOX_PREFIX, self._namespace)
        if not names:
            raise SandboxUnavailable("no sandbox actor is running on any node")
        return min(names)

    def _actor(self, name: str) -> Any:
        actor = self._actors.get(name)
        if actor is None:
            try:
                actor = self._actors[name] = actor_named(name, self._namespace)
            except ValueError as error:
                raise _ActorGone(f"{name} is gone") from error
        return actor

    def _forget(self, name: str) -> None:
        """The actor is gone: sessions that had a sandbox there get a new one, maybe elsewhere."""
        self._actors.pop(name, None)
        self._homes = {session_id: home for session_id, home in self._homes.items() if home != name}
