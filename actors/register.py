"""Who is there: the actors and machines that the head of the cluster knows, asked without holding up the caller.

Ray asks its head (the GCS) in the thread that calls, and waits a minute for one that is away. So each question
has a thread of its own and a deadline, and whoever was met before is found without asking.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import ray
from ray._private.state import state
from ray.exceptions import RayError

from .core.errors import GreenroomError
from .core.rounds import repeat

DIRECTORY = "directory"
MEMORY = "memory"
SANDBOX_PREFIX = "sandbox:"
SESSION_PREFIX = "session:"

ASK_S = 2.0
"""Deadline of a question to the head."""

AWAY_S = 1.0
"""After a question that it did not answer, others fail at once for so long."""

HUNG_MAX = 4
"""While so many questions hang that were given up, no other is asked: each of them holds a thread for a minute."""

MEET_S = 5.0

_MS = 1000

T = TypeVar("T")

_ray: Any = ray
_state: Any = state
"""Ray's own annotations are partial: seen through `Any`, and narrowed here where values enter."""


class HeadAway(Exception):
    """The head of the cluster does not answer."""


class NotRegistered(Exception):
    """The head knows no such actor."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that is alive. `leaves_at` (wall clock; infinity when nobody said when) is set while it is drained."""

    id: str
    resources: dict[str, float]
    leaves_at: float | None


class Register:
    """The actors of one namespace. Belongs to one event loop; many may ask at once."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._met: dict[str, Any] = {}
        self._doubted: set[str] = set()
        self._greeted: set[str] = set()
        self._asked: dict[str, asyncio.Task[Any]] = {}
        self._away_until = 0.0
        self._hung = 0

    async def find(self, name: str) -> Any:
        """A handle by name; without a question when it was met before, and not doubted since.

        Raises `NotRegistered`, or `HeadAway` for one that was never met.
        """
        met = self._met.get(name)
        if met is not None and name not in self._doubted:
            return met
        try:
            handle = await self._ask(name, lambda: _ray.get_actor(name, namespace=self._namespace))
        except ValueError as error:
            self._met.pop(name, None)
            raise NotRegistered(f"there is no actor {name}") from error
        except HeadAway:
            if met is None:
                raise
            return met
        self._doubted.discard(name)
        self._met[name] = handle
        return handle

    def has_met(self, name: str) -> bool:
        """It can be found without a question."""
        return name in self._met and name not in self._doubted

    async def meet(self, name: str, greet: Callable[[Any], Awaitable[Any]]) -> None:
        """Find it and call it, once: with its first call Ray learns its address, and needs the head for that.

        Raises what `find` and the call raise.
        """
        if name not in self._greeted:
            await greet(await self.find(name))
            self._greeted.add(name)

    def doubt(self, name: str) -> None:
        """It did not answer: another actor may have its name by now."""
        self._doubted.add(name)
        self._greeted.discard(name)

    async def names(self, prefix: str) -> tuple[str, ...]:
        """Names that start so, sorted. Raises `HeadAway`."""
        listed = await self._ask("", lambda: _listed(self._namespace))
        return tuple(name for name in listed if name.startswith(prefix))

    async def all(self, prefix: str) -> dict[str, Any]:
        """Handles of the actors whose names start so; of those that were met before, while the head is away.

        Raises `HeadAway` when none was.
        """
        actors: dict[str, Any] = {}
        try:
            names = await self.names(prefix)
        except HeadAway:
            names = tuple(name for name in self._met if name.startswith(prefix))
            if not names:
                raise
        for name in names:
            with suppress(NotRegistered, HeadAway):
                actors[name] = await self.find(name)
        return actors

    async def nodes(self) -> tuple[Node, ...]:
        """The machines that are alive. Raises `HeadAway`."""
        return await self._ask("nodes", _nodes)

    async def run(self, call: Callable[[], T]) -> T:
        """Do something that needs the head, such as making an actor. Raises `HeadAway`; then it may be done later."""
        if time.monotonic() < self._away_until or self._hung >= HUNG_MAX:
            raise HeadAway("the head of the cluster does not answer")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            value, error = None, None
            try:
                value = call()
            except Exception as raised:  # noqa: BLE001 - handed on to whoever asked
                error = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._deliver, answer, value, error)

        # A thread of a pool would be waited for at the end of the process, for as long as the head is away.
        threading.Thread(target=work, name="ray-register", daemon=True).start()
        try:
            async with asyncio.timeout(ASK_S):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            self._away_until = time.monotonic() + AWAY_S
            raise HeadAway(f"the head of the cluster did not answer within {ASK_S:g} s") from error
        except RayError as error:  # Ray gave up waiting before we did
            raise HeadAway(str(error).splitlines()[0]) from error
        finally:
            if not answer.done():
                self._hung += 1
                answer.add_done_callback(self._returned)

    def _deliver(self, answer: "asyncio.Future[T]", value: T | None, error: BaseException | None) -> None:
        if error is None:
            answer.set_result(cast("T", value))
        else:
            answer.set_exception(error)

    def _returned(self, answer: "asyncio.Future[Any]") -> None:
        """A question that had been given up: an answer to it says that the head is back."""
        self._hung -= 1
        if answer.exception() is None:
            self._away_until = 0.0

    async def _ask(self, question: str, call: Callable[[], T]) -> T:
        """Those who ask the same at the same time share one answer."""
        if (asking := self._asked.get(question)) is None:
            asking = self._asked[question] = asyncio.create_task(self.run(call))
            asking.add_done_callback(lambda task: self._asked_and_answered(question, task))
        return await asyncio.shield(asking)

    def _asked_and_answered(self, question: str, task: "asyncio.Task[Any]") -> None:
        del self._asked[question]
        if not task.cancelled():
            task.exception()  # retrieved: those who asked may all have gone


@asynccontextmanager
async def met(*those: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Calls the `meet` of each now and then: who was met is found while the head of the cluster is away."""

    async def meet_all() -> None:
        for meet in those:
            with suppress(GreenroomError):  # it is not there now: the one who needs it is told
                await meet()

    meeting = asyncio.create_task(repeat(meet_all, lambda: asyncio.sleep(MEET_S), name="meet"), name="meet")
    try:
        yield
    finally:
        meeting.cancel()


def _listed(namespace: str) -> tuple[str, ...]:
    listed = cast("list[dict[str, str]]", _ray.util.list_named_actors(all_namespaces=True))
    return tuple(sorted(entry["name"] for entry in listed if entry["namespace"] == namespace))


def _nodes() -> tuple[Node, ...]:
    leaving = cast("dict[str, int]", _state.get_draining_nodes())
    nodes = cast("list[dict[str, Any]]", _ray.nodes())
    return tuple(
        Node(
            node["NodeID"],
            dict(node["Resources"]),
            # Ray says 0 for no deadline.
            (leaving[node["NodeID"]] / _MS or float("inf")) if node["NodeID"] in leaving else None,
        )
        for node in nodes
        if node["Alive"]
    )


# For programs without an event loop, which may wait.


def actor_named(name: str, namespace: str) -> Any:
    """A handle by name. Raises ValueError when there is no such actor."""
    return _ray.get_actor(name, namespace=namespace)


def named_actors(prefix: str, namespace: str) -> dict[str, Any]:
    """Handles of the live actors whose names start so."""
    actors: dict[str, Any] = {}
    for name in _listed(namespace):
        if name.startswith(prefix):
            with suppress(ValueError):  # it ended between the two questions
                actors[name] = actor_named(name, namespace)
    return actors


def end_actor(actor: Any) -> None:
    """End an actor at once and for good."""
    _ray.kill(actor)
