"""The sandboxes of the cluster as a typed proxy over Ray handles."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import ray

from .core.errors import GreenroomError, LeaseEnded, SandboxLost, SandboxUnavailable
from .ray_errors import UNMET, ActorGone, translated
from .register import SANDBOX_PREFIX, HeadAway, Register
from .sandbox.base import CopyResult, ExecResult, FileSlice, FileStat, Listing, OnOutput, SandboxStatus
from .sandbox.fence import Fence, current

CALL_S = 30.0
"""Deadline of a call that has none of its own."""

MEET_S = 5.0

HOLDS_S = 1.0
"""A sandbox actor says within this time whether it has a session's sandbox."""

INTERRUPT_S = 10.0
"""A sandbox actor has killed within this time what runs in a session's sandbox."""

HOME_S = 10.0
"""A session's sandbox is believed for so long to be where it was found: another process may have moved it since."""

HOMES_MAX = 10_000

AGAIN_S = 20.0
"""A sandbox is asked for again for so long when an actor dies over it: its machine starts another one."""

AGAIN_PAUSE_S = 0.25

_NO_SANDBOX_ACTOR = "no sandbox actor is running on any node"

T = TypeVar("T")

_ray: Any = ray
"""Ray's own annotations are partial: seen through `Any`, and narrowed here where values enter."""


class _Home(NamedTuple):
    """The actor that has a session's sandbox, until when that is believed, and the lease, once it has given one."""

    name: str
    until: float
    lease: int | None = None


