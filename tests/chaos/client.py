"""A client over HTTP that writes down what it sends and sees: the log that the journal is checked against.

A request stands in the log before it leaves, an answer after it came.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx

from cluster.verify import Answered, CancelAnswered, CancelSent, ClientLog, Sent, Unanswered, digest

Json: TypeAlias = dict[str, Any]

CALL_S = 40.0
RETRY_S = 120.0
"""What must succeed in the end is tried for so long."""

PAUSE_S = 0.5
ENDED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that the server has accepted."""

    session_id: str
    turn_id: str


@dataclass
class Client:
    """One user's way to the server. `counted` is what it did, for the report."""

    name: str
    http: httpx.AsyncClient
    log: ClientLog
    dice: random.Random
    counted: Counter[str] = field(default_factory=Counter[str])
    _numbers: int = 0

    def fresh(self, what: str) -> str:
        self._numbers += 1
        return f"{self.name}-{what}{self._numbers}"

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    # The log ------------------------------------------------------------------------------------------

    def sent(self, body: Json, key: str | None) -> str:
        """Write that this message leaves now. Returns the name of the request."""
        request, on_busy = self.fresh("r"), body.get("on_busy", "enqueue")
        self.log.write(Sent(request, body["message"], body.get("session_id"), key, digest(body), on_busy))
        self.counted["messages sent"] += 1
        return request

    def unanswered(self, request: str, error: Exception) -> None:
        self.log.write(Unanswered(request, f"{type(error).__name__}: {error}"))
        self.counted["unanswered"] += 1

    def answered(self, request: str, response: httpx.Response) -> Json:
        """Write the answer to a message. Returns its members."""
        said = json_of(response)
        code = said.get("code")
        self.log.write(
            Answered(
                request,
                response.status_code,
                session_id=said.get("session_id"),
                turn_id=said.get("turn_id"),
                message_id=said.get("message_id"),
                replayed=is_replay(response),
                code=code,
            )
        )
        self.counted["accepted" if response.is_success else f"answered {response.status_code} {code}"] += 1
        return said

    # Calls that may be repeated -----------------------------------------------------------------------

    async def open_session(self) -> str | None:
        """A session under an id that we choose, so that asking again finds it."""
        session_id = f"sess_{self.fresh('s')}_{self.dice.getrandbits(32):08x}"
        return session_id if await self._insist("POST", "/api/v1/sessions", {"id": session_id}) else None

    async def order(self, session_id: str, what: str) -> bool:
        """`pause`, `resume` or `interrupt` a session."""
        self.counted[what] += 1
        return await self._insist("POST", f"/api/v1/sessions/{session_id}/{what}") is not None

    async def get(self, path: str, *, within_s: float = RETRY_S) -> Json | None:
        return await self._insist("GET", path, within_s=within_s)

    async def wait(self, turn: Turn) -> str | None:
        """Ask for the turn until it has ended: how. None when that takes too long."""
        give_up = self.now() + RETRY_S
        while self.now() < give_up:
            said = await self.get(f"/api/v1/turns/{turn.turn_id}", within_s=5)
            if said is not None and said["status"] in ENDED:
                return said["status"]
            await asyncio.sleep(PAUSE_S)
        self.counted["waits given up"] += 1
        return None

    async def cancel(self, turn: Turn) -> bool:
        """Cancel a turn, again when no answer comes. False when that takes too long."""
        give_up = self.now() + RETRY_S
        while self.now() < give_up:
            request = self.fresh("x")
            self.log.write(CancelSent(request, turn.session_id, turn.turn_id))
            try:
                response = await self.http.post(f"/api/v1/turns/{turn.turn_id}/cancel", timeout=CALL_S)
            except httpx.TransportError as error:
                self.unanswered(request, error)
            else:
                status = json_of(response).get("status") if response.is_success else None
                self.log.write(CancelAnswered(request, response.status_code, status))
                self.counted[f"cancel answered {status or response.status_code}"] += 1
                if response.is_success:
                    return True
            await asyncio.sleep(PAUSE_S)
        self.counted["cancels given up"] += 1
        return False

    async def _insist(
        self, method: str, path: str, body: Json | None = None, *, within_s: float = RETRY_S
    ) -> Json | None:
        give_up = self.now() + within_s
        while True:
            try:
                response = await self.http.request(method, path, json=body, timeout=min(within_s, CALL_S))
            except httpx.TransportError:
                self.counted["calls unanswered"] += 1
            else:
                if response.is_success:
                    return json_of(response)
                self.counted[f"calls answered {response.status_code}"] += 1
            if self.now() > give_up:
                self.counted["calls given up"] += 1
                return None
            await asyncio.sleep(PAUSE_S)


def json_of(response: httpx.Response) -> Json:
    """The body, or nothing where a proxy answered in words of its own."""
    try:
        said: Any = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def is_replay(response: httpx.Response) -> bool:
    return response.headers.get("idempotency-replayed") == "true"
