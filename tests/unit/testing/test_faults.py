"""Injected faults: as often as asked for, the same ones for the same seed, and none that the Protocols do not allow."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from actors.agent.journal import Activation, Append
from actors.core.errors import (
    MemoryUnavailable,
    ModelRefused,
    ModelUnavailable,
    SandboxUnavailable,
    SessionNotFound,
    StoreUnavailable,
)
from actors.core.events import Event, SessionCreated
from actors.llm.base import Answer, ModelRequest, TextDelta
from actors.memory.base import Memory
from actors.sandbox.base import CopyResult, ExecResult, WorkspaceError
from actors.testing import FakeClock, ScriptedLLM, says
from actors.testing.faults import Faults, FaultyJournal, FaultyLLM, FaultyMemories, FaultySandboxes, Kind
from actors.testing.memories import DictMemories
from actors.testing.sandboxes import FakeSandboxes

STORE_CALLS = ("append", "activate", "read", "exists", "overtaken", "unfinished", "due", "trim")


class NotedJournal:
    """A `Journal` that notes what reached it."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    async def append(self, append: Append) -> None:
        self.reached.append("append")

    async def activate(self, session_id: str, user_id: str | None = None) -> Activation:
        self.reached.append("activate")
        return Activation(session_id, "user_1", 2, ())

    async def read(self, session_id: str, *, after: int, limit: int) -> tuple[Event, ...]:
        self.reached.append("read")
        return ()

    async def exists(self, session_id: str) -> bool:
        self.reached.append("exists")
        return True

    async def overtaken(self, epochs) -> tuple[str, ...]:
        self.reached.append("overtaken")
        return ("sess_3",)

    async def unfinished(self, *, limit: int) -> tuple[str, ...]:
        self.reached.append("unfinished")
        return ("sess_1",)

    async def due(self, now, *, limit: int) -> tuple[str, ...]:
        self.reached.append("due")
        return ("sess_2",)

    async def trim(self, before, *, limit: int) -> int:
        self.reached.append("trim")
        return 3


def always(kind: Kind, clock: FakeClock | None = None, **settings) -> Faults:
    return Faults({kind: 1.0}, seed=1, clock=clock or FakeClock(), **settings)


def never() -> Faults:
    return Faults({}, seed=1, clock=FakeClock())


async def ask(journal, call: str):
    now = FakeClock().now()
    created = Event(1, "sess_1", None, now, SessionCreated("user_1", "m"))
    match call:
        case "append":
            return await journal.append(Append("sess_1", "user_1", 1, 0, (created,)))
        case "activate":
            return await journal.activate("sess_1")
        case "read":
            return await journal.read("sess_1", after=0, limit=10)
        case "exists":
            return await journal.exists("sess_1")
        case "overtaken":
            return await journal.overtaken({"sess_3": 1})
        case "unfinished":
            return await journal.unfinished(limit=10)
        case "due":
            return await journal.due(now, limit=10)
        case _:
            return await journal.trim(now, limit=10)


# Rates and seeds ------------------------------------------------------------------------------------------


def drawn(seed: int, count: int = 400, **rates: float) -> list[Kind | None]:
    faults = Faults(rates, seed=seed, clock=FakeClock())  # type: ignore[arg-type] # names of kinds
    return [faults.draw("append") for _ in range(count)]


def test_the_same_seed_draws_the_same_faults():
    assert drawn(7, before=0.2, after=0.1) == drawn(7, before=0.2, after=0.1)
    assert drawn(7, before=0.2, after=0.1) != drawn(8, before=0.2, after=0.1)


def test_faults_are_as_frequent_as_their_rates():
    found = drawn(3, 10_000, before=0.2, after=0.1, delay=0.05)
    for kind, rate in (("before", 0.2), ("after", 0.1), ("delay", 0.05), (None, 0.65)):
        assert abs(found.count(kind) / 10_000 - rate) < 0.02, kind


def test_what_one_call_draws_does_not_depend_on_what_runs_beside_it():
    alone = Faults({"before": 0.3}, seed=5, clock=FakeClock())
    beside = Faults({"before": 0.3}, seed=5, clock=FakeClock())
    expected = [alone.draw("append") for _ in range(100)]
    found = []
    for number in range(100):
        for _ in range(number % 3):
            beside.draw("activate")
        found.append(beside.draw("append"))
    assert found == expected


