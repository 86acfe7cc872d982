"""Faults on purpose, by rate and seed: wrappers that stand before a journal, a model, sandboxes or memories.

    faults = Faults({"before": 0.05, "after": 0.05, "delay": 0.1}, seed=7, clock=SystemClock())
    journal = FaultyJournal(SqlJournal(…), faults)
    …
    assert faults.injected["append", "after"] > 0

Each wrapper satisfies the Protocol of what it wraps, and fails in no other way than that Protocol allows.
What is drawn for the n-th call of a name depends on the seed and on n alone, not on what runs beside it.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from datetime import datetime
from random import Random
from typing import Literal, TypeAlias, TypeVar, cast

from ..agent.journal import Activation, Append, Journal
from ..core.clock import Clock
from ..core.errors import (
    GreenroomError,
    MemoryUnavailable,
    ModelRefused,
    ModelUnavailable,
    SandboxUnavailable,
    StoreUnavailable,
)
from ..core.events import Event
from ..llm.base import LLM, Answer, ModelInfo, ModelRequest, StreamItem, TextDelta
from ..memory.base import Memory, MemoryStore, Recollection
from ..sandbox.base import (
    CopyResult,
    ExecResult,
    FileSlice,
    FileStat,
    Listing,
    OnOutput,
    Sandboxes,
    SandboxStatus,
)

Kind: TypeAlias = Literal["before", "after", "delay", "refuse", "break_off", "stall", "lost"]
"""What can go wrong.

`before`: it fails and had no effect. `after`: it had its effect, and the answer was lost. `delay`: it takes
`delay_s` longer. Of models only, `refuse`: the server says no; `break_off`: the stream ends amid the text;
`stall`: amid the text nothing comes for `stall_s`, and then it ends. Of sandboxes only, `lost`: the sandbox
is gone with its workspace while the call runs.
"""

_CALL: tuple[Kind, ...] = ("before", "after", "delay")
_STREAM: tuple[Kind, ...] = (*_CALL, "refuse", "break_off", "stall")
_SANDBOX: tuple[Kind, ...] = (*_CALL, "lost")

_ITEMS_BEFORE_A_BREAK = 3

T = TypeVar("T")


class Faults:
    """Draws faults and counts them. One may serve several wrappers.

    `rates` are probabilities by kind, at most 1 together; with `only`, calls of other names never fail. `calls`
    counts calls by name, `injected` the faults by name and kind: `injected["append", "after"]`.
    """

    def __init__(
        self,
        rates: Mapping[Kind, float],
        *,
        seed: int,
        clock: Clock,
        delay_s: float = 1.0,
        stall_s: float = 60.0,
        only: Collection[str] | None = None,
    ) -> None:
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1:
            raise ValueError(f"rates are probabilities, at most 1 together: {dict(rates)}")
        self.rates = dict(rates)
        self.clock = clock
        self.delay_s = delay_s
        self.stall_s = stall_s
        self.calls: Counter[str] = Counter()
        self.injected: Counter[tuple[str, Kind]] = Counter()
        self._seed = seed
        self._only = only
        self._dice: dict[str, Random] = {}

    def draw(self, call: str, kinds: Collection[Kind] = _CALL) -> Kind | None:
        """The fault of the next call of this name, among `kinds`; None for most."""
        self.calls[call] += 1
        chance = self.dice(call).random()
        if self._only is not None and call not in self._only:
            return None
        for kind, rate in self.rates.items():
            chance -= rate
            if chance < 0:
                if kind not in kinds:
                    return None
                self.injected[call, kind] += 1
                return kind
        return None

    def dice(self, call: str) -> Random:
        """The chances of a call's name, which no other name takes from."""
        if call not in self._dice:
            self._dice[call] = Random(f"{self._seed}/{call}")  # noqa: S311 - a test has to repeat itself
        return self._dice[call]

    async def around(self, call: str, work: Callable[[], Awaitable[T]], error: type[GreenroomError]) -> T:
        """Do it, unless a fault is drawn. Raises `error` for one that fails it."""
        return await self.carry_out(self.draw(call), call, work, error)

    async def carry_out(
        self, kind: Kind | None, call: str, work: Callable[[], Awaitable[T]], error: type[GreenroomError]
    ) -> T:
        """Do it under a fault that was drawn before."""
        if kind == "before":
            raise error(f"injected before {call}")
        if kind == "delay":
            await self.clock.sleep(self.delay_s)
        result = await work()
        if kind == "after":
            raise error(f"injected after {call}")
        return result


