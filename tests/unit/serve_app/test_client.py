"""The Python client against the API itself, over connections that break."""

import random

import httpx
import pytest

from actors.core.errors import (
    IdempotencyKeyReused,
    InvalidInput,
    InvalidPath,
    MessageNotWaiting,
    NoSuchFile,
    PolicyRefusal,
    SessionNotFound,
    UnavailableError,
    WorkspaceConflict,
)
from actors.sandbox.base import ExecResult
from actors.testing import ScriptedLLM, StreamingASGITransport, calls, says
from actors.testing.sandboxes import FakeSandboxes
from serve_app.client import AsyncClient


class Breaking(httpx.AsyncBaseTransport):
    """A network that loses a request, its answer, or the rest of a stream now and then."""

    def __init__(self, app, dice: random.Random) -> None:
        self._inner = StreamingASGITransport(app)
        self._dice = dice
        self.broken = 0

    def _breaks(self, chance: float) -> bool:
        breaks = self._dice.random() < chance
        self.broken += breaks
        return breaks

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._breaks(0.15):
            raise httpx.WriteError("lost on its way there")
        response = await self._inner.handle_async_request(request)
        if response.headers["content-type"].startswith("text/event-stream"):
            return httpx.Response(response.status_code, headers=response.headers, stream=_Cut(response, self))
        content = await response.aread()
        if self._breaks(0.3):
            raise httpx.ReadError("lost on its way back")
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class _Cut(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, network: Breaking) -> None:
        self._response, self._network = response, network

    async def __aiter__(self):
        async for chunk in self._response.aiter_raw():
            at = len(chunk) // 2 if self._network._breaks(0.4) else None
            yield chunk[:at]
            if at is not None:
                raise httpx.ReadError("the stream broke")

    async def aclose(self) -> None:
        await self._response.aclose()


@pytest.fixture
def client_of():
    def make(edge, transport=None) -> AsyncClient:
        options = {"transport": transport or StreamingASGITransport(edge.app), "resume_delay_s": 0.0}
        return AsyncClient("http://test", edge.key, max_resumes=50, **options)

    return make


@pytest.mark.parametrize("seed", range(10))
async def test_over_a_network_that_breaks_everything_happens_once(make_edge, client_of, seed):
    llm = ScriptedLLM(otherwise=says("Once", "."))
    edge = await make_edge(llm, delta_interval_s=0)
    network = Breaking(edge.app, random.Random(seed))

    async with client_of(edge, network) as client:
        session = (await client.create_session(system="Be brief."))["id"]
        first = await client.chat("1", session_id=session)
        items = [item async for item in client.stream("2", session_id=session)]
        receipt = await client.send(session, "3")
        await edge.ended(receipt["turn_id"])
        fork = await client.fork(session)
        last = await client.chat("4", session_id=fork["id"])

    assert network.broken
    assert (first["message"], last["message"]) == ("Once.", "Once.")
    assert [item.type for item in items if not item.is_preview] == [
        "message.accepted",
        "turn.started",
        "message.completed",
        "usage.updated",
        "turn.completed",
    ]
    said = [e["content"] for e in await edge.events(session) if e["type"] == "message.accepted"]
    assert said == ["1", "2", "3"]
    assert len(llm.requests) == 4
    assert len((await edge.http.get("/api/v1/sessions")).json()["data"]) == 2