def test_everything_is_counted():
    faults = Faults({"before": 0.3, "after": 0.2}, seed=5, clock=FakeClock())
    found = [faults.draw("append") for _ in range(200)]
    assert faults.calls == {"append": 200}
    assert faults.injected["append", "before"] == found.count("before") > 0
    assert faults.injected["append", "after"] == found.count("after") > 0
    assert faults.injected.total() + found.count(None) == 200


def test_only_the_calls_that_were_named_fail():
    faults = Faults({"before": 1.0}, seed=1, clock=FakeClock(), only={"append"})
    assert [faults.draw(call) for call in ("append", "read", "append")] == ["before", None, "before"]
    assert faults.calls["read"] == 1


def test_rates_may_be_changed_on_the_way():
    faults = always("before")
    assert faults.draw("append") == "before"
    faults.rates.clear()
    assert faults.draw("append") is None


@pytest.mark.parametrize("rates", [{"before": 0.6, "after": 0.6}, {"before": -0.1}])
def test_rates_that_are_no_probabilities(rates):
    with pytest.raises(ValueError, match="at most 1 together"):
        Faults(rates, seed=1, clock=FakeClock())


def test_a_kind_that_a_wrapper_does_not_know_does_not_happen():
    faults = always("stall")
    assert faults.draw("append") is None
    assert faults.injected.total() == 0


# The journal ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", STORE_CALLS)
async def test_a_journal_without_faults_is_the_journal(call):
    inner = NotedJournal()
    assert await ask(FaultyJournal(inner, never()), call) == await ask(NotedJournal(), call)
    assert inner.reached == [call]


@pytest.mark.parametrize("call", STORE_CALLS)
@pytest.mark.parametrize(("kind", "reached"), [("before", False), ("after", True)])
async def test_a_journal_that_fails_before_or_after_its_effect(call, kind, reached):
    inner, faults = NotedJournal(), always(kind)
    with pytest.raises(StoreUnavailable, match=f"injected {kind} {call}"):
        await ask(FaultyJournal(inner, faults), call)
    assert inner.reached == [call] * reached
    assert faults.injected == {(call, kind): 1}


async def test_a_commit_whose_answer_was_lost_is_there(tmp_path: Path):
    """With the real journal: the fault that makes the caller's next append `Fenced` or doubled if it guesses."""
    from actors.agent.journal import Profile
    from actors.agent.payloads import Payloads
    from actors.agent.sql_journal import SqlJournal
    from actors.core.settings import Settings
    from actors.security.cipher import ClearText
    from actors.store.migrate import upgrade
    from actors.wiring.store import open_database

    upgrade(f"sqlite:///{tmp_path / 'greenroom.db'}")
    created = Event(1, "sess_1", None, FakeClock().now(), SessionCreated("user_1", "m"))
    append = Append("sess_1", "user_1", 1, 0, (created,), profile=Profile(None, None, {}))
    async with open_database(Settings(home=tmp_path)) as database:
        real = SqlJournal(database, Payloads(ClearText()))
        with pytest.raises(StoreUnavailable):
            await FaultyJournal(real, always("before")).append(append)
        with pytest.raises(SessionNotFound):
            await real.read("sess_1", after=0, limit=10)
        with pytest.raises(StoreUnavailable):
            await FaultyJournal(real, always("after")).append(append)
        assert await real.read("sess_1", after=0, limit=10) == (created,)


async def test_a_delay_is_of_the_clock():
    clock, inner = FakeClock(), NotedJournal()
    task = asyncio.create_task(ask(FaultyJournal(inner, always("delay", clock, delay_s=30)), "exists"))
    await clock.sleeping()
    clock.advance(29)
    assert not task.done()
    assert inner.reached == []
    clock.advance(1)
    assert await task is True


# Models ---------------------------------------------------------------------------------------------------