class FaultyJournal:
    """A `Journal` whose commits fail, or take place and are not answered: `StoreUnavailable` either way."""

    def __init__(self, journal: Journal, faults: Faults) -> None:
        self._journal = journal
        self._faults = faults

    async def append(self, append: Append) -> None:
        await self._do("append", lambda: self._journal.append(append))

    async def activate(self, session_id: str, user_id: str | None = None) -> Activation:
        return await self._do("activate", lambda: self._journal.activate(session_id, user_id))

    async def read(self, session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        return await self._do("read", lambda: self._journal.read(session_id, after=after, limit=limit))

    async def exists(self, session_id: str) -> bool:
        return await self._do("exists", lambda: self._journal.exists(session_id))

    async def overtaken(self, epochs: Mapping[str, int]) -> tuple[str, ...]:
        return await self._do("overtaken", lambda: self._journal.overtaken(epochs))

    async def unfinished(self, *, limit: int) -> tuple[str, ...]:
        return await self._do("unfinished", lambda: self._journal.unfinished(limit=limit))

    async def due(self, now: datetime, *, limit: int) -> tuple[str, ...]:
        return await self._do("due", lambda: self._journal.due(now, limit=limit))

    async def trim(self, before: datetime, *, limit: int) -> int:
        return await self._do("trim", lambda: self._journal.trim(before, limit=limit))

    async def _do(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        return await self._faults.around(call, work, StoreUnavailable)


class FaultyLLM:
    """An `LLM` whose calls, all named `stream`, fail as `LLM.stream` may. `after`: all but the answer came."""

    def __init__(self, llm: LLM, faults: Faults) -> None:
        self._llm = llm
        self._faults = faults

    @property
    def default_model(self) -> str:
        return self._llm.default_model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[StreamItem, None]:
        kind = self._faults.draw("stream", _STREAM)
        items_left = self._faults.dice("stream").randint(1, _ITEMS_BEFORE_A_BREAK)
        match kind:
            case "before":
                raise ModelUnavailable("injected before stream")
            case "refuse":
                raise ModelRefused("injected: refused")
            case "delay":
                await self._faults.clock.sleep(self._faults.delay_s)
            case _:
                pass
        breaks = kind in ("break_off", "stall")
        said: list[str] = []
        # aclosing: a stream that is left early ends its request at once, by the contract of `LLM.stream`.
        inner = cast("AsyncGenerator[StreamItem, None]", self._llm.stream(request))
        async with aclosing(inner) as items:
            async for item in items:
                if (breaks and items_left == 0) or (isinstance(item, Answer) and (breaks or kind == "after")):
                    break
                items_left -= 1
                if isinstance(item, TextDelta):
                    said.append(item.text)
                yield item
            else:
                return
            if kind == "stall":
                await self._faults.clock.sleep(self._faults.stall_s)
        details = {"partial": "".join(said)} if said else {}
        raise ModelUnavailable(f"injected: {kind} in stream", **details)

    async def models(self) -> tuple[ModelInfo, ...]:
        return await self._faults.around("models", self._llm.models, ModelUnavailable)

    async def aclose(self) -> None:
        await self._llm.aclose()


class FaultySandboxes:
    """`Sandboxes` that are not to be had, or die with their workspace."""

    def __init__(self, sandboxes: Sandboxes, faults: Faults) -> None:
        self._sandboxes = sandboxes
        self._faults = faults

    async def shell(
        self, session_id: str, command: str, *, timeout_s: float, on_output: OnOutput | None = None
    ) -> ExecResult:
        return await self._run(
            "shell",
            session_id,
            lambda: self._sandboxes.shell(session_id, command, timeout_s=timeout_s, on_output=on_output),
        )

    async def python(
        self, session_id: str, code: str, *, timeout_s: float, on_output: OnOutput | None = None, keep: bool = False
    ) -> ExecResult:
        return await self._run(
            "python",
            session_id,
            lambda: self._sandboxes.python(session_id, code, timeout_s=timeout_s, on_output=on_output, keep=keep),
        )

    async def read(self, session_id: str, path: str, *, offset: int = 0, max_bytes: int) -> FileSlice:
        return await self._do(
            "read", session_id, lambda: self._sandboxes.read(session_id, path, offset=offset, max_bytes=max_bytes)
        )

    async def stat(self, session_id: str, path: str) -> FileStat:
        return await self._do("stat", session_id, lambda: self._sandboxes.stat(session_id, path))

    async def write(self, session_id: str, path: str, data: bytes) -> None:
        await self._do("write", session_id, lambda: self._sandboxes.write(session_id, path, data))

    async def list(self, session_id: str, path: str = ".", *, max_entries: int = 1000) -> Listing:
        return await self._do(
            "list", session_id, lambda: self._sandboxes.list(session_id, path, max_entries=max_entries)
        )

    async def remove(self, session_id: str, path: str, *, recursive: bool = False) -> None:
        await self._do("remove", session_id, lambda: self._sandboxes.remove(session_id, path, recursive=recursive))

    async def holds(self, session_id: str) -> bool:
        return await self._faults.around("holds", lambda: self._sandboxes.holds(session_id), SandboxUnavailable)

    async def copy(self, source: str, target: str) -> CopyResult:
        """Where the sandbox is lost, it is the source's; what was copied stays."""
        return await self._do("copy", source, lambda: self._sandboxes.copy(source, target))

    async def interrupt(self, session_id: str) -> None:
        await self._faults.around("interrupt", lambda: self._sandboxes.interrupt(session_id), SandboxUnavailable)

    async def release(self, session_id: str) -> None:
        await self._faults.around("release", lambda: self._sandboxes.release(session_id), SandboxUnavailable)

    async def status(self) -> SandboxStatus:
        return await self._sandboxes.status()

    async def _run(self, call: str, session_id: str, work: Callable[[], Awaitable[ExecResult]]) -> ExecResult:
        """A command in a sandbox that is lost has a verdict that says so."""
        kind = self._faults.draw(call, _SANDBOX)
        result = await self._faults.carry_out(kind, call, work, SandboxUnavailable)
        if kind != "lost":
            return result
        await self._sandboxes.release(session_id)
        return ExecResult("sandbox_lost", None, result.output, result.truncated, result.wall_s)

    async def _do(self, call: str, session_id: str, work: Callable[[], Awaitable[T]]) -> T:
        kind = self._faults.draw(call, _SANDBOX)
        result = await self._faults.carry_out(kind, call, work, SandboxUnavailable)
        if kind == "lost":
            await self._sandboxes.release(session_id)
            raise SandboxUnavailable(f"injected: the sandbox was lost in {call}")
        return result


class FaultyMemories:
    """A `MemoryStore` that does not answer, before or after it took a memory in."""

    def __init__(self, memories: MemoryStore, faults: Faults) -> None:
        self._memories = memories
        self._faults = faults

    async def remember(self, memory: Memory) -> None:
        await self._faults.around("remember", lambda: self._memories.remember(memory), MemoryUnavailable)

    async def recall(self, user_id: str, query: str, *, limit: int = 5) -> tuple[Recollection, ...]:
        return await self._faults.around(
            "recall", lambda: self._memories.recall(user_id, query, limit=limit), MemoryUnavailable
        )
