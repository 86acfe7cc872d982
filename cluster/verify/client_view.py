"""A client log in order: what was asked and answered, by session, message, reader and cancel."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from .client_log import (
    Answered,
    CancelAnswered,
    CancelSent,
    Closed,
    Deleted,
    Effects,
    Entry,
    ModelCalls,
    Opened,
    Record,
    Seen,
    Sent,
)

_IN_THE_WAY = ("session_busy", "idempotency_key_reused")


@dataclass(slots=True)
class Request:
    """One attempt to send a message, and its answer if one came. Positions are those in the log."""

    sent: Sent
    sent_at: int
    answered: Answered | None = None
    answered_at: int = 0

    @property
    def acknowledged(self) -> Answered | None:
        """The answer that says that the message is accepted."""
        answer = self.answered
        if answer is not None and 200 <= answer.status < 300 and answer.turn_id is not None:
            return answer
        return None

    @property
    def refused(self) -> bool:
        """The server said no before it accepted anything."""
        answer = self.answered
        if answer is None or not 400 <= answer.status < 500:
            return False
        # With a turn it is the answer of a turn that failed, or the name of another one that is in the way.
        return answer.turn_id is None or answer.code in _IN_THE_WAY


@dataclass(slots=True)
class Message:
    """What a person said once: the requests of one idempotency key, or a single request without one."""

    key: str | None
    requests: list[Request] = field(default_factory=list[Request])

    @property
    def contents(self) -> set[str]:
        """More than one only when a key was used for different things."""
        return {request.sent.content for request in self.requests if not request.refused}

    @property
    def sessions(self) -> set[str]:
        """Where it may have gone, as far as the client was told; empty when it was told nothing."""
        named = {request.sent.session_id for request in self.requests}
        told = {request.answered.session_id for request in self.requests if request.answered is not None}
        return {session_id for session_id in named | told if session_id is not None}


@dataclass(slots=True)
class Connection:
    opened: Opened
    seen: list[Seen] = field(default_factory=list[Seen])
    closed: Closed | None = None


@dataclass(slots=True)
class Cancel:
    sent: CancelSent
    sent_entry: Entry
    answered: CancelAnswered | None = None
    answered_entry: Entry | None = None


class ClientView:
    """Raises `ValueError` when a record refers to a request or connection that the log does not hold."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.messages: list[Message] = []
        self.deleted: set[str] = set()
        self.model_calls: dict[str, int] = defaultdict(int)
        self.effects: dict[str, list[Effects]] = defaultdict(list)
        self._requests: dict[str, Request] = {}
        self._keyed: dict[tuple[str, str, str], Message] = {}
        self._connections: dict[str, Connection] = {}
        self._cancels: dict[str, Cancel] = {}
        for at, entry in enumerate(entries):
            self._take(at, entry)
        self._by_session: dict[str, list[Message]] = defaultdict(list)
        for message in self.messages:
            for session_id in message.sessions:
                self._by_session[session_id].append(message)
        self._anywhere = [message for message in self.messages if not message.sessions]

    @property
    def sessions(self) -> set[str]:
        """Sessions that the log speaks of and that were not deleted."""
        read = (connection.opened.session_id for connection in self._connections.values())
        return {*self._by_session, *read} - self.deleted

    def messages_of(self, session_id: str) -> list[Message]:
        """Messages that were sent to this session by what the client knows."""
        return self._by_session.get(session_id, [])

    def perhaps_of(self, session_id: str) -> list[Message]:
        """These, and those of which the client never learned where they went."""
        return [*self.messages_of(session_id), *self._anywhere]

    def connections_of(self, session_id: str) -> Iterable[Connection]:
        return (one for one in self._connections.values() if one.opened.session_id == session_id)

    def cancels_of(self, session_id: str) -> Iterable[Cancel]:
        return (one for one in self._cancels.values() if one.sent.session_id == session_id)

    def _take(self, at: int, entry: Entry) -> None:
        match entry.record:
            case Sent() as sent:
                self._send(Request(sent, at))
            case Answered() as answered:
                request = _known(self._requests, answered.request, "request")
                request.answered, request.answered_at = answered, at
            case CancelSent() as cancel:
                self._cancels[cancel.request] = Cancel(cancel, entry)
            case CancelAnswered() as answered:
                cancel = _known(self._cancels, answered.request, "cancel")
                cancel.answered, cancel.answered_entry = answered, entry
            case Opened() as opened:
                self._connections[opened.connection] = Connection(opened)
            case Seen() as seen:
                _known(self._connections, seen.connection, "connection").seen.append(seen)
            case Closed() as closed:
                _known(self._connections, closed.connection, "connection").closed = closed
            case record:
                self._note(record)

    def _note(self, record: Record) -> None:
        match record:
            case Deleted(session_id=session_id):
                self.deleted.add(session_id)
            case ModelCalls() as calls:
                self.model_calls[calls.turn_id] += calls.count
            case Effects() as effects:
                self.effects[effects.session_id].append(effects)
            case _:
                pass

    def _send(self, request: Request) -> None:
        sent = request.sent
        self._requests[sent.request] = request
        message = Message(sent.key)
        if sent.key is not None:
            message = self._keyed.setdefault((sent.user, sent.route, sent.key), message)
        if not message.requests:
            self.messages.append(message)
        message.requests.append(request)


_T = TypeVar("_T")


def _known(found: dict[str, _T], name: str, what: str) -> _T:
    if name not in found:
        raise ValueError(f"the client log speaks of {what} {name!r} before it says what that is")
    return found[name]