async def stream(llm: FaultyLLM) -> tuple[list[str], Answer | None, Exception | None]:
    """The text that came, the answer, and how it failed."""
    said: list[str] = []
    try:
        async for item in llm.stream(ModelRequest("scripted", ())):
            if isinstance(item, Answer):
                return said, item, None
            assert isinstance(item, TextDelta)
            said.append(item.text)
    except (ModelUnavailable, ModelRefused) as error:
        return said, None, error
    return said, None, None


async def test_a_model_without_faults_is_the_model():
    inner = ScriptedLLM([says("one", "two")])
    llm = FaultyLLM(inner, never())
    said, answer, error = await stream(llm)
    assert (said, error) == (["one", "two"], None)
    assert answer is not None
    assert (llm.default_model, await llm.models()) == (inner.default_model, await inner.models())
    await llm.aclose()
    assert inner.closed


@pytest.mark.parametrize(("kind", "error"), [("before", ModelUnavailable), ("refuse", ModelRefused)])
async def test_a_model_that_is_not_asked(kind, error):
    inner, faults = ScriptedLLM(), always(kind)
    said, answer, raised = await stream(FaultyLLM(inner, faults))
    assert (said, answer, type(raised)) == ([], None, error)
    assert inner.requests == []
    assert faults.injected == {("stream", kind): 1}


async def test_a_stream_that_breaks_off():
    """Somewhere amid the text, never with an answer, and what was said is told."""
    inner = ScriptedLLM(otherwise=says("a", "b", "c", "d", "e"))
    llm = FaultyLLM(inner, always("break_off"))
    lengths: set[int] = set()
    for _ in range(30):
        said, answer, error = await stream(llm)
        assert answer is None
        assert isinstance(error, ModelUnavailable)
        assert error.details == {"partial": "".join(said)}
        assert said == ["a", "b", "c", "d", "e"][: len(said)]
        lengths.add(len(said))
    assert lengths == {1, 2, 3}
    assert (inner.open, inner.broken_off) == (0, 30), "the request goes on although nobody reads it"


async def test_a_short_answer_breaks_off_before_its_end():
    said, answer, error = await stream(FaultyLLM(ScriptedLLM([says("short")]), always("break_off")))
    assert (said, answer) == (["short"], None)
    assert isinstance(error, ModelUnavailable)
    _, answer, error = await stream(FaultyLLM(ScriptedLLM([says()]), always("break_off")))
    assert answer is None
    assert isinstance(error, ModelUnavailable)
    assert error.details == {}, "nothing was said"


async def test_an_answer_that_was_lost():
    said, answer, error = await stream(FaultyLLM(ScriptedLLM([says("a", "b")]), always("after")))
    assert (said, answer) == (["a", "b"], None)
    assert isinstance(error, ModelUnavailable)


async def test_a_stream_that_stalls():
    clock, inner = FakeClock(), ScriptedLLM(otherwise=says("a", "b", "c", "d", "e"))
    task = asyncio.create_task(stream(FaultyLLM(inner, always("stall", clock, stall_s=45))))
    await clock.sleeping()
    assert inner.open == 1
    clock.advance(44)
    assert not task.done()
    clock.advance(1)
    said, answer, error = await task
    assert said
    assert answer is None
    assert isinstance(error, ModelUnavailable)


async def test_a_stall_can_be_cancelled():
    clock, inner = FakeClock(), ScriptedLLM(otherwise=says("a", "b", "c", "d", "e"))
    task = asyncio.create_task(stream(FaultyLLM(inner, always("stall", clock))))
    await clock.sleeping()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.open == 0


async def test_a_model_that_is_slow_to_answer():
    clock = FakeClock()
    task = asyncio.create_task(stream(FaultyLLM(ScriptedLLM([says("a")]), always("delay", clock, delay_s=3))))
    await clock.sleeping()
    clock.advance(3)
    said, answer, _ = await task
    assert said == ["a"]
    assert answer is not None


async def test_a_list_of_models_that_is_not_to_be_had():
    with pytest.raises(ModelUnavailable):
        await FaultyLLM(ScriptedLLM(), always("before")).models()


# Sandboxes ------------------------------------------------------------------------------------------------


