"""POST /api/v1/sessions/{id}/fork."""

import asyncio

import pytest

from actors.core.errors import SandboxUnavailable, StoreUnavailable
from actors.core.messages import AssistantMessage, UserMessage
from actors.llm.base import TextDelta
from actors.sandbox.base import WorkspaceError
from actors.testing import ScriptedLLM, calls, says
from actors.testing.sandboxes import FakeSandboxes

KEY = {"idempotency-key": "k-1"}


@pytest.fixture
def sandboxes():
    return FakeSandboxes()


@pytest.fixture
async def source(make_edge, sandboxes):
    """A session of two turns, the first of which wrote a file."""
    write = calls(("write_file", {"path": "notes/a.txt", "content": "alpha"}))
    llm = ScriptedLLM([write, says("Written.")], otherwise=says("Yes."))
    edge = await make_edge(llm, sandboxes=sandboxes)
    edge.llm = llm
    opened = {"system": "Be brief.", "metadata": {"a": 1}, "approvals": ["run_shell"]}
    edge.session = (await edge.say("Write alpha.", **opened))["session_id"]
    edge.first_turn = len(await edge.events(edge.session))
    await edge.say("And beta?", session_id=edge.session)
    edge.path = f"/api/v1/sessions/{edge.session}/fork"
    return edge


async def test_a_fork_begins_with_the_past_of_the_other(source):
    response = await source.http.post(source.path)

    fork = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/api/v1/sessions/{fork['id']}"
    last = len(await source.events(source.session))
    assert fork["forked_from"] == {"session_id": source.session, "seq": last}
    assert (fork["title"], fork["system"], fork["metadata"]) == ("Write alpha.", "Be brief.", {"a": 1})
    assert (fork["approvals"], fork["status"], fork["workspace"]) == (["run_shell"], "idle", None)
    # What was spent stays with the session that spent it.
    assert (fork["cost"]["micros"], fork["usage"]["total_tokens"]) == (0, 0)
    assert (await source.http.get(response.headers["location"])).json().items() <= fork.items()


async def test_the_model_is_told_the_past_and_the_two_go_their_own_ways(source):
    fork = (await source.http.post(source.path)).json()["id"]

    await source.say("Only in the fork.", session_id=fork)
    await source.say("Only in the source.", session_id=source.session)

    told, kept = (request.messages for request in source.llm.requests[-2:])
    assert [m.content for m in told if isinstance(m, UserMessage)] == [
        "Write alpha.",
        "And beta?",
        "Only in the fork.",
    ]
    assert [m.content for m in kept if isinstance(m, UserMessage)][-1] == "Only in the source."
    assert "Only in the fork." not in [m.content for m in kept]
    assert [m.content for m in told if isinstance(m, AssistantMessage)] == ["", "Written.", "Yes."]


async def test_a_fork_from_an_event_leaves_out_what_came_after(source):
    fork = (await source.http.post(source.path, json={"from_event": source.first_turn})).json()

    assert fork["forked_from"]["seq"] == source.first_turn
    said = [e["content"] for e in await source.events(fork["id"]) if e["type"] == "message.accepted"]
    assert said == ["Write alpha."]


async def test_a_fork_from_any_event_can_be_talked_to(source):
    for seq in range(1, len(await source.events(source.session)) + 1):
        fork = await source.http.post(source.path, json={"from_event": seq})
        assert fork.status_code == 201, fork.text
        assert (await source.say("Go on.", session_id=fork.json()["id"]))["message"] == "Yes."


async def test_turns_of_a_fork_are_its_own(source):
    fork = (await source.http.post(source.path)).json()["id"]

    mine = {event["turn_id"] for event in await source.events(source.session)} - {None}
    its = {event["turn_id"] for event in await source.events(fork)} - {None}
    assert len(mine) == len(its) == 2
    assert not mine & its
    for turn in its:
        assert (await source.http.get(f"/api/v1/turns/{turn}")).json()["session_id"] == fork


async def test_a_session_whose_turn_runs_may_be_forked(make_edge, until):
    llm = ScriptedLLM([[TextDelta("Once upon"), asyncio.Event()]], otherwise=says("Yes."))
    edge = await make_edge(llm)
    later = {"prefer": "respond-async"}
    running = (await edge.http.post("/api/v1/chat", json={"message": "Tell."}, headers=later)).json()
    await until(lambda: llm.open)

    fork = (await edge.http.post(f"/api/v1/sessions/{running['session_id']}/fork")).json()

    assert fork["status"] == "idle"
    assert [e["type"] for e in await edge.events(fork["id"])][-1] == "turn.cancelled"
    assert (await edge.http.get(f"/api/v1/turns/{running['turn_id']}")).json()["status"] == "running"
    assert (await edge.say("Go on.", session_id=fork["id"]))["message"] == "Yes."


