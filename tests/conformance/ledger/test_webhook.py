"""The webhook against a real server: signed, tried again with patience, given up, and never lost with a process."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from actors.agent.reactions import Reactions
from actors.agent.webhook import Webhook
from actors.ledger.alerts import AlertBook, Watch
from actors.ledger.base import Hold, Scope, State
from actors.ledger.sql import SqlLedger
from actors.ledger.thresholds import Thresholds
from actors.testing.audits import ListAudit


class Receiver:
    """Answers each request with the next status; 0 hangs up without an answer, and the last one stays."""

    def __init__(self) -> None:
        self.statuses = [200]
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
        self.taken.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Without a Redis, which no webhook asks."""
    return request.param


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    yield one
    server.close()
    await server.wait_closed()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


async def reach(process: Any) -> AlertBook:
    """A user reaches a threshold, and somebody reacts."""
    watch = Watch(Thresholds.of(("day:0.00005:critical",), {}), process.clock)
    ledger, alerts = SqlLedger(process.database, watch), AlertBook(process.database, process.clock)
    scopes = (Scope("user", "user_1", "day"), Scope("session", "sess_1"))
    made = tuple(scope.bucket(process.clock.now()) for scope in scopes)
    after = await ledger.settle(Hold("att", 60, 60, made, process.clock.now(), State.DISPATCHED), 60)
    (alert,) = after.crossed
    await Reactions(ledger, alerts, ListAudit(), clock=process.clock, tells=True).react(alert)
    return alerts


def webhook(process: Any, alerts: AlertBook, client: Any, receiver: Receiver, **members: Any) -> Webhook:
    given = {"secret": "sh", "tries": 3, "clock": process.clock, **members}
    return Webhook(alerts, client, receiver.url, **given)


async def test_slack_shows_it_and_a_program_checks_and_reads_it(process: Any, client: Any, receiver: Receiver) -> None:
    alerts = await reach(process)
    hook = webhook(process, alerts, client, receiver)
    for _ in range(2):
        await hook.round()
    ((headers, body),) = receiver.taken
    signed = headers["x-greenroom-timestamp"].encode() + b"." + body
    assert headers["x-greenroom-signature"] == "v1=" + hmac.new(b"sh", signed, hashlib.sha256).hexdigest()
    (alert,) = await alerts.of_user("user_1", limit=1)
    assert (headers["x-greenroom-delivery"], alert.state) == (alert.id, "done")
    told = json.loads(body)
    assert told["text"].startswith("Critical: user_1 has spent $0.000060 this day")
    fields = {field["title"]: field["value"] for field in told["attachments"][0]["fields"]}
    assert fields["Window ends"] == told["resets_at"] == "2026-01-02T00:00:00.000000Z"
    assert (told["id"], told["severity"], told["spent_micros"]) == (alert.id, "critical", 60)


async def test_without_a_secret_nothing_is_signed(process: Any, client: Any, receiver: Receiver) -> None:
    await webhook(process, await reach(process), client, receiver, secret=None).round()
    assert "x-greenroom-signature" not in receiver.taken[0][0]


async def test_failures_are_tried_again_later_under_the_same_id(process: Any, client: Any, receiver: Receiver) -> None:
    receiver.statuses = [500, 0, 200]
    alerts = await reach(process)
    for waits in (0, 5, 10, 0):
        process.clock.advance(waits)
        await webhook(process, alerts, client, receiver).round()
        await webhook(process, alerts, client, receiver).round()  # not yet due
    assert len({headers["x-greenroom-delivery"] for headers, _ in receiver.taken}) == 1
    assert len(receiver.taken) == 3
    assert [alert.state for alert in await alerts.of_user("user_1", limit=1)] == ["done"]


async def test_it_is_given_up_after_so_many_tries(process: Any, client: Any, receiver: Receiver) -> None:
    receiver.statuses = [404]
    alerts = await reach(process)
    for _ in range(5):
        await webhook(process, alerts, client, receiver).round()
        process.clock.advance(3600)
    assert len(receiver.taken) == 3
    assert [alert.state for alert in await alerts.of_user("user_1", limit=1)] == ["failed"]


async def test_a_process_that_dies_amid_a_delivery_loses_none(process: Any, client: Any, receiver: Receiver) -> None:
    alerts = await reach(process)
    (alert,) = await alerts.due("reacted", limit=1)
    assert await alerts.claim(alert, for_s=100)  # and there it died
    other = webhook(process, AlertBook(process.database, process.clock), client, receiver)
    await other.round()
    assert receiver.taken == []
    process.clock.advance(101)
    await other.round()
    assert [headers["x-greenroom-delivery"] for headers, _ in receiver.taken] == [alert.id]