async def test_sandboxes_without_faults_are_the_sandboxes():
    inner = FakeSandboxes({"ls": ExecResult("ok", 0, "a.txt")})
    sandboxes = FaultySandboxes(inner, never())
    heard: list[str] = []
    result = await sandboxes.shell("sess_1", "ls", timeout_s=1, on_output=heard.append)
    assert (result.output, heard) == ("a.txt", ["a.txt"])
    assert (await sandboxes.python("sess_1", "1", timeout_s=1)).verdict == "ok"
    await sandboxes.write("sess_1", "a.txt", b"data")
    assert (await sandboxes.read("sess_1", "a.txt", max_bytes=10)).data == b"data"
    assert [info.path for info in await sandboxes.list("sess_1")] == ["a.txt"]
    assert (await sandboxes.status()).leased == 1
    assert await sandboxes.holds("sess_1")
    assert await sandboxes.copy("sess_1", "sess_2") == CopyResult(1, 4)
    await sandboxes.interrupt("sess_1")
    assert inner.interrupted == ["sess_1"]
    await sandboxes.release("sess_1")
    assert not await sandboxes.holds("sess_1")
    assert (await sandboxes.read("sess_2", "a.txt", max_bytes=10)).data == b"data"


@pytest.mark.parametrize(("kind", "ran"), [("before", False), ("after", True)])
async def test_a_sandbox_that_fails_before_or_after_its_effect(kind, ran):
    inner = FakeSandboxes()
    sandboxes = FaultySandboxes(inner, always(kind))
    for command in (sandboxes.shell, sandboxes.python):
        with pytest.raises(SandboxUnavailable, match=f"injected {kind}"):
            await command("sess_1", "touch x", timeout_s=1)
    assert len(inner.runs) == 2 * ran
    with pytest.raises(SandboxUnavailable):
        await sandboxes.write("sess_1", "a.txt", b"data")
    assert [info.path for info in await inner.list("sess_1")] == ["a.txt"] * ran


async def test_a_sandbox_that_is_lost_takes_its_workspace_with_it():
    inner = FakeSandboxes({"ls": ExecResult("ok", 0, "a.txt")})
    await inner.write("sess_1", "a.txt", b"data")
    sandboxes = FaultySandboxes(inner, always("lost"))
    result = await sandboxes.shell("sess_1", "ls", timeout_s=1)
    assert (result.verdict, result.exit_code, result.output) == ("sandbox_lost", None, "a.txt")
    with pytest.raises(WorkspaceError):
        await inner.read("sess_1", "a.txt", max_bytes=10)
    with pytest.raises(SandboxUnavailable, match="lost"):
        await sandboxes.list("sess_1")
    await inner.write("sess_1", "a.txt", b"data")
    with pytest.raises(SandboxUnavailable, match="lost in copy"):
        await sandboxes.copy("sess_1", "sess_2")
    assert not await inner.holds("sess_1")


async def test_what_tools_say_of_a_wrong_path_is_no_fault():
    with pytest.raises(WorkspaceError):
        await FaultySandboxes(FakeSandboxes(), never()).read("sess_1", "none", max_bytes=1)


# Memories -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "kept"), [("before", 0), ("after", 1)])
async def test_a_memory_that_was_taken_in_or_not(kind, kept):
    inner = DictMemories()
    now = FakeClock().now() + timedelta(days=1)
    memory = Memory("mem_1", "user_1", "the user likes tea", "sess_1", "turn_1", now)
    with pytest.raises(MemoryUnavailable, match=f"injected {kind} remember"):
        await FaultyMemories(inner, always(kind)).remember(memory)
    assert len(await inner.recall("user_1", "tea")) == kept
    with pytest.raises(MemoryUnavailable):
        await FaultyMemories(inner, always(kind)).recall("user_1", "tea")


async def test_memories_without_faults_are_the_memories():
    memories = FaultyMemories(DictMemories(), never())
    now = FakeClock().now()
    await memories.remember(Memory("mem_1", "user_1", "the user likes tea", "sess_1", "turn_1", now))
    assert [found.memory.id for found in await memories.recall("user_1", "tea", limit=1)] == ["mem_1"]
