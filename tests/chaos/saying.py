"""How clients say something: and wait for the answer, or follow its stream, or come back for it.

With a key, the same message is sent again until it is known what became of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from cluster.verify import Answered

from .client import CALL_S, PAUSE_S, RETRY_S, Client, Json, Turn, is_replay
from .reading import SILENT_S, SSE, Reader, follow, read

CHAT_S = 75.0
_HASTY, _TWICE = 0.2, 0.1
"""How often somebody gives up early and tries again, and how often somebody sends the same twice at once."""


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one request: the turn, if the answer names it, and whether sending it again is of use."""

    turn: Turn | None
    again: bool


async def chat(client: Client, body: Json, *, keyed: bool) -> Turn | None:
    """Wait for the answer as JSON. None when nobody knows whether the message was accepted."""
    return await _say(client, body, {}, CHAT_S, keyed=keyed)


async def submit(client: Client, body: Json, *, keyed: bool) -> Turn | None:
    """Wait until the message is accepted, no longer."""
    return await _say(client, body, {"prefer": "respond-async"}, CALL_S, keyed=keyed)


async def _say(client: Client, body: Json, headers: dict[str, str], patience_s: float, *, keyed: bool) -> Turn | None:
    if not keyed:
        return (await _post(client, body, headers, None, patience_s)).turn
    key = client.fresh("k")

    async def send(wait_s: float = patience_s) -> Said:
        return await _post(client, body, {**headers, "idempotency-key": key}, key, wait_s)

    chance = client.dice.random()
    if chance < _TWICE:
        said = await _twice(client, send)
    else:
        said = await send(client.dice.uniform(0.05, 2.0) if chance < _TWICE + _HASTY else patience_s)
    give_up = client.now() + RETRY_S
    while said.again and client.now() < give_up:
        await asyncio.sleep(PAUSE_S)
        client.counted["sent again"] += 1
        said = await send()
    if said.again:
        client.counted["messages given up"] += 1
    return said.turn


async def _twice(client: Client, send: Callable[[], Awaitable[Said]]) -> Said:
    client.counted["sent twice at once"] += 1
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(_awaited(send())) for _ in range(2)]
    first, second = (task.result() for task in both)
    return first if not first.again else second


async def _awaited(said: Awaitable[Said]) -> Said:
    return await said


async def _post(client: Client, body: Json, headers: dict[str, str], key: str | None, wait_s: float) -> Said:
    request = client.sent(body, key)
    try:
        response = await client.http.post("/api/v1/chat", json=body, headers=headers, timeout=wait_s)
    except httpx.TransportError as error:
        client.unanswered(request, error)
        return Said(None, again=True)
    told = client.answered(request, response)
    # A turn that failed is an answer too: it is named, and not run again.
    if "turn_id" in told and "session_id" in told:
        return Said(Turn(told["session_id"], told["turn_id"]), again=False)
    # Without a code it is not our server that speaks, but a proxy that has none to pass it on to.
    return Said(None, again=response.status_code >= 500 or response.status_code in {409, 429} or "code" not in told)


async def stream(client: Client, body: Json, *, keyed: bool, leave_after: int | None) -> Turn | None:
    """Follow the turn to its end, over broken connections and, with `leave_after` frames, one that we break."""
    body, key = {**body, "stream": True}, client.fresh("k") if keyed else None
    headers = {**SSE, **({"idempotency-key": key} if key else {})}
    give_up = client.now() + RETRY_S
    while True:
        reader = await _open(client, body, headers, key, leave_after)
        if reader is not None:
            await follow(client, reader)
            return reader.turn
        if key is None or client.now() > give_up:
            return None
        client.counted["sent again"] += 1
        await asyncio.sleep(PAUSE_S)


async def _open(
    client: Client, body: Json, headers: dict[str, str], key: str | None, leave_after: int | None
) -> Reader | None:
    """Read the stream that answers this message for as long as it lives. None when there was none."""
    request, reader = client.sent(body, key), None
    try:
        async with client.http.stream("POST", "/api/v1/chat", json=body, headers=headers, timeout=SILENT_S) as response:
            if response.is_error:
                await response.aread()
                client.answered(request, response)
                return None
            turn = Turn(response.headers["x-session-id"], response.headers["x-turn-id"])
            client.log.write(
                Answered(request, response.status_code, turn.session_id, turn.turn_id, replayed=is_replay(response))
            )
            client.counted["accepted"] += 1
            reader = Reader(client.fresh("reader"), turn.session_id, turn)
            await read(client, reader, response, leave_after=leave_after)
    except httpx.TransportError as error:
        # Before the headers nothing is known; after them the turn is.
        if reader is None:
            client.unanswered(request, error)
    return reader