# The workspace -------------------------------------------------------------------------------------


async def test_the_workspace_comes_along_when_it_is_asked_for(source, sandboxes):
    fork = (await source.http.post(source.path, json={"include": ["memory", "workspace"]})).json()

    assert fork["workspace"] == {"files": 1, "bytes": 5}
    assert (await sandboxes.read(fork["id"], "notes/a.txt", max_bytes=10)).data == b"alpha"
    await sandboxes.write(fork["id"], "notes/a.txt", b"other")
    assert (await sandboxes.read(source.session, "notes/a.txt", max_bytes=10)).data == b"alpha"


@pytest.mark.parametrize("include", [[], ["memory"]])
async def test_otherwise_it_does_not(source, sandboxes, include):
    fork = (await source.http.post(source.path, json={"include": include})).json()

    assert fork["workspace"] is None
    assert await sandboxes.list(fork["id"]) == ()


async def test_of_two_sources_at_once_under_one_key_one_fills_the_workspace(make_edge):
    sandboxes = Copies()
    edge = await make_edge(sandboxes=sandboxes)
    sources = [(await edge.say("Hi"))["session_id"] for _ in range(2)]

    async with asyncio.TaskGroup() as group:
        asked = {
            source: group.create_task(
                edge.http.post(f"/api/v1/sessions/{source}/fork", json={"include": ["workspace"]}, headers=KEY)
            )
            for source in sources
        }
        await sandboxes.begun.wait()
        refused = [asked[source] for source in sources if source not in sandboxes.sources]
        assert refused, "both workspaces are copied into one"
        await asyncio.wait(refused, timeout=10)
        sandboxes.go_on.set()

    assert len(sandboxes.sources) == 1
    codes = {source: task.result().status_code for source, task in asked.items()}
    assert codes == {source: 201 if source in sandboxes.sources else 422 for source in sources}


class Copies(FakeSandboxes):
    """Copies when it is told to go on, and knows from where."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def copy(self, source: str, target: str):
        self.sources.append(source)
        self.begun.set()
        await self.go_on.wait()
        return await super().copy(source, target)


async def test_a_session_without_a_workspace_has_none_to_copy(edge):
    session = (await edge.say("Hi"))["session_id"]

    fork = (await edge.http.post(f"/api/v1/sessions/{session}/fork", json={"include": ["workspace"]})).json()

    assert fork["workspace"] == {"files": 0, "bytes": 0}


class Sandboxes(FakeSandboxes):
    """Copies half of a workspace, and then fails."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.released: list[str] = []

    async def copy(self, source: str, target: str):
        await self.write(target, "half", b"")
        if self.error is not None:
            raise self.error
        return await super().copy(source, target)

    async def release(self, session_id: str) -> None:
        self.released.append(session_id)
        await super().release(session_id)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (WorkspaceError("there are 1,001 files, and 1,000 can be copied"), 422, "invalid_input"),
        (SandboxUnavailable("no isolation here"), 503, "sandbox_unavailable"),
    ],
)
async def test_without_its_workspace_there_is_no_fork(make_edge, problem_of, error, status, code):
    sandboxes = Sandboxes(error)
    edge = await make_edge(sandboxes=sandboxes)
    session = (await edge.say("Hi"))["session_id"]
    path = f"/api/v1/sessions/{session}/fork"

    problem = problem_of(await edge.http.post(path, json={"include": ["workspace"]}, headers=KEY), status, code)

    assert str(error) in problem["detail"]
    assert len((await edge.http.get("/api/v1/sessions")).json()["data"]) == 1
    assert len(sandboxes.released) == 1
    assert (await sandboxes.status()).leased == 0
    # The key was not used up.
    sandboxes.error = None
    assert (await edge.http.post(path, json={"include": ["workspace"]}, headers=KEY)).status_code == 201


