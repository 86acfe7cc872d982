"""The head of the cluster (Ray's GCS) stands still: what runs goes on, and nobody waits for it."""

import asyncio
import json
import signal
import time

import pytest

from actors.core.clock import SystemClock
from actors.handles import RemoteSessions
from actors.register import SESSION_PREFIX, HeadAway, NotRegistered, Register, named_actors

SLOW = {"reply": {"text": ["One ", "two ", "three ", "four"], "gap_s": 0.5}}
TOOL = {"tool_calls": [{"name": "run_python", "arguments": {"code": "print(6 * 7)"}}]}

WITHOUT_HEAD_S = 15.0
"""Far less than who waits for the head would take, also on a slow machine."""


@pytest.fixture(scope="module", autouse=True)
def cluster(run_node, connected, serve_environment, served, key):
    order = {"serve": json.loads(served.model_dump_json())}
    with run_node(order, **serve_environment) as address, connected(address):
        yield


@pytest.fixture
async def warm(http, eventually):
    """The fleet is there, sandboxes are loaded, and everybody has been used once."""

    async def there():
        checks = {check["name"]: check for check in (await http.get("/health")).json()["checks"]}
        hosts = await asyncio.to_thread(named_actors, SESSION_PREFIX, "greenroom")
        return len(hosts) == 2 and not any(check["loading"] for check in checks.values())

    await eventually(there, within_s=90)
    for _ in range(4):  # spread over both session actors
        await chat(http, {"replies": [TOOL, {"text": "Done."}]})
    assert (await http.get("/metrics")).status_code == 200


@pytest.fixture
def stopped(gcs):
    """The head is stopped for the time of a test."""
    process = gcs()
    process.send_signal(signal.SIGSTOP)
    yield process
    process.send_signal(signal.SIGCONT)


async def chat(http, directive, session_id=None) -> dict:
    body = {"message": json.dumps(directive) if isinstance(directive, dict) else directive}
    response = await http.post("/api/v1/chat", json=body | ({"session_id": session_id} if session_id else {}))
    assert response.status_code == 200, response.text
    return response.json()


async def timed(call):
    begun = time.monotonic()
    return await call, time.monotonic() - begun


async def test_turns_end_sessions_answer_and_new_ones_begin(http, warm, gcs, eventually):
    known = (await chat(http, "Hi"))["session_id"]
    running = asyncio.create_task(chat(http, SLOW))
    background = (
        await http.post("/api/v1/chat", json={"message": json.dumps(SLOW)}, headers={"prefer": "respond-async"})
    ).json()
    gcs().send_signal(signal.SIGSTOP)
    try:
        # Longer than any deadline of a question to the head.
        for _ in range(3):
            answer, took = await timed(chat(http, "Still there?", known))
            assert (answer["message"], took < WITHOUT_HEAD_S) == ("Hello from the script.", True), took
            answer, took = await timed(chat(http, "I am new."))
            assert (answer["message"], took < WITHOUT_HEAD_S) == ("Hello from the script.", True), took
            answer, took = await timed(chat(http, {"replies": [TOOL, {"text": "Done."}]}, known))
            assert (answer["tool_calls"][0]["content"].strip(), took < WITHOUT_HEAD_S) == ("42", True), answer
        assert (await running)["message"] == "One two three four"

        async def completed():
            return (await http.get(f"/api/v1/turns/{background['turn_id']}")).json()["status"] == "completed"

        await eventually(completed, within_s=WITHOUT_HEAD_S)
        fresh = (await chat(http, "I am new, and leave."))["session_id"]
        response, took = await timed(http.delete(f"/api/v1/sessions/{fresh}"))
        assert (response.status_code, took < WITHOUT_HEAD_S) == (204, True), took
    finally:
        gcs().send_signal(signal.SIGCONT)


async def test_health_says_so_in_time(http, warm, stopped):
    for path, within_s in (("/livez", 5), ("/health", 12), ("/ready", 12), ("/metrics", 15)):
        response, took = await timed(http.get(path))
        assert (path, response.status_code, took < within_s) == (path, 200, True), took
    checks = {check["name"]: check for check in (await http.get("/health")).json()["checks"]}
    assert checks["cluster"]["status"] == "warning"
    assert "does not answer" in checks["cluster"]["message"] or "did not answer" in checks["cluster"]["message"]
    assert checks["sessions"]["status"] == "healthy"
    # Metrics of those who were met are there all the same.
    assert 'process="session:0"' in (await http.get("/metrics")).text


async def test_who_asks_for_somebody_holds_up_nobody_else(http, stopped):
    register = Register("greenroom")
    worst = 0.0

    async def tick() -> None:
        nonlocal worst
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - begun)

    ticking = asyncio.create_task(tick())
    for ask in (lambda: register.find("nobody"), lambda: register.names("session:"), register.nodes):
        with pytest.raises(HeadAway):
            await ask()
    _, took = await timed(asyncio.wait([asyncio.create_task(find(register, f"nobody-{n}")) for n in range(50)]))
    ticking.cancel()
    assert took < WITHOUT_HEAD_S
    assert worst < 2


async def test_a_host_that_was_met_can_be_used_for_the_first_time(served, http, gcs):
    sessions = RemoteSessions("greenroom", SystemClock())
    await sessions.meet()
    gcs().send_signal(signal.SIGSTOP)
    try:
        for name in (await sessions.directory.status()).hosts:
            host = await sessions.register.find(name)
            async with asyncio.timeout(WITHOUT_HEAD_S):
                assert (await host.status.remote()).draining is False
    finally:
        gcs().send_signal(signal.SIGCONT)


async def find(register: Register, name: str) -> str:
    try:
        await register.find(name)
    except (HeadAway, NotRegistered) as error:
        return type(error).__name__
    return "found"


async def test_it_is_asked_again_as_soon_as_it_is_back(http, gcs, eventually):
    register = Register("greenroom")
    gcs().send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(HeadAway):
            await register.nodes()
    finally:
        gcs().send_signal(signal.SIGCONT)

    async def answered():
        try:
            return await register.nodes()
        except HeadAway:
            return ()

    (node,) = await eventually(answered)
    assert node.leaves_at is None