class RemoteSandboxes:
    """`Sandboxes` in the sandbox actors: a session stays with the actor it met first, on its own node if it can.

    A call goes in the name of an epoch, where there is one, and for a lease: see `sandbox/fence.py`. `wait_s` is how
    long an actor lets a session wait for a place.
    """

    def __init__(self, namespace: str, *, wait_s: float = 30.0) -> None:
        self._register = Register(namespace)
        self._lease_s = wait_s + CALL_S
        self._homes: dict[str, _Home] = {}
        """The longest known first."""

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._run(session_id, "shell", command, timeout_s=timeout_s, on_output=on_output)

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self._run(session_id, "keep" if keep else "python", code, timeout_s=timeout_s, on_output=on_output)

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        return await self._call(session_id, "read", path, offset=offset, max_bytes=max_bytes)

    async def stat(self, session_id: str, path: str) -> FileStat:
        return await self._call(session_id, "stat", path)

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        await self._call(session_id, "write", path, data)

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> Listing:
        return await self._call(session_id, "list", path, max_entries=max_entries)

    async def remove(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        await self._call(session_id, "remove", path, recursive=recursive)

    async def holds(self, session_id: str) -> bool:
        return await self._holder(session_id) is not None

    async def copy(self, source: str, target: str) -> CopyResult:
        holder = await self._holder(source)
        if holder is None and not await self._all():
            return CopyResult()
        if holder is None:
            holder = await self._choose(target)  # what is kept of it can be fetched anywhere
        for session_id in (source, target):
            self._settle(session_id, holder)
        return await self._ask(holder, "copy", source, target)

    async def _holder(self, session_id: str) -> str | None:
        """The actor that has the session's sandbox, by asking every one. Raises when one does not answer."""
        for name, actor in (await self._all()).items():
            if await self._says_it_holds(name, actor, session_id):
                return name
        return None

    async def _says_it_holds(self, name: str, actor: Any, session_id: str) -> bool:
        try:
            async with translated(ActorGone), asyncio.timeout(CALL_S):
                return await actor.holds.remote(session_id)
        except (TimeoutError, ActorGone) as error:
            self._forget(name)
            raise SandboxUnavailable(f"{name} does not say whether it has the session's sandbox") from error

    async def interrupt(self, session_id: str) -> None:
        """Wherever it is: another process may have leased it. Raises when an actor does not say that it is done."""

        async def tell(actor: Any) -> bool:
            try:
                async with translated(ActorGone), asyncio.timeout(INTERRUPT_S):
                    await actor.interrupt.remote(session_id)
            except (ActorGone, TimeoutError, SandboxUnavailable):
                return False
            return True

        actors = await self._all()
        async with asyncio.TaskGroup() as group:
            told = {name: group.create_task(tell(actor)) for name, actor in actors.items()}
        if silent := [name for name, task in told.items() if not task.result()]:
            raise SandboxUnavailable(f"not every sandbox actor says that it is done: {', '.join(silent)}")

    async def release(self, session_id: str) -> None:
        """Wherever it is: another process may have leased it."""
        home = self._homes.pop(session_id, _Home("", 0.0)).name
        try:
            actors = await self._all()
        except SandboxUnavailable:
            return  # nobody can be told now: a sandbox that nobody uses ends by itself
        for name, actor in actors.items():
            released = actor.release.remote(session_id)
            if name != home:
                continue  # told, and not waited for: it may still be starting
            try:
                async with translated(ActorGone), asyncio.timeout(CALL_S):
                    await released
            except (GreenroomError, ActorGone, TimeoutError):
                self._forget(name)

    async def status(self) -> SandboxStatus:
        name = await self._near() or min(await self._all(), default=None)
        if name is None:
            raise SandboxUnavailable(_NO_SANDBOX_ACTOR)
        try:
            async with translated(ActorGone), asyncio.timeout(CALL_S):
                return await (await self._actor(name)).status.remote()
        except TimeoutError as error:
            raise SandboxUnavailable(f"{name} does not answer") from error
        except ActorGone as error:
            self._forget(name)
            raise SandboxUnavailable(error.message) from error

    async def _run(
        self, session_id: str, kind: str, text: str, *, timeout_s: float, on_output: OnOutput | None
    ) -> ExecResult:
        async def once(home: _Home) -> ExecResult:
            return await self._run_at(home, session_id, kind, text, timeout_s=timeout_s, on_output=on_output)

        return await self._leased(session_id, once)

    async def _run_at(
        self, home: _Home, session_id: str, kind: str, text: str, *, timeout_s: float, on_output: OnOutput | None
    ) -> ExecResult:
        """Output comes through a generator; a cancel here is told to the actor, which kills what runs."""
        call_id = uuid.uuid4().hex
        actor = await self._found(home.name)
        options = {"timeout_s": timeout_s, "stream": on_output is not None, "fence": _fence(home)}
        try:
            async with translated(ActorGone):
                async for reference in actor.run.remote(call_id, session_id, kind, text, **options):
                    item = await reference
                    if isinstance(item, ExecResult):
                        return item
                    if on_output is not None:
                        on_output(item)
        except asyncio.CancelledError:
            actor.stop.remote(call_id)
            raise
        except ActorGone as error:
            self._forget(home.name)
            raise SandboxLost(error.message) from error
        raise SandboxLost(f"{home.name} gave no result")

    async def _call(self, session_id: str, method: str, *args: Any, **kwargs: Any) -> Any:
        return await self._leased(
            session_id,
            lambda home: self._ask(home.name, method, session_id, *args, **kwargs, fence=_fence(home)),
        )

    async def _ask(self, name: str, method: str, *args: Any, **kwargs: Any) -> Any:
        actor = await self._found(name)
        try:
            async with translated(ActorGone), asyncio.timeout(CALL_S):
                return await getattr(actor, method).remote(*args, **kwargs)
        except TimeoutError as error:
            raise SandboxLost(f"{name} does not answer") from error
        except ActorGone as error:
            self._forget(name)
            raise SandboxLost(error.message) from error

    async def _leased(self, session_id: str, call: Callable[[_Home], Awaitable[T]]) -> T:
        """Call for the lease that the session has; once more for a new one, when it turns out to have ended."""
        home = await self._home(session_id)
        try:
            return await call(home)
        except LeaseEnded:
            if self._homes.get(session_id) is home:
                del self._homes[session_id]
        return await call(await self._home(session_id))

    async def _home(self, session_id: str) -> _Home:
        """Where the session has a sandbox, with its lease. An actor that dies over it has done nothing else yet."""
        give_up = time.monotonic() + AGAIN_S
        while True:
            home = await self._place(session_id)
            if home.lease is not None:
                return home
            try:
                return await self._lease(session_id, home)
            except ActorGone as error:
                self._forget(home.name)
                if time.monotonic() + AGAIN_PAUSE_S > give_up:
                    raise SandboxUnavailable(error.message) from error
            await asyncio.sleep(AGAIN_PAUSE_S)

    async def _lease(self, session_id: str, home: _Home) -> _Home:
        call_id = uuid.uuid4().hex
        actor = await self._actor(home.name)
        try:
            async with translated(ActorGone), asyncio.timeout(self._lease_s):
                lease = await actor.lease.remote(call_id, session_id, fence=_fence(home))
        except (asyncio.CancelledError, TimeoutError) as error:
            actor.stop.remote(call_id)  # nobody waits for a place in its name any more
            if isinstance(error, TimeoutError):
                raise SandboxUnavailable(f"{home.name} does not answer") from error
            raise
        held = home._replace(lease=lease)
        if self._homes.get(session_id) is home:
            self._homes[session_id] = held
        return held

    async def _place(self, session_id: str) -> _Home:
        known = self._homes.get(session_id)
        if known is not None and time.monotonic() < known.until:
            return known
        name = known.name if known is not None and await self._still_at(known.name, session_id) else None
        name = name or await self._choose(session_id)
        now = self._homes.get(session_id)
        if now is not None and now is not known:
            return now  # another call found it meanwhile
        return self._settle(session_id, name)

    async def _still_at(self, name: str, session_id: str) -> bool:
        try:
            actor = await self._actor(name)
        except ActorGone:
            self._forget(name)
            return False
        return await self._says_it_holds(name, actor, session_id)

    def _settle(self, session_id: str, name: str) -> _Home:
        self._homes.pop(session_id, None)
        home = self._homes[session_id] = _Home(name, time.monotonic() + HOME_S)
        while len(self._homes) > HOMES_MAX:
            del self._homes[next(iter(self._homes))]
        return home

    async def _choose(self, session_id: str) -> str:
        """Where the session has a sandbox already; else this machine's; else one that the session's id picks."""
        actors = await self._all()
        if not actors:
            raise SandboxUnavailable(_NO_SANDBOX_ACTOR)
        if len(actors) > 1:
            if (holder := await self._first_holder(session_id, actors)) is not None:
                return holder
            actors = await self._staying(actors) or actors
        near = SANDBOX_PREFIX + _own_node()
        if near in actors:
            return near
        return max(actors, key=lambda name: hashlib.blake2b(f"{name} {session_id}".encode(), digest_size=8).digest())

    async def _staying(self, actors: dict[str, Any]) -> dict[str, Any]:
        """Without those on machines that are about to leave."""
        with suppress(HeadAway):
            going = {SANDBOX_PREFIX + node.id for node in await self._register.nodes() if node.leaves_at is not None}
            return {name: actor for name, actor in actors.items() if name not in going}
        return actors

    async def _first_holder(self, session_id: str, actors: dict[str, Any]) -> str | None:
        """Its workspace may be on the machine where the session ran before. Who does not say so soon has it not."""

        async def ask(actor: Any) -> bool:
            try:
                async with translated(ActorGone), asyncio.timeout(HOLDS_S):
                    return await actor.holds.remote(session_id)
            except (GreenroomError, ActorGone, TimeoutError):
                return False

        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(ask(actor)) for name, actor in actors.items()}
        return next((name for name, task in asked.items() if task.result()), None)

    async def meet(self) -> None:
        """Make sure that this machine's sandboxes can be called without the head of the cluster, should it go away."""
        with suppress(*UNMET, ActorGone, TimeoutError):
            async with translated(ActorGone), asyncio.timeout(MEET_S):
                await self._register.meet(SANDBOX_PREFIX + _own_node(), lambda actor: actor.metrics.remote())

    async def _near(self) -> str | None:
        """This machine's actor, if it has one."""
        name = SANDBOX_PREFIX + _own_node()
        return name if self._register.has_met(name) or name in await self._all() else None

    async def _all(self) -> dict[str, Any]:
        try:
            return await self._register.all(SANDBOX_PREFIX)
        except HeadAway as error:
            raise SandboxUnavailable(f"no sandbox actor can be found: {error}") from error

    async def _found(self, name: str) -> Any:
        """Its handle. Raises SandboxUnavailable: nothing was asked of it yet."""
        try:
            return await self._actor(name)
        except ActorGone as error:
            self._forget(name)
            raise SandboxUnavailable(error.message) from error

    async def _actor(self, name: str) -> Any:
        try:
            return await self._register.find(name)
        except UNMET as error:
            raise ActorGone(f"{name} is gone") from error

    def _forget(self, name: str) -> None:
        """The actor is gone: sessions that had a sandbox there get a new one, maybe elsewhere."""
        self._register.doubt(name)
        self._homes = {session_id: home for session_id, home in self._homes.items() if home.name != name}


def _fence(home: _Home) -> Fence:
    return replace(current(), lease=home.lease)


def _own_node() -> str:
    return cast("str", _ray.get_runtime_context().get_node_id())