async def test_without_its_journal_a_fork_leaves_no_workspace(make_edge, problem_of):
    sandboxes = Sandboxes()
    edge = await make_edge(sandboxes=sandboxes)
    session = (await edge.say("Hi"))["session_id"]
    honest = edge.services.book.fork

    async def deleted_meanwhile(source, *args, **kwargs):
        await edge.services.book.delete(source.id, source.user_id)
        return await honest(source, *args, **kwargs)

    edge.services.book.fork = deleted_meanwhile
    path = f"/api/v1/sessions/{session}/fork"

    problem_of(await edge.http.post(path, json={"include": ["workspace"]}), 404, "session_not_found")

    assert len(sandboxes.released) == 1
    assert (await sandboxes.status()).leased == 0


async def test_when_nobody_knows_whether_it_was_made_its_workspace_is_kept(make_edge, problem_of):
    """The commit's answer was lost. The repeat under the same key finds the session, and it has its files."""
    sandboxes = Sandboxes()
    edge = await make_edge(sandboxes=sandboxes)
    session = (await edge.say("Hi"))["session_id"]
    await sandboxes.write(session, "a.txt", b"alpha")
    honest = edge.services.book.fork

    async def lost(*args, **kwargs):
        await honest(*args, **kwargs)
        raise StoreUnavailable("the connection broke")

    edge.services.book.fork = lost
    path, body = f"/api/v1/sessions/{session}/fork", {"include": ["workspace"]}
    problem_of(await edge.http.post(path, json=body, headers=KEY), 503, "store_unavailable")
    edge.services.book.fork = honest

    again = await edge.http.post(path, json=body, headers=KEY)

    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert (await sandboxes.read(again.json()["id"], "a.txt", max_bytes=10)).data == b"alpha"
    assert sandboxes.released == []


# Again ---------------------------------------------------------------------------------------------


async def test_a_repeat_finds_the_fork(source):
    body = {"from_event": source.first_turn, "include": ["workspace"]}
    first = await source.http.post(source.path, json=body, headers=KEY)
    await source.say("More.", session_id=source.session)
    again = await source.http.post(source.path, json=body, headers=KEY)

    assert (first.status_code, "idempotency-replayed" in first.headers) == (201, False)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.json() == {**first.json(), "workspace": None}


@pytest.mark.parametrize("other", [{"from_event": 1}, {"include": ["workspace"]}], ids=str)
async def test_another_fork_under_the_key_is_refused(source, problem_of, other):
    fork = (await source.http.post(source.path, headers=KEY)).json()["id"]

    problem = problem_of(await source.http.post(source.path, json=other, headers=KEY), 422, "idempotency_key_reused")

    assert problem["session_id"] == fork


async def test_a_fork_of_another_session_under_the_key_is_refused(source, problem_of):
    other = (await source.say("Hi"))["session_id"]
    await source.http.post(source.path, headers=KEY)

    response = await source.http.post(f"/api/v1/sessions/{other}/fork", headers=KEY)

    problem_of(response, 422, "idempotency_key_reused")


async def test_a_fork_that_was_deleted_is_not_made_again(source, problem_of):
    fork = (await source.http.post(source.path, headers=KEY)).json()["id"]
    await source.http.delete(f"/api/v1/sessions/{fork}")

    problem_of(await source.http.post(source.path, headers=KEY), 404, "session_not_found")


async def test_without_a_key_each_is_a_fork_of_its_own(source):
    forks = {(await source.http.post(source.path)).json()["id"] for _ in range(3)}

    assert len(forks) == 3


# When it goes wrong --------------------------------------------------------------------------------


async def test_an_event_that_is_not_there_yet_is_refused(source, problem_of):
    last = len(await source.events(source.session))

    problem = problem_of(await source.http.post(source.path, json={"from_event": last + 1}), 422, "invalid_input")

    assert str(last) in problem["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"from_event": 0}, "from_event"),
        ({"from_event": "x"}, "from_event"),
        ({"from_event": 2**63}, "from_event"),
        ({"include": "workspace"}, "include"),
        ({"include": ["everything"]}, "include.0"),
        ({"include": ["memory"] * 3}, "include"),
        ({"to": 3}, "to"),
    ],
    ids=str,
)
async def test_a_wrong_request_is_refused(source, problem_of, body, field):
    problem = problem_of(await source.http.post(source.path, json=body), 422, "invalid_input")

    assert [error["field"] for error in problem["errors"]] == [field]


async def test_of_another_user_there_is_nothing_to_fork(edge, stranger, problem_of):
    session = (await edge.say("Secret"))["session_id"]

    for identifier in (session, "sess_none"):
        problem_of(await stranger.post(f"/api/v1/sessions/{identifier}/fork"), 404, "session_not_found")
