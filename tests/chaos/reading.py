"""How clients read events: streams that are resumed after the last number seen, and pages."""

import asyncio
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from cluster.verify import Closed, Opened, Seen, digest

from .client import PAUSE_S, RETRY_S, Client, Turn

SSE = {"accept": "text/event-stream"}
SILENT_S = 8.0
"""A stream without even a heartbeat for so long is given up, and resumed."""

_TERMINAL = frozenset({"turn.completed", "turn.failed", "turn.cancelled"})


@dataclass
class Reader:
    """Who keeps a cursor: `after` is the last number seen. It reads until `turn` has ended, or up to number `last`."""

    name: str
    session_id: str
    turn: Turn | None = None
    last: int | None = None
    after: int = 0
    ended: bool = False


async def read(client: Client, reader: Reader, response: httpx.Response, *, leave_after: int | None = None) -> None:
    """Read a stream that is open, to its end, to the turn's, or for so many frames. Raises nothing when it breaks."""
    connection, error = client.fresh("c"), None
    # The answer to a chat is a stream of its turn alone.
    only = reader.turn.turn_id if reader.turn is not None and response.request.method == "POST" else None
    client.log.write(Opened(connection, reader.name, reader.session_id, reader.after, only))
    frames = 0
    try:
        async for sse in EventSource(response).aiter_sse():
            frames += 1
            _take(client, reader, connection, sse)
            if reader.ended or frames == leave_after:
                break
    except (httpx.TransportError, SSEError) as broke:
        error = f"{type(broke).__name__}: {broke}"
    finally:
        client.log.write(Closed(connection, ended=reader.ended and only is not None, error=error))


def _take(client: Client, reader: Reader, connection: str, sse: ServerSentEvent) -> None:
    if not sse.data:
        return
    data = sse.json()
    if (seq := data.get("seq")) is None:
        return
    client.log.write(Seen(connection, seq, data["type"], digest(data)))
    reader.after = seq
    if reader.turn is not None and data.get("turn_id") == reader.turn.turn_id:
        reader.ended = data["type"] in _TERMINAL
    elif reader.last is not None:
        reader.ended = seq >= reader.last


async def follow(client: Client, reader: Reader, *, within_s: float = RETRY_S) -> bool:
    """Resume until the reader has what it waits for. False when that takes too long."""
    try:
        # Round the whole of it: a stream that says nothing but that it lives would never end.
        async with asyncio.timeout(within_s):
            while not reader.ended:
                await resume(client, reader)
    except TimeoutError:
        client.counted["streams given up"] += 1
        return False
    return True


async def watch(client: Client, reader: Reader) -> None:
    """Every event of the session, until cancelled."""
    while True:
        await resume(client, reader)


async def resume(client: Client, reader: Reader) -> None:
    """Read on after the last number seen, for as long as the stream lives."""
    headers = {**SSE, "last-event-id": str(reader.after)}
    path = f"/api/v1/sessions/{reader.session_id}/events"
    client.counted["resumes"] += 1
    try:
        async with client.http.stream("GET", path, headers=headers, timeout=SILENT_S) as response:
            if response.is_success:
                await read(client, reader, response)
            else:
                client.counted[f"stream answered {response.status_code}"] += 1
    except httpx.TransportError:
        client.counted["streams not opened"] += 1
    if not reader.ended:
        await asyncio.sleep(PAUSE_S)


async def read_pages(client: Client, session_id: str) -> int:
    """The whole journal of a session, page by page. Returns its last number."""
    reader, more = Reader(client.fresh("p"), session_id), True
    while more:
        said = await client.get(f"/api/v1/sessions/{session_id}/events?after={reader.after}&limit=100")
        if said is None:
            break
        connection = client.fresh("c")
        client.log.write(Opened(connection, reader.name, session_id, reader.after))
        for data in said["data"]:
            client.log.write(Seen(connection, data["seq"], data["type"], digest(data)))
            reader.after = data["seq"]
        client.log.write(Closed(connection, ended=True))
        more = said["has_more"]
    return reader.after
