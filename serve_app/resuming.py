"""What a client does when a connection breaks: send the call again, or go on with the stream where it was.

No I/O happens here. Only what can be repeated without doing it twice is repeated: see `Call.repeatable`.
"""

import httpx
from httpx_sse import ServerSentEvent

from actors.core.errors import GreenroomError, InboxFull, UnavailableError

from .calls import TERMINAL, Call, Item, Json, error_from, session_stream, told_in_stream

MAX_DELAY_S = 5.0


def _may_pass(error: GreenroomError) -> bool:
    """The same request may fare better later: nothing came of it, and it is not for the caller to decide."""
    return error.retryable and "turn_id" not in error.details and not isinstance(error, InboxFull)


class Repeats:
    """How a call goes on whose connection broke. Says how long to wait, or None when it is not to be repeated."""

    def __init__(self, call: Call, *, limit: int, delay_s: float) -> None:
        self._call = call
        self._limit, self._delay_s = limit, delay_s
        self.count = 0

    def after_break(self, error: httpx.TransportError) -> float | None:
        # Nobody is there: said at once, unless somebody was there a moment ago. A server that holds the
        # connection and says nothing will not say more to a second one.
        nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and self.count == 0
        if not self._call.repeatable or nobody or isinstance(error, httpx.ReadTimeout):
            return None
        return self.next_delay()

    def after_answer(self, response: httpx.Response) -> float | None:
        """A refusal is an answer; but after a break it may be one of a server that is still coming back."""
        if self.count == 0 or not response.is_error:
            return None
        return self.next_delay() if _may_pass(error_from(response.status_code, response.content)) else None

    def next_delay(self) -> float | None:
        if self.count >= self._limit:
            return None
        self.count += 1
        return min(self._delay_s * 2 ** (self.count - 1), MAX_DELAY_S)


class Place:
    """Where a stream stands: makes the request that opens it, and those that go on with it."""

    def __init__(self, opening: Call, *, one_turn: bool, limit: int, delay_s: float) -> None:
        self._opening, self._one_turn = opening, one_turn
        self._limit, self._delay_s = limit, delay_s
        self._session_id: str | None = None
        self._turn_id: str | None = None
        self._seq = int(opening.headers.get("Last-Event-ID", 0))
        self._repeats = self._afresh()
        self.done = False

    def _afresh(self) -> Repeats:
        return Repeats(self._opening, limit=self._limit, delay_s=self._delay_s)

    def call(self) -> Call:
        return self._opening if self._session_id is None else session_stream(self._session_id, self._seq)

    def over(self, response: httpx.Response) -> bool:
        """The answer says that the turn has ended and nothing is left to tell."""
        self.done = self.done or response.status_code == 204
        return self.done

    def take(self, sse: ServerSentEvent) -> Item | None:
        """The item of this frame; None when it has none, was seen before, or is of another turn.

        Raises what a frame tells that ends the stream before its time.
        """
        if not sse.data:
            return None  # `retry:` alone comes as a frame too
        data: Json = sse.json()
        if sse.event == "error":
            raise told_in_stream(data)
        seq = data.get("seq")
        item = Item(str(data.get("type") or sse.event), seq, data)
        if self._one_turn and self._turn_id is None:
            self._turn_id = data.get("turn_id")
        if seq is not None:
            if seq <= self._seq:
                return None
            self._seq, self._session_id = seq, data["session_id"]
        self._repeats = self._afresh()
        if self._one_turn:
            if data.get("turn_id") != self._turn_id:
                return None
            self.done = item.type in TERMINAL
        return item

    def delay_after(self, error: Exception | None) -> float:
        """Seconds to wait before going on. Raises when that is not possible or no longer reasonable."""
        unopened = self._session_id is None
        if isinstance(error, GreenroomError):
            said_no = unopened and self._opening.method == "POST" and self._repeats.count == 0
            if said_no or not _may_pass(error):
                raise error
        delay = self._repeats.next_delay()
        if delay is None:
            if unopened and self._opening.key is not None:
                raise unconfirmed(self._opening) from error
            raise UnavailableError(
                f"The stream broke and {self._repeats.count} attempts to resume it failed."
            ) from error
        return delay


def unconfirmed(call: Call) -> UnavailableError:
    """Nobody knows whether the call arrived; with its key it can be sent again without doing it twice."""
    return UnavailableError(
        "The connection broke before the server answered, and so did every repeat. It may have been accepted: "
        f"call again with idempotency_key={call.key!r}, and it is done once.",
        idempotency_key=call.key,
    )