async def test_every_method_does_what_it_says(make_edge, client_of):
    llm = ScriptedLLM([calls(("run_shell", {"command": "ls"}))], otherwise=says("Done."))
    edge = await make_edge(llm)
    async with client_of(edge) as client:
        waiting = await client.chat("Look.", approvals=["run_shell"], idempotency_key="k")
        session, turn = waiting["session_id"], waiting["turn_id"]
        assert waiting["status"] == "waiting"
        (asked,) = (await client.approvals(status="pending", session_id=session))["data"]
        assert asked["id"] == waiting["approval_ids"][0]

        second = await client.send(session, "And then?")
        third = await client.send(session, "Never mind.", on_busy="enqueue")
        assert [entry["message_id"] for entry in (await client.inbox(session))["data"]] == [
            second["message_id"],
            third["message_id"],
        ]
        assert (await client.edit(session, second["message_id"], "And now?"))["content"] == "And now?"
        await client.withdraw(session, third["message_id"])
        await client.withdraw(session, third["message_id"])

        assert (await client.pause(session))["status"] == "paused"
        assert (await client.resolve(asked["id"], "deny", reason="not now"))["status"] == "denied"
        assert (await client.approval(asked["id"]))["reason"] == "not now"
        assert (await client.resume(session))["status"] in {"running", "idle"}
        await edge.ended(second["turn_id"])

        assert (await client.interrupt(session))["status"] == "idle"
        assert (await client.chat("Look.", approvals=["run_shell"], idempotency_key="k"))["turn_id"] == turn
        page = await client.turn_events(turn, limit=500)
        followed = [item.data async for item in client.follow_turn(turn)]
        assert followed == page["data"]
        assert [item async for item in client.follow_turn(turn, after=page["last_seq"])] == []
        assert (await client.turn(turn))["message_id"] == waiting["message_id"]
        assert (await client.fork(session, from_event=2))["forked_from"] == {"session_id": session, "seq": 2}

        with pytest.raises(MessageNotWaiting):
            await client.edit(session, second["message_id"], "Too late.")
        with pytest.raises(IdempotencyKeyReused):
            await client.chat("Other.", idempotency_key="k")


async def test_the_workspace_by_the_client(make_edge, client_of):
    results = {"wc x": ExecResult("nonzero", 2, "no x\n", wall_s=0.5), "print(1)": ExecResult("ok", 0, "1\n")}
    edge = await make_edge(sandboxes=FakeSandboxes(results))
    async with client_of(edge) as client:
        session = (await client.create_session())["id"]
        printed = []
        ended = await client.exec(session, command="wc x", timeout_s=5, on_output=printed.append)
        assert ended == {
            "verdict": "nonzero",
            "exit_code": 2,
            "output": "no x\n",
            "truncated": False,
            "wall_s": 0.5,
            "output_bytes": 0,
            "cpu_s": None,
            "peak_memory_bytes": None,
            "variables": None,
        }
        assert printed == ["no x\n"]
        assert (await client.exec(session, python="print(1)"))["output"] == "1\n"

        await client.write_file(session, "a b/ä?#%.txt", b"\x00\xff")
        assert await client.read_file(session, "a b/ä?#%.txt") == b"\x00\xff"
        listed = await client.files(session, "a b")
        assert [entry["path"] for entry in listed["data"]] == ["a b/ä?#%.txt"]
        assert (await client.files(session, limit=1))["truncated"]
        with pytest.raises(WorkspaceConflict):
            await client.delete_file(session, "a b")
        await client.delete_file(session, "a b", recursive=True)
        with pytest.raises(NoSuchFile):
            await client.read_file(session, "a b/ä?#%.txt")
        with pytest.raises(PolicyRefusal):
            await client.write_file(session, ".env", b"x")
        with pytest.raises(InvalidPath):
            await client.read_file(session, "../../chat")
        with pytest.raises(SessionNotFound):
            await client.exec("none", command="ls")
        with pytest.raises(InvalidInput):
            await client.exec(session)


async def test_a_command_is_sent_once_over_a_network_that_breaks(make_edge, client_of):
    sandboxes = FakeSandboxes()
    edge = await make_edge(sandboxes=sandboxes)
    session = (await edge.http.post("/api/v1/sessions", json={})).json()["id"]
    network = Breaking(edge.app, random.Random(1))
    broken = 0
    async with client_of(edge, network) as client:
        for number in range(20):
            try:
                await client.exec(session, command=f"touch {number}")
            except UnavailableError:
                broken += 1
    sources = [run.source for run in sandboxes.runs]
    assert broken
    assert len(sources) == len(set(sources))
